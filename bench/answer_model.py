"""How much of what a lead's traits tell of its answer the model learns, and how far its probabilities can be trusted.

Calls are made up, so the true probability of each is known. `gain` is how far the model's log loss lies below that of
the campaign's running average, as a share of how far the truth lies below it: 0 is the average, 1 is knowing all.
Where leads differ by more than their traits, the truth is what the traits alone can tell. Each call is foretold
before it is learned from, and figures are means over `SEEDS` campaigns.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from statistics import NormalDist, fmean
from typing import Final

import attrs

from bench.shared import tell
from dialer.pacing.answer_model import PRIOR_ANSWERED, PRIOR_CALLS, AnswerModel, CalibrationBin, LeadTraits

CALLS: Final = 20_000
SEEDS: Final = (1, 2, 3)
# Calls before which the model is thought to learn, and after which it should know.
FIRST: Final = 1_000
SETTLED: Final = 5_000
RECENT_CALLS: Final = 800  # as a pacer's tables remember
GROUPS: Final = {"cold": 0.05, "cool": 0.2, "warm": 0.4, "hot": 0.6}
LEAD_NOISE: Final = 0.5  # the deviation between leads of the same traits, in log-odds
NOISES: Final = [LEAD_NOISE * NormalDist().inv_cdf((step + 0.5) / 20) for step in range(20)]
DISPOSITIONS: Final = ("no_answer", "busy", "rejected", "congestion", "hung_up")
STEP_CALLS: Final = 2_000  # of a level of the whole campaign
TURNED_BAD: Final = -2.0  # what the drifting list loses, in log-odds


@attrs.frozen
class Call:
    traits: LeadTraits
    probability: float  # what the traits tell
    lead_probability: float  # of this very lead
    answered: bool


@attrs.frozen
class Foretold:
    call: Call
    model: float
    average: float  # the running average of all calls before
    scaled: float  # the recent average, scaled by the model's odds


def logistic(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def some_traits(dice: random.Random, list_name: str) -> LeadTraits:
    attempt_no = 1
    while attempt_no < 8 and dice.random() < 0.55:
        attempt_no += 1
    return LeadTraits(
        hour=dice.randrange(8, 21),
        weekday=dice.choices(range(7), (17, 17, 17, 17, 17, 10, 5))[0],
        attempt_no=attempt_no,
        last_disposition="" if attempt_no == 1 else dice.choices(DISPOSITIONS, (70, 15, 5, 5, 5))[0],
        number_kind=dice.choices(("mobile", "fixed_line", "unknown"), (6, 3, 1))[0],
        list_name=list_name,
        gateway=dice.choices("abcde", (40, 30, 20, 7, 3))[0],
    )


def groups(dice: random.Random) -> Iterator[Call]:
    """Four lists, and nothing else matters."""
    for _ in range(CALLS):
        list_name, probability = dice.choice(list(GROUPS.items()))
        yield Call(some_traits(dice, list_name), probability, probability, dice.random() < probability)


def no_effect(dice: random.Random) -> Iterator[Call]:
    """Nothing matters."""
    for _ in range(CALLS):
        yield Call(some_traits(dice, dice.choice("abcd")), 0.25, 0.25, dice.random() < 0.25)


def spread(dice: random.Random, *, level: float = -0.8, turned_bad: float = 0.0, step: float = 0.0) -> Iterator[Call]:
    """Every trait matters, weekends have hours of their own, and leads of the same traits differ."""
    hours = [dice.gauss(0, 0.3) for _ in range(24)]
    weekend_hours = [dice.gauss(0, 0.15) for _ in range(24)]
    weekdays = [dice.gauss(0, 0.2) for _ in range(7)]
    dispositions = {"": 0.2, "no_answer": -0.3, "busy": 0.4, "rejected": -0.8, "congestion": 0.1, "hung_up": 0.7}
    kinds = {kind: dice.gauss(0, 0.4) for kind in ("mobile", "fixed_line", "unknown")}
    lists = [dice.gauss(0, 0.7) for _ in range(12)]
    gateways = {gateway: dice.gauss(0, 0.3) for gateway in "abcde"}
    for number in range(CALLS):
        chosen = dice.choices(range(12), [1 / rank for rank in range(1, 13)])[0]
        traits = some_traits(dice, f"list {chosen}")
        log_odds = (
            level
            + hours[traits.hour]
            + (weekend_hours[traits.hour] if traits.weekday >= 5 else 0.0)
            + weekdays[traits.weekday]
            - 0.25 * (traits.attempt_no - 1)
            + dispositions[traits.last_disposition]
            + kinds[traits.number_kind]
            + lists[chosen]
            + gateways[traits.gateway]
            + (turned_bad if chosen == 0 and number >= CALLS // 2 else 0.0)
            + (step if number // STEP_CALLS % 2 else -step)
        )
        probability = fmean(logistic(log_odds + noise) for noise in NOISES)
        lead_probability = logistic(log_odds + dice.gauss(0, LEAD_NOISE))
        yield Call(traits, probability, lead_probability, dice.random() < lead_probability)


def seldom_answered(dice: random.Random) -> Iterator[Call]:
    return spread(dice, level=-2.3)


def steps(dice: random.Random) -> Iterator[Call]:
    """Twice and half as many answers in turns, whatever the traits."""
    return spread(dice, step=0.6)


def drift(dice: random.Random) -> Iterator[Call]:
    """The largest list turns bad in the middle."""
    return spread(dice, turned_bad=TURNED_BAD)


def foretell(calls: Iterator[Call]) -> tuple[list[Foretold], AnswerModel]:
    model, answered, found = AnswerModel(), PRIOR_CALLS * PRIOR_ANSWERED, []
    recent = PRIOR_ANSWERED
    for number, call in enumerate(calls):
        average = answered / (PRIOR_CALLS + number)
        odds = model.odds(call.traits) * recent / (1 - recent)
        found.append(Foretold(call, model.probability(call.traits), average, odds / (1 + odds)))
        model.learn(call.traits, call.answered)
        answered += call.answered
        recent += (call.answered - recent) / min(RECENT_CALLS, PRIOR_CALLS + number + 1)
    return found, model


def log_loss(found: list[Foretold], of: Callable[[Foretold], float]) -> float:
    return -fmean(math.log(of(one) if one.call.answered else 1 - of(one)) for one in found)


@attrs.frozen
class Losses:
    """Mean log loss in nats a call."""

    average: float
    model: float
    traits: float
    lead: float

    @staticmethod
    def of(runs: list[list[Foretold]], first: int, last: int) -> Losses:
        found = [one for run in runs for one in run[first:last]]
        return Losses(
            average=log_loss(found, lambda one: one.average),
            model=log_loss(found, lambda one: one.model),
            traits=log_loss(found, lambda one: one.call.probability),
            lead=log_loss(found, lambda one: one.call.lead_probability),
        )

    @property
    def gain(self) -> float:
        return (self.average - self.model) / (self.average - self.traits)

    @property
    def gain_of_lead(self) -> float:
        """Of what could be known of the very lead; beyond any model of traits."""
        return (self.average - self.model) / (self.average - self.lead)

    def rounded(self) -> dict[str, float]:
        return {name: round(value, 5) for name, value in attrs.asdict(self).items()}


def together(runs: list[tuple[CalibrationBin, ...]]) -> list[CalibrationBin]:
    """The bins of several models as one's."""
    found = []
    for bins in zip(*runs, strict=True):
        calls = sum(one.calls for one in bins)
        expected = sum(one.expected * one.calls for one in bins) / max(1, calls)
        observed = sum(one.observed * one.calls for one in bins) / max(1, calls)
        found.append(CalibrationBin(bins[0].low, bins[0].high, calls, expected, observed))
    return found


