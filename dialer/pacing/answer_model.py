"""How likely a person answers this call, from what is known of the lead before it rings. Pure.

A logistic regression that learns from each call once. Every value of every trait (this hour, that list) has an effect
on the log-odds of an answer, held as a normal distribution: a value never seen has mean 0 and its kind's prior
variance, each call moves the effects it touches in proportion to how uncertain they are (assumed-density filtering of
the logistic likelihood: Spiegelhalter and Lauritzen, 1990), and an effect still uncertain moves the probability less
than its mean says (MacKay's moderated output, 1992). Old outcomes fade: an effect's evidence is multiplied by a
little less than 1 at each call that touches it, the prior is not.

What the effects say is then mixed with the campaign's running average, in five shares from none to all of it. Each
share's weight is how well it has foretold the calls so far (Bayes' rule; a little of all weight is given back to all,
so that none is lost for good). Thus where traits tell nothing the model is soon the average, and pays once for
finding that out instead of carrying the noise of a hundred effects for ever.

A list, a gateway or the whole campaign may turn within minutes. Where answers stray too far from what was foretold of
the last hundreds of its calls, its evidence is forgotten and it learns as from new. `odds` leaves the campaign's
level out: the pacer follows that itself, and needs of a lead only how it lies beside the average one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from operator import mul
from typing import Any, Final

import attrs
import msgspec

STATE_VERSION: Final = 1
ODDS_LIMIT: Final = 16.0
# Values held of one kind of trait; with as many, the quarter unseen for longest makes room. A kind's values are
# mostly under thirty, but names come from outside.
MOST_VALUES_A_KIND: Final = 256
# More attempts than this tell nothing new.
LAST_ATTEMPT: Final = 9
HOURS_A_PART_OF_DAY: Final = 3

# What a campaign is thought to be like before its first call, and how many calls that thought is worth.
PRIOR_ANSWERED: Final = 0.3
PRIOR_CALLS: Final = 3.0
INTERCEPT_VARIANCE: Final = 1.0
# The average and the intercept follow the campaign: after so many calls an outcome counts 1/e.
AVERAGE_MEMORY_CALLS: Final = 2_000
# What `odds` takes for the average call: about as many calls as a pacer's own tables remember.
RECENT_CALLS: Final = 500
# Its zero moves slowly at first, when single calls still mislead, and where answers are rare no answer moves it far.
CENTRE_PRIOR_CALLS: Final = 50
MOST_CENTRE_STEP: Final = 50.0
# How much of what the effects say is believed, and the part of each weight given back to all after a call.
SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
WEIGHT_GIVEN_BACK: Final = 1e-4

# A list or gateway has turned when its answers lie so many standard deviations off what was foretold, over about so
# many of its calls. Luck does it too, once in some thousand calls, and what is forgotten is soon learned again;
# half the calls overlook a turn where answers are few.
SURPRISE: Final = 3.0
SURPRISE_CALLS: Final = 200
SURPRISE_KEPT: Final = 1.0 - 1.0 / SURPRISE_CALLS
# The campaign itself turns too. Its average then counts as learned from so many calls.
CALLS_KEPT_AT_TURN: Final = 20.0

# No probability nearer to 0 or 1 than 1/160,000: logarithms stay finite, and no certainty is earned from calls.
LOG_ODDS_LIMIT: Final = 12.0
BINS: Final = 10
# What no model reaches by learning.
_MOST_MEAN: Final = 1_000.0
_MOST_CALLS: Final = 1e15


@attrs.frozen
class LeadTraits:
    """What is known of a call before it rings. Hour and weekday (Monday is 0) are those of the lead's place."""

    hour: int
    weekday: int
    attempt_no: int  # 1 is the first
    last_disposition: str = ""  # of the attempt before; empty: there was none
    number_kind: str = "unknown"
    list_name: str = ""
    gateway: str = ""


@attrs.frozen
class CalibrationBin:
    """Calls foretold from `low` to below `high`: the mean foretold and the share answered, both 0 if no call was."""

    low: float
    high: float
    calls: int
    expected: float
    observed: float


