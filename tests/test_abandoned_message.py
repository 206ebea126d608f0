"""Nobody free: whoever answered hears the campaign's message, and may end such calls for good by a key."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from campaigns.campaign import Campaign
from campaigns.disposition import Disposition
from campaigns.tables import CdrRow
from dialer.calls.attempt import Attempt
from dialer.calls.leg import HungUpBy, Leg
from dialer.calls.message import Message, apology
from dialer.calls.playing import NOT_PLAYED, apology_ending
from dialer.errors import UnavailableError
from dialer.esl.commands import Kill
from dialer.records.cdr import Ending, disposition_of
from tests.house import House, house, number
from tests.patience import eventually
from tests.test_broadcast import people, presses

SHORT = {
    "abandoned_message": '"tone_stream://%(1000,0,440)"',  # a second
    "connect_seconds": "0.5",
    "message_key_seconds": "2",
}


async def call(home: House) -> None:
    """Calls the next lead, for which there is no agent."""
    (lease,), campaign, campaign_id = await home.lease(1)
    with trio.fail_after(60):
        await Attempt(lease, campaign, campaign_id, home.daemon.world, lambda _attempt: None).run()


async def abandoned(home: House, **changes: str) -> CdrRow:
    """The record of a call that found no agent."""
    await home.campaign(**{**SHORT, **changes})
    await home.leads([number(0)])
    await call(home)
    (cdr,) = await home.cdrs()
    return cdr


async def on_the_lists(home: House) -> list[tuple[str, str, str, str, str]]:
    rows = await home.suppressions()
    return [(row.pattern, row.scope, row.scope_name, row.source, row.added_by) for row in rows]


async def test_the_message_is_heard_to_its_end_and_keys_are_taken_a_little_longer(tmp_path: Path) -> None:
    async with house(tmp_path, people(presses("5", after=1.0))) as home, home.living():
        cdr = await abandoned(home)
        assert (cdr.disposition.value, cdr.abandoned, cdr.keys, cdr.hung_up_by) == ("abandoned", True, "5", "dialer")
        assert cdr.wait_ms is not None
        assert 2500 < cdr.wait_ms < 5000  # half a second, one, and one to two
        assert await on_the_lists(home) == []
        await home.all_put_back()


@pytest.mark.parametrize("after", [0.8, 2.0])  # while it plays, and after it
@pytest.mark.parametrize(("seller", "scope"), [(None, ("system", "")), ("acme", ("seller", "acme"))])
async def test_who_presses_the_key_is_on_the_do_not_call_list_before_the_hang_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: float, seller: str | None, scope: tuple[str, str]
) -> None:
    async with house(tmp_path, people(presses("59", after=after))) as home, home.living():
        switch = home.daemon.switches["fs"]
        run_command = switch.run_command
        listed_at_the_hang_up: list[int] = []

        async def watched(command: Any, **how: Any) -> str:
            if isinstance(command, Kill):
                listed_at_the_hang_up.append(len(await on_the_lists(home)))
            return await run_command(command, **how)

        monkeypatch.setattr(switch, "run_command", watched)
        cdr = await abandoned(home, **({"seller": f'"{seller}"'} if seller else {}), message_key_seconds="5")
        assert listed_at_the_hang_up == [1]
        assert (cdr.disposition.value, cdr.abandoned, cdr.keys, cdr.hung_up_by) == ("opted_out", True, "59", "dialer")
        assert await on_the_lists(home) == [(number(0), *scope, "key pressed", "the person called")]
        assert await home.lead_counts() == {"dead": 1}
        assert cdr.wait_ms is not None
        assert cdr.wait_ms < 1000 * after + 1500
        await home.all_put_back()


async def test_a_key_pressed_before_the_message_means_something_else(tmp_path: Path) -> None:
    async with house(tmp_path, people(presses("9", after=0.2))) as home, home.living():
        cdr = await abandoned(home)
        assert (cdr.disposition.value, cdr.keys) == ("abandoned", None)
        assert await on_the_lists(home) == []


async def test_who_hangs_up_right_after_the_key_is_on_the_list_too(tmp_path: Path) -> None:
    leaves = presses("9", after=0.8) | {"outcome": "answer_hang_up", "hang_up_after": 0.85}
    async with house(tmp_path, people(leaves)) as home, home.living():
        cdr = await abandoned(home)
        assert (cdr.disposition.value, cdr.abandoned, len(await on_the_lists(home))) == ("opted_out", True, 1)


async def test_without_the_database_the_call_ends_and_the_list_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, people(presses("9", after=0.8))) as home, home.living():
        write = home.daemon.database.write
        away = True

        async def refused(work: Any) -> Any:
            if away:
                raise UnavailableError("away")
            return await write(work)

        await home.campaign(**SHORT)
        await home.leads([number(0)])

        async def gone() -> bool:
            return home.switch.statistics().answered == 1 and not home.switch.channels

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, home)
            await eventually(lambda: _answered(home))
            monkeypatch.setattr(home.daemon.database, "write", refused)
            await eventually(gone, 5.0)  # and not when the database is back
            assert await on_the_lists(home) == []
            await trio.sleep(1.5)
            assert len(await home.daemon.ledger._journal.entries()) >= 1
            away = False
        assert len(await on_the_lists(home)) == 1
        (cdr,) = await home.cdrs()
        assert cdr.disposition is Disposition.OPTED_OUT


async def _answered(home: House) -> bool:
    return home.switch.statistics().answered == 1


async def test_what_a_killed_daemon_had_in_its_journal_is_on_the_list_in_the_next_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_work: Any) -> Any:
        raise UnavailableError("away")

    async with house(tmp_path, people(presses("9", after=0.8))) as home:
        async with home.cut_short(), trio.open_nursery() as nursery:
            await home.campaign(**SHORT)
            await home.leads([number(0)])
            nursery.start_soon(call, home)
            await eventually(lambda: _answered(home))
            with monkeypatch.context() as patch:
                patch.setattr(home.daemon.database, "write", refused)

                async def journaled() -> bool:
                    return b"suppressed" in b"".join(await home.daemon.ledger._journal.entries())

                await eventually(journaled)
                nursery.cancel_scope.cancel()
        async with home.living():
            assert [row.pattern for row in await home.suppressions()] == [number(0)]


@pytest.mark.parametrize(("keys", "outcome"), [("", "abandoned"), ("9", "opted_out")])
@pytest.mark.parametrize("dies_after", [0.3, 0.8])  # while they wait, and while the message plays
async def test_who_waits_when_the_daemon_dies_is_told_by_the_next(
    tmp_path: Path, keys: str, outcome: str, dies_after: float
) -> None:
    async with house(tmp_path, people(presses(keys, after=4.0))) as home:
        async with home.cut_short():
            await home.campaign(**{**SHORT, "abandoned_message": '"tone_stream://%(6000,0,440)"'})
            await home.leads([number(0)])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, home)
                await eventually(lambda: _answered(home))
                await trio.sleep(dies_after)
                home.switch.drop_connections()  # nothing the dying daemon says gets out
                nursery.cancel_scope.cancel()
        async with home.living():
            (cdr,) = await home.closed(1)
            assert (cdr.disposition.value, cdr.abandoned, cdr.keys) == (outcome, True, keys or None)
            assert len(await on_the_lists(home)) == len(keys)
            assert cdr.wait_ms is not None
            assert cdr.wait_ms > (2000 if keys else 5500)  # from the next life on
            await home.all_put_back()


async def test_a_key_pressed_while_there_was_no_daemon_is_known_to_the_next(tmp_path: Path) -> None:
    async with house(tmp_path, people(presses("9", after=1.2))) as home:
        async with home.cut_short():
            changes = {"abandoned_message": '"tone_stream://%(6000,0,440)"', "message_key_seconds": "20"}
            await home.campaign(**{**SHORT, **changes})
            await home.leads([number(0)])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, home)
                await eventually(lambda: _answered(home))
                await trio.sleep(0.8)
                home.switch.drop_connections()
                nursery.cancel_scope.cancel()
        await trio.sleep(1.0)
        async with home.living():
            (cdr,) = await home.closed(1)
            assert (cdr.disposition.value, cdr.keys) == ("opted_out", "9")
            assert len(await on_the_lists(home)) == 1


async def test_a_message_that_cannot_be_played_leaves_nobody_in_silence(tmp_path: Path) -> None:
    async with house(tmp_path, {"broken_sounds": ["/sorry.wav"]}) as home, home.living():
        cdr = await abandoned(home, abandoned_message='"/sorry.wav"', message_key_seconds="30")
        assert (cdr.disposition.value, cdr.note) == ("abandoned", NOT_PLAYED)
        assert cdr.wait_ms is not None
        assert cdr.wait_ms < 1500


async def test_a_message_without_end_is_ended(tmp_path: Path) -> None:
    async with house(tmp_path, calls="longest_message_seconds = 1") as home, home.living():
        cdr = await abandoned(home, abandoned_message='"silence_stream://-1"', abandoned_opt_out='""')
        assert (cdr.disposition.value, cdr.abandoned, cdr.hangup_cause) == ("abandoned", True, "ALLOTTED_TIMEOUT")


@pytest.mark.parametrize("setting", ["abandoned_message", "waiting_sound"])
async def test_nobody_is_dialed_while_the_switch_lacks_a_file_and_somebody_once_it_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setattr("dialer.calls.sounds.LOOK_AGAIN_SECONDS", {True: 0.2, False: 0.2})
    async with house(tmp_path, {"missing_sounds": ["/s/sorry.wav"]}) as home, home.living():
        await home.dial([number(index) for index in range(3)], **{setting: '"/s/sorry.wav@@8000"'})
        await home.ready("1000")
        scenario = home.switch._machine.scenario

        async def why(text: str) -> bool:
            return bool((await home.daemon.desk.status())["campaigns"][0]["why"] == text)

        await eventually(partial(why, f"the switch 'fs' has no file /s/sorry.wav, which {setting} names"))
        assert home.switch.statistics().originated == 0
        home.switch._machine.scenario = scenario.model_copy(update={"missing_sounds": frozenset()})
        assert len(await home.closed(3)) == 3


CAMPAIGN = Campaign(name="spring", gateways=("trunk",), country="DE", abandoned_opt_out="7")
ANSWERED: dict[str, Any] = {"answered_us": 4, "executing_us": 5, "ended_us": 9, "hung_up_by": HungUpBy.SWITCH}


@pytest.mark.parametrize(
    ("keys_before", "facts", "disposition", "keys", "note"),
    [
        ("", {"played": True}, Disposition.ABANDONED, "", ""),
        ("", {"played": True, "keys": "57"}, Disposition.OPTED_OUT, "57", ""),
        ("7", {"played": True, "keys": "7"}, Disposition.ABANDONED, "", ""),
        ("7", {"played": True, "keys": "77"}, Disposition.OPTED_OUT, "7", ""),
        ("7", {"played": True, "keys": "7", "terminator": "7"}, Disposition.OPTED_OUT, "7", ""),
        ("", {"keys": "5", "terminator": "7", "hung_up_by": HungUpBy.FAR_END}, Disposition.OPTED_OUT, "57", ""),
        ("", {"parks": 1}, Disposition.ABANDONED, "", NOT_PLAYED),
        ("", {"vanished": True}, Disposition.ABANDONED, "", ""),
    ],
)
def test_what_became_of_whoever_was_told(
    keys_before: str, facts: dict[str, Any], disposition: Disposition, keys: str, note: str
) -> None:
    message = apology(CAMPAIGN, Leg("u", keys=keys_before))
    leg = Leg("u", **{**ANSWERED, **facts})
    ending = apology_ending(leg, Ending(unknown=leg.vanished), message)
    assert (disposition_of(leg, ending), ending.keys, ending.note) == (disposition, keys, note)


def test_without_a_key_nobody_opts_out() -> None:
    assert not Message("/a.wav").opted_out(Leg("u", keys="9", terminator="9"))
