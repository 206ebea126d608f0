"""After this outcome, when again, and with which number: the one place that decides what becomes of a lead.

What a lead has behind it, beyond its count of attempts, is its `History`. It is kept with the lead, and changes only
here, step by step. Calling hours and the rules of the law are not looked at: the hopper holds a due lead back until
they allow it, so that a change of them also reaches leads that already wait.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import attrs

from campaigns.campaign import Campaign
from campaigns.day_parts import PARTS, another_part, part_of
from campaigns.disposition import UNCOUNTED, Disposition
from campaigns.lead import LeadNumber, LeadStatus
from campaigns.retries import AgentDisposition
from campaigns.rules.refusal import Rest, rest_after_refusal
from campaigns.setting_types import NEVER, Delay

_FINAL: Final = {
    Disposition.BRIDGED: (LeadStatus.DONE, "spoke to an agent"),
    Disposition.MESSAGE_PLAYED: (LeadStatus.DONE, "heard the message"),
    Disposition.OPTED_OUT: (LeadStatus.DEAD, "wants no more calls"),
}
# Nobody was there: in another part of the day they may be.
_NOBODY_THERE: Final = frozenset({Disposition.NO_ANSWER, Disposition.MACHINE})


@attrs.frozen
class History:
    """What a lead has behind it.

    `tries` counts outcomes by name, the agents' own among them. `parts` of the day have been tried of late.
    `failed_gateways` would not carry the call that is being placed. `callback_tries` calls have been made at the
    promised call-back. `dead_numbers` (E.164) have no further turn. The moments are those at
    which the person last refused, was last abandoned and not spoken to since, and was last taken for a machine.
    """

    tries: Mapping[str, int] = attrs.field(factory=dict)
    parts: tuple[str, ...] = ()
    failed_gateways: tuple[str, ...] = ()
    callback_tries: int = 0
    dead_numbers: tuple[str, ...] = ()
    refused_at: datetime | None = None
    abandoned_at: datetime | None = None
    machine_at: datetime | None = None

    def to_json(self) -> str:
        """For the database, without what is as in a new lead: mostly `{}`."""
        value = attrs.asdict(
            self, value_serializer=lambda _, __, each: _text(each) if isinstance(each, datetime) else each
        )
        return json.dumps({name: each for name, each in value.items() if each}, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> History:
        """What `to_json` wrote."""
        if text == NO_HISTORY:  # most leads of a new list
            return _NONE
        value: dict[str, Any] = json.loads(text)
        return History(
            tries=value.get("tries", {}),
            parts=tuple(value.get("parts", ())),
            failed_gateways=tuple(value.get("failed_gateways", ())),
            callback_tries=value.get("callback_tries", 0),
            dead_numbers=tuple(one for one in value.get("dead_numbers", ()) if isinstance(one, str)),  # once, places
            refused_at=_moment(value.get("refused_at")),
            abandoned_at=_moment(value.get("abandoned_at")),
            machine_at=_moment(value.get("machine_at")),
        )


NO_HISTORY: Final = "{}"  # as `to_json` writes it
_NONE: Final = History()


@attrs.frozen
class NextStep:
    """What becomes of a lead: `due_at` is set exactly when `status` is WAITING; `reason` is for a person to read.

    `number` has its turn, if the lead still has it then; None: the same as before. `queue_urgent`: before all others,
    because it was its turn already. `callback_at` is set while a call-back is promised, and `callback_agent` if by
    that agent in person. `rest` is what the number is to have from all calls on behalf of the seller. `by_attempts`:
    it has been tried as often as the campaign tries any lead.
    """

    status: LeadStatus
    due_at: datetime | None
    reason: str
    queue_urgent: bool = False
    number: str | None = None
    history: History = _NONE
    callback_at: datetime | None = None
    callback_agent: str | None = None
    rest: Rest | None = None
    by_attempts: bool = False

    def to_value(self) -> dict[str, object]:
        """The step in values that JSON knows."""
        return {
            "status": self.status.value,
            "due_at": _text(self.due_at),
            "reason": self.reason,
            "queue_urgent": self.queue_urgent,
            "number": self.number,
            "history": self.history.to_json(),
            "callback_at": _text(self.callback_at),
            "callback_agent": self.callback_agent,
            "rest": self.rest.to_value() if self.rest is not None else None,
            "by_attempts": self.by_attempts,
        }

    @staticmethod
    def from_value(value: Mapping[str, Any]) -> NextStep:
        """The step that `to_value` wrote, of this version or an older one. Raises ValueError or KeyError."""
        return NextStep(
            LeadStatus(value["status"]),
            _moment(value["due_at"]),
            value["reason"],
            queue_urgent=value.get("queue_urgent", False),
            number=value.get("number"),
            history=History.from_json(value.get("history", "{}")),
            callback_at=_moment(value.get("callback_at")),
            callback_agent=value.get("callback_agent"),
            rest=Rest.from_value(value["rest"]) if value.get("rest") else None,
            by_attempts=value.get("by_attempts", False),
        )


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


class Turn(Protocol):
    """What must be known of an attempt and its lead, as it was when the lead was leased."""

    @property
    def attempt_no(self) -> int: ...
    @property
    def gateway(self) -> str: ...
    @property
    def numbers(self) -> Sequence[LeadNumber]: ...
    @property
    def number_no(self) -> int: ...
    @property
    def zones(self) -> tuple[str, ...]: ...
    @property
    def history(self) -> History: ...
    @property
    def callback_at(self) -> datetime | None: ...
    @property
    def callback_agent(self) -> str | None: ...


@attrs.frozen
class Tried:
    """A `Turn` of its own, where there is no lease. `numbers` is empty for a lead with a single one."""

    attempt_no: int
    gateway: str = ""
    numbers: tuple[LeadNumber, ...] = ()
    number_no: int = 0
    zones: tuple[str, ...] = ()
    history: History = _NONE
    callback_at: datetime | None = None
    callback_agent: str | None = None


def next_step(disposition: Disposition, turn: Turn, campaign: Campaign, now: datetime) -> NextStep:
    """What becomes of a lead whose attempt `turn` has just ended with `disposition`."""
    if now.tzinfo is None:
        raise ValueError(f"{now!r} has no time zone")
    if disposition is Disposition.FAILED_OVER:
        return _failed_over(turn, campaign, now)
    if disposition is Disposition.BRIDGED and campaign.default_disposition is not None:
        default = campaign.disposition_called(campaign.default_disposition)
        if default is not None:
            return step_of_outcome(default, turn, campaign, now)
    step = _step_after(disposition, turn, campaign, now)
    return _resting(step, turn, campaign, now) if disposition is Disposition.REJECTED else step


def _step_after(disposition: Disposition, turn: Turn, campaign: Campaign, now: datetime) -> NextStep:
    history = _after(turn, disposition.value)
    match disposition:
        case Disposition.BRIDGED:
            history = attrs.evolve(history, abandoned_at=None)
        case Disposition.ABANDONED:
            history = attrs.evolve(history, abandoned_at=now)
        case Disposition.MACHINE:
            history = attrs.evolve(history, machine_at=now)
    if disposition in _FINAL:
        status, reason = _FINAL[disposition]
        return NextStep(status, None, reason, number=_number(turn), history=history)
    retries = campaign.retries
    if disposition in _NOBODY_THERE:
        history = attrs.evolve(history, parts=_parts_tried(turn, campaign, now))
    own = retries.delay_seconds.after(disposition)
    rule = _Rule(
        name=disposition.value,
        own=own,
        onward=retries.next_number.after(disposition),
        # Of a round that ends with a number nobody has, what rests is the numbers before it.
        round_over=own if own != NEVER else retries.delay_seconds.no_answer,
        most=retries.most_tries.of(disposition),
        counted=disposition not in UNCOUNTED,
        spread=retries.spread_parts and disposition in _NOBODY_THERE,
    )
    return _again(rule, history, turn, campaign, now)


def step_of_outcome(
    outcome: AgentDisposition,
    turn: Turn,
    campaign: Campaign,
    now: datetime,
    *,
    callback_at: datetime | None = None,
    callback_agent: str | None = None,
) -> NextStep:
    """What becomes of a lead of whose conversation an agent, or nobody, has said `outcome`.

    A call-back needs `callback_at`; with `callback_agent` it is for that agent in person.
    """
    step = _step_of_outcome(outcome, turn, campaign, now, callback_at, callback_agent)
    return _resting(step, turn, campaign, now) if outcome.refusal else step


def _resting(step: NextStep, turn: Turn, campaign: Campaign, now: datetime) -> NextStep:
    """`step`, after a refusal."""
    rest = rest_after_refusal(campaign, turn.zones, now)
    return attrs.evolve(step, history=attrs.evolve(step.history, refused_at=now), rest=rest)


def _step_of_outcome(
    outcome: AgentDisposition,
    turn: Turn,
    campaign: Campaign,
    now: datetime,
    callback_at: datetime | None,
    callback_agent: str | None,
) -> NextStep:
    name, number = outcome.name, _number(turn)
    history = attrs.evolve(_after(turn, name), callback_tries=0, abandoned_at=None)
    match outcome.then:
        case "done":
            return NextStep(LeadStatus.DONE, None, name, number=number, history=history)
        case "do_not_call":
            reason = f"{name}: wants no more calls"
            return NextStep(LeadStatus.DEAD, None, reason, number=number, history=history)
        case "callback":
            if callback_at is None or callback_at.tzinfo is None:
                raise ValueError(f"a call-back needs an aware moment, and has {callback_at!r}")
            return NextStep(
                LeadStatus.WAITING,
                callback_at,
                f"{name}: {callback_agent or 'anybody'} is to call back",
                number=number,
                history=history,
                callback_at=callback_at,
                callback_agent=callback_agent,
            )
        case "recycle":
            rest = outcome.delay_seconds
            rule = _Rule(
                name=name,
                own=NEVER if outcome.next_number else rest,
                onward=rest if outcome.next_number else NEVER,
                round_over=rest,
                most=outcome.most_tries,
            )
            return _again(rule, history, _without_callback(turn), campaign, now)


@attrs.frozen
class _Rule:
    """What is set for an outcome that may be tried again: the rests for the same number, for the next, and for the
    first one of a new round."""

    name: str
    own: Delay
    onward: Delay
    round_over: Delay
    most: int
    counted: bool = True
    spread: bool = False


def _again(rule: _Rule, history: History, turn: Turn, campaign: Campaign, now: datetime) -> NextStep:
    number_no, rest, history = _number_and_rest(rule, history, turn)
    attempts_made, allowed = turn.attempt_no - (not rule.counted), campaign.retries.max_attempts
    if rest == NEVER:
        reason = f"{rule.name}: the campaign tries such a number no more"
        return NextStep(LeadStatus.DEAD, None, reason, number=_number(turn), history=history)
    due_at = now + timedelta(seconds=rest)
    if turn.callback_at is not None:
        tries = history.callback_tries + rule.counted
        if tries < campaign.retries.callback_tries:
            return NextStep(
                LeadStatus.WAITING,
                due_at,
                f"{rule.name} on a promised call-back, again in {rest:g} s",
                number=_number(turn, number_no),
                history=attrs.evolve(history, callback_tries=tries),
                callback_at=due_at,
                callback_agent=turn.callback_agent,
            )
        history = attrs.evolve(history, callback_tries=0)
    reason = f"{rule.name} on attempt {attempts_made} of {allowed}"
    if attempts_made >= allowed:
        number = _number(turn, number_no)
        return NextStep(LeadStatus.EXHAUSTED, None, reason, number=number, history=history, by_attempts=True)
    if 0 < rule.most <= history.tries[rule.name]:
        reason = f"{rule.name} as often as the campaign tries it, {rule.most}"
        return NextStep(LeadStatus.EXHAUSTED, None, reason, number=_number(turn, number_no), history=history)
    again = f"in {rest:g} s"
    if rule.spread and number_no <= turn.number_no:  # not on the way through the lead's numbers
        zone = _zone(turn, campaign, number_no)
        spread = another_part(due_at, zone, history.parts) if zone is not None else due_at
        if zone is not None and spread != due_at:
            due_at, again = spread, f"in the {part_of(spread, zone)}"
    return NextStep(
        LeadStatus.WAITING, due_at, f"{reason}, again {again}", number=_number(turn, number_no), history=history
    )


def _number(turn: Turn, place: int | None = None) -> str | None:
    """The number at `place` among the lead's, or the one just called; None where there is only one."""
    return turn.numbers[turn.number_no if place is None else place].number if turn.numbers else None


