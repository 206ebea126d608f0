"""What `dialer report abandonment` says, and that it is what is on record."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest

from campaigns.abandonment import AbandonmentCounts, hour_of
from campaigns.campaign import Campaign
from campaigns.database import open_database
from campaigns.disposition import Disposition
from dialer.abandonment_report import AbandonmentReport, daily, read_report, report_csv, report_json, report_text
from dialer.errors import InputRefusedError
from tests.campaigns.conftest import CAMPAIGN, fill
from tests.campaigns.test_abandonment_counts import Call, close, dropped, served
from tests.house import settings_text
from tests.test_command_line import dialer

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
BERLIN = "Europe/Berlin"
# Late in the evening of the 23rd in UTC, and the 24th has begun in Berlin.
NOW = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
CALLS = [
    *(served(NOW - 3 * HOUR) for _ in range(30)),
    dropped(NOW - 3 * HOUR),
    dropped(NOW - timedelta(minutes=20)),  # the 24th in Berlin
    *(served(NOW - 2 * DAY) for _ in range(10)),
    served(NOW - 31 * DAY),
    *(dropped(NOW - 40 * DAY) for _ in range(5)),
]


async def report_of(
    folder: Path, *, timezone: str | None = None, calls: list[Call] = CALLS, days: int = 30, **changes: Any
) -> AbandonmentReport:
    async with open_database(f"sqlite:///{folder}/dialer.db", node="test") as database:
        definition = CAMPAIGN.model_copy(update={"timezone": timezone, **changes})
        other = CAMPAIGN.model_copy(update={"name": "other", "budget_group": "x"})
        filled = [await fill(database, len(calls) + 2, campaign=each) for each in (definition, other)]
        await close(database, filled, [*calls, served(NOW - HOUR, 1), dropped(NOW - HOUR, 1)])
        return await database.read(
            lambda session: read_report(session, definition.name, NOW, days=days, with_calls=True)
        )


def rows(report: AbandonmentReport) -> list[tuple[str, int, int, int, int]]:
    return [
        (
            f"{one.day:%m-%d}",
            one.counts.live_answers,
            one.counts.abandoned,
            one.month.live_answers,
            one.month.abandoned,
        )
        for one in report.days
    ]


async def test_days_and_the_thirty_days_before_them(tmp_path: Path) -> None:
    report = await report_of(tmp_path, days=3)
    # The thirty days to the 21st begin on the 23rd of October, with one answer; the five of the 14th are older.
    assert rows(report) == [("11-21", 10, 0, 11, 0), ("11-22", 0, 0, 10, 0), ("11-23", 32, 2, 42, 2)]
    assert report.timezone == "UTC"
    assert report.calls is not None
    assert [call.answered_at for call in report.calls] == [NOW - 3 * HOUR, NOW - timedelta(minutes=20)]


async def test_days_are_the_campaign_s_own(tmp_path: Path) -> None:
    report = await report_of(tmp_path, timezone=BERLIN, days=2)
    assert rows(report) == [("11-23", 31, 1, 41, 1), ("11-24", 1, 1, 42, 2)]
    assert report.timezone == BERLIN
    values = json.loads(report_json(report, show_numbers=False))
    assert [call["day"] for call in values["calls"]] == ["2026-11-23", "2026-11-24"]


async def test_a_long_report_begins_with_the_first_live_answer(tmp_path: Path) -> None:
    report = await report_of(tmp_path, days=300)
    assert [one.day for one in report.days] == [date(2026, 10, 14) + n * DAY for n in range(41)]
    sums = sum((one.counts for one in report.days), AbandonmentCounts())
    assert sums == AbandonmentCounts(48, 7)
    assert [one.month.abandoned for one in report.days[28:31]] == [5, 5, 0]  # they leave the thirty days together
    assert report.calls is not None
    assert len(report.calls) == 7


@pytest.mark.parametrize("name", [BERLIN, "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"])
def test_every_hour_is_in_one_day_also_when_clocks_change(name: str) -> None:
    zone = ZoneInfo(name)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    by_hour: Mapping[datetime, AbandonmentCounts] = {
        start + n * HOUR: AbandonmentCounts(1, 0) for n in range(366 * 24)
    }
    days = daily(by_hour, zone, date(2025, 12, 1), date(2027, 1, 31))
    assert sum(one.counts.live_answers for one in days) == len(by_hour)
    assert {one.counts.live_answers for one in days[2:300]} <= {23, 24, 25}


async def test_a_campaign_nobody_answered(tmp_path: Path) -> None:
    report = await report_of(tmp_path, calls=[])
    assert (list(report.days), report.calls) == ([], [])
    text = report_text(report, show_numbers=False)
    assert "nobody has answered yet" in text
    assert "no abandoned calls" in text
    assert json.loads(report_json(report, show_numbers=False))["windows"]["day"]["percent"] is None


async def test_a_campaign_that_is_not_there(tmp_path: Path) -> None:
    await report_of(tmp_path)
    async with open_database(f"sqlite:///{tmp_path}/dialer.db", node=None) as database:
        with pytest.raises(InputRefusedError, match=r"no campaign 'summer'; there are: other, spring"):
            await database.read(lambda session: read_report(session, "summer", NOW, days=1, with_calls=False))


TEXT = """\
campaign spring, days of UTC

