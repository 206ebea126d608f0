"""What the daemon measures of itself, from the first day: latencies as HDR histograms, and counts.

One owner, the event loop; reading gives plain values. Histograms count microseconds from 1 µs to 60 s at three
significant digits, 40 kB each, recording in under a microsecond.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import trio
from hdrh.histogram import HdrHistogram

_HIGHEST_US: Final = 60_000_000
LOOP_LAG_PERIOD_SECONDS: Final = 0.01
# A lag is forgotten by half in 70 ms, an event's after half a second without another.
LAG_DECAY: Final = 0.9
LAG_MEMORY_SECONDS: Final = 0.5


class Latency:
    """A histogram of durations."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _HIGHEST_US, 3)

    def record_seconds(self, seconds: float) -> None:
        """Counts one duration; a negative one, from clocks of two machines that disagree, counts as 1 µs."""
        self._histogram.record_value(min(_HIGHEST_US, max(1, int(seconds * 1_000_000))))

    def add(self, other: Latency) -> None:
        """Counts all that `other` has counted."""
        self._histogram.add(other._histogram)

    def summary_ms(self) -> dict[str, float | int]:
        """Count, median, p99 and maximum, in milliseconds. All 0 while empty."""
        histogram = self._histogram
        count = int(histogram.get_total_count())
        if not count:
            return {"count": 0, "p50": 0.0, "p99": 0.0, "max": 0.0}
        return {
            "count": count,
            "p50": round(histogram.get_value_at_percentile(50) / 1000, 3),
            "p99": round(histogram.get_value_at_percentile(99) / 1000, 3),
            "max": round(histogram.get_max_value() / 1000, 3),
        }


class Metrics:
    """Everything measured, by name."""

    def __init__(self) -> None:
        # From reading the originate's +OK to handing uuid_bridge to the socket: our own share of the delay.
        self.ok_to_bridge_sent = Latency()
        # From the customer's answer to CHANNEL_BRIDGE, by the switch's own timestamps: what the person hears.
        self.answer_to_bridged = Latency()
        # From an event's timestamp to its reading; right only where the switch's clock agrees with ours.
        self.event_lag = Latency()
        # How late a task that sleeps 10 ms wakes up: what every other task feels.
        self.loop_lag = Latency()
        self.counts: Counter[str] = Counter()
        self._loop_lag_now = 0.0
        self._event_lag_now = 0.0
        self._event_lag_at = 0.0

    def summary(self) -> dict[str, Any]:
        return {
            "ok_to_bridge_sent_ms": self.ok_to_bridge_sent.summary_ms(),
            "answer_to_bridge_ms": self.answer_to_bridged.summary_ms(),
            "event_lag_ms": self.event_lag.summary_ms(),
            "loop_lag_ms": self.loop_lag.summary_ms(),
            "counts": dict(sorted(self.counts.items())),
        }

    def note_event_lag(self, seconds: float) -> None:
        """How late an event was read, against the least that was seen of its switch."""
        self._event_lag_now, self._event_lag_at = seconds, trio.current_time()

    def lag_seconds(self) -> float:
        """How far this process is behind at the moment: the loop, or the reading of events."""
        fresh = trio.current_time() - self._event_lag_at < LAG_MEMORY_SECONDS
        return max(self._loop_lag_now, self._event_lag_now if fresh else 0.0)

    async def watch_loop_lag(self) -> None:
        """Measures the event loop's lag until cancelled."""
        while True:
            due = trio.current_time() + LOOP_LAG_PERIOD_SECONDS
            await trio.sleep_until(due)
            lag_seconds = trio.current_time() - due
            self.loop_lag.record_seconds(lag_seconds)
            self._loop_lag_now = max(lag_seconds, self._loop_lag_now * LAG_DECAY)
