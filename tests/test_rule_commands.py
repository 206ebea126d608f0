"""Do-not-call lists, why a lead is called or not, what a list has before it, and who changed what: from the shell."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dialer import rule_commands
from dialer.__main__ import app
from dialer.errors import InputRefusedError
from tests.house import ALWAYS, settings_text
from tests.test_command_line import write_campaign

NOON = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)  # a Monday, noon in New York
OFFICE = '[{ days = ["mon", "tue", "wed", "thu", "fri"], start = "09:00", end = "17:00" }]'
LEADS = """number,id,timezone
2125550100,k1,
2125550101,k2,
2125550102,k3,
3105550100,k4,
"""

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process at noon in New York; its text, or with --json the value in it."""
    config = tmp_path / "dialer.toml"
    config.write_text(settings_text(tmp_path, 1, gateway='blind_areas = ["+1310"]'))
    monkeypatch.setattr(rule_commands, "right_now", lambda: NOON)
    monkeypatch.setenv("DIALER_CONFIG", str(config))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Any:
        result: Result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout) if "--json" in arguments else result.stdout

    return run


@pytest.fixture
def spring(run: Run, tmp_path: Path) -> Run:
    """With a campaign and four leads, one of them where its trunk does not call."""
    run("campaign", "add", str(write_campaign(tmp_path, windows=OFFICE, seller='"acme"')))
    leads = tmp_path / "leads.csv"
    leads.write_text(LEADS)
    run("leads", "import", str(leads), "--campaign", "spring")
    run("campaign", "start", "spring")
    return run


def test_numbers_and_beginnings_on_lists_of_everybody_a_seller_and_a_campaign(spring: Run) -> None:
    assert spring("dnc", "add", "+12125550100", "+1900*") == "2 added for all campaigns, 0 were there already\n"
    assert "1 added for seller acme" in spring("dnc", "add", "212-555-0101", "--country", "US", "--seller", "acme")
    assert "0 added" in spring("dnc", "add", "+12125550100", "--days", "2", "--reason", "asked")
    spring("dnc", "add", "+12125550100", "--campaign", "spring")
    found = spring("dnc", "check", "+12125550100", "--json")
    assert {(one["scope"], one["scope_name"]) for one in found} == {("system", ""), ("campaign", "spring")}
    assert [one["expires_at"] for one in found] == [None, None]  # nobody is forbidden for less long than before
    assert "+1900*  for all campaigns" in spring("dnc", "check", "+19005550100")
    assert spring("dnc", "check", "+12125559999") == "+12125559999 is on no do-not-call list\n"
    assert "1 removed" in spring("dnc", "remove", "+1900*")
    assert spring("dnc", "check", "+19005550100") == "+19005550100 is on no do-not-call list\n"
    counted = spring("dnc", "list").splitlines()
    assert [line.split() for line in counted[1:]] == [
        ["campaign", "spring", "1"],
        ["seller", "acme", "1"],
        ["all", "campaigns", "1"],
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("add", "2125550100"), "say with --country"),
        (("add", "+1212555010x"), "not a phone number"),
        (("add", "+1*x"), "not a phone number"),
        (("add", "+12125550100", "--seller", "a", "--campaign", "b"), "exclude each other"),
        (("add", "+12125550100", "--campaign", "autumn"), "there is no campaign 'autumn'"),
        (("remove", "+12125550199"), "none of them is on the list"),
        (("import", "missing.csv"), "cannot be read"),
    ],
)
def test_what_is_refused_is_told_with_what_would_be_right(spring: Run, arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputRefusedError, match=told):
        spring("dnc", *arguments)


def test_a_file_of_numbers_is_loaded_and_what_is_none_is_told_by_line(spring: Run, tmp_path: Path) -> None:
    file = tmp_path / "register.csv"
    file.write_text("phone,since\n2125550100,2020\n\nnonsense1,\n+1900*,\n2125550100,again\n", encoding="utf-8-sig")
    result = CliRunner().invoke(app, ["dnc", "import", str(file), "--country", "US", "--source", "register"])
    assert result.exit_code == 0
    assert f"{file}: 2 added for all campaigns, 1 were there already, 1 refused" in result.stdout
    assert f"{file}: line 4: 'nonsense1' is not a phone number" in result.output
    assert {one["source"] for one in spring("dnc", "check", "+12125550100", "--json")} == {"register"}
    exported = spring("dnc", "list", "--csv").splitlines()
    assert exported[0].startswith("id,pattern,is_prefix,scope")
    assert len(exported) == 3