day         live answers  abandoned  percent  30 days  limit
2026-11-21  10            0          0.00 %   0.00 %   5 %
2026-11-22  0             0          -        0.00 %   5 %
2026-11-23  32            2          6.25 %   4.76 %   5 %    over: day

now                live answers  abandoned  percent
24 hours           32            2          6.25 %
30 days            42            2          4.76 %
24 hours, group x  34            3          8.82 %
30 days, group x   44            3          6.82 %
"""


async def test_what_people_read(tmp_path: Path) -> None:
    report = await report_of(tmp_path, days=3, abandon_limit_percent=5.0, budget_group="x")
    text, _, calls = report_text(report, show_numbers=False).partition("\nabandoned call")
    assert text == TEXT
    assert report.calls is not None
    heading, *lines = calls.splitlines()
    assert heading.split() == ["number", "answered", "(UTC)", "ended", "(UTC)", "waited", "disposition"]
    for line, call in zip(lines, report.calls, strict=True):
        assert line.split()[:2] == [call.attempt_uuid, "+121******" + call.number[-2:]]
        assert line.endswith("2500 ms  abandoned")
    shown = report_text(report, show_numbers=True)
    assert all(call.number in shown and call.number not in text + calls for call in report.calls)


async def test_machines_are_shown_where_there_are_any(tmp_path: Path) -> None:
    machine = Call(0, Disposition.MACHINE, NOW, 75)
    report = await report_of(tmp_path, calls=[served(NOW), machine, machine], days=1)
    text = report_text(report, show_numbers=False)
    # Two machines that are people with a chance of .075 each: .15 of 1.15 who answered.
    assert text.splitlines()[2:4] == [
        "day         live answers  abandoned  machines  supposed people  percent  30 days  limit",
        "2026-11-23  1             0          2         0.1              13.04 %  13.04 %  3 %    over: day, 30 days",
    ]
    windows = json.loads(report_json(report, show_numbers=False))["windows"]
    assert windows["day"] == {
        "live_answers": 1,
        "abandoned": 0,
        "machines": 2,
        "supposed_abandoned": 0.15,
        "percent": 13.0435,
    }


async def test_what_spreadsheets_read(tmp_path: Path) -> None:
    report = await report_of(tmp_path, days=3)
    (call, _) = csv.DictReader(report_csv(report, show_numbers=False).splitlines())
    assert call["number"].startswith("'+121******")  # no formula
    assert call["day"] == "2026-11-23"
    days = report_csv(attrs.evolve(report, calls=None), show_numbers=False)
    assert days.splitlines() == [
        "day,live_answers,abandoned,machines,supposed_abandoned,percent,percent_30_days,limit_percent",
        "2026-11-21,10,0,0,0.0,0.0,0.0,3.0",
        "2026-11-22,0,0,0,0.0,,0.0,3.0",
        "2026-11-23,32,2,0,0.0,6.25,4.7619,3.0",
    ]


async def test_the_command(tmp_path: Path) -> None:
    """On a database beside which a daemon could run, and with the clock as it is."""
    config = tmp_path / "dialer.toml"
    config.write_text(settings_text(tmp_path, 1))
    (database_file,) = [line.split('"')[1] for line in config.read_text().splitlines() if "sqlite:///" in line]
    now = datetime.now(UTC)
    async with open_database(database_file, node="test", exclusive=True) as database:
        campaign = Campaign(name="spring", gateways=("carrier_a",), country="US")
        filled = await fill(database, 10, campaign=campaign)
        await close(database, [filled], [served(hour_of(now)), served(hour_of(now)), dropped(hour_of(now))])
        arguments = ("report", "abandonment", "--campaign", "spring")

        value = json.loads(dialer(*arguments, "--json", config=config).stdout)
        assert "calls" not in value
        assert (
            value["days"]
            == [
                {
                    "day": f"{hour_of(now):%Y-%m-%d}",
                    "live_answers": 3,
                    "abandoned": 1,
                    "machines": 0,
                    "supposed_abandoned": 0.0,
                    "percent": 33.3333,
                    "percent_30_days": 33.3333,
                    "limit_percent": 3.0,
                }
            ]
            or now.date() != datetime.now(UTC).date()
        )  # it was midnight meanwhile
        assert value["windows"]["group_day"] == {
            "live_answers": 3,
            "abandoned": 1,
            "machines": 0,
            "supposed_abandoned": 0.0,
            "percent": 33.3333,
        }

        exported = dialer(*arguments, "--csv", "--calls", "--show-numbers", config=config).stdout
        (call,) = csv.DictReader(exported.splitlines())
        assert (call["number"][:11], call["wait_ms"], call["disposition"]) == ("+1212000000", "2500", "abandoned")
        shown = dialer(*arguments, config=config)
        assert "33.33 %" in shown.stdout
        assert shown.returncode == 0

    refused = dialer(*arguments[:-1], "nosuch", config=config)
    assert refused.returncode == 65
    assert refused.stderr == "dialer: there is no campaign 'nosuch'; there are: spring\n"