@attrs.frozen
class _Kind:
    """Traits of one kind: how far its values' effects are thought to lie apart, and how long an outcome counts."""

    name: str
    prior_variance: float
    memory_calls: int  # calls that touch the value; an outcome then counts 1/e
    may_turn: bool = False  # good today, bad in an hour
    kept: float = attrs.field(init=False)
    # What each call gives back of the prior's precision, so that only evidence fades.
    given_back: float = attrs.field(init=False)

    @kept.default
    def _kept(self) -> float:
        return 1.0 - 1.0 / self.memory_calls

    @given_back.default
    def _given_back(self) -> float:
        return 1.0 / (self.memory_calls * self.prior_variance)


# People's habits last; a list is worn out and a gateway loses its good name within a day.
_KINDS: Final = (
    _Kind("hour", 0.1, 10_000),
    _Kind("weekday", 0.05, 10_000),
    _Kind("hour_and_weekend", 0.03, 10_000),
    _Kind("attempt_no", 0.1, 10_000),
    _Kind("last_disposition", 0.2, 10_000),
    _Kind("number_kind", 0.2, 10_000),
    _Kind("number_kind_and_part_of_day", 0.03, 10_000),
    _Kind("list_name", 0.5, 1_500, may_turn=True),
    _Kind("gateway", 0.3, 1_500, may_turn=True),
)
_INTERCEPT: Final = _Kind("intercept", INTERCEPT_VARIANCE, AVERAGE_MEMORY_CALLS, may_turn=True)
_NAMES: Final = frozenset(kind.name for kind in (*_KINDS, _INTERCEPT))

_Value = int | str


def _values(traits: LeadTraits) -> tuple[_Value, ...]:
    """The value of each of `_KINDS`. An hour, weekday or attempt that cannot be is brought to one that can."""
    hour, weekday = traits.hour % 24, traits.weekday % 7
    return (
        hour,
        weekday,
        hour + 24 if weekday >= 5 else hour,
        max(0, min(traits.attempt_no, LAST_ATTEMPT)),
        traits.last_disposition,
        traits.number_kind,
        f"{traits.number_kind} {hour // HOURS_A_PART_OF_DAY}",
        traits.list_name,
        traits.gateway,
    )


def _within(least: float, most: float) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """A validator; it refuses NaN too, which compares with nothing."""

    def check(owner: object, attribute: attrs.Attribute[Any], value: float) -> None:
        if not least <= value <= most:
            raise ValueError(f"{attribute.name} is {value!r}, it must be from {least:g} to {most:g}")

    return check


@attrs.frozen
class EffectState:
    """What one value does to the log-odds of an answer: a normal distribution, and the call that last touched it."""

    kind: str = attrs.field(validator=attrs.validators.in_(_NAMES))
    value: int | str
    mean: float = attrs.field(validator=_within(-_MOST_MEAN, _MOST_MEAN))
    variance: float = attrs.field(validator=_within(1e-12, 1.0))
    last_call: int = attrs.field(validator=_within(0, _MOST_CALLS))
    surplus: float = attrs.field(validator=_within(-_MOST_MEAN, _MOST_MEAN))
    surplus_variance: float = attrs.field(validator=_within(0.0, _MOST_MEAN))


@attrs.frozen
class BinState:
    """One bin of the calibration, as sums."""

    calls: int = attrs.field(validator=_within(0, _MOST_CALLS))
    expected: float = attrs.field(validator=_within(0, _MOST_CALLS))
    answered: int = attrs.field(validator=_within(0, _MOST_CALLS))


