"""How long things take: a small closed set of distributions that a scenario can name.

A plain number means "always exactly this", so a test says `answer_delay = 2` and a bench says
`{kind = "lognormal", median = 9, sigma = 0.5}`. `inf` means never. Every draw takes the caller's own
`random.Random`, so a seed gives the same day again.
"""

from __future__ import annotations

import math
import random
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class _Distribution(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)


class Fixed(_Distribution):
    """Always the same number of seconds; `inf` for never."""

    kind: Literal["fixed"] = "fixed"
    value: float = Field(ge=0)

    def draw(self, rng: random.Random) -> float:
        return self.value


class Uniform(_Distribution):
    """Any number of seconds between `low` and `high`, all equally likely."""

    kind: Literal["uniform"] = "uniform"
    low: float = Field(ge=0)
    high: float = Field(ge=0)

    def draw(self, rng: random.Random) -> float:
        return rng.uniform(self.low, self.high)


class Exponential(_Distribution):
    """Memoryless with the given mean, never more than `at_most`."""

    kind: Literal["exponential"] = "exponential"
    mean: float = Field(gt=0)
    at_most: float = Field(default=math.inf, gt=0)

    def draw(self, rng: random.Random) -> float:
        return min(rng.expovariate(1 / self.mean), self.at_most)


class LogNormal(_Distribution):
    """What answering and talking look like: half are under `median`, with a long tail of width `sigma`."""

    kind: Literal["lognormal"] = "lognormal"
    median: float = Field(gt=0)
    sigma: float = Field(gt=0)
    at_most: float = Field(default=math.inf, gt=0)

    def draw(self, rng: random.Random) -> float:
        return min(rng.lognormvariate(math.log(self.median), self.sigma), self.at_most)


class Mixture(_Distribution):
    """Now one, now another: each of `of` in proportion to its weight, as short and long talks."""

    kind: Literal["mixture"] = "mixture"
    weights: tuple[float, ...] = Field(min_length=1)
    of: tuple[Annotated[Fixed | Uniform | Exponential | LogNormal, Field(discriminator="kind")], ...]

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.weights) != len(self.of) or min(self.weights) < 0 or sum(self.weights) <= 0:
            raise ValueError("a mixture needs a weight of zero or more for each of its parts, and one above zero")
        return self

    def draw(self, rng: random.Random) -> float:
        return rng.choices(self.of, self.weights)[0].draw(rng)


def _from_number(value: Any) -> Any:
    """A bare number is short for `{kind = "fixed", value = …}`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"kind": "fixed", "value": value}
    return value


Distribution = Annotated[
    Annotated[Fixed | Uniform | Exponential | LogNormal | Mixture, Field(discriminator="kind")],
    BeforeValidator(_from_number),
]
NEVER = Fixed(value=math.inf)
