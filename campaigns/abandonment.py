"""Which calls were abandoned, as the law counts it, and the rate that it limits.

A regulator asks of a campaign: of the people who answered, how many found nobody within two seconds? Both parts of
that rate are judged here, once, when a call's record is made, and kept on the record: a campaign whose
`connect_seconds` changes later does not change what has been.

Answering machines are nobody who could be abandoned. But some of those that were taken for machines are people, and
were hung up on: so many of them as the campaign supposes count as live answers, and as abandoned.

Wherever something is not known, the rate can only come out too high.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

from campaigns.disposition import Disposition
from campaigns.tables import CdrRow

LAW_SECONDS: Final = 2.0  # what a record is judged by that was made before records were judged
DAY: Final = timedelta(hours=24)
MONTH: Final = timedelta(days=30)


def abandoned_of(cdr: CdrRow, connect_seconds: float) -> bool | None:
    """Whether the call of `cdr` was abandoned; None if it counts neither as abandoned nor as a live answer.

    A live answer is abandoned unless it was bridged within `connect_seconds` of the answer: one that was bridged
    later, dropped by us however soon, or lost from sight is abandoned. There is no tolerance: the times are the
    switch's own, and a wait of 2.001 s is more than 2 s. (They are kept in whole milliseconds, so 2.0009 s is 2 s.)

    Somebody who hung up by themselves within `connect_seconds` was not abandoned, since we still had time; but no
    agent served them either. As a live answer they could only make the rate look better, so they are left out of it
    altogether. Somebody who gave up later than that was abandoned.
    """
    if not _is_live(cdr):
        return None
    late = cdr.wait_ms is None or cdr.wait_ms > round(connect_seconds * 1000)
    match cdr.disposition:
        case Disposition.BRIDGED:
            return late
        case Disposition.HUNG_UP:
            return True if late else None
        case _:
            return True


def _is_live(cdr: CdrRow) -> bool:
    """Whether a person answered, as far as anybody can tell."""
    return cdr.answered_at is not None and cdr.disposition is not Disposition.MACHINE


def hour_of(moment: datetime) -> datetime:
    """The start of the hour, of UTC, that `moment` falls into."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


@attrs.frozen
class AbandonmentCounts:
    """Live answers of some calls, how many of them were abandoned, and what was taken for machines. Adds up."""

    live_answers: int = 0
    abandoned: int = 0
    machines: int = 0
    false_positive_permille: int = 0  # the sum over the machines

    def __add__(self, other: AbandonmentCounts) -> AbandonmentCounts:
        return AbandonmentCounts(
            self.live_answers + other.live_answers,
            self.abandoned + other.abandoned,
            self.machines + other.machines,
            self.false_positive_permille + other.false_positive_permille,
        )

    @property
    def supposed(self) -> float:
        """How many of the machines are supposed to have been people, and so abandoned."""
        return self.false_positive_permille / 1000

    @property
    def percent(self) -> float | None:
        """Abandoned calls in a hundred live answers, the supposed among both, not rounded; None without any."""
        live = self.live_answers + self.supposed
        return 100 * (self.abandoned + self.supposed) / live if live else None

    def is_over(self, limit_percent: float) -> bool:
        """Whether more were abandoned than `limit_percent` allows."""
        return 100 * (self.abandoned + self.supposed) > limit_percent * (self.live_answers + self.supposed)


@attrs.frozen
class AbandonmentWindow:
    """The counts of the last 24 hours and the last 30 days, of a campaign alone and of its whole budget group.

    A campaign without a group is a group of its own. Windows roll by whole hours: the hour in which they begin counts
    whole, so that they are up to an hour longer than their names say.
    """

    day: AbandonmentCounts
    month: AbandonmentCounts
    group_day: AbandonmentCounts
    group_month: AbandonmentCounts
