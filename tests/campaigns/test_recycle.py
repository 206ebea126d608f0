from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.campaign import AgentDisposition, Campaign, Delays, MostTries, NextNumber, Retries
from campaigns.day_parts import another_part, part_of
from campaigns.disposition import Disposition
from campaigns.lead import LeadNumber, LeadStatus
from campaigns.recycle import History, NextStep, Tried, next_step, step_of_outcome

NOW = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)
CAMPAIGN = Campaign(name="spring", gateways=("a",), country="US")


@pytest.mark.parametrize(
    ("disposition", "attempts", "status", "hours"),
    [
        (Disposition.BRIDGED, 1, LeadStatus.DONE, None),
        (Disposition.BRIDGED, 3, LeadStatus.DONE, None),
        (Disposition.MESSAGE_PLAYED, 1, LeadStatus.DONE, None),
        (Disposition.OPTED_OUT, 1, LeadStatus.DEAD, None),
        (Disposition.SKIPPED, 1, LeadStatus.WAITING, 0.25),
        (Disposition.SKIPPED, 3, LeadStatus.WAITING, 0.25),  # the third attempt was none
        (Disposition.NO_ANSWER, 1, LeadStatus.WAITING, 4),
        (Disposition.NO_ANSWER, 2, LeadStatus.WAITING, 4),
        (Disposition.NO_ANSWER, 3, LeadStatus.EXHAUSTED, None),
        (Disposition.NO_ANSWER, 4, LeadStatus.EXHAUSTED, None),
        (Disposition.BUSY, 1, LeadStatus.WAITING, 0.25),
        (Disposition.CONGESTION, 1, LeadStatus.WAITING, 1 / 12),
        (Disposition.ABANDONED, 1, LeadStatus.WAITING, 72),
        (Disposition.HUNG_UP, 1, LeadStatus.WAITING, 24),
        (Disposition.CANCELLED, 1, LeadStatus.WAITING, 0.25),
        (Disposition.FAILED, 1, LeadStatus.WAITING, 1),
        (Disposition.UNKNOWN, 1, LeadStatus.WAITING, 1),
        (Disposition.REJECTED, 1, LeadStatus.DEAD, None),
        (Disposition.INVALID_NUMBER, 1, LeadStatus.DEAD, None),
        (Disposition.INVALID_NUMBER, 3, LeadStatus.DEAD, None),
    ],
)
def test_next_step(disposition: Disposition, attempts: int, status: LeadStatus, hours: float | None) -> None:
    step = next_step(disposition, Tried(attempts), CAMPAIGN, NOW)
    assert step.status is status
    assert step.due_at == (None if hours is None else NOW + timedelta(hours=hours))
    assert step.reason


def test_the_manager_decides() -> None:
    retries = Retries(max_attempts=1, delay_seconds=Delays(busy="never", rejected=60))
    campaign = CAMPAIGN.model_copy(update={"retries": retries})
    assert next_step(Disposition.BUSY, Tried(1), campaign, NOW).status is LeadStatus.DEAD
    assert next_step(Disposition.REJECTED, Tried(0), campaign, NOW).due_at == NOW + timedelta(seconds=60)
    assert next_step(Disposition.REJECTED, Tried(1), campaign, NOW).status is LeadStatus.EXHAUSTED


@pytest.mark.parametrize("disposition", Disposition)
def test_every_disposition_has_a_next_step(disposition: Disposition) -> None:
    step = next_step(disposition, Tried(1), CAMPAIGN, NOW)
    assert (step.due_at is not None) == (step.status is LeadStatus.WAITING)


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        next_step(Disposition.BUSY, Tried(1), CAMPAIGN, NOW.replace(tzinfo=None))


def with_retries(**settings: Any) -> Campaign:
    return CAMPAIGN.model_copy(update={"retries": Retries(**settings)})


# Most tries


def test_an_outcome_may_come_so_often_and_no_more() -> None:
    campaign = with_retries(max_attempts=10, most_tries=MostTries(busy=2))
    first = next_step(Disposition.BUSY, Tried(1), campaign, NOW)
    between = next_step(Disposition.NO_ANSWER, Tried(2, history=first.history), campaign, NOW)
    second = next_step(Disposition.BUSY, Tried(3, history=between.history), campaign, NOW)
    assert [each.status for each in (first, between, second)] == ["waiting", "waiting", "exhausted"]
    assert second.history.tries == {"busy": 2, "no_answer": 1}
    assert second.reason == "busy as often as the campaign tries it, 2"