@attrs.frozen
class AnswerModelState:
    """All a model has learned: a model made of it goes on exactly as the one it was taken from."""

    calls: int = attrs.field(validator=_within(0, _MOST_CALLS))
    average: float = attrs.field(validator=_within(0.0, 1.0))
    average_calls: float = attrs.field(validator=_within(1.0, AVERAGE_MEMORY_CALLS))
    centre: float = attrs.field(validator=_within(-_MOST_MEAN, _MOST_MEAN))
    intercept: EffectState
    weights: tuple[float, ...]
    effects: tuple[EffectState, ...]
    bins: tuple[BinState, ...]
    version: int = STATE_VERSION

    def __attrs_post_init__(self) -> None:
        _check_version(self.version)
        if len(self.weights) != len(SHARES) or not all(0.0 < weight <= 1.0 for weight in self.weights):
            raise ValueError(f"weights must be {len(SHARES)} numbers above 0 and at most 1")
        if not math.isclose(sum(self.weights), 1.0, abs_tol=1e-6):
            raise ValueError("weights must add up to 1")
        if len(self.bins) != BINS:
            raise ValueError(f"there must be {BINS} bins, not {len(self.bins)}")
        if len({(effect.kind, effect.value) for effect in self.effects}) != len(self.effects):
            raise ValueError("an effect is there twice")
        if any(
            (effect.kind == _INTERCEPT.name) != (effect is self.intercept)
            for effect in (*self.effects, self.intercept)
        ):
            raise ValueError("the intercept is not where it belongs")

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back without loss."""
        return json.dumps(attrs.asdict(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> AnswerModelState:
        """Raises ValueError for a text that is no state, or one of another version."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the answer model's state is no JSON: {error}") from error
        _check_version(raw.get("version") if isinstance(raw, dict) else None)
        try:
            return msgspec.convert(raw, cls)
        except msgspec.ValidationError as error:
            raise ValueError(f"the answer model's state is broken: {error}") from error


def _check_version(version: object) -> None:
    if version != STATE_VERSION:
        raise ValueError(f"the answer model's state is of version {version!r}, this program reads {STATE_VERSION}")


@attrs.define
class _Effect:
    """A normal distribution over what one value does to the log-odds, and the call that last touched it."""

    mean: float
    variance: float
    last_call: int = 0
    # Answers above what was foretold, and their variance were it right; both fade.
    surplus: float = 0.0
    surplus_variance: float = 0.0

    @classmethod
    def of(cls, state: EffectState) -> _Effect:
        return cls(state.mean, state.variance, state.last_call, state.surplus, state.surplus_variance)

    def state(self, kind: _Kind, value: _Value) -> EffectState:
        return EffectState(
            kind.name, value, self.mean, self.variance, self.last_call, self.surplus, self.surplus_variance
        )

    def learn(self, kind: _Kind, residual: float, curvature: float) -> None:
        """Takes its part of what the sum of all effects learns from a call, and fades a little."""
        mean = self.mean + self.variance * residual
        kept = kind.kept / (self.variance - self.variance * self.variance * curvature)
        precision = kept + kind.given_back
        self.mean = mean * kept / precision
        self.variance = 1.0 / precision

    def turns(self, surplus: float, variance: float) -> bool:
        """Watches what comes against what was foretold; whether the calls are not any more what they were."""
        self.surplus = self.surplus * SURPRISE_KEPT + surplus
        self.surplus_variance = self.surplus_variance * SURPRISE_KEPT**2 + variance
        if self.surplus * self.surplus <= SURPRISE * SURPRISE * (1.0 + self.surplus_variance):
            return False
        self.begin_watch()
        return True

    def begin_watch(self) -> None:
        self.surplus = self.surplus_variance = 0.0


@attrs.define
class _Forecast:
    """One call before it rings."""

    probability: float
    average: float  # the campaign's, in log-odds
    effects: float  # their moderated sum, in log-odds
    by_share: list[float]  # the probability with each of SHARES
    variance: float  # of the sum of all effects and the intercept


def _limited(log_odds: float) -> float:
    return max(-LOG_ODDS_LIMIT, min(LOG_ODDS_LIMIT, log_odds))


def _log_odds(probability: float) -> float:
    return _limited(math.log(max(probability, 1e-9) / max(1.0 - probability, 1e-9)))


