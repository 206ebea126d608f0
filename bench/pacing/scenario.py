"""What a floor is like: how often people answer, how long they ring, talk and wait. Read from TOML."""

from __future__ import annotations

import math
import random
import tomllib
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs

SHIPPED: Final = Path(__file__).with_name("scenarios.toml")
BUCKETS: Final = 10  # as many groups are told of leads that are spread continuously


@attrs.frozen
class Group:
    """Leads with the same probability of answering; the name is what may be seen of them beforehand."""

    name: str
    share: float
    answer_rate: float


@attrs.frozen
class Spread:
    """Probabilities of answering from Beta(alpha, beta); what is seen is its logit plus normal noise of sd `blur`."""

    alpha: float
    beta: float
    blur: float = 0.0


@attrs.frozen(kw_only=True)
class Scenario:
    """The keys of scenarios.toml, where each is explained."""

    name: str
    answer_rate: float
    answer_rates: tuple[tuple[float, float], ...] = ()
    cycle_minutes: float | None = None
    groups: tuple[Group, ...] = ()
    spread: Spread | None = None
    fast_failures: float
    fast_failure_seconds: tuple[float, float]
    ring_mean_seconds: float
    ring_sigma: float
    ring_timeout_seconds: tuple[float, float]
    talk_mean_seconds: float
    talk_sigma: float
    talk_at_most_seconds: float
    short_share: float
    short_mean_seconds: float
    short_sigma: float
    wrap_up_mean_seconds: float
    wrap_up_sigma: float
    patience_seconds: float
    channels_per_agent: float | None = None
    break_share: float = 0.0
    break_every_minutes: float = 0.0
    break_minutes: float = 0.0

    def answer_rate_at(self, run_seconds: float) -> Callable[[float], float]:
        """The rate at a second of a run of `run_seconds`."""
        if not self.answer_rates:
            return lambda now: self.answer_rate
        unit = run_seconds if self.cycle_minutes is None else 60.0
        cycle = run_seconds if self.cycle_minutes is None else 60.0 * self.cycle_minutes
        starts = [start * unit for start, _ in self.answer_rates]
        rates = [rate for _, rate in self.answer_rates]
        return lambda now: rates[bisect_right(starts, now % cycle) - 1]

    def long_talk_mean_seconds(self) -> float:
        """Of the talks that are not short, so that all talks together have the mean that is asked for."""
        return (self.talk_mean_seconds - self.short_share * self.short_mean_seconds) / (1.0 - self.short_share)


def read_scenarios(*files: Path) -> dict[str, Scenario]:
    """Every scenario of the shipped file and of `files`, a later one in place of an earlier of the same name.

    Raises OSError, tomllib.TOMLDecodeError; TypeError for a key that does not exist.
    """
    defaults: dict[str, Any] = {}
    found: dict[str, Scenario] = {}
    for file in (SHIPPED, *files):
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
        defaults |= tables.pop("defaults", {})
        for name, table in tables.items():
            found[name] = _scenario(name, defaults | table)
    return found


def _scenario(name: str, table: dict[str, Any]) -> Scenario:
    pairs = {key: tuple(table[key]) for key in ("fast_failure_seconds", "ring_timeout_seconds")}
    return Scenario(
        name=name,
        **table
        | pairs
        | {
            "answer_rates": tuple((start, rate) for start, rate in table.get("answer_rates", ())),
            "groups": tuple(Group(**group) for group in table.get("groups", ())),
            "spread": Spread(**table["spread"]) if "spread" in table else None,
        },
    )


def lognormal_mu(mean: float, sigma: float, at_most: float = math.inf) -> float:
    """The mu of a lognormal whose mean is `mean` when what is above `at_most` is drawn again."""
    if math.isinf(at_most) or sigma == 0.0:
        return math.log(mean) - sigma * sigma / 2.0

    def truncated_mean(mu: float) -> float:
        edge = (math.log(at_most) - mu) / sigma
        return math.exp(mu + sigma * sigma / 2.0) * _normal_cdf(edge - sigma) / _normal_cdf(edge)

    low, high = math.log(mean) - sigma * sigma, math.log(at_most)
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if truncated_mean(middle) < mean else (low, middle)
    return (low + high) / 2.0


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def lead_drawer(scenario: Scenario, rng: random.Random) -> Callable[[], tuple[str, float]]:
    """Draws the next lead: the name of the group that is seen, and its own factor to the answer rate."""
    if scenario.groups:
        names = [(group.name, group.answer_rate) for group in scenario.groups]
        shares = [group.share for group in scenario.groups]
        return lambda: rng.choices(names, shares)[0]
    if scenario.spread is not None:
        spread = scenario.spread

        def draw() -> tuple[str, float]:
            rate = min(max(rng.betavariate(spread.alpha, spread.beta), 1e-4), 1.0 - 1e-4)
            seen = math.log(rate / (1.0 - rate)) + rng.gauss(0.0, spread.blur)
            bucket = math.floor(BUCKETS / (1.0 + math.exp(-seen)))
            return f"bucket {bucket}", rate

        return draw
    return lambda: ("", 1.0)
