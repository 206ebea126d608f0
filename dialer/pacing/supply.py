"""The agents of one team on one switch: who will be free in the next seconds. Pure.

How long talks and wrap-ups last is learned as hazards by age: long talks are the ones that go on. Told of each change
as it happens; times are monotonic seconds.
"""

from __future__ import annotations

import math
from typing import Final

import attrs
import numpy as np

from dialer.pacing.ages import Ages, Floats, Ints

# Talks by age: 5 s bins up to 300 s, then 30 s bins.
TALK_BINS: Final = 120
_FINE_SECONDS: Final = 5.0
_FINE_BINS: Final = 60
_COARSE_SECONDS: Final = 30.0
_COARSE_START: Final = _FINE_BINS * (1 - _FINE_SECONDS / _COARSE_SECONDS)
WRAP_BINS: Final = 90  # of a second each
# Short talks say nothing of long ones: with them in, unseen ages would look about to end, and too much be dialed.
SHORT_TALK_SECONDS: Final = 20.0
TALK_PRIOR_ENDS: Final = 3.0
TALK_PRIOR_SECONDS: Final = 150.0
WRAP_PRIOR: Final = 2.0
WRAP_PRIOR_HAZARD: Final = 1 / 15
TALK_FADE: Final = 0.9995  # each 2 s
WRAP_FADE_CALLS: Final = 800.0
PAUSE_GAIN: Final = 0.02
LEARN_SECONDS: Final = 2.0
REBUILD_SECONDS: Final = 10.0
# At first each talk changes the picture.
YOUNG_SECONDS: Final = 600.0
# A timer ends a wrap-up a little late, and says so at once; if it does not say so, it was heard elsewhere.
OVERDUE_SECONDS: Final = 1.0
_NORMAL, _LEAVING = 0, 1  # kinds of agents: the latter have asked for a pause, or to leave, after this call


def _talk_bins(whole_seconds: Ints) -> Ints:
    """The bin of each age of a talk."""
    # Two straight lines that meet where the bins change: the lower one counts.
    bins = np.minimum(whole_seconds / _FINE_SECONDS, _COARSE_START + whole_seconds / _COARSE_SECONDS)
    return np.minimum(bins, TALK_BINS - 1).astype(np.intp)


# By second of the talk, up to the beginning of the last bin.
_TALK_BIN: Final = _talk_bins(np.arange(int((TALK_BINS - 1 - _COARSE_START) * _COARSE_SECONDS) + 1))
_TALK_MIDDLES: Final[Floats] = np.concatenate(
    [
        (np.arange(_FINE_BINS) + 0.5) * _FINE_SECONDS,
        _FINE_SECONDS * _FINE_BINS + (np.arange(TALK_BINS - _FINE_BINS) + 0.5) * _COARSE_SECONDS,
    ]
)
_LONG: Final = _TALK_MIDDLES > SHORT_TALK_SECONDS


@attrs.frozen
class SupplyState:
    """What is worth keeping of a team."""

    talk_ends: tuple[float, ...]
    talk_seconds: tuple[float, ...]
    wraps: tuple[float, ...]
    wrap_ends: tuple[float, ...]
    pause_share: float
    talks: int


@attrs.frozen(eq=False)
class FreeAgents:
    """Agents to come free: mean and variance of their number within k + 1 seconds."""

    mean: Floats
    variance: Floats