def _number_and_rest(rule: _Rule, history: History, turn: Turn) -> tuple[int, Delay, History]:
    """Which number has the next turn, after what rest, and the history with the number that is never to have one."""
    if rule.onward == NEVER or not turn.numbers:
        return turn.number_no, rule.own, history
    dead = set(history.dead_numbers)
    if rule.own == NEVER:
        dead.add(turn.numbers[turn.number_no].number)
        history = attrs.evolve(history, dead_numbers=tuple(sorted(dead)))
    alive = [place for place, one in enumerate(turn.numbers) if one.number not in dead]
    if not alive:
        return turn.number_no, NEVER, history
    following = next((place for place in alive if place > turn.number_no), None)
    if following is not None:
        return following, rule.onward, history
    return alive[0], rule.round_over, history


def round_rest(disposition: Disposition | None, campaign: Campaign) -> Delay:
    """How long a lead's earlier numbers rest after a call that ended so, when there is no later one to go on with."""
    delays = campaign.retries.delay_seconds
    own: Delay = getattr(delays, disposition.value, NEVER) if disposition is not None else 0.0
    return own if own != NEVER else delays.no_answer


def _failed_over(turn: Turn, campaign: Campaign, now: datetime) -> NextStep:
    """Nobody's phone has rung: the lead goes out through another trunk at once, while there is one.

    When all have failed it, it rests, and goes round them again as often as it may have attempts.
    """
    failed = tuple(dict.fromkeys((*turn.history.failed_gateways, turn.gateway)))
    step = NextStep(
        LeadStatus.WAITING,
        now,
        f"{turn.gateway} would not carry it, another trunk is to",
        queue_urgent=True,
        number=_number(turn),
        history=attrs.evolve(turn.history, failed_gateways=failed),
        callback_at=turn.callback_at,
        callback_agent=turn.callback_agent,
    )
    # Given again to one that had failed it, it had no other that may carry it now.
    if turn.gateway not in turn.history.failed_gateways and set(campaign.gateways) - set(failed):
        return step
    history = _after(turn, Disposition.FAILED_OVER.value)
    reason = f"none of its trunks would carry it: {', '.join(failed)}"
    rest = campaign.retries.delay_seconds.congestion
    if rest == NEVER or history.tries[Disposition.FAILED_OVER.value] >= campaign.retries.max_attempts:
        return NextStep(LeadStatus.EXHAUSTED, None, reason, number=_number(turn), history=history)
    due_at = now + timedelta(seconds=rest)
    return attrs.evolve(step, due_at=due_at, reason=reason, queue_urgent=False, history=history)


