"""Every recorded leg's whole life, and that no order, loss or doubling of events brings a dead one back."""

from __future__ import annotations

import json
from typing import Final

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialer.calls.leg import AnsweredBy, HungUpBy, Leg
from dialer.esl.messages import KINDS, BackgroundJob, EndingEvent, Event, event_from_json
from tests.esl.recorded import NAMES, messages, recording

# Without their own bytes, which would make a failure's report unreadable.
EVENTS: Final = {
    name: [
        msgspec.structs.replace(m, raw=m.raw if m.name == "RECORD_STOP" else b"")
        for m in messages(recording(name))
        if isinstance(m, Event)
    ]
    for name in NAMES
}
ENDINGS: Final = {"CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY"}
LEG: Final = "891ebad9-befe-4171-9569-7c757e361ac0"
AGENT_LEG: Final = "36566cd7-5720-48bb-b4d7-d43ddd35c25e"
NEXT_CUSTOMER: Final = "c9def226-b11d-4fd3-a5c9-79b793140147"


def about(name: str, uuid: str) -> list[Event]:
    """The events of a recording that are routed to the leg `uuid`."""
    return [event for event in EVENTS[name] if uuid in event.legs]


def fold(uuid: str, *events: Event) -> Leg:
    leg = Leg(uuid)
    for event in events:
        leg = leg.fold(event)
    return leg


def story(leg: Leg) -> str:
    """What happened to a leg, in words, in the order in which it happened."""
    times = [
        (leg.created_us, "created"),
        (leg.ringing_us, "ringing"),
        (leg.early_media_us, "media"),
        (leg.answered_us, "answered"),
        (leg.executing_us, "executing"),
        (leg.bridged_us, "bridged"),
        (leg.ended_us, "ended"),
    ]
    return " ".join(word for us, word in sorted(times, key=lambda time: time[0]) if us)


@attrs.frozen
class Fate:
    """A row: one leg of one recording, at its end."""

    recording: str
    leg: str
    story: str
    cause: str
    sip_status: int = 0
    by: HungUpBy | None = HungUpBy.SWITCH
    parks: int = 0