def test_a_file_without_a_number_is_no_success(spring: Run, tmp_path: Path) -> None:
    file = tmp_path / "register.csv"
    file.write_text("Nummer;Name\n2125550100;Ann\n2125550101;Ben\n")
    with pytest.raises(InputRefusedError, match="none of the 2 cells in the column 'Nummer;Name' is a number"):
        spring("dnc", "import", str(file), "--country", "US")


@pytest.mark.parametrize(
    ("text", "where", "listed", "not_listed"),
    [
        ("id,phone\n4155550101,+12125550171\n", "the column 'phone'", ["+12125550171"], ["+14155550101"]),
        ("Kunde 1;,Tel.,Mobil\n4155550101,,212-555-0171\n", "'Tel.' and the column 'Mobil'", ["+12125550171"], []),
        ("phone 1,phone 2\n2125550171,2125550172\n", "'phone 1' and", ["+12125550171", "+12125550172"], []),
        ("asked to be left alone\n2125550171\n", "the column 'asked", ["+12125550171"], []),
        ("2125550171,mobile\n2125550172,landline\n", "the first column", ["+12125550171", "+12125550172"], []),
        ("\n+1900*,4155550101\n", "the first column", ["+19005550100"], ["+14155550101"]),
    ],
)
def test_the_numbers_of_a_file_are_where_its_heading_says(
    spring: Run, tmp_path: Path, text: str, where: str, listed: list[str], not_listed: list[str]
) -> None:
    file = tmp_path / "register.csv"
    file.write_text(text)
    told = spring("dnc", "import", str(file), "--country", "US")
    assert where in told
    assert ", 0 refused" in told
    for number in (*listed, *not_listed):
        assert bool(spring("dnc", "check", number, "--json")) == (number in listed), number


def test_a_heading_that_names_no_column_of_numbers_is_refused(spring: Run, tmp_path: Path) -> None:
    file = tmp_path / "register.csv"
    file.write_text("id,Kontakt\n4155550101,+12125550171\n")
    with pytest.raises(
        InputRefusedError, match=r"the columns 'id', 'Kontakt', and none .* call it 'number'; nothing"
    ):
        spring("dnc", "import", str(file), "--country", "US")
    assert spring("dnc", "list", "--csv").count("\n") == 1  # the header


def verdicts(found: Any) -> dict[str, bool]:
    (one,) = found
    return {each["rule"]: each["allowed"] for each in one["verdicts"]}


def test_a_lead_that_may_be_called_and_one_that_must_not_be(spring: Run) -> None:
    free = spring("check-lead", "+12125550101", "--json")
    assert free[0]["allowed"]
    assert all(verdicts(free).values())
    assert {"campaign", "list", "status", "calling_hours", "suppressed", "consent", "attempts"} <= set(verdicts(free))
    spring("dnc", "add", "+12125550100", "--source", "register")
    spring("campaign", "pause", "spring")
    forbidden = spring("check-lead", "k1", "--campaign", "spring", "--json")
    assert not forbidden[0]["allowed"]
    assert {rule for rule, allowed in verdicts(forbidden).items() if not allowed} == {"campaign", "suppressed"}
    text = spring("check-lead", "+12125550100")
    assert "the campaign is paused" in text
    assert "on the do-not-call list of everybody (from register)" in text


def test_the_hour_at_which_it_will_be_allowed_is_told_where_the_person_is(
    spring: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_commands, "right_now", lambda: NOON + timedelta(hours=9))
    text = spring("check-lead", "1")
    assert "is not called: outside calling hours in America/New_York, where it is mon 21:00" in text
    assert "until 2026-11-24 14:00 UTC (Tue 09:00 in America/New_York)" in text


def test_trunks_have_their_say(spring: Run) -> None:
    found = spring("check-lead", "+13105550100", "--json")
    assert (found[0]["allowed"], found[0]["rule"]) == (False, "gateway")
    assert "carrier_a must not call +1310" in spring("check-lead", "+13105550100")


def test_nobody_of_that_name(spring: Run) -> None:
    with pytest.raises(InputRefusedError, match="there is no lead of id 99"):
        spring("check-lead", "99")
    with pytest.raises(InputRefusedError, match="no lead of number or key '9999999'; an id is told with --id"):
        spring("check-lead", "9999999")


