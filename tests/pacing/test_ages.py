"""Counts by age are those that a walk through everything would give."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dialer.pacing.ages import Ages

BINS, KINDS = 12, 3

names = st.integers(0, 200).map(str)
kinds = st.integers(0, KINDS - 1)


BY_FIVE_SECONDS = np.arange(5 * BINS) // 5


class AgesAgainstADictionary(RuleBasedStateMachine):
    """More names than the first room, ends in any order, a clock that stands still or leaps."""

    def __init__(self) -> None:
        super().__init__()
        self.ages = Ages(BY_FIVE_SECONDS, KINDS)
        self.model: dict[str, tuple[float, int]] = {}
        self.now = 1000.0

    def bin_of(self, name: str) -> int:
        return min(int((self.now - self.model[name][0]) / 5), BINS - 1)

    @initialize(kind=kinds)
    def many(self, kind: int) -> None:
        for number in range(0, 150, 2):
            self.begin(str(number), kind)

    @rule(seconds=st.just(0.0) | st.floats(0, 20) | st.floats(0, 1e9))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=names, kind=kinds)
    def begin(self, name: str, kind: int) -> None:
        self.ages.begin(name, self.now, kind)
        self.model[name] = (self.now, kind)

    @rule(name=names, kind=kinds)
    def become(self, name: str, kind: int) -> None:
        self.ages.become(name, kind)
        if name in self.model:
            self.model[name] = (self.model[name][0], kind)

    @rule(name=names)
    def end(self, name: str) -> None:
        age_seconds = self.ages.end(name, self.now)
        known = self.model.pop(name, None)
        assert age_seconds == (None if known is None else self.now - known[0])

    @invariant()
    def counts_are_the_models(self) -> None:
        expected = np.zeros((KINDS, BINS))
        for name, (_, kind) in self.model.items():
            expected[kind, self.bin_of(name)] += 1
        assert self.ages.counts(self.now).tolist() == expected.ravel().tolist()
        of_all = self.ages.counts(self.now, by_kind=False)
        assert of_all.tolist() == expected.sum(axis=0).tolist()
        assert len(self.ages) == len(self.model)
        assert all((name in self.ages) == (name in self.model) for name in ("0", "1", "199"))


AgesAgainstADictionary.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAges = AgesAgainstADictionary.TestCase


def test_a_clock_that_runs_back_makes_nobody_younger_than_new() -> None:
    ages = Ages(np.arange(BINS))
    ages.begin("a", 100.0)
    assert ages.counts(90.0)[0] == 1
    assert ages.end("a", 90.0) == 0.0