def test_skipping_has_no_end_but_most_tries() -> None:
    campaign = with_retries(max_attempts=1, most_tries=MostTries(skipped=2))
    first = next_step(Disposition.SKIPPED, Tried(1), campaign, NOW)
    second = next_step(Disposition.SKIPPED, Tried(1, history=first.history), campaign, NOW)
    assert (first.status, second.status) == (LeadStatus.WAITING, LeadStatus.EXHAUSTED)


# The lead's numbers


NUMBERS = tuple(LeadNumber(f"+1212555010{n}", ("America/New_York",)) for n in range(3))
MINUTE_ON = NextNumber(no_answer=60.0)


@pytest.mark.parametrize(
    ("disposition", "number_no", "dead", "settings", "status", "next_no", "seconds"),
    [
        # a number that nobody has: the next at once
        (Disposition.INVALID_NUMBER, 0, (), {}, LeadStatus.WAITING, 1, 0),
        (Disposition.INVALID_NUMBER, 1, (), {}, LeadStatus.WAITING, 2, 0),
        # the last one: those before it have rested no longer than after no answer
        (Disposition.INVALID_NUMBER, 2, (), {}, LeadStatus.WAITING, 0, 4 * 3600),
        (Disposition.INVALID_NUMBER, 2, (0,), {}, LeadStatus.WAITING, 1, 4 * 3600),
        (Disposition.INVALID_NUMBER, 0, (1,), {}, LeadStatus.WAITING, 2, 0),
        (Disposition.INVALID_NUMBER, 2, (0, 1), {}, LeadStatus.DEAD, 2, None),
        (
            Disposition.INVALID_NUMBER,
            2,
            (),
            {"delay_seconds": Delays(no_answer="never")},
            LeadStatus.DEAD,
            2,
            None,
        ),
        # the same again, when nothing is set
        (Disposition.NO_ANSWER, 0, (), {}, LeadStatus.WAITING, 0, 4 * 3600),
        # on through the numbers, then the first after the outcome's own rest
        (Disposition.NO_ANSWER, 0, (), {"next_number": MINUTE_ON}, LeadStatus.WAITING, 1, 60),
        (Disposition.NO_ANSWER, 0, (1,), {"next_number": MINUTE_ON}, LeadStatus.WAITING, 2, 60),
        (Disposition.NO_ANSWER, 2, (), {"next_number": MINUTE_ON}, LeadStatus.WAITING, 0, 4 * 3600),
        (Disposition.NO_ANSWER, 2, (0, 1), {"next_number": MINUTE_ON}, LeadStatus.WAITING, 2, 4 * 3600),
        # whoever refuses does so on every phone
        (Disposition.REJECTED, 0, (), {}, LeadStatus.DEAD, 0, None),
    ],
)
def test_which_number_is_next(
    disposition: Disposition,
    number_no: int,
    dead: tuple[int, ...],
    settings: dict[str, Any],
    status: LeadStatus,
    next_no: int,
    seconds: float | None,
) -> None:
    gone = tuple(NUMBERS[place].number for place in dead)
    turn = Tried(1, numbers=NUMBERS, number_no=number_no, history=History(dead_numbers=gone))
    step = next_step(disposition, turn, with_retries(**settings), NOW)
    assert (step.status, step.number) == (status, NUMBERS[next_no].number)
    assert step.due_at == (None if seconds is None else NOW + timedelta(seconds=seconds))


def test_a_dead_number_stays_dead_and_a_single_one_ends_the_lead() -> None:
    step = next_step(Disposition.INVALID_NUMBER, Tried(1, numbers=NUMBERS), CAMPAIGN, NOW)
    assert step.history.dead_numbers == (NUMBERS[0].number,)
    alone = next_step(Disposition.INVALID_NUMBER, Tried(1), CAMPAIGN, NOW)
    assert alone.status is LeadStatus.DEAD


def test_attempts_are_counted_for_all_numbers_together() -> None:
    turn = Tried(3, numbers=NUMBERS)
    assert next_step(Disposition.INVALID_NUMBER, turn, CAMPAIGN, NOW).status is LeadStatus.EXHAUSTED


# Parts of the day


