"""What a campaign and a profile of the law can both say: hours, caps, and which rules of a profile are lifted."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from campaigns.setting_types import MIDNIGHT, Clock, Day, Region, Settings, Text


class CallingHours(Settings):
    """Hours in which people may be called, on the callee's own wall clock. Midnight is not crossed: give two."""

    days: tuple[Day, ...] = Field(min_length=1)
    """Weekdays: mon, tue, wed, thu, fri, sat, sun."""
    start: Clock
    """First minute in which a call may be placed, hh:mm."""
    end: Clock
    """First minute in which it may not, hh:mm; 24:00 is the end of the day."""
    regions: tuple[Region, ...] = ()
    """Where the window holds: US-FL, or US for all of it that has no windows of its own. Empty: wherever no window
    names the place."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end != MIDNIGHT and self.end <= self.start:
            raise ValueError(
                f"end should be later than start, {self.start:%H:%M}; past midnight needs a second window"
            )
        return self


Counted = Annotated[int, Field(ge=1, le=1000)]


class Cap(Settings):
    """So many calls in so much time, and no more."""

    of: Literal["number", "lead", "account", "gateway"] = "number"
    """What they are counted for: the number, the lead with all its numbers, the account with all its leads, or the
    number through one gateway, after which another has its turn."""
    counts: Literal["attempts", "answers", "conversations"] = "attempts"
    """What is counted: placed calls, those somebody or something answered, or those an agent spoke on."""
    most: Counted
    """So many, and no more, 1 to 1000."""
    hours: Annotated[int, Field(ge=1, le=24 * 366)] | None = None
    """In so many hours, counted back from the moment of a call. Give this, days or calendar_days."""
    days: Annotated[int, Field(ge=1, le=366)] | None = None
    """In so many times 24 hours, counted back from the moment of a call."""
    calendar_days: Annotated[int, Field(ge=1, le=366)] | None = None
    """In so many days of the callee's calendar, today's being the last."""
    across: Literal["campaign", "seller", "all"] = "campaign"
    """Whose calls count: this campaign's, those of all campaigns of its seller, or everybody's."""

    @model_validator(mode="after")
    def _one_span(self) -> Self:
        if sum(span is not None for span in (self.hours, self.days, self.calendar_days)) != 1:
            raise ValueError("a cap should have exactly one of hours, days and calendar_days")
        return self

    @property
    def window(self) -> timedelta | None:
        """How far back it counts; None when it goes by the calendar."""
        if self.hours is not None:
            return timedelta(hours=self.hours)
        return timedelta(days=self.days) if self.days is not None else None

    def __str__(self) -> str:
        span = (
            f"{self.hours} hours"
            if self.hours
            else f"{self.days} days"
            if self.days
            else f"{self.calendar_days} calendar days"
        )
        return f"at most {self.most} {self.counts} per {self.of} in {span}"


class Exempt(Settings):
    """Rules of the profile that do not hold for this campaign, each with the reason why; it is kept and shown."""

    calling_hours: Text = ""
    """Why the profile's calling hours do not apply; "" where they do."""
    closed_day: Text = ""
    """Why its closed days and public holidays do not."""
    cap: Text = ""
    """Why its caps do not."""
    consent: Text = ""
    """Why it needs no consent, or has it in another way."""
    lockout: Text = ""
    """Why people may be called again sooner after an abandoned call, or after a machine."""
    refused: Text = ""
    """Why people may be called again sooner after they have refused."""
    abandon_limit: Text = ""
    """Why more may be abandoned."""
    connect_seconds: Text = ""
    """Why people may wait longer for an agent."""
    ring_seconds: Text = ""
    """Why phones may ring shorter."""
    caller_id: Text = ""
    """Why no caller id of its own is needed."""
    opt_out: Text = ""
    """Why people need no key with which they end such calls."""