UNANSWERED: Final = "created ringing ended"
HEARD: Final = "created ringing answered executing ended"
TALKED: Final = "created ringing answered executing bridged ended"
FAR_END: Final = HungUpBy.FAR_END
FATES = [
    # Nobody there.
    Fate("busy", "5addaa2a", "created ended", "USER_BUSY", 486, FAR_END),
    Fate("notfound", "01c24bd3", "created ended", "UNALLOCATED_NUMBER", 404, FAR_END),
    Fate("unavailable", "3c771045", "created ended", "NORMAL_TEMPORARY_FAILURE", 503, FAR_END),
    Fate("noanswer", "b452a4a1", UNANSWERED, "NO_ANSWER", 487),
    Fate("cancelled_ringing", "51600424", UNANSWERED, "ORIGINATOR_CANCEL", 487),
    Fate("unknown_gateway", "23cffefa", "ended", "", 0, None),
    # Answered, and no agent.
    Fate("abandoned_with_message_and_dtmf", "891ebad9", HEARD, "NORMAL_CLEARING"),
    Fate("waiting_sound_ends_by_itself", "31021f5f", HEARD, "NO_USER_RESPONSE"),
    Fate("events_json", "3642d200", "answered executing ended", "NORMAL_CLEARING"),
    Fate("early_media", "a25209ef", "created media answered executing ended", "NORMAL_CLEARING"),
    Fate("early_media_not_ignored", "14618a34", "created media executing answered ended", "NORMAL_CLEARING"),
    Fate("customer_hung_up_before_bridge", "10865c0f", HEARD, "NORMAL_CLEARING", 200, FAR_END),
    Fate("customer_hung_up_before_bridge", "6805b4db", HEARD, "NORMAL_CLEARING", parks=1),
    # A bridge that never was.
    Fate("bridge_to_ringing_agent", "0eb5dbe3", HEARD, "ORIGINATOR_CANCEL"),
    Fate("bridge_to_ringing_agent", "e64a1c98", UNANSWERED, "DESTINATION_OUT_OF_ORDER", 487),
    Fate("customer_dies_mid_bridge", "6d7551f4", HEARD, "NORMAL_CLEARING"),
    Fate("customer_dies_mid_bridge", "56748acc", "created ringing answered executing", "", 0, None, parks=1),
    Fate("customer_dies_mid_bridge_agent_first", "a858baa8", HEARD, "NORMAL_CLEARING"),
    Fate("customer_dies_mid_bridge_agent_first", "07845a25", HEARD, "ORIGINATOR_CANCEL", parks=1),
    Fate("double_bridge_race", "67d4e621", HEARD, "NORMAL_CLEARING"),  # the orphan
    # Conversations.
    Fate("double_bridge_race", "c83a5add", TALKED, "NORMAL_CLEARING"),
    Fate("double_bridge_race", "2a4cc041", TALKED, "NORMAL_CLEARING", parks=1),
    Fate("nailed_up_agent_two_calls", "7777b986", TALKED, "NORMAL_CLEARING"),
    Fate("nailed_up_agent_two_calls", "c9def226", TALKED, "NORMAL_CLEARING"),
    Fate("nailed_up_agent_two_calls", "36566cd7", TALKED, "NORMAL_CLEARING", parks=2),
    Fate("on_demand_agent", "03446c7e", TALKED, "NORMAL_CLEARING"),
    Fate("on_demand_agent", "b4a6fdbf", TALKED, "NORMAL_CLEARING", parks=1),
    Fate("park_timeout_loses_agent_leg", "1760014c", TALKED, "NORMAL_CLEARING"),
    Fate("park_timeout_loses_agent_leg", "9242518f", TALKED, "NORMAL_CLEARING", parks=1),
    Fate("sched_hangup_cancelled_at_bridge", "965cf491", TALKED, "NORMAL_CLEARING"),
    Fate("sched_hangup_cancelled_at_bridge", "8a4c085d", TALKED, "NORMAL_CLEARING", parks=2),
]
# Calls of other people that were on the switch, seen in part.
STRANGERS: Final = {"1f8f02ed", "a144cdf9"}


def uuid_of(name: str, start: str) -> str:
    return next(event.unique_id for event in EVENTS[name] if event.unique_id.startswith(start))


def test_the_table_has_every_leg() -> None:
    recorded = {(name, event.unique_id[:8]) for name in NAMES for event in EVENTS[name] if event.unique_id}
    assert {(name, leg) for name, leg in recorded if leg not in STRANGERS} == {(f.recording, f.leg) for f in FATES}


@pytest.mark.parametrize("fate", FATES, ids=lambda fate: f"{fate.recording}-{fate.leg}")
def test_a_recorded_leg(fate: Fate) -> None:
    uuid = uuid_of(fate.recording, fate.leg)
    leg = fold(uuid, *about(fate.recording, uuid))
    assert story(leg) == fate.story
    assert (leg.cause, leg.sip_status, leg.hung_up_by, leg.parks) == (
        fate.cause,
        fate.sip_status,
        fate.by,
        fate.parks,
    )
    ended = fate.story.endswith("ended")
    assert (leg.ended, leg.complete) == (ended, ended)
    assert leg.parked is (not ended and fate.parks > 0)
    assert (leg.bridged, leg.bridgeable, leg.vanished) == (False, not ended, False)
    assert leg.record_path == (f"/var/lib/freeswitch/recordings/{uuid}.wav" if fate.leg == "7777b986" else "")


def test_the_switchs_own_times() -> None:
    customer = uuid_of("nailed_up_agent_two_calls", "7777b986")
    leg = fold(customer, *about("nailed_up_agent_two_calls", customer))
    assert (leg.answered_us, leg.bridged_us, leg.ended_us) == (1795216422319787, 1795216423199794, 1795216426179820)
    assert leg.created_us == 1795216420099791


