"""Log lines: numbers masked, lines that cannot be forged, no secrets."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
import structlog
from hypothesis import given

from dialer.esl.switch import SwitchAddress
from dialer.log import configure_logging, counted, mask

NUMBER = "+4930123456789"
MASKED = "+493********89"


@pytest.fixture(autouse=True)
def structlog_as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def lines_of(level: str = "info", form: str = "json", **values: Any) -> list[str]:
    """What one record at `level` writes."""
    stream = io.StringIO()
    configure_logging("debug", form, stream)
    getattr(structlog.get_logger(), level)("something_happened", **values)
    assert stream.getvalue().endswith("\n")
    return stream.getvalue()[:-1].split("\n")


def record_of(level: str = "info", **values: Any) -> dict[str, Any]:
    (line,) = lines_of(level, **values)
    record: dict[str, Any] = json.loads(line)
    return record


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+15551234567", "+155******67"),
        ("15551234567", "1555*****67"),
        ("1234567", "1234*67"),
        ("110", "***"),
        ("", ""),
    ],
)
def test_mask(number: str, shown: str) -> None:
    assert mask(number) == shown
    assert len(shown) == len(number)


@pytest.mark.parametrize("level", ["info", "warning", "error"])
@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    "values",
    [
        {"number": NUMBER},
        {"number": int(NUMBER)},
        {"caller_id": NUMBER},
        {"error": f"the call to {NUMBER} was refused"},
        {"error": f"Refused: {NUMBER}."},
        {"error": ValueError(f"sofia/external/{NUMBER}@carrier")},
        {"answer": {"deep": [{"number": NUMBER}, NUMBER]}},
        {"rows": (f"{NUMBER},", NUMBER)},
        {"command": f"originate sofia/gateway/x/{NUMBER}"},
    ],
)
def test_numbers_are_masked(level: str, form: str, values: dict[str, Any]) -> None:
    text = "\n".join(lines_of(level, form, **values))
    assert NUMBER.removeprefix("+") not in text
    assert MASKED.removeprefix("+4") in text or "4930*******89" in text


def test_a_number_in_a_traceback_is_masked() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    try:
        raise ValueError(f"cannot ring {NUMBER}")
    except ValueError:
        structlog.get_logger().exception("it_broke")
    record = json.loads(stream.getvalue())
    assert "ValueError: cannot ring +493********89" in record["exception"]
    assert NUMBER not in record["exception"]


def test_debug_shows_numbers() -> None:
    assert record_of("debug", number=NUMBER)["number"] == NUMBER


@pytest.mark.parametrize(
    "value",
    [
        "36566cd7-5720-48bb-b4d7-d43ddd35c25e",
        "13872134-4501-4011-1651-517510059385",
        "192.0.2.1",
        "1795216457.279787",
        "1795216457279787",
        "1234567",
        12345678901,
        3.25,
        None,
        True,
        [1, 2.5],
    ],
)
def test_what_is_no_number_stays(value: Any) -> None:
    assert record_of(value=value)["value"] == value


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    "evil", ["x\n2026 [error] forged", "x\r\nforged", "x\x1b[2Jforged", "x\u2028forged", "x\x85forged", "x\0forged"]
)
def test_a_value_cannot_forge_a_line(form: str, evil: str) -> None:
    for values in ({"name": evil}, {"names": [evil, {"in": evil}]}, {"error": ValueError(evil)}):
        (line,) = lines_of("info", form, **values)
        assert "forged" in line
        assert line.isprintable()


@given(st.text(), st.sampled_from(["json", "text"]))
def test_nothing_forges_a_line(value: str, form: str) -> None:
    (line,) = lines_of("info", form, name=value, names=[value], number=value)
    assert line.isprintable()
    if form == "json":
        assert len(json.loads(line)["name"]) == len(value)


def test_a_traceback_in_text_is_one_line_of_its_own() -> None:
    stream = io.StringIO()
    configure_logging("info", "text", stream)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        structlog.get_logger().exception("it_broke")
    first, second = stream.getvalue().splitlines()
    assert "it_broke" in first
    assert second.startswith("Traceback")
    assert second.isprintable()


def test_secrets_are_absent() -> None:
    address = SwitchAddress("a", "192.0.2.1", 8021, "s3cret")
    for form in ("json", "text"):
        (line,) = lines_of("info", form, address=address, all=[address])
        assert "192.0.2.1" in line
        assert "s3cret" not in line


def test_levels_and_counts() -> None:
    stream = io.StringIO()
    configure_logging("warning", "json", stream)
    before = counted.copy()
    log = structlog.get_logger()
    log.info("not_shown")
    log.warning("shown")
    log.error("shown_too")
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(record["event"], record["level"]) for record in records] == [
        ("shown", "warning"),
        ("shown_too", "error"),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", record["timestamp"]) for record in records)
    assert counted - before == {"warning": 1, "error": 1}
