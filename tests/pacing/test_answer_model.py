"""The model learns what traits tell, believes no more than it has seen, and stays within its bounds."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from campaigns.disposition import Disposition
from dialer.pacing.answer_model import (
    BINS,
    MOST_VALUES_A_KIND,
    ODDS_LIMIT,
    PRIOR_ANSWERED,
    AnswerModel,
    AnswerModelState,
    LeadTraits,
)

names = st.sampled_from(["", "a", "b", "c"]) | st.text(max_size=8)
numbers = st.integers(-2, 30) | st.integers()
any_traits = st.builds(LeadTraits, numbers, numbers, numbers, names, names, names, names)
outcomes = st.lists(st.tuples(any_traits, st.booleans()), max_size=40)

USUAL = LeadTraits(hour=14, weekday=2, attempt_no=1, number_kind="mobile", list_name="usual", gateway="carrier_a")


def some_traits(dice: random.Random, list_name: str) -> LeadTraits:
    """Traits of which only the list is chosen."""
    return LeadTraits(
        hour=dice.randrange(9, 20),
        weekday=dice.randrange(7),
        attempt_no=dice.randrange(1, 5),
        last_disposition=dice.choice(["", Disposition.NO_ANSWER, Disposition.BUSY]),
        number_kind=dice.choice(["mobile", "fixed_line"]),
        list_name=list_name,
        gateway=dice.choice("ab"),
    )


def train(model: AnswerModel, dice: random.Random, lists: dict[str, float], calls: int) -> list[LeadTraits]:
    """So many calls of lists with these shares of answers; gives their traits."""
    placed = []
    for _ in range(calls):
        list_name = dice.choice(list(lists))
        traits = some_traits(dice, list_name)
        model.learn(traits, dice.random() < lists[list_name])
        placed.append(traits)
    return placed


def mean_probability(model: AnswerModel, list_name: str) -> float:
    dice = random.Random(99)
    return sum(model.probability(some_traits(dice, list_name)) for _ in range(200)) / 200


@settings(max_examples=50)
@given(any_traits)
def test_while_it_knows_nothing_every_call_is_the_average_one(traits: LeadTraits) -> None:
    model = AnswerModel()
    assert model.odds(traits) == 1.0
    assert model.probability(traits) == pytest.approx(PRIOR_ANSWERED)


def test_one_call_proves_little() -> None:
    model = AnswerModel()
    model.learn(USUAL, True)
    assert 1.0 <= model.odds(USUAL) < 1.5


@pytest.mark.parametrize("seed", range(3))
def test_two_groups_are_told_apart(seed: int) -> None:
    model, dice = AnswerModel(), random.Random(seed)
    train(model, dice, {"cold": 0.1, "warm": 0.5}, 300)
    assert mean_probability(model, "cold") < 0.2
    assert mean_probability(model, "warm") > 0.38
    train(model, dice, {"cold": 0.1, "warm": 0.5}, 4_000)
    assert mean_probability(model, "cold") == pytest.approx(0.1, abs=0.03)
    assert mean_probability(model, "warm") == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("trait", "good", "bad"),
    [
        ("hour", 18, 10),
        ("weekday", 1, 6),
        ("attempt_no", 1, 4),
        ("last_disposition", Disposition.HUNG_UP, Disposition.REJECTED),
        ("number_kind", "mobile", "fixed_line"),
        ("list_name", "fresh", "worn"),
        ("gateway", "carrier_b", "carrier_c"),
    ],
)
def test_every_trait_can_tell(trait: str, good: Any, bad: Any) -> None:
    model, dice = AnswerModel(), random.Random(4)
    calls = {0.5: attrs.evolve(USUAL, **{trait: good}), 0.15: attrs.evolve(USUAL, **{trait: bad})}
    for _ in range(1_500):
        share, traits = dice.choice(list(calls.items()))
        model.learn(traits, dice.random() < share)
    assert model.odds(calls[0.5]) / model.odds(calls[0.15]) > 3.5  # the truth is 5.7


def test_an_hour_may_be_good_on_weekdays_and_bad_at_weekends() -> None:
    model, dice = AnswerModel(), random.Random(2)

    def share(hour: int, weekday: int) -> float:
        return 0.5 if (hour == 10) == (weekday >= 5) else 0.15

    for _ in range(8_000):
        hour, weekday = dice.choice((10, 18)), dice.randrange(7)
        model.learn(LeadTraits(hour, weekday, 1), dice.random() < share(hour, weekday))
    for hour, weekday in ((10, 2), (10, 6), (18, 2), (18, 6)):
        probability = model.probability(LeadTraits(hour, weekday, 1))
        assert (probability > 0.3) == (share(hour, weekday) == 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_a_list_never_seen_is_near_the_average(seed: int) -> None:
    model, dice = AnswerModel(), random.Random(seed)
    train(model, dice, {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.5}, 3_000)
    assert mean_probability(model, "never seen") == pytest.approx(0.275, abs=0.05)


def test_where_traits_tell_nothing_it_costs_next_to_nothing() -> None:
    model, dice = AnswerModel(), random.Random(6)
    lost, answered, calls = 0.0, 1.0, 4_000
    for number in range(calls):
        traits, was_answered = some_traits(dice, dice.choice("abcd")), dice.random() < 0.3
        told, average = model.probability(traits), answered / (number + 3)
        lost += math.log(average / told) if was_answered else math.log((1 - average) / (1 - told))
        model.learn(traits, was_answered)
        answered += was_answered
    assert lost < 5.0  # nats of all calls together; the effects alone would lose about 40
    odds = [model.odds(some_traits(dice, dice.choice("abcd"))) for _ in range(200)]
    assert all(0.8 < one < 1.25 for one in odds)


@pytest.mark.parametrize("seed", range(3))
def test_odds_keep_the_campaigns_average(seed: int) -> None:
    model, dice = AnswerModel(), random.Random(seed)
    placed = train(model, dice, {"a": 0.05, "b": 0.2, "c": 0.6}, 4_000)[-1_000:]
    average = 0.85 / 3
    scaled = [model.odds(traits) * average / (1 - average) for traits in placed]
    assert sum(odds / (1 + odds) for odds in scaled) / 1_000 == pytest.approx(average, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_odds_do_not_follow_the_campaigns_level(seed: int) -> None:
    """The pacer does; counted twice, a better hour would place too few calls and a worse one too many."""
    model, dice = AnswerModel(), random.Random(seed)
    train(model, dice, {"a": 0.3, "b": 0.3}, 3_000)
    for level in (0.12, 0.5):
        train(model, dice, {"a": level, "b": level}, 1_000)
        odds = [model.odds(some_traits(dice, "a")) for _ in range(100)]
        assert all(0.6 < one < 1.6 for one in odds)
        assert 0.85 < sum(odds) / 100 < 1.15


@pytest.mark.parametrize("seed", range(3))
def test_a_list_that_turns_bad_is_followed(seed: int) -> None:
    model, dice = AnswerModel(), random.Random(seed)
    lists = {"a": 0.5, "b": 0.3, "c": 0.3}
    train(model, dice, lists, 10_000)
    train(model, dice, lists | {"a": 0.1}, 750)  # some 250 of this list
    assert mean_probability(model, "a") < 0.2
    assert mean_probability(model, "b") == pytest.approx(0.3, abs=0.08)


@given(outcomes)
def test_the_calibrations_bins_add_up(calls: list[tuple[LeadTraits, bool]]) -> None:
    model, foretold = AnswerModel(), []
    for traits, answered in calls:
        foretold.append(model.probability(traits))
        model.learn(traits, answered)
    bins = model.calibration()
    assert [(one.low, one.high) for one in bins] == [(number / BINS, (number + 1) / BINS) for number in range(BINS)]
    assert sum(one.calls for one in bins) == len(calls)
    assert sum(one.expected * one.calls for one in bins) == pytest.approx(sum(foretold))
    assert sum(one.observed * one.calls for one in bins) == pytest.approx(sum(answered for _, answered in calls))
    for one in bins:
        assert one.calls == 0 or one.low <= one.expected <= one.high


def test_what_is_foretold_comes_true() -> None:
    model, dice = AnswerModel(), random.Random(3)
    train(model, dice, {"a": 0.05, "b": 0.25, "c": 0.45, "d": 0.65}, 12_000)
    for one in model.calibration():
        if one.calls > 500:
            assert one.expected == pytest.approx(one.observed, abs=0.06)


@given(outcomes, any_traits)
def test_always_a_probability_and_odds_in_bounds(calls: list[tuple[LeadTraits, bool]], asked: LeadTraits) -> None:
    model = AnswerModel()
    for traits, answered in calls:
        model.learn(traits, answered)
    assert 0.0 < model.probability(asked) < 1.0
    assert 1 / ODDS_LIMIT <= model.odds(asked) <= ODDS_LIMIT


@pytest.mark.parametrize("answered", [True, False])
def test_a_month_of_the_same_outcome_and_then_the_other(answered: bool) -> None:
    model = AnswerModel()
    for _ in range(30_000):
        model.learn(USUAL, answered)
    told = model.probability(USUAL)
    assert 0.0 < told < 1.0
    assert abs(answered - told) < 0.001
    for _ in range(200):
        model.learn(USUAL, not answered)
        assert 0.0 < model.probability(USUAL) < 1.0
    assert abs(answered - model.probability(USUAL)) > 0.5
    assert AnswerModelState.from_json(model.state().to_json()) == model.state()


def test_names_without_end_take_no_memory_without_end() -> None:
    model = AnswerModel()
    for number in range(3 * MOST_VALUES_A_KIND):
        model.learn(LeadTraits(number, number, number, *(f"{kind}{number}" for kind in "abcd")), False)
        model.learn(USUAL, True)
    held = model.state().effects
    kinds = {effect.kind for effect in held}
    assert max(sum(effect.kind == kind for effect in held) for kind in kinds) <= MOST_VALUES_A_KIND
    lists = {effect.value for effect in held if effect.kind == "list_name"}
    last = range(3 * MOST_VALUES_A_KIND + 1 - len(lists), 3 * MOST_VALUES_A_KIND)
    assert lists == {"usual"} | {f"c{number}" for number in last}  # those seen last
    assert len(lists) >= MOST_VALUES_A_KIND // 2
    assert model.probability(USUAL) > 0.8


@settings(max_examples=50)
@given(outcomes, outcomes, any_traits)
def test_a_model_goes_on_from_its_state_as_if_nothing_had_been(
    before: list[tuple[LeadTraits, bool]], after: list[tuple[LeadTraits, bool]], asked: LeadTraits
) -> None:
    model = AnswerModel()
    for traits, answered in before:
        model.learn(traits, answered)
    kept = model.state()
    text = kept.to_json()
    again = AnswerModel(AnswerModelState.from_json(text))
    assert again.state() == kept
    for traits, answered in after:
        model.learn(traits, answered)
        again.learn(traits, answered)
    assert kept.to_json() == text  # a state is a value: the model that went on did not change it
    assert again.state() == model.state()
    assert again.odds(asked) == model.odds(asked)


def test_a_state_of_another_version_is_refused() -> None:
    raw = json.loads(AnswerModel().state().to_json()) | {"version": 99}
    with pytest.raises(ValueError, match="version 99"):
        AnswerModelState.from_json(json.dumps(raw))


def _trained() -> dict[str, Any]:
    model = AnswerModel()
    train(model, random.Random(1), {"a": 0.2, "b": 0.4}, 50)
    raw = json.loads(model.state().to_json())
    assert isinstance(raw, dict)
    return raw


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("calls", -1),
        ("calls", "many"),
        ("average", 1.5),
        ("average", math.nan),
        ("centre", None),
        ("centre", 10**400),
        ("intercept", None),
        ("weights", [1.0]),
        ("weights", [0.5, 0.5, 0.5, 0.5, 0.5]),
        ("weights", [1.0, 0.0, 0.0, 0.0, 0.0]),
        ("bins", []),
        ("effects", 3),
        ("effects", [{"kind": "hour"}]),
    ],
)
def test_a_broken_state_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match="answer model's state"):
        AnswerModelState.from_json(json.dumps(_trained() | {field: value}))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "colour"},
        {"mean": math.nan},
        {"variance": -0.1},
        {"variance": 1e300},
        {"value": []},
        {"last_call": -1},
    ],
)
def test_a_broken_effect_is_refused(change: dict[str, Any]) -> None:
    raw = _trained()
    for effect in (raw["effects"][3], raw["intercept"]):
        whole = dict(effect)
        effect |= change
        with pytest.raises(ValueError, match="answer model's state"):
            AnswerModelState.from_json(json.dumps(raw))
        effect |= whole


def test_an_effect_that_is_there_twice_is_refused() -> None:
    raw = _trained()
    raw["effects"].append(raw["effects"][0])
    with pytest.raises(ValueError, match="twice"):
        AnswerModelState.from_json(json.dumps(raw))


@given(st.text() | st.sampled_from(["", "null", "[]", "{}", "1" * 5_000, "[" * 100_000, '{"version": 1}']))
def test_a_text_that_is_no_state_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="answer model's state"):
        AnswerModelState.from_json(text)


@given(st.data())
def test_a_torn_text_is_refused(data: st.DataObject) -> None:
    text = json.dumps(_trained())
    with pytest.raises(ValueError, match="answer model's state"):
        AnswerModelState.from_json(text[: data.draw(st.integers(0, len(text) - 1))])