def test_an_agents_leg_through_two_conversations() -> None:
    """CHANNEL_PARK of the agent comes before CHANNEL_UNBRIDGE of the customer."""
    uuid = uuid_of("nailed_up_agent_two_calls", "36566cd7")
    seen: list[tuple[bool, str, int]] = []
    leg = Leg(uuid)
    for event in about("nailed_up_agent_two_calls", uuid):
        leg = leg.fold(event)
        state = (leg.parked, leg.bridged_with[:8], leg.parks)
        if not seen or seen[-1] != state:
            seen.append(state)
    assert seen == [
        (False, "", 0),
        (True, "", 1),
        (False, "7777b986", 1),
        (True, "", 2),
        (False, "c9def226", 2),
        (False, "", 2),
    ]


def test_a_message_that_was_played_and_the_key_pressed_on_it() -> None:
    uuid = uuid_of("abandoned_with_message_and_dtmf", "891ebad9")
    events = [m for m in messages(recording("abandoned_with_message_and_dtmf")) if isinstance(m, Event)]
    leg = fold(uuid, *(event for event in events if uuid in event.legs))
    assert (leg.played, leg.keys) == (True, "9")


# --- single facts ---------------------------------------------------------------------------------------------------


def told(name: str, us: int = 100, **fields: str | int) -> Event:
    values: dict[str, str | int] = {"unique_id": LEG, **fields}
    return KINDS.get(name, Event)(name=name, timestamp_us=us, **values)  # type: ignore[arg-type]


def test_only_what_was_really_played_counts_as_played() -> None:
    assert not fold(LEG, told("CHANNEL_PARK")).played  # a file that is not there leaves nothing behind
    assert fold(LEG, told("CHANNEL_PARK", played_samples=8000)).played
    assert fold(LEG, told("CHANNEL_HANGUP", played_samples=8000), told("CHANNEL_DESTROY")).played


def heard(result: str, variable: str = "amd_result") -> Event:
    """As a FreeSWITCH with mod_amd sent it, but for what nobody reads."""
    body = {
        "Event-Subclass": "dialer::answered_by",
        "Event-Date-Timestamp": "1795256838363094",
        "Event-Calling-File": "mod_dptools.c",
        "Event-Calling-Function": "event_function",
        "Event-Sequence": "459",
        "Event-Name": "CUSTOM",
        "Unique-ID": LEG,
        "Call-Direction": "outbound",
        "Answer-State": "answered",
        f"variable_{variable}": result,
        "variable_current_application": "event",
    }
    return event_from_json(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("event", "by"),
    [
        (heard("HUMAN"), AnsweredBy.PERSON),
        (heard("MACHINE"), AnsweredBy.MACHINE),
        (heard("machine", "amd_status"), AnsweredBy.MACHINE),
        (heard("person", "amd_status"), AnsweredBy.PERSON),
        (heard("NOTSURE"), AnsweredBy.UNSURE),
        (heard("MACHINE", "other"), AnsweredBy.UNSURE),
    ],
)
def test_who_answered(event: Event, by: AnsweredBy) -> None:
    assert fold(LEG, event).answered_by is by
    assert fold(LEG, event, heard("HUMAN"), heard("MACHINE")).answered_by is by  # the first verdict was acted upon
    assert fold("another", event).answered_by is None


def test_keys_are_keys_and_not_too_many() -> None:
    def pressed(key: str) -> Event:
        return Event(name="DTMF", unique_id=LEG, raw=f'{{"DTMF-Digit":"{key}"}}'.encode())

    assert fold(LEG, *map(pressed, ["1", "#", "12", "", "x", "*"])).keys == "1#*"
    assert fold(LEG, *map(pressed, "1" * 100)).keys == "1" * 32


def originate_result(body: str, us: int = 100, job_uuid: str = LEG) -> Event:
    return BackgroundJob(name="BACKGROUND_JOB", timestamp_us=us, job_uuid=job_uuid, body=body)


def bridge(customer: str, agent: str, us: int = 100, name: str = "CHANNEL_BRIDGE") -> Event:
    return told(name, us, unique_id=customer, other_leg_uuid=agent, bridge_a_uuid=customer, bridge_b_uuid=agent)


