"""What `dialer report abandonment` tells: live answers and abandoned calls by day, and the calls behind them.

A day is one of the campaign's time zone, or of UTC where it has none. Calls are counted by whole hours of UTC, so in
a zone that is half an hour off, the hour around midnight belongs to the day it begins in, and its calls do too.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final

import attrs
from rich.console import Group, RenderableType
from sqlmodel import Session

from campaigns.abandonment import AbandonmentCounts, AbandonmentWindow, hour_of
from campaigns.abandonment_counts import abandoned_calls, hours, window
from campaigns.campaign import zone_info
from campaigns.store import CdrRow, definition_of, get_campaign
from dialer.log import mask
from dialer.text_table import as_text, safe_cell, text_table

MONTH_DAYS: Final = 30
DAY_COLUMNS: Final = (
    "day",
    "live_answers",
    "abandoned",
    "machines",
    "supposed_abandoned",  # machines that are supposed to have been people
    "percent",
    "percent_30_days",
    "limit_percent",
)
CALL_COLUMNS: Final = ("day", "attempt_uuid", "number", "answered_at", "ended_at", "wait_ms", "disposition")


@attrs.frozen
class DayCounts:
    """One day, and the thirty days of which it is the last."""

    day: date
    counts: AbandonmentCounts
    month: AbandonmentCounts


@attrs.frozen
class AbandonmentReport:
    """The days from the first live answer on, oldest first, and what the campaign's limit is held against now."""

    campaign: str
    timezone: str
    limit_percent: float
    budget_group: str | None
    window: AbandonmentWindow
    days: Sequence[DayCounts]
    calls: Sequence[CdrRow] | None  # None: not asked for


def read_report(session: Session, campaign: str, now: datetime, *, days: int, with_calls: bool) -> AbandonmentReport:
    """The report of the `days` days that end with today. Raises InputRefusedError when there is no such campaign."""
    row = get_campaign(session, campaign)
    assert row.id is not None
    definition = definition_of(row)
    zone = zone_info(definition.timezone) if definition.timezone else UTC
    today = now.astimezone(zone).date()
    first = today - timedelta(days=days - 1)
    found = hours(session, row.id, _start_of(first - timedelta(days=MONTH_DAYS - 1), zone))
    calls: list[CdrRow] | None = None
    if with_calls:
        calls = [
            cdr
            for cdr in abandoned_calls(session, row.id, _start_of(first, zone))
            if first <= _day_of(cdr, zone) <= today
        ]
    return AbandonmentReport(
        campaign=campaign,
        timezone=definition.timezone or "UTC",
        limit_percent=definition.abandon_limit_percent,
        budget_group=definition.budget_group,
        window=window(session, row.id, now),
        days=daily(found, zone, first, today),
        calls=calls,
    )


def daily(
    by_hour: Mapping[datetime, AbandonmentCounts], zone: tzinfo, first: date, last: date
) -> Sequence[DayCounts]:
    """One row for each day from `first` to `last`, but for those before the first live answer.

    `by_hour` should reach back twenty-nine days before `first`.
    """
    by_day: dict[date, AbandonmentCounts] = defaultdict(AbandonmentCounts)
    for hour, counts in by_hour.items():
        by_day[hour.astimezone(zone).date()] += counts
    begun = min(by_day, default=last + timedelta(days=1))
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [
        DayCounts(
            day,
            by_day.get(day, AbandonmentCounts()),
            sum(
                (by_day.get(day - timedelta(days=n), AbandonmentCounts()) for n in range(MONTH_DAYS)),
                AbandonmentCounts(),
            ),
        )
        for day in days
        if day >= begun
    ]


def _start_of(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone)


def _day_of(cdr: CdrRow, zone: tzinfo) -> date:
    assert cdr.answered_at is not None
    return hour_of(cdr.answered_at).astimezone(zone).date()


def _zone_of(report: AbandonmentReport) -> tzinfo:
    return UTC if report.timezone == "UTC" else zone_info(report.timezone)


def _rounded(percent: float | None) -> float | None:
    return None if percent is None else round(percent, 4)


def _days(report: AbandonmentReport) -> Iterator[dict[str, Any]]:
    for one in report.days:
        values = (
            one.day.isoformat(),
            one.counts.live_answers,
            one.counts.abandoned,
            one.counts.machines,
            one.counts.supposed,
            _rounded(one.counts.percent),
            _rounded(one.month.percent),
            report.limit_percent,
        )
        yield dict(zip(DAY_COLUMNS, values, strict=True))


