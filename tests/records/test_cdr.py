"""A finished attempt to its record."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from campaigns.campaign import Campaign
from campaigns.disposition import CAUSES, Disposition
from campaigns.leases import Lease
from campaigns.tables import CdrRow
from dialer.calls.leg import HungUpBy, Leg
from dialer.clock import from_microseconds
from dialer.esl.messages import Event
from dialer.records.cdr import Ending, disposition_of, record_of

from ..esl.recorded import messages, recording

START_US = 1_795_217_008_000_000
SECOND = 1_000_000
CAMPAIGN = Campaign(name="spring", gateways=("trunk",), country="DE")
LEASE = Lease(
    uuid="u-1", lead_id=7, number="+4930123456", gateway="trunk", switch="a", attempt_no=2, fields={"name": "x"}
)


def leg(**facts: object) -> Leg:
    """A leg that rang after a second and ended after ten, unless `facts` say otherwise."""
    times = {"created_us": START_US, "ringing_us": START_US + SECOND, "ended_us": START_US + 10 * SECOND}
    return Leg("u-1", **{**times, **facts})  # type: ignore[arg-type]


def answered(**facts: object) -> Leg:
    return leg(answered_us=START_US + 4 * SECOND, cause="NORMAL_CLEARING", **facts)


def bridged(**facts: object) -> Leg:
    return answered(bridged_us=START_US + 4 * SECOND + 64_000, **facts)


@pytest.mark.parametrize(
    ("ended", "ending", "disposition"),
    [
        # bridged stays bridged, whatever came after
        (bridged(hung_up_by=HungUpBy.FAR_END), Ending(), Disposition.BRIDGED),
        (bridged(hung_up_by=HungUpBy.SWITCH), Ending(agent_ended_it=True), Disposition.BRIDGED),
        (bridged(vanished=True), Ending(unknown=True), Disposition.BRIDGED),
        (bridged(), Ending(abandoned=True), Disposition.BRIDGED),
        # the trunk would not carry it, and another one is to
        (Leg("u-1", ended_us=1, cause="NORMAL_TEMPORARY_FAILURE"), Ending(failed_over=True), Disposition.FAILED_OVER),
        (Leg("u-1", ended_us=1, cause="NORMAL_TEMPORARY_FAILURE"), Ending(), Disposition.CONGESTION),
        # no agent in time
        (answered(hung_up_by=HungUpBy.SWITCH), Ending(abandoned=True), Disposition.ABANDONED),
        (answered(hung_up_by=HungUpBy.FAR_END), Ending(abandoned=True), Disposition.ABANDONED),
        (answered(vanished=True), Ending(abandoned=True, unknown=True), Disposition.ABANDONED),
        # answered and gone before anything was decided
        (answered(hung_up_by=HungUpBy.FAR_END), Ending(), Disposition.HUNG_UP),
        (answered(hung_up_by=HungUpBy.SWITCH), Ending(), Disposition.ABANDONED),
        (answered(hung_up_by=None), Ending(), Disposition.ABANDONED),  # nobody saw who it was: ours, then
        # never answered
        (leg(cause="USER_BUSY"), Ending(), Disposition.BUSY),
        (leg(cause="CALL_REJECTED", sip_status=603), Ending(), Disposition.REJECTED),
        (leg(cause="CALL_REJECTED"), Ending(), Disposition.REJECTED),
        (leg(cause="CALL_REJECTED", sip_status=403), Ending(), Disposition.FAILED),  # the trunk refuses us
        (leg(cause="CALL_REJECTED", sip_status=402), Ending(), Disposition.CONGESTION),
        (leg(cause="A_CAUSE_OF_TOMORROW"), Ending(), Disposition.FAILED),
        (leg(cause=""), Ending(), Disposition.FAILED),
        # out of sight
        (leg(ended_us=0), Ending(), Disposition.UNKNOWN),
        (leg(ended_us=0), Ending(unknown=True), Disposition.UNKNOWN),
        (leg(vanished=True, cause="USER_BUSY"), Ending(unknown=True), Disposition.UNKNOWN),
        (leg(vanished=True), Ending(), Disposition.UNKNOWN),
        (answered(vanished=True), Ending(unknown=True), Disposition.UNKNOWN),
        # a message instead of an agent
        (answered(hung_up_by=HungUpBy.SWITCH), Ending(broadcast=True, heard=True), Disposition.MESSAGE_PLAYED),
        (answered(vanished=True), Ending(broadcast=True, opted_out=True, heard=True), Disposition.OPTED_OUT),
        (answered(hung_up_by=HungUpBy.FAR_END), Ending(broadcast=True), Disposition.HUNG_UP),
        (answered(hung_up_by=None), Ending(broadcast=True), Disposition.HUNG_UP),  # the longer rest, in doubt
        (answered(hung_up_by=HungUpBy.SWITCH), Ending(broadcast=True), Disposition.FAILED),  # nobody was kept waiting
        (answered(vanished=True), Ending(broadcast=True, unknown=True), Disposition.UNKNOWN),
        (leg(cause="USER_BUSY"), Ending(broadcast=True), Disposition.BUSY),
        # never placed
        (Leg("u-1"), Ending(skipped=True, agent="1000"), Disposition.SKIPPED),
        (leg(ended_us=0), Ending(failure="-ERR bad command"), Disposition.FAILED),
    ],
)
def test_the_one_outcome(ended: Leg, ending: Ending, disposition: Disposition) -> None:
    assert disposition_of(ended, ending) is disposition


@pytest.mark.parametrize("cause", sorted(CAUSES))
def test_every_cause_of_a_call_nobody_answered(cause: str) -> None:
    assert disposition_of(leg(cause=cause), Ending()) is CAUSES[cause]


@pytest.mark.parametrize(
    ("name", "disposition", "status"),
    [
        ("busy", Disposition.BUSY, 486),
        ("notfound", Disposition.INVALID_NUMBER, 404),
        ("unavailable", Disposition.CONGESTION, 503),
        ("noanswer", Disposition.NO_ANSWER, 487),
        ("cancelled_ringing", Disposition.CANCELLED, 487),
    ],
)
def test_recorded_endings(name: str, disposition: Disposition, status: int) -> None:
    events = [one for one in messages(recording(name)) if isinstance(one, Event)]
    told = Leg(next(one.unique_id for one in events if one.unique_id))
    for one in events:
        if told.uuid in one.legs:
            told = told.fold(one)
    found = record(told)
    assert (found.disposition, found.sip_status) == (disposition, status)


def record(told: Leg, ending: Ending = Ending(), campaign: Campaign = CAMPAIGN) -> CdrRow:  # noqa: B008 - frozen
    return record_of(
        told,
        ending,
        LEASE,
        campaign,
        3,
        caller_id="4930999",
        node="n1",
        originated_at=datetime(2026, 11, 20, 23, 23, 27, tzinfo=UTC),
        now=from_microseconds(START_US + 60 * SECOND),
    )


def test_the_record_of_a_conversation() -> None:
    told = bridged(hung_up_by=HungUpBy.FAR_END, sip_status=200, record_path="/r/u-1.wav")
    ending = Ending(agent="1000", agent_leg="leg", recording="/r/asked.wav")
    assert record(told, ending).model_dump(exclude={"id"}) == CdrRow(
        attempt_uuid="u-1",
        campaign_id=3,
        lead_id=7,
        attempt_no=2,
        number="+4930123456",
        gateway="trunk",
        switch="a",
        caller_id="4930999",
        agent="1000",
        agent_leg="leg",
        disposition=Disposition.BRIDGED,
        hangup_cause="NORMAL_CLEARING",
        sip_status=200,
        hung_up_by="customer",
        originated_at=datetime(2026, 11, 20, 23, 23, 27, tzinfo=UTC),
        ringing_at=datetime(2026, 11, 20, 23, 23, 29, tzinfo=UTC),
        early_media_at=None,
        answered_at=datetime(2026, 11, 20, 23, 23, 32, tzinfo=UTC),
        bridged_at=datetime(2026, 11, 20, 23, 23, 32, 64_000, tzinfo=UTC),
        ended_at=datetime(2026, 11, 20, 23, 23, 38, tzinfo=UTC),
        ring_ms=3_000,
        wait_ms=64,
        talk_ms=5_936,
        recording="/r/u-1.wav",
        node="n1",
        abandoned=False,
    ).model_dump(exclude={"id"})


def test_abandoned_is_judged_by_the_campaign_s_own_seconds() -> None:
    late = answered(bridged_us=START_US + 6 * SECOND + 500_000)  # 2.5 s after the answer
    patient = CAMPAIGN.model_copy(update={"connect_seconds": 3.0})
    assert (record(late).abandoned, record(late, campaign=patient).abandoned) == (True, False)
    assert record(leg(cause="USER_BUSY")).abandoned is None


def durations(told: Leg) -> tuple[int | None, int | None, int | None]:
    found = record(told)
    return found.ring_ms, found.wait_ms, found.talk_ms


def test_durations() -> None:
    assert durations(answered()) == (3_000, 6_000, None)
    assert durations(leg(cause="NO_ANSWER")) == (9_000, None, None)
    assert durations(leg(cause="USER_BUSY", ringing_us=0)) == (None, None, None)
    assert durations(leg(ringing_us=0, early_media_us=START_US + 2 * SECOND)) == (8_000, None, None)
    # rang first, sang then: it rang from the first sign
    assert durations(leg(early_media_us=START_US + 2 * SECOND)) == (9_000, None, None)
    # an end that was never seen is now, 60 s after the start
    assert durations(answered(ended_us=0)) == (3_000, 56_000, None)
    assert record(answered(ended_us=0)).ended_at == from_microseconds(START_US + 60 * SECOND)
    # an answer that came after the end (overload) makes no negative time
    assert durations(leg(answered_us=START_US + 11 * SECOND)) == (10_000, 0, None)


@pytest.mark.parametrize(
    ("told", "ending", "who"),
    [
        (bridged(hung_up_by=HungUpBy.FAR_END), Ending(), "customer"),
        (bridged(hung_up_by=HungUpBy.SWITCH), Ending(agent_ended_it=True), "agent"),
        (answered(hung_up_by=HungUpBy.SWITCH), Ending(), "dialer"),
        (answered(hung_up_by=None), Ending(), None),
        (leg(hung_up_by=HungUpBy.FAR_END, cause="USER_BUSY"), Ending(), None),
    ],
)
def test_who_hung_up(told: Leg, ending: Ending, who: str | None) -> None:
    assert record(told, ending).hung_up_by == who


def test_what_was_never_placed() -> None:
    found = record(Leg("u-1"), Ending(failure="-ERR no such gateway"))
    assert (found.disposition, found.hangup_cause, found.sip_status) == (
        Disposition.FAILED,
        "ORIGINATE_REFUSED",
        None,
    )
    assert (found.ringing_at, found.answered_at, found.bridged_at) == (None, None, None)
    assert (found.agent, found.agent_leg, found.recording) == (None, None, None)


def test_the_campaign_s_own_caller_id_and_a_recording_only_asked_for() -> None:
    campaign = Campaign(name="spring", gateways=("trunk",), country="DE", caller_id="+4930777")
    found = record(bridged(), Ending(recording="/r/asked.wav"), campaign)
    assert (found.caller_id, found.recording) == ("+4930777", "/r/asked.wav")