def unbridge(customer: str, agent: str, us: int = 100) -> Event:
    return bridge(customer, agent, us, "CHANNEL_UNBRIDGE")


UP: Final = (told("CHANNEL_CREATE", 1), told("CHANNEL_ANSWER", 2), originate_result("+OK", 3))


@pytest.mark.parametrize("name", sorted(ENDINGS))
def test_the_first_sign_of_the_end_is_the_end(name: str) -> None:
    leg = fold(LEG, *UP, told("CHANNEL_PARK", 4), told(name, 5, hangup_cause="NORMAL_CLEARING"))
    assert (leg.ended, leg.ended_us, leg.cause, leg.parked, leg.bridgeable) == (
        True,
        5,
        "NORMAL_CLEARING",
        False,
        False,
    )
    assert leg.complete is (name != "CHANNEL_HANGUP")
    for later in sorted(ENDINGS - {name}):
        leg = leg.fold(told(later, 9))
    assert (leg.ended_us, leg.cause, leg.complete) == (5, "NORMAL_CLEARING", True)


def test_what_the_end_was_may_come_in_pieces() -> None:
    leg = fold(LEG, told("CHANNEL_HANGUP", 5, hangup_cause="USER_BUSY"))
    assert (leg.sip_status, leg.hung_up_by) == (0, None)
    leg = leg.fold(
        told("CHANNEL_HANGUP_COMPLETE", 6, sip_hangup_disposition="recv_refuse", sip_term_status=486)
    ).fold(told("CHANNEL_DESTROY", 7))
    assert (leg.cause, leg.sip_status, leg.hung_up_by, leg.ended_us) == ("USER_BUSY", 486, HungUpBy.FAR_END, 5)


def test_an_answer_that_was_missed_is_known_from_the_end() -> None:
    leg = fold(LEG, told("CHANNEL_CREATE", 1), told("CHANNEL_HANGUP", 5, answered_us=2))
    assert (leg.answered_us, leg.ended_us, leg.bridgeable) == (2, 5, False)
    assert not fold(LEG, told("CHANNEL_HANGUP", 5, answered_us=0)).answered


@pytest.mark.parametrize(
    ("disposition", "by"),
    [
        ("recv_bye", HungUpBy.FAR_END),
        ("recv_refuse", HungUpBy.FAR_END),
        ("recv_cancel", HungUpBy.FAR_END),
        ("send_bye", HungUpBy.SWITCH),
        ("send_cancel", HungUpBy.SWITCH),
        ("", None),
    ],
)
def test_who_hung_up(disposition: str, by: HungUpBy | None) -> None:
    assert fold(LEG, told("CHANNEL_HANGUP_COMPLETE", sip_hangup_disposition=disposition)).hung_up_by is by


def test_an_answer_after_the_hangup_is_an_answer_and_no_life() -> None:
    leg = fold(
        LEG, told("CHANNEL_HANGUP", 5, hangup_cause="NORMAL_CLEARING"), told("CHANNEL_ANSWER", 6, answered_us=4)
    )
    assert (leg.answered, leg.answered_us, leg.ended, leg.bridgeable) == (True, 4, True, False)
    leg = leg.fold(originate_result("+OK", 7))
    assert (leg.ended, leg.bridgeable) == (True, False)


@pytest.mark.parametrize(
    "late",
    [told("CHANNEL_PARK", 6), bridge(LEG, AGENT_LEG, 6), bridge(NEXT_CUSTOMER, LEG, 6), originate_result("+OK", 6)],
)
def test_a_dead_leg_is_neither_parked_nor_bridged_nor_bridgeable(late: Event) -> None:
    leg = fold(LEG, *UP, told("CHANNEL_HANGUP", 5), late)
    assert (leg.ended_us, leg.parked, leg.bridged, leg.bridgeable) == (5, False, False, False)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("-ERR USER_BUSY\n", "USER_BUSY"),
        ("-ERR INVALID_GATEWAY\n", "INVALID_GATEWAY"),
        ("-ERR SUBSCRIBER_ABSENT\n", "SUBSCRIBER_ABSENT"),
        ("-ERR NO ANSWER", "NO"),
        ("-ERR", ""),
    ],
)
def test_a_failed_originate_alone_ends_the_leg(body: str, cause: str) -> None:
    leg = fold(LEG, originate_result(body, 7))
    assert (leg.ended, leg.ended_us, leg.cause, leg.complete) == (True, 7, cause, False)
    assert fold(LEG, originate_result(body, 7), told("CHANNEL_DESTROY", 8)).complete