def test_a_lead_is_found_as_people_dial_it_by_id_or_by_key(spring: Run) -> None:
    for words in (("212-555-0101",), ("(212) 555-0101", "--campaign", "spring"), ("--id", "2"), ("2",)):
        assert [one["lead"]["number"] for one in spring("check-lead", *words, "--json")] == ["+12125550101"], words
    spring("leads", "change", "--id", "2", "--number", "2125550101", "--number", "3055550177", "--campaign", "spring")
    for words in (("305-555-0177",), ("+13055550177", "--campaign", "spring")):
        assert [one["lead"]["id"] for one in spring("check-lead", *words, "--json")] == [2], words


def test_a_lead_is_found_by_a_key_of_digits(spring: Run, tmp_path: Path) -> None:
    more = tmp_path / "more.csv"
    more.write_text("number,id\n2125550105,48213\n2125550106,2\n")
    spring("leads", "import", str(more), "--campaign", "spring")
    assert "+12125550105" in spring("check-lead", "48213", "--campaign", "spring")
    assert "+12125550106" in spring("check-lead", "--key", "2", "--campaign", "spring")


def test_a_dry_run_counts_the_list_by_rule_and_hour(spring: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    spring("dnc", "add", "+12125550100")
    found = spring("campaign", "dry-run", "spring", "--json")
    assert (found["leads"], found["callable_now"], found["never"]) == (4, 2, 2)
    assert found["blocked"] == {"suppressed": 1, "gateway": 1}
    assert found["callable_by_hour"][0] == 2
    monkeypatch.setattr(rule_commands, "right_now", lambda: NOON + timedelta(hours=9))
    night = spring("campaign", "dry-run", "spring", "--json")
    assert (night["callable_now"], night["blocked"]["calling_hours"]) == (0, 2)
    assert night["callable_by_hour"][12] == 2  # at nine in the morning
    text = spring("campaign", "dry-run", "spring")
    assert "campaign spring: 4 leads, 0 may be called now" in text
    assert "Tue 14:00" in text


def test_who_changed_what_and_what_it_was(spring: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ada")
    changed = write_campaign(tmp_path, windows=ALWAYS, seller='"acme"', ring_seconds="20")
    spring("campaign", "add", str(changed))
    spring("dnc", "add", "+12125550100")
    monkeypatch.setattr(rule_commands, "right_now", lambda: datetime.now(UTC))
    rows = spring("audit", "--json", "--days", "3660")
    assert {(row["action"], row["kind"], row["subject"]) for row in rows if row["who"] == "ada"} == {
        ("change", "campaign", "spring"),
        ("add", "suppression", "+12125550100"),
    }
    (change,) = (row for row in rows if row["action"] == "change")
    assert json.loads(change["before"])["ring_seconds"] == 30
    assert json.loads(change["after"])["ring_seconds"] == 20
    assert "name" not in json.loads(change["after"])  # what is as it was is not told
    (start,) = spring("audit", "--kind", "campaign", "--subject", "spring", "--json")[1:2]
    assert (start["action"], json.loads(start["before"])["status"]) == ("start", "stopped")


def test_a_kind_that_there_is_not_is_refused(spring: Run) -> None:
    result = CliRunner().invoke(app, ["audit", "--kind", "banana"])
    assert result.exit_code == 2
    assert "banana" in result.output


def test_what_was_done_to_a_do_not_call_list_is_kept_and_what_was_not_is_not(
    spring: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_commands, "right_now", lambda: datetime.now(UTC))
    spring("dnc", "add", "+12125550100", "--reason", "asked", "--days", "2")
    spring("dnc", "add", "+12125550100", "--days", "1")  # for less long than before: nothing is done
    spring("dnc", "add", "+12125550100", "--reason", "for good")
    spring("dnc", "add", "+12125550100*")
    spring("dnc", "remove", "+12125550100", "--reason", "a slip")
    rows = spring("audit", "--kind", "suppression", "--json", "--days", "3660")
    told = [
        (row["action"], row["subject"], json.loads(row["before"] or "{}"), json.loads(row["after"] or "{}"))
        for row in rows
    ]
    assert [one[:2] for one in told] == [
        ("add", "+12125550100"),
        ("change", "+12125550100"),
        ("add", "+12125550100*"),
        ("remove", "+12125550100"),
    ]
    assert told[0][3]["reason"] == "asked"
    assert told[1][2]["expires_at"] is not None
    assert told[1][3]["expires_at"] is None
    assert told[3][2]["scope"] == "all campaigns"
    assert told[3][3] == {"why": "a slip"}