def _calls(report: AbandonmentReport, *, show_numbers: bool) -> Iterator[dict[str, Any]]:
    zone = _zone_of(report)
    for cdr in report.calls or ():
        assert cdr.answered_at is not None
        values = (
            _day_of(cdr, zone).isoformat(),
            cdr.attempt_uuid,
            cdr.number if show_numbers else mask(cdr.number),
            cdr.answered_at.isoformat(),
            cdr.ended_at.isoformat(),
            cdr.wait_ms,
            cdr.disposition.value,
        )
        yield dict(zip(CALL_COLUMNS, values, strict=True))


def report_json(report: AbandonmentReport, *, show_numbers: bool) -> str:
    """All of it as one JSON object."""

    def counted(counts: AbandonmentCounts) -> dict[str, Any]:
        return {
            "live_answers": counts.live_answers,
            "abandoned": counts.abandoned,
            "machines": counts.machines,
            "supposed_abandoned": counts.supposed,
            "percent": _rounded(counts.percent),
        }

    windows = {name: counted(getattr(report.window, name)) for name in attrs.fields_dict(AbandonmentWindow)}
    value: dict[str, Any] = {
        "campaign": report.campaign,
        "timezone": report.timezone,
        "limit_percent": report.limit_percent,
        "budget_group": report.budget_group,
        "windows": windows,
        "days": list(_days(report)),
    }
    if report.calls is not None:
        value["calls"] = list(_calls(report, show_numbers=show_numbers))
    return json.dumps(value)


def report_csv(report: AbandonmentReport, *, show_numbers: bool) -> str:
    """The days, or the calls if they were asked for, under a header line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, DAY_COLUMNS if report.calls is None else CALL_COLUMNS)
    writer.writeheader()
    rows = _days(report) if report.calls is None else _calls(report, show_numbers=show_numbers)
    writer.writerows({name: safe_cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def report_text(report: AbandonmentReport, *, show_numbers: bool) -> str:
    """All of it as people read it."""
    parts: list[RenderableType] = [f"campaign {report.campaign}, days of {report.timezone}", ""]
    machines = any(counts.machines for counts in (report.window.group_month, *(one.counts for one in report.days)))
    counted = ("live answers", "abandoned", *(("machines", "supposed people") if machines else ()))

    def cells(counts: AbandonmentCounts) -> tuple[str, ...]:
        supposed = (str(counts.machines), f"{counts.supposed:.1f}") if machines else ()
        return str(counts.live_answers), str(counts.abandoned), *supposed

    days = text_table("day", *counted, "percent", "30 days", "limit", "")
    for one in report.days:
        days.add_row(
            one.day.isoformat(),
            *cells(one.counts),
            _percent(one.counts),
            _percent(one.month),
            f"{report.limit_percent:g} %",
            _over(one, report.limit_percent),
        )
    parts += [days if report.days else "nobody has answered yet", ""]
    now = text_table("now", *counted, "percent")
    for name, counts in _windows(report):
        now.add_row(name, *cells(counts), _percent(counts))
    parts.append(now)
    if report.calls is not None:
        calls = text_table("abandoned call", "number", "answered (UTC)", "ended (UTC)", "waited", "disposition")
        for call in report.calls:
            assert call.answered_at is not None
            calls.add_row(
                call.attempt_uuid,
                call.number if show_numbers else mask(call.number),
                f"{call.answered_at:%Y-%m-%d %H:%M:%S}",
                f"{call.ended_at:%Y-%m-%d %H:%M:%S}",
                "" if call.wait_ms is None else f"{call.wait_ms} ms",
                call.disposition.value,
            )
        parts += ["", calls if report.calls else "no abandoned calls in these days"]
    return as_text(Group(*parts))


def _windows(report: AbandonmentReport) -> Iterator[tuple[str, AbandonmentCounts]]:
    yield "24 hours", report.window.day
    yield "30 days", report.window.month
    if report.budget_group is not None:
        yield f"24 hours, group {report.budget_group}", report.window.group_day
        yield f"30 days, group {report.budget_group}", report.window.group_month


def _percent(counts: AbandonmentCounts) -> str:
    return "-" if counts.percent is None else f"{counts.percent:.2f} %"


def _over(one: DayCounts, limit_percent: float) -> str:
    over = [name for name, counts in (("day", one.counts), ("30 days", one.month)) if counts.is_over(limit_percent)]
    return f"over: {', '.join(over)}" if over else ""