@pytest.mark.parametrize(
    ("now", "parts", "delay", "due_at", "after"),
    [
        # noon in New York, again after four hours would be the afternoon again
        ("12:00", (), 4, "17:00", ("afternoon",)),
        ("11:59", (), 4, "15:59", ("morning",)),
        ("11:59", ("afternoon",), 4, "17:00", ("afternoon", "morning")),
        ("18:00", ("morning",), 4, "12:00 +1", ("morning", "evening")),
        ("18:00", ("morning", "afternoon"), 4, "22:00", ("morning", "afternoon", "evening")),  # all have been
        ("12:00", ("morning", "afternoon", "evening"), 4, "17:00", ("afternoon",)),  # a new round
        ("07:00", (), 0, "08:00", ("evening",)),  # the small hours belong to the evening before
        ("09:00", (), 24, "12:00 +1", ("morning",)),
    ],
)
def test_tries_are_spread_over_parts_of_the_day(
    now: str, parts: tuple[str, ...], delay: int, due_at: str, after: tuple[str, ...]
) -> None:
    def there(text: str) -> datetime:
        clock, _, days = text.partition(" +")
        moment = datetime.fromisoformat(f"2026-11-23 {clock}").replace(tzinfo=ZoneInfo("America/New_York"))
        return moment + timedelta(days=int(days or 0))

    campaign = with_retries(spread_parts=True, delay_seconds=Delays(no_answer=delay * 3600.0))
    turn = Tried(1, zones=("America/New_York", "America/Chicago"), history=History(parts=parts))
    step = next_step(Disposition.NO_ANSWER, turn, campaign, there(now).astimezone(UTC))
    assert step.history.parts == after
    assert step.due_at == there(due_at)


def test_without_the_setting_parts_are_remembered_and_nothing_more() -> None:
    turn = Tried(1, zones=("America/New_York",))
    step = next_step(Disposition.MACHINE, turn, CAMPAIGN, NOW)
    assert (step.due_at, step.history.parts) == (NOW + timedelta(hours=4), ("afternoon",))


def test_who_was_busy_was_there() -> None:
    turn = Tried(1, zones=("America/New_York",))
    step = next_step(Disposition.BUSY, turn, with_retries(spread_parts=True), NOW)
    assert (step.due_at, step.history.parts) == (NOW + timedelta(minutes=15), ())


def test_the_next_number_is_not_spread_but_the_next_round_is_where_its_first_number_is() -> None:
    far = (LeadNumber("+442071838750", ("Europe/London",)), LeadNumber("+12125550100", ("America/New_York",)))
    campaign = with_retries(spread_parts=True, next_number=MINUTE_ON)
    first = next_step(Disposition.NO_ANSWER, Tried(1, numbers=far, zones=far[0].zones), campaign, NOW)
    assert (first.number, first.due_at) == (far[1].number, NOW + timedelta(minutes=1))
    assert first.history.parts == ("evening",)
    again = Tried(2, numbers=far, number_no=1, zones=far[1].zones, history=first.history)
    second = next_step(Disposition.NO_ANSWER, again, campaign, NOW)
    assert second.history.parts == ("evening", "afternoon")
    assert (second.number, second.due_at) == (
        far[0].number,
        datetime(2026, 11, 24, 8, tzinfo=UTC),
    )  # London's morning


def test_a_number_that_is_nowhere_has_no_parts() -> None:
    step = next_step(Disposition.NO_ANSWER, Tried(1), with_retries(spread_parts=True), NOW)
    assert (step.due_at, step.history.parts) == (NOW + timedelta(hours=4), ())