def test_a_channels_own_cause_is_better_than_the_originates() -> None:
    hangup = told("CHANNEL_HANGUP", 5, hangup_cause="NO_ANSWER")
    for events in ([hangup, originate_result("-ERR OTHER")], [originate_result("-ERR OTHER"), hangup]):
        assert fold(LEG, *events).cause == "NO_ANSWER"


def test_another_jobs_failure_is_not_the_legs() -> None:
    other = originate_result("-ERR Invalid uuid", job_uuid=AGENT_LEG)
    assert fold(LEG, *UP, other) == fold(LEG, *UP)


def test_bridgeable_is_answered_and_executing_in_either_order() -> None:
    answer, started = told("CHANNEL_ANSWER"), originate_result("+OK")
    assert not fold(LEG, answer).bridgeable
    assert not fold(LEG, started).bridgeable  # early media that is not ignored
    assert fold(LEG, answer, started).bridgeable
    assert fold(LEG, started, answer).bridgeable
    assert fold(LEG, answer, told("CHANNEL_PARK")).bridgeable  # the +OK was lost


def test_a_late_unbridge_does_not_clear_the_next_bridge() -> None:
    first, second, agent = LEG, NEXT_CUSTOMER, AGENT_LEG
    park = told("CHANNEL_PARK", 3, unique_id=agent)
    leg = fold(agent, bridge(first, agent, 2), park, bridge(second, agent, 4), unbridge(first, agent, 5))
    assert (leg.bridged_with, leg.bridged, leg.parked) == (second, True, False)
    leg = leg.fold(unbridge(second, agent, 6))
    assert (leg.bridged_with, leg.bridged) == ("", False)


def test_both_sides_of_a_bridge() -> None:
    for uuid, other in ((LEG, AGENT_LEG), (AGENT_LEG, LEG)):
        leg = fold(uuid, told("CHANNEL_PARK", 3, unique_id=uuid), bridge(LEG, AGENT_LEG, 5))
        assert (leg.bridged_with, leg.bridged_us, leg.parked, leg.parks) == (other, 5, False, 1)
        assert not leg.fold(unbridge(LEG, AGENT_LEG, 6)).bridged
    stranger = fold(NEXT_CUSTOMER, bridge(LEG, AGENT_LEG))
    assert stranger == Leg(NEXT_CUSTOMER)


@pytest.mark.parametrize("name", ["HEARTBEAT", "CUSTOM", "DTMF", "PLAYBACK_START", "SHUTDOWN", "", "NO_SUCH_EVENT"])
def test_what_tells_nothing_changes_nothing(name: str) -> None:
    leg = fold(LEG, *UP)
    assert leg.fold(told(name)) is leg


# --- looks at the switch --------------------------------------------------------------------------------------------


def test_found_in_park() -> None:
    leg = Leg(LEG).found(50)
    assert (leg.answered_us, leg.executing_us, leg.created_us, leg.bridged_us) == (50, 50, 50, 0)
    assert (leg.parked, leg.bridged, leg.bridgeable, leg.parks) == (True, False, True, 0)


def test_found_in_a_bridge() -> None:
    leg = fold(LEG, *UP).found(50, bridged_with=AGENT_LEG)
    assert (leg.answered_us, leg.executing_us, leg.created_us, leg.bridged_us) == (2, 3, 1, 50)
    assert (leg.parked, leg.bridged, leg.bridged_with) == (False, True, AGENT_LEG)
    assert leg.found(60).bridged_us == 50
    assert (leg.found(60).parked, leg.found(60).bridged) == (True, False)


