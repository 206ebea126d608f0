"""Results and a database that is away, slow, or lies about what it did."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from campaigns.campaign import CampaignStatus
from campaigns.disposition import Disposition
from campaigns.lead import LeadStatus
from campaigns.leases import Lease
from campaigns.opt_out import OptOut
from campaigns.recycle import NextStep
from campaigns.saying import Said
from campaigns.tables import CdrRow
from dialer.records.ledger import Entry, Result, Spoken, Suppressed, entry_from_json
from tests.faults.stories import AGENTS, SAYING, TALKATIVE, a_few_calls
from tests.faults.virtual import Trouble, VirtualHouse, run_virtually
from tests.house import number

# Long enough to look in between.
SLOWLY_BUSY = {"gateways": {"carrier_a": {"fail_delay": 1.0}}}


async def one_busy(house: VirtualHouse) -> None:
    """One call is on its way and will be busy; the database goes before its result."""
    await house.begin([number(0, 1)], AGENTS, retries="{ max_attempts = 1 }")
    await house.until(lambda: bool(house.attempts()), "leased")
    house.database_faults.down = Trouble.REFUSED


def test_a_result_that_the_database_did_not_take_is_written_by_the_next_life(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url, changes=SLOWLY_BUSY).standing() as house:
            await house.start()
            await one_busy(house)
            await house.until(lambda: len(house.journal) == 1, "in the journal")
            assert "database is slow" in house.daemon.ledger.trouble or house.daemon.ledger.trouble == "it is away"
            await house.kill()
            assert house.cdrs() == []
            house.calm()
            await house.start()
            (cdr,) = house.cdrs()
            assert (cdr.disposition, cdr.sip_status) == (Disposition.BUSY, 486)  # not `unknown`
            assert house.journal == []
            assert house.finished

    run_virtually(story)


@pytest.mark.parametrize("ends_at_seconds", [1.0, 9.0, 9.5])
def test_what_ends_while_the_daemon_stops_without_its_database_is_written_by_the_next_life(
    redis_url: str, ends_at_seconds: float
) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await house.start()
            await house.begin([number(0, 8)], AGENTS, retries="{ max_attempts = 1 }")
            await house.until(lambda: any(one.partner for one in house.customers()), "talks")
            await trio.sleep(60)
            house.database_faults.down = Trouble.REFUSED
            (talking,) = [one.uuid for one in house.customers() if one.partner]
            house.later(ends_at_seconds, lambda: house.switch.hang_up(talking))
            await house.stop()
            house.calm()
            await house.start()
            await house.until(lambda: bool(house.cdrs()), "recorded")
            (cdr,) = house.cdrs()
            assert (cdr.disposition, bool(cdr.talk_ms)) == (Disposition.BRIDGED, True)  # not `unknown`

    run_virtually(story)


def test_trouble_is_over_when_the_database_has_answered_whatever_it_said(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await house.start()
            word = '[{ name = "sale", key = "1" }, { name = "no" }]'
            more: dict[str, Any] = {"dispositions": word, "default_disposition": '"no"', "wrap_up_seconds": "30"}
            await house.begin([number(0, 0)], AGENTS[:1], **more)
            await house.until(lambda: len(house.cdrs()) == 1, "talked")
            house.database_faults.down = Trouble.HANGING
            (agent,) = [one for one in await house.agents() if one.extension == AGENTS[0]]
            house.switch.press(agent.leg, "7")  # means nothing
            await trio.sleep(3)
            house.calm()
            await trio.sleep(60)
            house.add_leads([number(index, 0) for index in range(1, 4)])
            await house.until(lambda: len(house.cdrs()) > 1, "dialed on")

    run_virtually(story)


def test_trouble_is_over_when_whoever_met_it_has_given_up(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await house.start()
            house.database_faults.down = Trouble.REFUSED
            ledger = house.daemon.ledger
            with trio.move_on_after(5):
                await ledger.return_unsent(Lease("u", 1, number(0, 8), "carrier_a", "fs", 1, {}))
            assert ledger.trouble
            house.calm()
            await house.begin([number(0, 0)], AGENTS[:1])
            await house.until(lambda: len(house.cdrs()) == 1, "dialed")

    run_virtually(story)


def test_the_journal_is_emptied_when_the_database_is_back(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url, changes=SLOWLY_BUSY).standing() as house:
            await house.start()
            await one_busy(house)
            await house.until(lambda: len(house.journal) == 1, "in the journal")
            house.calm()
            await house.until(lambda: house.finished and not house.journal, "written")
            assert len(house.cdrs()) == 1
            assert house.daemon.ledger.trouble == ""

    run_virtually(story)


def test_no_call_is_placed_while_results_wait(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await house.start()
            await house.begin([number(index, 1) for index in range(40)], AGENTS)
            await house.until(lambda: len(house.cdrs()) > 3, "under way")
            house.database_faults.down = Trouble.HANGING
            await house.until(lambda: bool(house.daemon.ledger.trouble), "noticed")
            placed = len(house.customers())
            await house.until(lambda: not house.switch.statistics().live - len(AGENTS), "over")
            assert len(house.customers()) <= placed + len(AGENTS)

            def is_told() -> bool:
                reason = house.daemon.campaigns._running["test"].runner.reason
                return "results cannot be written" in reason

            await house.until(is_told, "told")
            house.calm()
            await house.until(lambda: len(house.customers()) > placed + 5, "dialing again")

    run_virtually(story)


def test_all_dialing_ends_at_once_though_the_database_is_away(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await house.start()
            await house.begin([number(0, 8), *(number(index, 5) for index in range(1, 9))], AGENTS)
            await house.until(lambda: any(one.partner for one in house.customers()), "talking")
            house.database_faults.down = Trouble.REFUSED
            told = await house.daemon.desk.stop_all()
            assert "not written down yet: it is away" in told
            placed = len(house.customers())
            await house.until(lambda: len(house.switch.channels) == len(AGENTS) + 1, "taken back")
            assert sum(one.partner is not None for one in house.switch.channels.values()) == 2  # they talk on
            house.calm()
            await house.until(lambda: not house.journal and not house.daemon.ledger.unwritten, "written")

            def stopped() -> bool:
                return house.rows("SELECT status FROM campaign") == [(CampaignStatus.STOPPED.value,)]

            await house.until(stopped, "stopped")
            assert len(house.customers()) == placed
            await house.begin_running()
            await house.until(lambda: len(house.customers()) > placed, "started again")

    run_virtually(story)


def test_an_answered_call_that_is_written_by_the_next_life_is_counted_once(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await house.start()
            await house.begin([number(0, 1), number(1, 0)], AGENTS, retries="{ max_attempts = 1 }")
            await house.until(lambda: any(one.partner for one in house.customers()), "talking")
            house.database_faults.down = Trouble.REFUSED
            await house.until(lambda: any(b'"bridged"' in entry for entry in house.journal), "in the journal")
            await house.kill()
            kept = list(house.journal)
            house.calm()
            await house.start()
            await house.until(lambda: house.finished, "written")
            counts = house.rows("SELECT live_answers, abandoned FROM abandonment_hour")
            assert counts == [(1, 0)]
            for entry in kept:  # as if the journal could not have been emptied
                assert await house.daemon.database.write(Result.from_json(entry).write) is False
            assert house.rows("SELECT live_answers, abandoned FROM abandonment_hour") == counts

    run_virtually(story)


NOON = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)


@pytest.mark.parametrize(("wait_ms", "judged"), [(2_001, True), (60, False)])
def test_a_result_is_read_as_it_was_judged_and_one_of_an_older_version_is_judged_by_2_seconds(
    wait_ms: int, judged: bool
) -> None:
    record = CdrRow(
        attempt_uuid="u-1",
        campaign_id=1,
        lead_id=1,
        attempt_no=1,
        number="+12120000000",
        gateway="carrier",
        switch="fs1",
        node="test",
        disposition=Disposition.BRIDGED,
        hangup_cause="NORMAL_CLEARING",
        originated_at=NOON,
        answered_at=NOON,
        ended_at=NOON + timedelta(seconds=90),
        wait_ms=wait_ms,
        abandoned=not judged,  # by a campaign with another limit
    )
    text = Result(record, NextStep(LeadStatus.DONE, None, "spoke to an agent"), NOON).to_json()
    assert Result.from_json(text).record.abandoned is not judged
    older = json.loads(text)
    del older["record"]["abandoned"]
    assert Result.from_json(json.dumps(older).encode()).record.abandoned is judged


OPT_OUT = OptOut("+12125550100", "acme", "key pressed", "campaign spring, attempt u", "the person called", NOON)


@pytest.mark.parametrize(
    "entry",
    [
        Suppressed(OPT_OUT),
        Spoken(Said("u", "1000", NOON, key="1")),
        Spoken(Said("u", "1000", NOON, name="call_back", in_minutes=5.0, for_anyone=True, note="Zoë")),
        Result(
            CdrRow(
                attempt_uuid="u",
                campaign_id=1,
                lead_id=1,
                attempt_no=1,
                number="+12125550100",
                gateway="carrier",
                switch="fs1",
                node="test",
                disposition=Disposition.OPTED_OUT,
                hangup_cause="NORMAL_CLEARING",
                originated_at=NOON,
                ended_at=NOON,
            ),
            NextStep(LeadStatus.DEAD, None, "wants no more calls"),
            NOON,
            OPT_OUT,
            "no_sale",
        ),
    ],
)
def test_what_waits_in_the_journal_is_the_same_in_the_next_life(entry: Entry) -> None:
    assert entry_from_json(entry.to_json()) == entry


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"7", b'{"said": {}}', b'{"suppressed": 5}', b'{"record": {}}'])
def test_what_is_no_entry_is_refused(text: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        entry_from_json(text)


async def spoken(redis_url: str) -> VirtualHouse:
    """An agent presses a key in wrap-up while the database is away, and the daemon is killed then."""
    async with VirtualHouse(redis_url, changes=TALKATIVE).standing() as house:
        await house.start()
        await house.begin([number(0)], ["1000"], running=True, **{**SAYING, "wrap_up_seconds": "30.0"})
        await house.until(lambda: bool(house.cdrs()), "talked")
        house.database_faults.down = Trouble.REFUSED
        (agent,) = [one for one in await house.agents() if one.campaign]
        house.switch.press(agent.leg, "1")
        await house.until(lambda: len(house.journal) == 1, "in the journal")
        await house.kill()
        assert [row.name for row in house.outcomes()] == ["no_sale"]
        house.calm()
        await house.start()
        await house.until(lambda: [row.name for row in house.outcomes()] == ["sale"], "written")
    return house


def test_an_agent_s_key_that_the_database_did_not_take_is_obeyed_by_the_next_life(redis_url: str) -> None:
    assert [(row.agent, row.set_by) for row in run_virtually(spoken, redis_url).outcomes()] == [("1000", "key")]


def test_nothing_goes_wrong_where_nothing_goes_wrong(redis_url: str) -> None:
    house = run_virtually(a_few_calls, redis_url)
    assert house.journal == []