@given(
    minutes=st.integers(0, 7 * 24 * 60),
    zone=st.sampled_from(["America/New_York", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    tried=st.sets(st.sampled_from(["morning", "afternoon", "evening"])),
)
def test_another_part_is_the_first_that_has_not_been_tried(minutes: int, zone: str, tried: set[str]) -> None:
    earliest = datetime(2026, 10, 29, tzinfo=UTC) + timedelta(minutes=minutes)
    found = another_part(earliest, zone, tried)
    if len(tried) == 3:
        assert found == earliest
        return
    step = timedelta(minutes=30)
    between = (earliest + n * step for n in range(100))
    assert all(part_of(moment, zone) in tried for moment in between if moment < found)
    assert part_of(found, zone) not in tried
    assert found - earliest <= timedelta(days=1, hours=1)


# Call-backs


PROMISED = Tried(5, callback_at=NOW - timedelta(minutes=1), callback_agent="1001")


def test_a_call_back_that_reaches_nobody_is_made_again_whatever_attempts_there_were() -> None:
    step = next_step(Disposition.NO_ANSWER, PROMISED, CAMPAIGN, NOW)
    again = NOW + timedelta(hours=4)
    assert (step.status, step.due_at) == (LeadStatus.WAITING, again)
    assert (step.callback_at, step.callback_agent) == (again, "1001")
    assert step.history.callback_tries == 1


def test_after_so_many_tries_it_is_a_lead_like_any_other() -> None:
    twice = attrs.evolve(PROMISED, history=History(callback_tries=2))
    step = next_step(Disposition.NO_ANSWER, twice, CAMPAIGN, NOW)
    assert (step.status, step.callback_at, step.history.callback_tries) == (LeadStatus.EXHAUSTED, None, 0)
    young = next_step(Disposition.NO_ANSWER, attrs.evolve(twice, attempt_no=2), CAMPAIGN, NOW)
    assert (young.status, young.callback_at, young.callback_agent) == (LeadStatus.WAITING, None, None)


def test_skipping_one_or_a_trunk_that_fails_it_is_no_try() -> None:
    skipped = next_step(Disposition.SKIPPED, attrs.evolve(PROMISED, history=History(callback_tries=2)), CAMPAIGN, NOW)
    assert (skipped.callback_agent, skipped.history.callback_tries) == ("1001", 2)
    two = CAMPAIGN.model_copy(update={"gateways": ("a", "b")})
    over = next_step(Disposition.FAILED_OVER, attrs.evolve(PROMISED, gateway="a"), two, NOW)
    assert (over.callback_at, over.callback_agent) == (PROMISED.callback_at, "1001")


@pytest.mark.parametrize("disposition", [Disposition.BRIDGED, Disposition.OPTED_OUT, Disposition.REJECTED])
def test_what_is_final_ends_a_call_back_too(disposition: Disposition) -> None:
    step = next_step(disposition, PROMISED, CAMPAIGN, NOW)
    assert (step.callback_at, step.callback_agent, step.due_at) == (None, None, None)


# Fail-over


def test_a_trunk_that_would_not_carry_it_hands_over_to_the_next_at_once() -> None:
    campaign = CAMPAIGN.model_copy(update={"gateways": ("a", "b", "c")})
    first = next_step(Disposition.FAILED_OVER, Tried(3, "a", NUMBERS, 1), campaign, NOW)
    assert (first.status, first.due_at, first.queue_urgent, first.number) == ("waiting", NOW, True, NUMBERS[1].number)
    assert first.history == History(failed_gateways=("a",))
    second = next_step(Disposition.FAILED_OVER, Tried(3, "b", history=first.history), campaign, NOW)
    assert second.history.failed_gateways == ("a", "b")
    assert second.queue_urgent
    # anything else ends the round
    busy = next_step(Disposition.BUSY, Tried(1, "c", history=second.history), campaign, NOW)
    assert busy.history.failed_gateways == ()


def test_when_all_have_failed_it_rests_and_does_not_go_round_for_ever() -> None:
    history, steps = History(), []
    for _ in range(3):
        step = next_step(Disposition.FAILED_OVER, Tried(1, "a", history=history), CAMPAIGN, NOW)
        steps.append((step.status, step.due_at, step.queue_urgent, step.history.failed_gateways))
        history = step.history
    rests = (LeadStatus.WAITING, NOW + timedelta(minutes=5), False, ())
    assert steps == [rests, rests, (LeadStatus.EXHAUSTED, None, False, ())]


# What agents say


def outcome(**settings: Any) -> AgentDisposition:
    return AgentDisposition(name="maybe", **settings)


@pytest.mark.parametrize(
    ("said", "attempt_no", "status", "hours"),
    [
        (outcome(), 1, LeadStatus.DONE, None),
        (outcome(then="do_not_call"), 1, LeadStatus.DEAD, None),
        (outcome(then="recycle"), 1, LeadStatus.WAITING, 24),
        (outcome(then="recycle", delay_seconds=3600.0), 1, LeadStatus.WAITING, 1),
        (outcome(then="recycle"), 3, LeadStatus.EXHAUSTED, None),
        (outcome(then="recycle", most_tries=1), 1, LeadStatus.EXHAUSTED, None),
        (outcome(then="callback"), 3, LeadStatus.WAITING, 48),
    ],
)
def test_the_step_of_what_an_agent_says(
    said: AgentDisposition, attempt_no: int, status: LeadStatus, hours: float | None
) -> None:
    at = NOW + timedelta(hours=48) if said.then == "callback" else None
    step = step_of_outcome(said, Tried(attempt_no), CAMPAIGN, NOW, callback_at=at)
    assert step.status is status
    assert step.due_at == (None if hours is None else NOW + timedelta(hours=hours))
    assert step.callback_at == at
    assert step.history.tries == {"maybe": 1}


def test_a_wrong_person_is_left_for_the_lead_s_next_number() -> None:
    wrong = outcome(then="recycle", next_number=True, delay_seconds=60.0)
    step = step_of_outcome(wrong, Tried(1, numbers=NUMBERS), CAMPAIGN, NOW)
    assert (step.number, step.due_at) == (NUMBERS[1].number, NOW + timedelta(minutes=1))
    assert step.history.dead_numbers == (NUMBERS[0].number,)
    last = Tried(
        1, numbers=NUMBERS, number_no=2, history=History(dead_numbers=tuple(one.number for one in NUMBERS[:2]))
    )
    assert step_of_outcome(wrong, last, CAMPAIGN, NOW).status is LeadStatus.DEAD


def test_a_call_back_is_for_an_agent_or_for_anybody_and_starts_anew() -> None:
    at = NOW + timedelta(days=1)
    turn = attrs.evolve(PROMISED, history=History(callback_tries=2))
    step = step_of_outcome(outcome(then="callback"), turn, CAMPAIGN, NOW, callback_at=at, callback_agent="1002")
    assert (step.due_at, step.callback_at, step.callback_agent) == (at, at, "1002")
    assert step.history.callback_tries == 0
    with pytest.raises(ValueError, match="aware moment"):
        step_of_outcome(outcome(then="callback"), turn, CAMPAIGN, NOW)


def test_a_call_back_that_was_made_is_over_when_the_agent_recycles_the_lead() -> None:
    step = step_of_outcome(outcome(then="recycle"), attrs.evolve(PROMISED, attempt_no=1), CAMPAIGN, NOW)
    assert (step.status, step.callback_at, step.callback_agent) == (LeadStatus.WAITING, None, None)


def test_a_conversation_of_which_nobody_says_anything_gets_the_default() -> None:
    said = (outcome(), outcome(then="recycle").model_copy(update={"name": "later"}))
    campaign = CAMPAIGN.model_copy(update={"dispositions": said, "default_disposition": "later"})
    step = next_step(Disposition.BRIDGED, Tried(1), campaign, NOW)
    assert step == step_of_outcome(said[1], Tried(1), campaign, NOW)
    assert step.status is LeadStatus.WAITING


# What is remembered


def test_what_asks_for_a_rest_is_remembered_until_it_is_made_good() -> None:
    abandoned = next_step(Disposition.ABANDONED, Tried(1), CAMPAIGN, NOW)
    assert abandoned.history.abandoned_at == NOW
    later = NOW + timedelta(days=3)
    skipped = next_step(Disposition.SKIPPED, Tried(2, history=abandoned.history), CAMPAIGN, later)
    assert skipped.history.abandoned_at == NOW  # a skip in between hides nothing
    spoken = next_step(Disposition.BRIDGED, Tried(2, history=abandoned.history), CAMPAIGN, later)
    assert spoken.history.abandoned_at is None
    said = step_of_outcome(outcome(then="recycle"), Tried(2, history=abandoned.history), CAMPAIGN, later)
    assert said.history.abandoned_at is None
    assert next_step(Disposition.MACHINE, Tried(1), CAMPAIGN, NOW).history.machine_at == NOW
    rejected = next_step(Disposition.REJECTED, Tried(1), with_retries(delay_seconds=Delays(rejected=60)), NOW)
    assert rejected.history.refused_at == NOW
    assert step_of_outcome(outcome(refusal=True), Tried(1), CAMPAIGN, NOW).history.refused_at == NOW


HISTORY = History(
    tries={"busy": 2, "no_sale": 1},
    parts=("morning",),
    failed_gateways=("a",),
    callback_tries=1,
    dead_numbers=("+12125550100", "+12125550102"),
    refused_at=NOW,
    abandoned_at=NOW,
    machine_at=NOW,
)


def test_a_history_is_kept_as_json_and_mostly_as_nothing() -> None:
    assert History().to_json() == "{}"
    assert History.from_json("{}") == History()
    assert History.from_json(HISTORY.to_json()) == HISTORY


def test_a_step_survives_the_journal_and_one_of_an_older_version_is_understood() -> None:
    step = NextStep(LeadStatus.WAITING, NOW, "x", True, "+12125550102", HISTORY, NOW, "1001")
    assert NextStep.from_value(step.to_value()) == step
    older = {"status": "done", "due_at": None, "reason": "spoke to an agent"}
    assert NextStep.from_value(older) == NextStep(LeadStatus.DONE, None, "spoke to an agent")