def tell_calibration(name: str, runs: list[tuple[CalibrationBin, ...]]) -> None:
    bins = together(runs)
    calls = sum(one.calls for one in bins)
    error = sum(one.calls * abs(one.expected - one.observed) for one in bins) / calls
    shown = [[one.low, one.calls, round(one.expected, 3), round(one.observed, 3)] for one in bins if one.calls]
    columns = ["from", "calls", "expected", "observed"]
    tell(f"{name}.calibration_error", error, "probability", columns=columns, bins=shown)


def calls_until_followed(found: list[Foretold]) -> int | None:
    """Calls of the list that turned bad until the last 25 of them were foretold nearer the new truth than the old."""
    nearer: list[bool] = []
    for one in found[CALLS // 2 :]:
        if one.call.traits.list_name == "list 0":
            truth = math.log(one.call.probability / (1 - one.call.probability))
            nearer.append(math.log(one.model / (1 - one.model)) - truth < -TURNED_BAD / 2)
            if len(nearer) >= 25 and sum(nearer[-25:]) >= 13:
                return len(nearer)
    return None


def microseconds(call: Callable[[Call], object], calls: list[Call]) -> float:
    started = time.process_time()
    for one in calls:
        call(one)
    return (time.process_time() - started) / len(calls) * 1e6


def tell_gain(name: str, scenario: Callable[[random.Random], Iterator[Call]], goal: float) -> list[list[Foretold]]:
    """All figures of a scenario in which there is something to learn; gives what was foretold in each campaign."""
    runs = [foretell(scenario(random.Random(seed))) for seed in SEEDS]
    found = [run for run, _ in runs]
    whole = Losses.of(found, 0, CALLS)
    tell(
        f"{name}.gain",
        whole.gain,
        "of what traits tell",
        first=round(Losses.of(found, 0, FIRST).gain, 3),
        settled=round(Losses.of(found, SETTLED, CALLS).gain, 3),
        gain_of_lead=round(whole.gain_of_lead, 3),
        log_loss=whole.rounded(),
        goal=f">= {goal}",
        met=whole.gain >= goal,
    )
    tell_calibration(name, [model.calibration() for _, model in runs])
    scaled = fmean(one.scaled for run in found for one in run)
    ratio = scaled / fmean(one.call.answered for run in found for one in run)
    met = 0.97 <= ratio <= 1.03
    tell(f"{name}.scaled_average", ratio, "of calls answered", goal="0.97 to 1.03", met=met)
    return found


def main() -> None:
    tell_gain("answer_model.groups", groups, 0.9)
    tell_gain("answer_model.spread", spread, 0.8)
    tell_gain("answer_model.seldom_answered", seldom_answered, 0.7)
    tell_gain("answer_model.steps", steps, 0.7)
    waits = [calls_until_followed(run) for run in tell_gain("answer_model.drift", drift, 0.8)]
    longest = max(CALLS if wait is None else wait for wait in waits)
    tell("answer_model.drift.followed", longest, "calls of the list", each=waits, goal="<= 500", met=longest <= 500)
    runs = [foretell(no_effect(random.Random(seed))) for seed in SEEDS]
    losses = Losses.of([run for run, _ in runs], 0, CALLS)
    lost = 1000 * (losses.model - losses.average)
    tell(
        "answer_model.no_effect.loss", lost, "nats/1000 calls", log_loss=losses.rounded(), goal="<= 1", met=lost <= 1
    )
    tell_calibration("answer_model.no_effect", [model.calibration() for _, model in runs])
    calls = list(spread(random.Random(SEEDS[0])))
    model = AnswerModel()
    learn = microseconds(lambda call: model.learn(call.traits, call.answered), calls)
    odds = microseconds(lambda call: model.odds(call.traits), calls)
    cost = {"learn": round(learn, 1), "odds": round(odds, 1)}
    tell("answer_model.cost", learn + odds, "us/call", **cost, goal="< 20 each", met=max(learn, odds) < 20)


if __name__ == "__main__":
    main()
