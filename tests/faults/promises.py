"""What must hold always, checked against what the simulated switch itself saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Protocol

from campaigns.disposition import UNCOUNTED, Disposition
from campaigns.lead import LeadStatus
from campaigns.tables import AttemptRow, CallOutcomeRow, CdrRow, LeadRow, SuppressionRow
from dialer.agents.agent import AgentState, Phones, state_of
from dialer.simulator.channel import Channel
from tests.faults.virtual import VirtualHouse

# Nobody who answered is left without an agent, a message or an end for longer than this; the rest is what an ending
# takes. The dead man's handle of `originate` is what ends it when there is no daemon.
MARGIN_SECONDS = 15.0
# What the hourly counts must be, from the records.
COUNTED = (
    "SELECT campaign_id, substr(answered_at, 1, 13) || ':00:00.000000',"
    " count(abandoned), coalesce(sum(abandoned), 0),"
    " count(false_positive_permille), coalesce(sum(false_positive_permille), 0) FROM cdr"
    " WHERE abandoned IS NOT NULL OR false_positive_permille IS NOT NULL GROUP BY 1, 2"
)
# Suppressed is whoever has opted out of a call whose record could not tell of it.
FINISHED = (LeadStatus.DONE, LeadStatus.DEAD, LeadStatus.EXHAUSTED, LeadStatus.SUPPRESSED)
REACHED = (Disposition.BRIDGED, Disposition.MESSAGE_PLAYED)
ANSWERED = (
    Disposition.ABANDONED,
    Disposition.HUNG_UP,
    Disposition.MACHINE,
    Disposition.MESSAGE_PLAYED,
    Disposition.OPTED_OUT,
)


class Seen(Protocol):
    """What became of leads and people."""

    def leads(self) -> Sequence[LeadRow]: ...

    def attempts(self) -> Sequence[AttemptRow]: ...

    def cdrs(self) -> Sequence[CdrRow]: ...

    def customers(self) -> list[Channel]: ...


class Spoken(Protocol):
    """What people and agents have said."""

    def cdrs(self) -> Sequence[CdrRow]: ...

    def suppressions(self) -> Sequence[SuppressionRow]: ...

    def outcomes(self) -> Sequence[CallOutcomeRow]: ...

    @property
    def words(self) -> bool:
        """Whether the campaign has outcomes of its own."""
        ...


def check_always(house: VirtualHouse) -> None:
    """What holds at any moment, daemon or no daemon."""
    live = Counter(c.number for c in house.customers() if not c.hung_up and c.uuid in house.switch.channels)
    at_once = {number: count for number, count in live.items() if count > 1}
    assert not at_once, f"called twice at the same time: {at_once}"
    placed = Counter(channel.uuid for channel in house.customers())
    assert not placed or max(placed.values()) == 1, "one attempt was placed twice"
    written = {uuid for (uuid,) in house.rows("SELECT uuid FROM attempt")}
    unwritten = [channel for channel in house.customers() if channel.uuid not in written]
    assert not unwritten, f"placed without an attempt on record: {unwritten}"
    talking = Counter(
        c.partner.number for c in house.customers() if c.partner is not None and c.uuid in house.switch.channels
    )
    assert not talking or max(talking.values()) == 1, f"an agent talks to two people: {talking}"
    twice = house.rows("SELECT attempt_uuid FROM cdr GROUP BY attempt_uuid HAVING count(*) > 1")
    assert not twice, f"attempts with two records: {twice}"
    counts = house.rows(
        "SELECT campaign_id, hour, live_answers, abandoned, machines, false_positive_permille FROM abandonment_hour"
    )
    counted = house.rows(COUNTED)
    assert sorted(counts) == sorted(counted), f"abandoned calls are counted {counts}, on record are {counted}"


def check_leads(house: Seen, max_attempts: int, spoken_of: Collection[int] = ()) -> None:
    """Each attempt has one result and one record, each lead its attempts and no more.

    Of the leads in `spoken_of` an agent has said what came of it, whatever the switch knows.
    """
    attempts, cdrs = house.attempts(), {cdr.attempt_uuid: cdr for cdr in house.cdrs()}
    open_ones = [attempt for attempt in attempts if attempt.closed_at is None]
    assert not open_ones, f"attempts without a result: {open_ones}"
    assert {attempt.uuid for attempt in attempts} == set(cdrs), "attempts and records do not agree"
    no_calls = {uuid for uuid, cdr in cdrs.items() if cdr.disposition in UNCOUNTED}
    of_lead = Counter(attempt.lead_id for attempt in attempts if attempt.uuid not in no_calls)
    reached = {cdr.lead_id for cdr in cdrs.values() if cdr.disposition in REACHED}
    for lead in house.leads():
        assert lead.status in FINISHED, f"{lead} is not finished"
        assert lead.attempts == of_lead[lead.id or 0] <= max_attempts, f"{lead}: {of_lead[lead.id or 0]} attempts"
        done = lead.id in reached or lead.id in spoken_of
        assert (lead.status is LeadStatus.DONE) == done, f"{lead} is {lead.status}, reached: {done}"


def check_wishes(house: Spoken) -> None:
    """Who wants no more calls is on the do-not-call list; each conversation has one outcome, if there are words."""
    listed = {row.pattern for row in house.suppressions()}
    for cdr in house.cdrs():
        if cdr.disposition is Disposition.OPTED_OUT:
            assert cdr.number in listed, f"{cdr.number} has opted out, and is on no list"
    said = Counter(row.attempt_uuid for row in house.outcomes())
    for cdr in house.cdrs() if house.words else ():
        expected = cdr.disposition is Disposition.BRIDGED
        assert said[cdr.attempt_uuid] in ({1} if expected else {0, 1}), f"{cdr} has {said[cdr.attempt_uuid]} outcomes"


def check_people(house: Seen, longest_wait_seconds: float) -> None:
    """The records against what the people lived through."""
    cdrs = {cdr.attempt_uuid: cdr for cdr in house.cdrs()}
    for person in house.customers():
        cdr = cdrs[person.uuid]
        assert cdr.disposition is not Disposition.SKIPPED, f"{person!r} was called, and is said to have been skipped"
        told = f"{person!r} has the record {cdr.disposition}, {cdr.hangup_cause}"
        if cdr.disposition is Disposition.BRIDGED:
            assert person.ever_bridged, f"{told}, and talked to nobody"
        elif cdr.disposition is not Disposition.UNKNOWN:
            # A bridge that stood while no daemon looked may be unknown, but never anything else.
            assert not person.ever_bridged, f"{told}, and talked to somebody"
        if not person.is_answered:
            assert cdr.disposition not in (*REACHED, Disposition.ABANDONED), f"{told}, and never answered"
        elif not person.ever_bridged:
            assert cdr.disposition in (*ANSWERED, Disposition.UNKNOWN), told
            assert cdr.abandoned is not False, f"{told}, and counts as served"
            waited = (person.hung_up_at - person.answered) / 1_000_000
            if person.hung_up_at:  # 0 where the switch itself died
                assert waited <= longest_wait_seconds, f"{told}, after {waited:.1f} s with nobody"


async def _check_agents(house: VirtualHouse) -> None:
    agents = [agent for agent in await house.agents() if agent.campaign]  # the others only have a phone
    legs = {agent.leg for agent in agents}
    left = [channel for channel in house.switch.channels.values() if channel.uuid not in legs]
    assert not left, f"channels that nobody owns: {left}"
    for agent in agents:
        state = state_of(agent)
        assert not agent.token, f"{agent.extension} is {state} for {agent.token}, which is over"
        assert state is AgentState.IDLE, f"{agent.extension} is {state} at the end: {agent}"
        if agent.phones is Phones.ON_DEMAND:
            continue
        assert agent.leg in house.switch.channels, f"the leg of {agent.extension} is not there: {agent.leg}"
        assert house.switch.channels[agent.leg].parked, f"the leg of {agent.extension} is not parked"
    assert house.client.hlen(f"{house.prefix}claims") == 0, "a claim outlives its attempt"
    assert house.client.zcard(f"{house.prefix}leases") == 0, "a lease outlives its claim"


async def _check_slots(house: VirtualHouse) -> None:
    gateways = house.daemon.gateways.all()
    # A runner that looks for leads holds some for a moment.
    await house.until(lambda: not any(gateway.held for gateway in gateways), "all slots given back", 10.0)
    used = [await gateway.used() for gateway in gateways]
    assert not any(used), f"slots in use at the end: {used}"


async def check_at_rest(house: VirtualHouse, *, max_attempts: int = 2, longest_wait_seconds: float) -> None:
    """What holds when all leads are finished, and everything that was broken is whole again."""
    house.calm()
    check_always(house)
    check_leads(house, max_attempts, {row.lead_id for row in house.outcomes() if row.name == "sale"})
    check_people(house, longest_wait_seconds)
    check_wishes(house)
    await _check_agents(house)
    await _check_slots(house)


async def comes_to_rest(
    house: VirtualHouse, agents: int, within_seconds: float = 300.0, *, nailed_up: bool = True
) -> None:
    """Waits until all leads are finished and every agent could take a call again."""
    legs = agents if nailed_up else 0
    await house.until(lambda: house.finished, "finished", within_seconds)
    await house.until(lambda: not house.daemon.campaigns.calls_in_flight(), "at rest", within_seconds)

    def idle() -> int:
        return sum(house.client.zcard(key) for key in house.client.scan_iter(f"{house.prefix}idle:*"))

    def only_parked() -> bool:
        channels = house.switch.channels.values()
        return len(channels) == legs and all(channel.parked for channel in channels)

    def no_slots() -> bool:
        now_ms = int(house.clock.now().timestamp() * 1000)
        return not sum(
            house.client.zcount(f"{house.prefix}gateway:{gateway.name}", now_ms + 1, "+inf")
            for gateway in house.settings.gateway
        )

    await house.until(lambda: idle() == agents and only_parked() and no_slots(), "all put back", within_seconds)
