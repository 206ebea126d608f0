"""Broadcast: whoever answers hears the message, may press a key, and is hung up on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from campaigns.campaign import Campaign, CampaignStatus
from campaigns.disposition import Disposition
from dialer.calls.leg import HungUpBy, Leg
from dialer.calls.message import broadcast_message
from dialer.calls.playing import NOT_PLAYED, broadcast_ending
from dialer.pacing.broadcast import Broadcast
from dialer.pacing.pacer import View
from dialer.records.cdr import Ending, disposition_of
from tests.house import QUICK, House, house, number, outcomes
from tests.patience import eventually

MESSAGE = "tone_stream://%(1000,0,440)"  # a second
BROADCAST = {"mode": '"broadcast"', "message": f'"{MESSAGE}"', "message_key_seconds": "1"}


def people(*scripts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The people of QUICK, and before them those that `scripts` describe."""
    return {**changes, "gateways": {"carrier_a": {"scripts": [*scripts, *QUICK["gateways"]["carrier_a"]["scripts"]]}}}


def presses(keys: str, *, after: float = 0.3, suffix: str = "0") -> dict[str, Any]:
    return {"suffix": suffix, "outcome": "answer", "keys": keys, "key_delay": after}


async def begin(home: House, numbers: list[str], **changes: str) -> None:
    await home.campaign(**{**BROADCAST, **changes})
    await home.leads(numbers)
    await home.set_status(CampaignStatus.RUNNING)


async def test_people_hear_the_message_and_every_outcome_is_recorded(tmp_path: Path) -> None:
    expected = {
        0: "message_played",
        1: "busy",
        2: "rejected",
        3: "invalid_number",
        4: "congestion",
        6: "message_played",
        7: "hung_up",
    }
    async with house(tmp_path) as home, home.living():
        await begin(home, [number(index, digit) for digit in expected for index in range(2)])
        cdrs = await home.closed(14)
        assert {int(cdr.number[-1]): cdr.disposition.value for cdr in cdrs} == expected
        heard = [cdr for cdr in cdrs if cdr.disposition is Disposition.MESSAGE_PLAYED]
        assert {(cdr.hung_up_by, cdr.keys, cdr.note, cdr.agent) for cdr in heard} == {("dialer", None, None, None)}
        assert all(cdr.wait_ms is not None and cdr.wait_ms >= 1000 for cdr in heard)
        assert await home.lead_counts() == {"done": 4, "waiting": 6, "dead": 4}
        await home.all_put_back()


@pytest.mark.parametrize("after", [0.3, 1.5])  # while it plays, and in the time for keys after it
async def test_who_presses_the_key_is_never_called_again(tmp_path: Path, after: float) -> None:
    async with house(tmp_path, people(presses("59", after=after))) as home, home.living():
        await begin(home, [number(0)], message_key_seconds="5", retries="{ delay_seconds = { hung_up = 0 } }")
        (cdr,) = await home.closed(1)
        assert (cdr.disposition.value, cdr.keys, cdr.hung_up_by) == ("opted_out", "59", "dialer")
        assert await home.lead_counts() == {"dead": 1}
        assert [(row.pattern, row.scope, row.source) for row in await home.suppressions()] == [
            (number(0), "system", "key pressed")
        ]
        await home.all_put_back()


async def test_the_message_again_from_the_start(tmp_path: Path) -> None:
    async with house(tmp_path, people(presses("1", after=0.7))) as home, home.living():
        await begin(home, [number(0)])
        (cdr,) = await home.closed(1)
        assert (cdr.disposition.value, cdr.keys) == ("message_played", "1")
        # most of it, all of it, and the time for keys
        assert cdr.wait_ms is not None
        assert 2600 <= cdr.wait_ms < 4000
        await home.all_put_back()