def _after(turn: Turn, name: str) -> History:
    """The history with one more outcome called `name`."""
    tries = dict(turn.history.tries)
    tries[name] = tries.get(name, 0) + 1
    return attrs.evolve(turn.history, tries=tries, failed_gateways=())


def _zone(turn: Turn, campaign: Campaign, number_no: int) -> str | None:
    """Where the day is divided into parts: the first place that the number may be in."""
    same = number_no == turn.number_no or number_no >= len(turn.numbers)
    return next(iter(campaign.zones_of(turn.zones if same else turn.numbers[number_no].zones)), None)


def _parts_tried(turn: Turn, campaign: Campaign, now: datetime) -> tuple[str, ...]:
    """The parts of the day that have been tried since all of them had been."""
    zone = _zone(turn, campaign, turn.number_no)
    if zone is None:
        return turn.history.parts
    before, this = turn.history.parts, part_of(now, zone)
    if len(before) == len(PARTS):
        before = ()
    return (*(part for part in before if part != this), this)


def _without_callback(turn: Turn) -> Tried:
    """The attempt, when what was promised has been kept."""
    return Tried(
        attempt_no=turn.attempt_no,
        gateway=turn.gateway,
        numbers=tuple(turn.numbers),
        number_no=turn.number_no,
        zones=turn.zones,
        history=turn.history,
    )