class Supply:
    """Agents who talk or wrap up, `horizon` seconds ahead. Who is idle is known elsewhere, and exactly."""

    def __init__(self, horizon: int = 45) -> None:
        self.horizon = horizon
        self.talks = 0  # that ended
        self._talking = Ages(_TALK_BIN, 2)
        self._wrapping = Ages(np.arange(WRAP_BINS), 2)
        self._timed: dict[str, tuple[float, float]] = {}  # wrap-ups that a timer ends: from when to when
        self._leaving: set[str] = set()
        self._held: set[str] = set()
        self._talk_ends: Floats = np.zeros(TALK_BINS)
        self._talk_seconds: Floats = np.zeros(TALK_BINS)
        self._wraps: Floats = np.zeros(WRAP_BINS)
        self._wrap_ends: Floats = np.zeros(WRAP_BINS)
        self._wraps_since_rebuild = 0
        self._pause_share = 0.0
        self._learned_at: float | None = None
        self._born_at: float | None = None
        self._rebuilt_at = -math.inf
        # The bin of a talk of each age, j seconds from now.
        ahead = _TALK_MIDDLES.astype(np.intp)[:, None] + np.arange(horizon)[None, :]
        self._talk_bins_ahead = _talk_bins(ahead)
        wrap_ahead = np.arange(WRAP_BINS)[:, None] + np.arange(horizon)[None, :]
        self._wrap_bins_ahead = np.minimum(wrap_ahead, WRAP_BINS - 1)
        self._seconds_ahead = np.arange(1, horizon + 1)
        lag = np.arange(horizon)[None, :] - np.arange(horizon)[:, None] - 1  # k - j - 1
        self._lag, self._in_time = np.maximum(lag, 0), lag >= 0
        # Mean and variance of those who come free are one product with these: a row for each bin.
        self._talk_moments: Floats = np.zeros((TALK_BINS, 2 * horizon))
        self._wrap_moments: Floats = np.zeros((WRAP_BINS, 2 * horizon))

    def __repr__(self) -> str:
        return f"<Supply {len(self._talking)} talking, {len(self._wrapping)} wrapping up, {self.talks} talks>"

    @property
    def busy(self) -> int:
        """Agents who talk or wrap up."""
        return len(self._talking) + len(self._wrapping)

    @property
    def engaged(self) -> int:
        """Agents who are busy, or held for a call that is not a conversation yet."""
        return self.busy + len(self._held)

    def is_held(self, agent: str, now_seconds: float) -> None:
        """The agent is held for a call: neither idle nor busy."""
        self.wrap_up_ends(agent, now_seconds, idle=True)  # or they could not have been
        self._held.add(agent)

    def talk_begins(self, agent: str, now_seconds: float) -> None:
        """The agent is connected to a person."""
        self.wrap_up_ends(agent, now_seconds, idle=True)  # or they could not have been
        self._talking.begin(agent, now_seconds, _LEAVING if agent in self._leaving else _NORMAL)

    def talk_ends(self, agent: str, now_seconds: float, wrap_up_until_seconds: float | None = None) -> None:
        """The talk is over and the wrap-up begins, which ends at some moment at the latest, if that is known."""
        self._held.discard(agent)
        age_seconds = self._talking.end(agent, now_seconds)
        if age_seconds is None:
            return
        self._talk_ends[_TALK_BIN[min(int(age_seconds), len(_TALK_BIN) - 1)]] += 1
        self.talks += 1
        self._wrapping.begin(agent, now_seconds, _LEAVING if agent in self._leaving else _NORMAL)
        if wrap_up_until_seconds is not None:
            self._timed[agent] = now_seconds, wrap_up_until_seconds

    def wrap_up_ends(self, agent: str, now_seconds: float, *, idle: bool) -> None:
        """The agent is idle again, or in a pause or gone instead."""
        self._held.discard(agent)
        age_seconds = self._wrapping.end(agent, now_seconds)
        self._timed.pop(agent, None)
        if age_seconds is None:
            return
        if agent not in self._leaving:  # known beforehand, which is better than a share
            self._pause_share += PAUSE_GAIN * ((0.0 if idle else 1.0) - self._pause_share)
        last = min(int(age_seconds), WRAP_BINS - 1)
        self._wraps[: last + 1] += 1
        self._wrap_ends[last] += 1
        self._wraps_since_rebuild += 1

    def leaves_after_call(self, agent: str, leaves: bool) -> None:
        """The agent has asked for a pause or to log out once this call is over, or has taken that back."""
        (self._leaving.add if leaves else self._leaving.discard)(agent)
        for ages in (self._talking, self._wrapping):
            ages.become(agent, _LEAVING if leaves else _NORMAL)

    def gone(self, agent: str, now_seconds: float) -> None:
        """The agent is lost from sight; nothing is learned from it."""
        self._talking.end(agent, now_seconds)
        self._wrapping.end(agent, now_seconds)
        self._timed.pop(agent, None)
        self._leaving.discard(agent)
        self._held.discard(agent)

    def free_agents(self, now_seconds: float) -> FreeAgents:
        """Who comes free, as seen now. Also learns how long talks last from those that go on."""
        if self._timed:
            self._end_overdue(now_seconds)
        by_kind = bool(self._leaving)  # mostly nobody leaves, and all are of one kind
        talking = self._talking.counts(now_seconds, by_kind=by_kind)
        self._learn(now_seconds, talking)
        talk, wrap = talking[:TALK_BINS], self._wrapping.counts(now_seconds, by_kind=by_kind)[:WRAP_BINS]
        moments = talk @ self._talk_moments + wrap @ self._wrap_moments
        mean, variance = moments[: self.horizon], moments[self.horizon :]
        if self._timed:
            self._add_known_ends(mean, variance, now_seconds)
        return FreeAgents(mean, variance)

    def _end_overdue(self, now_seconds: float) -> None:
        """Another daemon may have ended a wrap-up: whoever was counted as wrapping up then would be counted twice."""
        overdue = [agent for agent, (_, until) in self._timed.items() if until + OVERDUE_SECONDS < now_seconds]
        for agent in overdue:
            self.wrap_up_ends(agent, self._timed[agent][1], idle=True)

    def _add_known_ends(self, mean: Floats, variance: Floats, now_seconds: float) -> None:
        """Where a timer ends a wrap-up soon, that is better known than any table says."""
        timed = [times for agent, times in self._timed.items() if agent not in self._leaving]
        if not timed:
            return
        began, until = np.array(timed).T
        soon = until - now_seconds < self.horizon
        age = np.minimum((now_seconds - began[soon]).astype(np.intp), WRAP_BINS - 1)
        over = self._seconds_ahead >= until[soon, None] - now_seconds
        stays, by_table = 1 - self._pause_share, self._free_after_wrap[age]
        mean += ((stays - by_table) * over).sum(axis=0)
        variance += ((stays * (1 - stays) - by_table * (1 - by_table)) * over).sum(axis=0)
        np.maximum(variance, 0.0, out=variance)

    def _learn(self, now_seconds: float, talking: Floats) -> None:
        if self._learned_at is None or self._born_at is None:
            self._learned_at = self._born_at = now_seconds
        passed_seconds = now_seconds - self._learned_at
        if passed_seconds >= LEARN_SECONDS:
            self._learned_at = now_seconds
            fade = TALK_FADE ** (passed_seconds / LEARN_SECONDS)
            self._talk_seconds *= fade
            self._talk_ends *= fade
            self._talk_seconds += talking.reshape(-1, TALK_BINS).sum(axis=0) * min(passed_seconds, 60.0)
        young = now_seconds - self._born_at < YOUNG_SECONDS
        if now_seconds - self._rebuilt_at >= (LEARN_SECONDS if young else REBUILD_SECONDS):
            self._rebuilt_at = now_seconds
            self._rebuild()

    def _rebuild(self) -> None:
        long_rate = (self._talk_ends[_LONG].sum() + 1) / (self._talk_seconds[_LONG].sum() + TALK_PRIOR_SECONDS)
        rate = (self._talk_ends + TALK_PRIOR_ENDS) / (self._talk_seconds + TALK_PRIOR_ENDS / long_rate)
        fade = math.exp(-self._wraps_since_rebuild / WRAP_FADE_CALLS)
        self._wraps_since_rebuild = 0
        self._wraps *= fade
        self._wrap_ends *= fade
        hazard = (self._wrap_ends + WRAP_PRIOR * WRAP_PRIOR_HAZARD) / (self._wraps + WRAP_PRIOR)
        goes_on = 1 - np.clip(hazard, 0.0, 1.0)
        self._free_after_wrap = 1 - np.cumprod(goes_on[self._wrap_bins_ahead], axis=1)
        self._free_after_wrap *= 1 - self._pause_share
        talks_on = np.ones((TALK_BINS, self.horizon + 1))  # at the beginning of each second from now
        np.cumprod(np.exp(-rate)[self._talk_bins_ahead], axis=1, out=talks_on[:, 1:])
        ends_in = talks_on[:, :-1] - talks_on[:, 1:]
        # Free k seconds from now: the talk ends in second j, and the wrap-up takes no more than what is left.
        free_after_talk = ends_in @ (self._free_after_wrap[0][self._lag] * self._in_time)
        for free, moments in (
            (free_after_talk, self._talk_moments),
            (self._free_after_wrap, self._wrap_moments),
        ):
            moments[:, : self.horizon] = free
            moments[:, self.horizon :] = free * (1 - free)

    def state(self) -> SupplyState:
        """What is worth keeping."""
        return SupplyState(
            talk_ends=tuple(self._talk_ends.tolist()),
            talk_seconds=tuple(self._talk_seconds.tolist()),
            wraps=tuple(self._wraps.tolist()),
            wrap_ends=tuple(self._wrap_ends.tolist()),
            pause_share=self._pause_share,
            talks=self.talks,
        )

    def restore(self, state: SupplyState) -> None:
        """Goes on from `state`."""
        for table, kept in (
            (self._talk_ends, state.talk_ends),
            (self._talk_seconds, state.talk_seconds),
            (self._wraps, state.wraps),
            (self._wrap_ends, state.wrap_ends),
        ):
            table[:] = kept
        self._pause_share, self.talks = state.pause_share, state.talks
        self._rebuilt_at = -math.inf