def test_gone_is_the_end_and_said_to_be_unseen() -> None:
    leg = fold(LEG, *UP, told("CHANNEL_PARK")).gone(50)
    assert (leg.ended_us, leg.vanished, leg.complete, leg.parked, leg.bridgeable) == (50, True, True, False, False)
    hangup = leg.fold(told("CHANNEL_HANGUP_COMPLETE", 40, hangup_cause="NORMAL_CLEARING"))
    assert (hangup.ended_us, hangup.cause) == (50, "NORMAL_CLEARING")


def test_a_look_does_not_change_a_leg_that_is_known_to_have_ended() -> None:
    """The look was taken before the hang-up came."""
    leg = fold(LEG, *UP, told("CHANNEL_HANGUP", 5, hangup_cause="NORMAL_CLEARING"))
    assert leg.gone(50) is leg
    assert leg.found(50) is leg
    assert leg.found(50, bridged_with=AGENT_LEG) is leg


# --- any order ------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_nothing_revives_a_leg_and_nothing_raises(data: st.DataObject) -> None:
    """Any order, omission and doubling of what was told of a recorded call."""
    fate = data.draw(st.sampled_from(FATES))
    uuid = uuid_of(fate.recording, fate.leg)
    events = about(fate.recording, uuid)
    chosen = data.draw(st.lists(st.sampled_from(events), max_size=2 * len(events)))
    leg = Leg(uuid)
    for index, event in enumerate(chosen):
        before, leg = leg, leg.fold(event)
        if event.name != "CHANNEL_PARK":
            assert leg.fold(event) == leg, "doubled"
        for name in ("created_us", "ringing_us", "early_media_us", "answered_us", "executing_us", "bridged_us"):
            assert getattr(before, name) in (0, getattr(leg, name)), "a time that changed"
        assert before.ended_us in (0, leg.ended_us)
        assert leg.complete >= before.complete
        assert bool(leg.cause) >= bool(before.cause)
        if leg.ended:
            assert (leg.parked, leg.bridged, leg.bridgeable) == (False, False, False)
        names = {event.name for event in chosen[: index + 1]}
        failed = any(isinstance(e, BackgroundJob) and e.body.startswith("-ERR") for e in chosen[: index + 1])
        assert leg.ended is (bool(names & ENDINGS) or failed)
        told_by_its_end = any(e.name in ENDINGS and e.answered_us for e in chosen[: index + 1])
        assert leg.answered is ("CHANNEL_ANSWER" in names or told_by_its_end)
        assert leg.complete is bool(names & (ENDINGS - {"CHANNEL_HANGUP"}))
        told_by_its_end = any(isinstance(e, EndingEvent) and e.bridged_us for e in chosen[: index + 1])
        assert (leg.bridged_us != 0) is ("CHANNEL_BRIDGE" in names or told_by_its_end)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_all_of_it_in_any_order_tells_the_same_in_the_end(data: st.DataObject) -> None:
    fate = data.draw(st.sampled_from(FATES))
    uuid = uuid_of(fate.recording, fate.leg)
    events = about(fate.recording, uuid)
    straight = fold(uuid, *events)
    shuffled = fold(uuid, *data.draw(st.permutations(events)))
    for name in ("created_us", "ringing_us", "early_media_us", "answered_us", "cause", "sip_status", "hung_up_by"):
        assert getattr(shuffled, name) == getattr(straight, name), name
    for name in ("ended", "complete", "parks", "record_path", "answered", "bridgeable"):
        assert getattr(shuffled, name) == getattr(straight, name), name


@given(
    st.lists(st.builds(told, st.sampled_from(sorted({e.name for n in NAMES for e in EVENTS[n]})), st.integers(1, 9)))
)
def test_events_that_lack_every_header_are_no_harm(events: list[Event]) -> None:
    leg = fold(LEG, *events)
    assert leg.ended is any(event.name in ENDINGS for event in events)
