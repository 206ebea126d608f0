"""The commands for lists and leads, from the shell: what is typed, and what is told."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.house import settings_text
from tests.test_command_line import dialer, write_campaign


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "dialer.toml"
    path.write_text(settings_text(tmp_path, 1))
    done = dialer("campaign", "add", str(write_campaign(tmp_path)), config=path)
    assert done.returncode == 0, done.stderr
    return path


SPRING = ("--campaign", "spring")


def test_a_dry_run_shows_columns_first_leads_and_counts(config: Path, tmp_path: Path) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_text("Phone;Mobile;Name\n2125550100;3055550100;Zoë\n12ab;;x\n2125550100;;again\n", encoding="cp1252")
    told = dialer("leads", "import", str(leads), *SPRING, "--dry-run", config=config)
    assert told.returncode == 0, told.stderr
    assert "cp1252, which is a guess" in told.stdout
    assert "nothing is stored" in told.stdout
    lines = [line.split() for line in told.stdout.splitlines()]
    assert ["Phone", "number", "1", "by", "name"] in lines
    assert ["Mobile", "number", "2", "by", "name"] in lines
    assert ["Name", "field"] in lines
    assert "+12125550100, +13055550100  (fixed_or_mobile; US-NY; America/New_York)" in told.stdout
    assert "1 leads would be added, 1 were there already, 1 refused" in told.stdout
    assert "line 3" in told.stderr
    assert json.loads(dialer("list", "show", *SPRING, "--json", config=config).stdout) == []
    assert not leads.with_name("leads.csv.refused.csv").exists()


def test_leads_from_import_to_export(config: Path, tmp_path: Path) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_text("id,Phone,Name\nk1,2125550100,=HYPERLINK(1)\nk2,2125550101,Ann\n")
    done = dialer(
        *(
            "leads",
            "import",
            str(leads),
            *SPRING,
            "--list",
            "march",
            "--by",
            "key",
            "--column",
            "account=Name",
            "--json",
        ),
        config=config,
    )
    report = json.loads(done.stdout)
    assert (report["list"], report["added"], report["columns"][2]["role"]) == ("march", 2, "account")
    added = dialer("leads", "add", *SPRING, "--number", "3055550100", "--field", "city=Rome", config=config)
    assert added.stdout.startswith("campaign spring: added")
    twice = dialer("leads", "add", *SPRING, "--number", "3055550100", config=config)
    assert (twice.returncode, "the number is there already" in twice.stderr) == (65, True)
    changed = dialer(
        "leads", "change", "2125550101", *SPRING, "--field", "city=Oslo", "--priority", "4", config=config
    )
    assert changed.stdout.startswith("lead 2: changed")
    withdrawn = dialer("leads", "withdraw", "--key", "k1", *SPRING, config=config)
    assert withdrawn.stdout == "lead 1: withdrawn\n"
    exported = dialer("leads", "export", *SPRING, config=config).stdout
    rows = list(csv.DictReader(io.StringIO(exported)))
    assert [(row["number"], row["list"], row["status"], row["account"], row["city"]) for row in rows] == [
        ("+12125550100", "march", "withdrawn", "'=HYPERLINK(1)", ""),
        ("+12125550101", "march", "new", "Ann", "Oslo"),
        ("+13055550100", "added", "new", "", "Rome"),
    ]
    only = dialer("leads", "export", *SPRING, "--json", "--status", "new", "--list", "march", config=config).stdout
    assert [json.loads(line)["external_key"] for line in only.splitlines()] == ["k2"]
    noted = dialer("audit", config=config).stdout
    assert all(action in noted for action in ("import", "add", "change", "withdraw"))


def test_an_export_can_be_imported_again(config: Path, tmp_path: Path) -> None:
    leads, again = tmp_path / "leads.csv", tmp_path / "again.csv"
    leads.write_text(
        "id,phone,mobile,state,status,plz\nk1,2125550100,3055550100,FL,gold,33101\nk2,3105550100,,CA,,90001\n"
    )
    dialer("leads", "import", str(leads), *SPRING, config=config)
    again.write_text(dialer("leads", "export", *SPRING, config=config).stdout)
    dialer("campaign", "add", str(write_campaign(tmp_path, name='"summer"')), config=config)
    done = dialer("leads", "import", str(again), "--campaign", "summer", "--json", config=config)
    report = json.loads(done.stdout)
    assert (report["added"], report["refused_rows"]) == (2, 0)

    def told(campaign: str) -> list[tuple[Any, ...]]:
        lines = dialer("leads", "export", "--campaign", campaign, "--json", config=config).stdout.splitlines()
        facts = ("external_key", "numbers", "region", "zones")
        return [tuple(json.loads(line)[name] for name in facts) for line in lines]

    assert told("summer") == told("spring")
    third = dialer("leads", "export", "--campaign", "summer", config=config).stdout
    names = next(csv.reader(io.StringIO(third)))
    assert len(set(names)) == len(names)
    (tmp_path / "third.csv").write_text(third)
    repeated = dialer("leads", "import", str(tmp_path / "third.csv"), "--campaign", "summer", "--json", config=config)
    assert json.loads(repeated.stdout)["duplicates"] == 2


def test_lists_are_shown_and_set(config: Path, tmp_path: Path) -> None:
    assert "has no lists yet" in dialer("list", "show", *SPRING, config=config).stdout
    leads = tmp_path / "leads.csv"
    leads.write_text("number\n2125550100\n")
    dialer("leads", "import", str(leads), *SPRING, config=config)
    done = dialer(
        *("list", "set", "leads", *SPRING, "--priority", "2", "--weight", "3", "--newest-first", "--inactive"),
        config=config,
    )
    assert done.stdout.startswith("list leads: not active, priority 2, weight 3, newest first")
    shown = dialer("list", "show", *SPRING, config=config).stdout
    assert "newest first" in shown
    assert "1 new" in shown
    wrong = dialer("list", "set", "other", *SPRING, "--weight", "2", config=config)
    assert (wrong.returncode, "it has 'leads'" in wrong.stderr) == (65, True)


def test_a_lead_is_added_and_changed_with_a_word_of_what_stands_against_it(config: Path, tmp_path: Path) -> None:
    asks = write_campaign(tmp_path, name='"asks"', consent='"written"')
    dialer("campaign", "add", str(asks), config=config)
    of = ("--campaign", "asks")
    added = dialer("leads", "add", *of, "--number", "3055550100", config=config).stdout
    assert added.startswith("campaign asks: added, but it is not called as things stand: ")
    assert "consent" in added
    given = ("--consent-at", "2026-11-02", "--consent-evidence", "form 7")
    assert dialer("leads", "change", "3055550100", *of, *given, config=config).stdout.startswith("lead 1: changed (")
    added = dialer("leads", "add", *of, "--number", "3055550101", *given, config=config).stdout
    assert added.startswith("campaign asks: added (")
    dialer("leads", "withdraw", "3055550101", *of, config=config)
    changed = dialer("leads", "change", "3055550101", *of, "--field", "city=Rome", config=config).stdout
    assert changed.startswith("lead 2: changed, but it is withdrawn: it is not called")
