"""A few thousand bad inputs for each place where bytes come in; `make fuzz` tries a million."""

from __future__ import annotations

import inspect
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dialer.desk import Desk
from dialer.offer_desk import OfferDesk
from dialer.wrap_up import WrapUp
from tests.fuzz import __main__ as fuzz
from tests.fuzz import targets
from tests.fuzz.__main__ import attempt, main, seeded
from tests.fuzz.mutator import TOKENS
from tests.fuzz.targets import TARGETS, FakeDesk

SEED = 20_261_123
INPUTS = {
    "event_socket": 3_000,
    "list_import": 2_500,
    "list_import_to_database": 10,
    "settings": 4_000,
    "campaign": 3_000,
    "door": 2_500,
}


@pytest.mark.parametrize("name", TARGETS)
def test_what_the_inputs_are_made_of_breaks_nothing(name: str) -> None:
    target = TARGETS[name]
    for data in [*target.corpus(), *(target.tokens if target.share == 1 else ())]:
        target.check(data)


@pytest.mark.parametrize(("name", "inputs"), INPUTS.items())
def test_bad_inputs_break_nothing(name: str, inputs: int) -> None:
    make = TARGETS[name].maker()
    for index in range(inputs):
        data = make(seeded(SEED, name, index))
        try:
            TARGETS[name].check(data)
        except Exception as error:
            error.add_note(f"input {index}: {data[:500]!r}")
            raise


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_BYTES = st.binary(max_size=200) | st.lists(st.sampled_from(TOKENS), max_size=20).map(b"".join)
_few = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "list_import_to_database"])
def test_any_bytes(name: str) -> None:
    @_few
    @given(_BYTES)
    def try_one(data: bytes) -> None:
        TARGETS[name].check(data)

    try_one()


@_few
@given(
    st.dictionaries(st.sampled_from(["Event-Name", "Unique-ID", "Event-Sequence", "Job-UUID", "_body", "x"]), _JSON)
)
def test_any_event(headers: dict[str, object]) -> None:
    body = _as_json({"Event-Name": "BACKGROUND_JOB"} | headers)
    targets.event_socket(b"Content-Length: %d\nContent-Type: text/event-json\n\n" % len(body) + body)


@_few
@given(st.sampled_from([*targets.VERBS, "echo", "nobody"]), st.dictionaries(st.text(max_size=9), _JSON, max_size=3))
def test_any_request(verb: str, arguments: dict[str, object]) -> None:
    targets.door(_as_json(arguments | {"verb": verb}) + b"\n")


@_few
@given(st.lists(st.lists(st.text(max_size=20), max_size=6), max_size=6), st.sampled_from(["utf-8", "utf-16"]))
def test_any_table(rows: list[list[str]], encoding: str) -> None:
    lines = ["number,name,timezone", *(",".join(cells) for cells in rows)]
    targets.list_import("\n".join(lines).encode(encoding, "replace"))


def _as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def test_the_fake_desk_has_the_verbs_of_the_real_one() -> None:
    desk = Desk.__new__(Desk)  # what is behind it is not asked
    desk._offers = OfferDesk(tuple)
    desk._wrap_up = WrapUp.__new__(WrapUp)
    verbs = desk.verbs()
    assert set(verbs) == set(targets.VERBS)
    for verb, real in verbs.items():
        assert inspect.signature(getattr(FakeDesk(), verb)) == inspect.signature(real), verb


def test_an_input_is_made_of_its_number_alone() -> None:
    make = TARGETS["settings"].maker()
    assert [make(seeded(1, "a", i)) for i in (3, 4)] == [make(seeded(1, "a", i)) for i in (3, 4)]
    assert make(seeded(1, "a", 3)) != make(seeded(2, "a", 3))


def test_nothing_of_an_input_is_lost_in_pieces() -> None:
    for seed in range(50):
        data = Random(seed).randbytes(seed)
        assert b"".join(targets.chopped(data, Random(seed))) == data


def _busy(data: bytes) -> None:
    until = time.process_time() + 1.1
    while time.process_time() < until:
        pass


def _broken(data: bytes) -> None:
    raise KeyError(data)


def test_what_breaks_and_what_takes_long_is_told() -> None:
    assert attempt(lambda data: None, b"")[1] == ""
    assert "KeyError: b'x'" in attempt(_broken, b"x")[1]
    assert attempt(_busy, b"")[1].startswith("took 1.1")


def _target(check: Callable[[bytes], None]) -> targets.Target:
    return targets.Target(check, lambda: [b"abc"], (), 1024)


def test_a_run_tells_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--target", "door", "--inputs", "50", "--seed", "1"]) == 0
    told = capsys.readouterr()
    assert "seed 1" in told.err
    figure = json.loads(told.out)
    assert (figure["name"], figure["unit"], figure["inputs"], figure["failures"]) == ("fuzz_door", "inputs/s", 50, 0)
    assert 0 < figure["max_seconds_one_input"] < 1


def test_a_failure_is_kept_and_can_be_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(targets, "TARGETS", {"broken": _target(_broken)})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["--inputs", "5", "--seed", "1"]) == 1
    (kept,) = tmp_path.rglob("broken.bin")
    told = capsys.readouterr()
    assert f"-m tests.fuzz --target broken --repeat {kept}" in told.err
    assert json.loads(told.out)["failures"] == 1
    assert main(["--target", "broken", "--repeat", str(kept)]) == 1
    assert "KeyError" in capsys.readouterr().out


def test_memory_that_grows_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bytes] = []
    monkeypatch.setattr(targets, "TARGETS", {"hoard": _target(lambda data: held.append(b"x" * 5_000_000))})
    assert main(["--inputs", "50", "--seed", "1"]) == 1


def test_what_only_waits_is_a_hang(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fuzz, "HANG_SECONDS", 0.05)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(targets, "TARGETS", {"asleep": _target(lambda data: time.sleep(5))})
    assert main(["--inputs", "1", "--seed", "1"]) == 1