def _probability(log_odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-_limited(log_odds)))


class AnswerModel:
    """Foretells the live answers of one campaign's calls, and learns from their outcomes.

    Ask `odds` when a call is placed, tell `learn` when its outcome is certain; a call that was taken back teaches
    nothing. Some microseconds each, and never more than `MOST_VALUES_A_KIND` values of each kind of trait.
    """

    def __init__(self, state: AnswerModelState | None = None) -> None:
        self._effects: tuple[dict[_Value, _Effect], ...] = tuple({} for _ in _KINDS)
        self._intercept = _Effect(_log_odds(PRIOR_ANSWERED), INTERCEPT_VARIANCE)
        self._weights = [1.0 / len(SHARES)] * len(SHARES)
        self._calls = 0
        self._average = PRIOR_ANSWERED
        self._average_calls = PRIOR_CALLS
        # What the effects of the average call add up to: it is the zero of `odds`.
        self._centre = 0.0
        self._bins = [BinState(0, 0.0, 0)] * BINS
        if state is not None:
            self._restore(state)

    def __repr__(self) -> str:
        believed = f"traits believed to {self._believed():.0%}"
        return f"<AnswerModel {self._calls} calls, {self._average:.3f} answered, {believed}>"

    def probability(self, traits: LeadTraits) -> float:
        """P(a person answers this call), strictly between 0 and 1."""
        return self._forecast(_values(traits)).probability

    def odds(self, traits: LeadTraits) -> float:
        """This call's odds of an answer over those of the campaign's average call, within 1/16 and 16.

        The average call is such that recent calls, each scaled by its odds, are answered as often as the campaign's
        calls are in the mean. A change of the campaign's level is not in the odds. 1.0 exactly before the first
        outcome.
        """
        if self._calls == 0:
            return 1.0
        forecast = self._forecast(_values(traits))
        odds = math.exp(_limited(self._believed() * forecast.effects - self._centre))
        return max(1.0 / ODDS_LIMIT, min(ODDS_LIMIT, odds))

    def learn(self, traits: LeadTraits, answered: bool) -> None:
        """Takes in one outcome: live answer or not. What was foretold of it is put beside it first."""
        values = _values(traits)
        forecast = self._forecast(values)
        self._calls += 1
        self._record(forecast, answered)
        self._find_centre(forecast)
        self._weigh(forecast, answered)
        surplus = float(answered) - forecast.probability
        surplus_variance = forecast.probability * (1.0 - forecast.probability)
        told = forecast.by_share[-1]
        likelihood_curvature = told * (1.0 - told)
        damping = 1.0 + forecast.variance * likelihood_curvature
        residual = (float(answered) - told) / damping
        curvature = likelihood_curvature / damping
        for kind, effects, value in zip(_KINDS, self._effects, values, strict=True):
            effect = effects.get(value)
            if effect is None:
                if len(effects) >= MOST_VALUES_A_KIND:
                    _make_room(effects)
                effect = effects[value] = _Effect(0.0, kind.prior_variance)
            effect.learn(kind, residual, curvature)
            effect.last_call = self._calls
            if kind.may_turn and effect.turns(surplus, surplus_variance):
                effect.variance = kind.prior_variance
        self._intercept.learn(_INTERCEPT, residual, curvature)
        if self._intercept.turns(surplus, surplus_variance):
            self._level_turned()

    def calibration(self) -> tuple[CalibrationBin, ...]:
        """What was foretold of all calls learned from, each before it was learned from, beside what came."""
        return tuple(
            CalibrationBin(
                low=number / BINS,
                high=(number + 1) / BINS,
                calls=sums.calls,
                expected=sums.expected / max(1, sums.calls),
                observed=sums.answered / max(1, sums.calls),
            )
            for number, sums in enumerate(self._bins)
        )

    def state(self) -> AnswerModelState:
        """All of it as one value; the model goes on without changing it."""
        return AnswerModelState(
            calls=self._calls,
            average=self._average,
            average_calls=self._average_calls,
            centre=self._centre,
            intercept=self._intercept.state(_INTERCEPT, ""),
            weights=tuple(self._weights),
            effects=tuple(
                effect.state(kind, value)
                for kind, effects in zip(_KINDS, self._effects, strict=True)
                for value, effect in effects.items()
            ),
            bins=tuple(self._bins),
        )

    def _restore(self, state: AnswerModelState) -> None:
        self._calls = state.calls
        self._average = state.average
        self._average_calls, self._centre = state.average_calls, state.centre
        self._intercept = _Effect.of(state.intercept)
        self._weights = list(state.weights)
        self._bins = list(state.bins)
        of_kind = {kind.name: effects for kind, effects in zip(_KINDS, self._effects, strict=True)}
        for effect in state.effects:
            of_kind[effect.kind][effect.value] = _Effect.of(effect)

    def _forecast(self, values: tuple[_Value, ...]) -> _Forecast:
        total, variance = 0.0, 0.0
        for kind, effects, value in zip(_KINDS, self._effects, values, strict=True):
            effect = effects.get(value)
            if effect is None:
                variance += kind.prior_variance
            else:
                total += effect.mean
                variance += effect.variance
        average = _log_odds(self._average)
        # Only the effects are moderated: what is not known of a lead draws it to the average, not to one half.
        moderated = total / math.sqrt(1.0 + math.pi / 8.0 * variance)
        told = self._intercept.mean + moderated
        by_share = [_probability(average + share * (told - average)) for share in SHARES]
        mixed = sum(map(mul, self._weights, by_share))
        return _Forecast(mixed, average, moderated, by_share, variance + self._intercept.variance)

    def _level_turned(self) -> None:
        """All calls have changed: intercept and average learn anew, and no list or gateway is blamed for it."""
        self._intercept.variance = INTERCEPT_VARIANCE
        self._average_calls = min(self._average_calls, CALLS_KEPT_AT_TURN)
        for kind, effects in zip(_KINDS, self._effects, strict=True):
            if kind.may_turn:
                for effect in effects.values():
                    effect.begin_watch()

    def _record(self, forecast: _Forecast, answered: bool) -> None:
        number = min(int(forecast.probability * BINS), BINS - 1)
        sums = self._bins[number]
        self._bins[number] = BinState(
            sums.calls + 1, sums.expected + forecast.probability, sums.answered + int(answered)
        )
        self._average_calls = min(self._average_calls + 1.0, AVERAGE_MEMORY_CALLS)
        self._average += (float(answered) - self._average) / self._average_calls

    def _find_centre(self, forecast: _Forecast) -> None:
        """Moves the zero of `odds` to where calls so scaled are answered like the average (Robbins and Monro)."""
        average = _probability(forecast.average)
        scaled = _probability(forecast.average + self._believed() * forecast.effects - self._centre)
        step = (scaled - average) / (average * (1.0 - average))
        step = max(-MOST_CENTRE_STEP, min(MOST_CENTRE_STEP, step))
        self._centre += step / min(self._calls + CENTRE_PRIOR_CALLS, RECENT_CALLS)

    def _believed(self) -> float:
        return float(sum(map(mul, self._weights, SHARES)))

    def _weigh(self, forecast: _Forecast, answered: bool) -> None:
        """Each share gains weight as it foretold this outcome."""
        likelihoods = forecast.by_share if answered else [1.0 - told for told in forecast.by_share]
        weights = list(map(mul, self._weights, likelihoods))
        scale = (1.0 - WEIGHT_GIVEN_BACK) / sum(weights)
        even = WEIGHT_GIVEN_BACK / len(SHARES)
        self._weights = [weight * scale + even for weight in weights]


def _make_room(effects: dict[_Value, _Effect]) -> None:
    """Forgets the quarter of the values that no call touched for longest."""
    by_age = sorted(effects, key=lambda value: effects[value].last_call)
    for value in by_age[: max(1, len(by_age) // 4)]:
        del effects[value]
