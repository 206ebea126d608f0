"""What comes while something else is under way: looks, reloads, redefinitions, failures of a moment."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import trio
from sqlalchemy import text, update
from sqlmodel import Session, col, select

from campaigns import store
from campaigns.campaign import CampaignStatus
from campaigns.leases import Leased
from campaigns.rules.callable import RuleBook
from campaigns.slots import Slot
from campaigns.tables import LeadRow
from dialer import switch_keeper
from dialer.agents.agent import AgentState, state_of
from dialer.agents.roster import Claim
from dialer.calls.attempt import Phase
from dialer.calls.snapshot import take_snapshot
from dialer.errors import OutcomeUnknownError, UnavailableError
from dialer.pacing.pacer import Decision, HeldBy
from dialer.redis_scripts import Late
from tests.faults.stories import FAIL_OVER, SECOND_TRUNK
from tests.faults.virtual import SOON_AGAIN, Trouble, VirtualHouse, campaign, run_virtually
from tests.house import QUICK, number

ONCE = "{ max_attempts = 1 }"
WORDS = '[{ name = "sale", then = "done" }, { name = "stop", then = "do_not_call" }]'


def told(redis_url: str, story: Callable[[VirtualHouse], Awaitable[None]], **house: Any) -> None:
    """Tells `story` in a house that stands, with a daemon that is up."""

    async def whole() -> None:
        async with VirtualHouse(redis_url, **house).standing() as home:
            await home.start()
            await home.until(lambda: home.daemon.switches["fs"].ready, "ready")
            await trio.sleep(3)
            await story(home)

    run_virtually(whole)


def talking(house: VirtualHouse) -> int:
    return sum(one.partner is not None for one in house.customers())


async def agent_of(house: VirtualHouse) -> Any:
    (found,) = [one for one in await house.agents() if one.extension == "1000"]
    return found


def looks_at_each_originate(house: VirtualHouse, of: str) -> None:
    """The switch is looked at when an originate with `of` in it has been sent and is 10 ms from having a channel."""
    originator: Any = house.switch._machine.originator
    start, keeper = originator.start, house.daemon.keepers[0]

    def late(arguments: str, reply: Any) -> None:
        if of in arguments:
            house._nursery.start_soon(keeper._look, house._nursery)
            house.switch._machine.timers.after(0.01, start, arguments, reply)
        else:
            start(arguments, reply)

    originator.start = late


# A look at the switch.


def test_a_call_on_its_way_is_not_taken_for_gone(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        looks_at_each_originate(house, "sofia/gateway")
        await house.begin([number(0, 8)], ["1000"], retries=ONCE)
        await trio.sleep(20)
        assert talking(house) == 1
        assert not house.cdrs()

    told(redis_url, story)


def test_a_phone_on_its_way_is_not_rung_twice(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        looks_at_each_originate(house, "1000")
        await house.begin([], ["1000"], running=False)
        await trio.sleep(15)
        assert len(house.switch.channels) == 1

    told(redis_url, story)


def test_an_agents_own_call_that_begins_during_a_look_counts(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([number(0, 8)], ["1000"], running=False)
        await trio.sleep(3)

        async def slow(switch: Any) -> Any:
            found = await take_snapshot(switch)
            house.switch.agent_calls_out("1000", number(7, 8))
            await trio.sleep(0.4)  # legs are asked for one by one
            return found

        monkeypatch.setattr(switch_keeper, "take_snapshot", slow)
        await house.daemon.keepers[0]._look(house._nursery)
        monkeypatch.setattr(switch_keeper, "take_snapshot", take_snapshot)
        assert state_of(await agent_of(house)) is AgentState.ON_CALL
        await house.begin_running()
        await trio.sleep(5)
        assert talking(house) == 0

    told(redis_url, story)


def test_a_conversation_that_has_just_ended_is_not_revived_by_an_older_list(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([number(0)], ["1000"])
        switch = house.daemon.switches["fs"]
        while not talking(house):  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.01)
        old = await take_snapshot(switch)
        leg = (await agent_of(house)).leg
        assert leg in old.bridged_with

        def parked() -> bool:
            known = house.daemon.world.live_calls.leg(leg)
            return known is not None and known.parked

        while not parked():  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.01)
        assert not talking(house)
        looks: list[float] = []

        async def older_at_first(switch: Any) -> Any:
            looks.append(trio.current_time())
            return old if len(looks) == 1 else await take_snapshot(switch)

        monkeypatch.setattr(switch_keeper, "take_snapshot", older_at_first)
        await house.daemon.keepers[0]._look(house._nursery)
        assert parked()
        await house.until(lambda: len(looks) == 2, "looked at again", 5)
        assert parked()

    told(redis_url, story)


def test_a_doubt_outlives_a_look_that_fails(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(house: VirtualHouse) -> None:
        looks: list[float] = []

        async def fails_once(switch: Any) -> Any:
            looks.append(trio.current_time())
            if len(looks) == 1:
                raise UnavailableError("slow")
            return await take_snapshot(switch)

        monkeypatch.setattr(switch_keeper, "take_snapshot", fails_once)
        house.daemon.keepers[0].doubt()
        await house.until(lambda: len(looks) == 2, "looked at again", 10)

    told(redis_url, story)


def test_an_agent_comes_free_of_a_campaign_that_this_version_cannot_read(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([number(0, 8)], ["1000"])
        await house.until(lambda: talking(house) == 1, "talking")
        await house.kill()
        newer = text('UPDATE campaign SET definition = \'{"from": "a newer version"}\'')
        house.sql(lambda session: session.connection().execute(newer))
        await house.start()
        await trio.sleep(10)
        assert house.daemon.switches["fs"].ready  # and there is a daemon
        house.switch.hang_up(house.customers()[0].uuid)
        await trio.sleep(100)
        assert not (await agent_of(house)).token

    told(redis_url, story)


# A change of campaigns and trunks.


def test_all_who_may_be_called_again_in_the_morning_are_woken(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        def asleep() -> int:
            return int(house.rows("SELECT count(*) FROM lead WHERE status = 'new' AND queue IS NULL")[0][0])

        await house.begin([number(index, 8) for index in range(3_500)], ["1000"], running=False)
        house.sql(lambda session: session.connection().execute(update(LeadRow).values(queue=None)))
        assert asleep() == 3_500
        await house.begin_running()
        await house.until(lambda: bool(house.customers()), "called", 30)
        await house.until(lambda: asleep() == 0, "all awake", 10)
        assert len(house.customers()) == 1

    told(redis_url, story)


def test_after_a_reload_those_are_asked_about_again_whom_no_trunk_would_carry(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        blind = house.settings
        (trunk,) = blind.gateway
        house.daemon._load = lambda: blind.model_copy(
            update={"gateway": (trunk.model_copy(update={"blind_areas": ()}),)}
        )
        await house.begin([number(0)], ["1000"])
        await trio.sleep(30)
        assert not house.customers()
        assert [lead.put_off_by for lead in house.leads()] == ["blind_area"]
        assert house.daemon.reload() == "taken over: gateway"
        await house.until(lambda: house.finished, "called", 30)

    told(redis_url, story, gateway='blind_areas = ["+1202"]')


def test_a_new_definition_keeps_the_teams_lease(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([number(0, 8)], ["1000"])
        await trio.sleep(2)
        for index in range(10):
            definition = campaign(wrap_up_seconds=f"0.{index + 3}")
            house.sql(lambda session, one=definition: store.add_campaign(session, one, house.clock.now()))  # type: ignore[misc]
            await house.daemon.desk.campaigns_changed()
            await trio.sleep(0.5)
            assert house.client.get(f"{house.prefix}campaign_lease:test") == "test"

    told(redis_url, story)


def test_a_trunk_that_is_taken_away_while_leads_are_leased_for_it_ends_nothing(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        ledger: Any = house.daemon.ledger
        lease = ledger.lease

        async def then_reload(*args: Any, **kwargs: Any) -> Any:
            found = await lease(*args, **kwargs)
            house.daemon.gateways.configure([one for one in house.settings.gateway if one.name == "carrier_b"])
            return found

        ledger.lease = then_reload
        await house.begin([number(0, 8)], ["1000"], **FAIL_OVER)
        await trio.sleep(3)
        assert not house._over.is_set()
        assert talking(house) == 1

    told(redis_url, story, gateway=SECOND_TRUNK)


def test_a_campaign_that_is_stopped_while_it_is_looked_at_does_not_run_again(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([number(index, 8) for index in range(9)], ["1000"])
        desk: Any = house.daemon.campaigns
        pacings, stopped = desk._pacings, list[bool]()

        async def slow() -> Any:
            found = await pacings()
            if desk._running and not stopped:
                stopped.append(True)
                now = house.clock.now()
                house.sql(lambda session: store.set_campaign_status(session, "test", CampaignStatus.STOPPED, now))
                await desk.refresh()  # as an agent does who goes ready
            return found

        desk._pacings = slow
        await house.until(lambda: bool(stopped), "stopped")
        await trio.sleep(0.05)
        assert not desk._running

    told(redis_url, story)


def test_conversations_of_a_former_life_are_within_the_limit_of_calls(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        people = [number(index, 8) for index in range(5)]
        await house.begin(people, ["1000", "1001", "1002"], max_calls_in_flight="2")
        await house.until(lambda: talking(house) == 2, "two talk")
        await house.kill()
        await house.start()
        await house.until(lambda: house.daemon.switches["fs"].ready, "recovered", 5.0)
        await trio.sleep(5)
        assert talking(house) == 2

    told(redis_url, story)


# Leads that wait for an agent.


@pytest.mark.parametrize("owed", ["abandoned", "callback"])
def test_leads_that_are_owed_an_agent_do_not_stop_others(redis_url: str, owed: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([number(0, 8)], ["1000"])
        await house.until(lambda: talking(house) == 1, "talking")
        house.add_leads([number(index, 5) for index in range(1, 21)])
        now = house.clock.now()
        abandoned = {"history": json.dumps({"abandoned_at": (now - timedelta(days=4)).isoformat()})}
        changes = abandoned if owed == "abandoned" else {"callback_at": now, "queue": 1}

        def owe(session: Session) -> None:
            first = session.exec(select(LeadRow.id).where(col(LeadRow.status) == "new").order_by(text("id"))).all()[
                :2
            ]
            session.connection().execute(update(LeadRow).where(col(LeadRow.id).in_(first)).values(**changes))

        house.sql(owe)
        pacing: Any = house.daemon.campaigns._running["test"].runner.pacing

        def two_ahead(_switch: str, view: Any) -> Decision:
            return Decision(max(0, 2 - view.ringing - view.waiting), "an agent will be free soon", HeldBy.AGENTS)

        pacing.decide = two_ahead
        before = house.database_faults.requests
        await trio.sleep(20)
        assert len(house.customers()) > 1
        assert house.database_faults.requests - before < 200

    told(redis_url, story)


# Failures of a moment.


def test_a_release_that_is_owed_frees_no_agent_that_is_claimed_again(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], ["1000"], running=False)
        await trio.sleep(5)
        roster = house.daemon.roster
        first = await roster.try_claim("test", "fs", "attempt-1")
        assert isinstance(first, Claim)
        house.redis_faults.down = Trouble.REFUSED
        await roster.release(first)  # its bridge failed
        house.redis_faults.down = None
        assert isinstance(await roster.try_claim("test", "fs", "attempt-1"), Claim)
        await trio.sleep(2)
        assert await roster.try_claim("test", "fs", "attempt-2") is None

    told(redis_url, story)


def test_what_an_agent_says_is_of_whom_they_talk_with_though_redis_was_away_when_that_began(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        roster: Any = house.daemon.roster
        do, bridges = roster._do, []

        async def fails_once(verb: str, *args: Any, late: Late | None = None) -> Any:
            if verb == "bridged":
                bridges.append(args)
                if len(bridges) == 2:
                    raise UnavailableError("away for a moment")
            return await do(verb, *args, late=late)

        roster._do = fails_once
        await house.begin([number(0, 0), number(1, 8)], ["1000"], wrap_up_seconds="0", dispositions=WORDS)
        await house.until(lambda: len(bridges) == 2, "the second talks")
        await trio.sleep(10)
        (second,) = [one for one in house.customers() if one.partner is not None]
        said = await house.daemon.wrap_up.agent_dispose("1000", "stop")
        assert said.startswith(f"+{second.number.removeprefix('+')} is stop")

    told(redis_url, story)


def test_a_call_whose_originate_was_not_answered_is_taken_back_at_a_stop(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([number(0, 5)], ["1000"], running=False, ring_seconds="60", retries=ONCE)
        await trio.sleep(3)
        switch: Any = house.daemon.switches["fs"]
        submit_accepted = switch.submit_accepted

        async def unanswered(command: Any, uuid: str) -> None:
            await submit_accepted(command, uuid)
            switch.drop_link("no reply")
            raise OutcomeUnknownError("the link went before the reply")

        switch.submit_accepted = unanswered
        await house.begin_running()
        await trio.sleep(5)
        switch.submit_accepted = submit_accepted
        now = house.clock.now()
        house.sql(lambda session: store.set_campaign_status(session, "test", CampaignStatus.STOPPED, now))
        await house.daemon.desk.campaigns_changed()
        await trio.sleep(10)
        assert not house.daemon.campaigns.attempts()

    told(redis_url, story)


def test_one_number_that_two_trunks_refuse_parks_neither(redis_url: str) -> None:
    refusing = {"mix": {"answer": 1.0}, "scripts": [{"suffix": "4", "outcome": "unavailable"}]}
    both = {"gateways": {"carrier_a": refusing, "carrier_b": {**QUICK["gateways"]["carrier_a"], **refusing}}}
    patient = SECOND_TRUNK.replace("park_after_faults = 2", "park_after_faults = 3") + "park_after_faults = 3\n"

    async def story(house: VirtualHouse) -> None:
        retries = f"{{ max_attempts = 6, delay_seconds = {{ {SOON_AGAIN} }} }}"
        await house.begin([number(0, 4)], ["1000"], retries=retries, **FAIL_OVER)
        await trio.sleep(60)
        assert len(house.cdrs()) > 6
        assert house.daemon.metrics.counts["gateways_parked"] == 0

    told(redis_url, story, changes=both, gateway=patient)


# Whatever a definition says, the daemon lives on.


@pytest.mark.parametrize("talks", [True, False])
def test_a_key_for_a_campaign_of_another_version_ends_nothing(redis_url: str, talks: bool) -> None:
    async def story(house: VirtualHouse) -> None:
        words = '[{ name = "sale", key = "1" }, { name = "no" }]'
        more: dict[str, Any] = {"dispositions": words, "default_disposition": '"no"', "wrap_up_seconds": "30"}
        await house.begin([number(0, 8 if talks else 0)], ["1000"], **more)
        if talks:
            await house.until(lambda: talking(house) == 1, "talks")
            house.switch.press((await agent_of(house)).leg, "1")
            await trio.sleep(1)
        else:
            await house.until(lambda: len(house.cdrs()) == 1, "talked")
        newer = text('UPDATE campaign SET definition = \'{"from": "a newer version"}\'')
        house.sql(lambda session: session.connection().execute(newer))
        house.switch.press((await agent_of(house)).leg, "1")
        await trio.sleep(1)
        for one in house.customers():
            house.switch.hang_up(one.uuid)
        await house.until(lambda: len(house.cdrs()) == 1, "recorded")
        assert (await house.agents())[0].extension == "1000"

    told(redis_url, story)


@pytest.mark.parametrize("choice", ["skipped", "busy"])
def test_a_held_agent_does_not_wait_for_the_database_once_the_call_is_over(redis_url: str, choice: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([number(0, 1)], ["1000"], retries=ONCE, mode='"preview"')
        offers, verbs = house.daemon.campaigns.attempts, house.daemon.desk.verbs()
        await house.until(lambda: any(one.phase is Phase.OFFERED for one in offers()), "offered")
        if choice == "skipped":
            house.database_faults.down = Trouble.REFUSED
            await verbs["agent_skip"]("1000", "later")
        else:
            await verbs["agent_accept"]("1000")
            await house.until(lambda: bool(house.customers()) or not offers(), "dialed")
            house.database_faults.down = Trouble.REFUSED
        await trio.sleep(20)
        assert offers(), "the record waits"
        assert state_of(await agent_of(house)) is AgentState.IDLE
        house.calm()
        await house.until(lambda: bool(house.cdrs()), "written")

    told(redis_url, story, changes={"gateways": {"carrier_a": {"fail_delay": 3.0}}})


def test_a_daemon_leases_nothing_by_rules_that_are_others_by_now(redis_url: str) -> None:
    """It would put leads off again that the new rules have just released, and nobody would look at them that day."""

    async def story(house: VirtualHouse) -> None:
        never = '[{ days = ["sun"], start = "03:00", end = "03:01" }]'
        closed, opened = campaign(windows=never), campaign()
        row_id = house.sql(lambda session: store.add_campaign(session, closed, house.clock.now()).row.id) or 0
        house.add_leads([number(0, 0)], row_id)
        ledger, trunks = house.daemon.ledger, {"carrier_a": house.daemon.gateways["carrier_a"].settings.trunk()}
        room = [Slot("u", "carrier_a", "fs")]
        found = await ledger.lease(RuleBook(closed, row_id), room, trunks)
        assert (found.leases, found.blocked) == ([], {"calling_hours": 1})
        house.sql(lambda session: store.add_campaign(session, opened, house.clock.now()))
        house.sql(lambda session: store.reconsider(session, row_id, house.clock.now()))
        assert await ledger.lease(RuleBook(closed, row_id), room, trunks) == Leased()
        assert len((await ledger.lease(RuleBook(opened, row_id), room, trunks)).leases) == 1

    told(redis_url, story)