async def test_who_hangs_up_on_the_message_is_tried_again(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        retries = "{ max_attempts = 2, delay_seconds = { hung_up = 0.1 } }"
        await begin(home, [number(0, 7)], retries=retries)
        cdrs = await home.closed(2)
        assert [(cdr.disposition.value, cdr.hung_up_by) for cdr in cdrs] == [("hung_up", "customer")] * 2
        await home.all_put_back()
        assert await home.lead_counts() == {"exhausted": 1}


async def test_a_message_that_is_not_there_calls_nobody(tmp_path: Path) -> None:
    async with house(tmp_path, {"missing_sounds": ["/no.wav"]}) as home, home.living():
        await begin(home, [number(0)], message='"/no.wav"')

        async def told() -> bool:
            why = (await home.daemon.desk.status())["campaigns"][0]["why"]
            return bool(why == "the switch 'fs' has no file /no.wav, which message names")

        await eventually(told)
        assert home.switch.statistics().originated == 0


async def test_a_message_that_cannot_be_played_is_told_and_calls_nobody_else(tmp_path: Path) -> None:
    broken = {"broken_sounds": ["/no.wav"]}
    async with house(tmp_path, broken) as home, home.living():
        await begin(home, [number(index) for index in range(20)], message='"/no.wav"', max_calls_in_flight="2")
        cdrs = await home.closed(2)

        async def told() -> bool:
            why = (await home.daemon.desk.status())["campaigns"][0]["why"]
            return "cannot play /no.wav" in why and not home.daemon.campaigns.calls_in_flight()

        await eventually(told)
        cdrs = await home.cdrs()
        assert len(cdrs) <= 3
        assert {(cdr.disposition.value, cdr.note, cdr.hung_up_by) for cdr in cdrs} == {
            ("failed", NOT_PLAYED, "dialer")
        }
        # not a second of silence
        assert all(cdr.wait_ms is not None and cdr.wait_ms < 1000 for cdr in cdrs)


async def test_a_message_without_end_is_ended(tmp_path: Path) -> None:
    async with house(tmp_path, calls="longest_message_seconds = 1") as home, home.living():
        await begin(home, [number(0)], message='"silence_stream://-1"')
        (cdr,) = await home.closed(1)
        assert (cdr.disposition.value, cdr.hangup_cause) == ("failed", "ALLOTTED_TIMEOUT")
        assert cdr.note == "the message was longer than longest_message_seconds"


async def test_no_more_calls_at_once_than_the_campaign_allows(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await begin(home, [number(index) for index in range(9)], max_calls_in_flight="3")
        cdrs = await home.closed(9)
        assert outcomes(cdrs) == {"message_played": 9}
        assert home.switch.statistics().peak_channels == 3


async def test_a_stop_lets_those_listen_who_do_and_takes_back_what_rings(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await begin(home, [number(0), number(1, 5)])

        async def playing() -> bool:
            calls = (await home.daemon.desk.status())["campaigns"][0]["calls"]
            return (calls["playing"], calls["dialing"] + calls["ringing"]) == (1, 1)

        await eventually(playing)
        await home.set_status(CampaignStatus.STOPPED)
        assert outcomes(await home.closed(2)) == {"message_played": 1, "cancelled": 1}


@pytest.mark.parametrize(("keys", "outcome"), [("", "message_played"), ("9", "opted_out")])
async def test_who_listens_when_the_daemon_dies_hears_it_to_the_end(tmp_path: Path, keys: str, outcome: str) -> None:
    slow = people(presses(keys, after=4.0))
    async with house(tmp_path, slow) as home:
        async with home.cut_short():
            await begin(home, [number(0)], message='"tone_stream://%(5000,0,440)"')

            async def playing() -> bool:
                return home.switch.statistics().answered == 1

            await eventually(playing)
        async with home.living():
            (cdr,) = await home.closed(1)
            assert (cdr.disposition.value, cdr.keys) == (outcome, keys or None)
            await home.all_put_back()
            assert home.switch.statistics().originated == 1


CAMPAIGN = Campaign(name="spring", gateways=("trunk",), country="DE", mode="broadcast", message=MESSAGE)
ANSWERED: dict[str, Any] = {"answered_us": 4, "executing_us": 5, "ended_us": 9, "cause": "NORMAL_CLEARING"}


@pytest.mark.parametrize(
    ("facts", "disposition", "note"),
    [
        ({"played": True, "parks": 1, "hung_up_by": HungUpBy.SWITCH}, Disposition.MESSAGE_PLAYED, ""),
        # hung up in the time for keys: it was heard
        ({"played": True, "parks": 1, "hung_up_by": HungUpBy.FAR_END}, Disposition.MESSAGE_PLAYED, ""),
        # CHANNEL_PARK was missed
        ({"played": True, "hung_up_by": HungUpBy.SWITCH}, Disposition.MESSAGE_PLAYED, ""),
        ({"played": True, "hung_up_by": HungUpBy.FAR_END}, Disposition.HUNG_UP, ""),
        ({"hung_up_by": HungUpBy.FAR_END}, Disposition.HUNG_UP, ""),
        ({"played": True}, Disposition.HUNG_UP, ""),  # who it was nobody saw
        ({"keys": "5", "hung_up_by": HungUpBy.FAR_END}, Disposition.MESSAGE_PLAYED, ""),
        ({"keys": "59", "hung_up_by": HungUpBy.FAR_END}, Disposition.OPTED_OUT, ""),
        ({"keys": "9", "vanished": True}, Disposition.OPTED_OUT, ""),
        # the switch tells of the key, whose own event was missed
        ({"played": True, "parks": 1, "terminator": "9"}, Disposition.OPTED_OUT, ""),
        ({"vanished": True}, Disposition.UNKNOWN, ""),
        ({"parks": 1, "hung_up_by": HungUpBy.SWITCH}, Disposition.FAILED, NOT_PLAYED),
        ({"hung_up_by": HungUpBy.SWITCH}, Disposition.FAILED, NOT_PLAYED),
        # the dead man's hang-up
        ({"played": True, "cause": "NO_USER_RESPONSE", "hung_up_by": HungUpBy.SWITCH}, Disposition.FAILED, ""),
        ({"answered_us": 0, "executing_us": 0, "cause": "USER_BUSY"}, Disposition.BUSY, ""),
    ],
)
def test_what_became_of_a_message(facts: dict[str, Any], disposition: Disposition, note: str) -> None:
    leg = Leg("u", **{**ANSWERED, **facts})
    ending = broadcast_ending(leg, Ending(unknown=leg.vanished), broadcast_message(CAMPAIGN))
    assert (disposition_of(leg, ending), ending.note) == (disposition, note)


def test_without_a_key_nobody_opts_out() -> None:
    campaign = CAMPAIGN.model_copy(update={"message_keys": CAMPAIGN.message_keys.model_copy(update={"opt_out": ""})})
    leg = Leg("u", **{**ANSWERED, "keys": "9"})
    assert not broadcast_ending(leg, Ending(), broadcast_message(campaign)).opted_out


@pytest.mark.parametrize(("left", "calls"), [(None, 100), (0, 0), (7, 7), (500, 100)])
def test_as_many_calls_as_there_is_room_for(left: int | None, calls: int) -> None:
    view = View(now_seconds=0.0, idle_agents=0, ringing=0, waiting=0, in_flight=3, channels_left=left)
    assert Broadcast().decide(view).calls == calls
