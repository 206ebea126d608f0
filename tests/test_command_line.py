"""Bad input at the command line: one clear message each, the right exit code, and good rows are kept."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.house import ALWAYS, House, house, number, settings_text


def dialer(*arguments: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `dialer ARGUMENTS`; at most half a minute."""
    command = [sys.executable, "-m", "dialer", *arguments, *(("--config", str(config)) if config else ())]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "dialer.toml"
    path.write_text(settings_text(tmp_path, 1))
    return path


def write_campaign(folder: Path, **changes: str) -> Path:
    lines = {"name": '"spring"', "gateways": '["carrier_a"]', "country": '"US"', "windows": ALWAYS, **changes}
    path = folder / "spring.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in lines.items()))
    return path


def test_a_list_from_file_to_export(config: Path, tmp_path: Path) -> None:
    """The road of a manager without a daemon: check, add, import with bad rows, list, export."""
    assert "good" in dialer("check", config=config).stdout
    added = dialer("campaign", "add", str(write_campaign(tmp_path)), config=config)
    assert added.stdout == "campaign spring: added; start it with `dialer campaign start spring`\n"
    rows = [f"{number(index)};Lead {index}" for index in range(1000)]
    rows[10], rows[500], rows[999] = "12ab;Typo", ";Empty", "+1202;Short"
    leads = tmp_path / "leads.csv"
    leads.write_text("\ufeffPhone;Name\n" + "\n".join(rows), encoding="utf-8")  # with a byte-order mark
    imported = dialer("leads", "import", str(leads), "--campaign", "spring", config=config)
    assert imported.returncode == 0
    kept = f"{leads}: 997 leads added, 0 were there already, 3 refused"
    assert imported.stdout == f"{kept}; all of them are in {leads}.refused.csv\n"
    assert [line.split(": ")[1] for line in imported.stderr.splitlines()] == ["line 12", "line 502", "line 1001"]
    assert "12ab" in imported.stderr
    again = json.loads(dialer("leads", "import", str(leads), "--campaign", "spring", "--json", config=config).stdout)
    assert (again["added"], again["duplicates"]) == (0, 997)
    started = dialer("campaign", "start", "spring", config=config)
    assert "no daemon is running" in started.stdout
    (listed,) = json.loads(dialer("campaign", "list", "--json", config=config).stdout)
    assert (listed["status"], listed["leads"]["new"]) == ("running", 997)
    header = dialer("cdr", "--campaign", "spring", "--csv", config=config).stdout
    assert header.startswith("attempt_uuid,")
    (tmp_path / "odd.csv").write_text(f"name,reachable\nAnn,{number(2000)}\n")
    guessed = dialer("leads", "import", str(tmp_path / "odd.csv"), "--campaign", "spring", config=config).stdout
    assert "the numbers were taken from the column 'reachable', as no column has the name of one" in guessed


def refusals(folder: Path) -> dict[str, tuple[list[str], str, int, list[str]]]:
    """By name: arguments, configuration text, exit code, and what the message must say."""
    good = settings_text(folder, 1)
    (folder / "no_gateway.toml").write_text(
        f'name = "x"\ncountry = "US"\ngateways = ["carrier_b"]\nwindows = {ALWAYS}\n'
    )
    (folder / "typo.toml").write_text('name = "x"\ncountry = "US"\ngateways = ["carrier_a"]\nwrap_up_second = 3\n')
    binary = folder / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    return {
        "no such configuration": (["check"], "", 78, ["missing.toml", "cannot be read"]),
        "an unknown key": (["check"], good + "\n[log]\nlevle = 1\n", 78, ["log.levle", "there is no such key"]),
        "a wrong value": (["check"], good.replace("concurrency = 50", "concurrency = 0"), 78, ["gateway.1.conc"]),
        "no TOML": (["check"], "node = ", 78, ["not valid TOML"]),
        "a gateway that is not there": (
            ["campaign", "add", str(folder / "no_gateway.toml")], good, 65, ["carrier_b", "it has carrier_a"]
        ),
        "an unknown setting": (["campaign", "add", str(folder / "typo.toml")], good, 65, ["wrap_up_second"]),
        "a file that is no text": (["campaign", "add", str(binary)], good, 65, ["binary.toml", "cannot be read"]),
        "no such campaign": (["campaign", "start", "nosuch"], good, 65, ["nosuch", "none yet"]),
        "no daemon": (["status"], good, 69, ["no daemon answers", "dialer run"]),
        "both formats": (["cdr", "--campaign", "x", "--csv", "--json"], good, 65, ["choose one"]),
        "both formats of a report": (
            ["report", "abandonment", "--campaign", "x", "--csv", "--json"], good, 65, ["choose one"]
        ),
        "a database that is none": (
            ["campaign", "list"], good.replace("sqlite:///", "mysql:///"), 78, ["database.url", "sqlite:///"]
        ),
    }  # fmt: skip


REFUSALS = (
    "no such configuration", "an unknown key", "a wrong value", "no TOML", "a gateway that is not there",
    "an unknown setting", "a file that is no text", "no such campaign", "no daemon", "both formats",
    "both formats of a report", "a database that is none",
)  # fmt: skip


def test_every_refusal_is_tried(tmp_path: Path) -> None:
    assert set(refusals(tmp_path)) == set(REFUSALS)


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_wrong_is_said_once_and_clearly(name: str, tmp_path: Path) -> None:
    arguments, text, code, words = refusals(tmp_path)[name]
    config = tmp_path / ("dialer.toml" if text else "missing.toml")
    if text:
        config.write_text(text)
    done = dialer(*arguments, config=config)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("dialer: ")
    for word in words:
        assert word in done.stderr


def test_what_a_campaign_plays_is_looked_at_when_it_is_added(config: Path, tmp_path: Path) -> None:
    sorry = tmp_path / "sorry.wav"
    sorry.write_bytes(b"RIFF")
    sounds = {"abandoned_message": f'"{sorry}"', "waiting_sound": f'"{tmp_path}/wait.wav"'}
    added = dialer("campaign", "add", str(write_campaign(tmp_path, **sounds)), config=config)
    assert added.returncode == 0
    assert "waiting_sound" in added.stderr
    assert "wait.wav: No such file or directory; nobody is called until the switch has it" in added.stderr
    assert "abandoned_message" not in added.stderr
    assert hashlib.sha256(b"RIFF").hexdigest() in dialer("audit", config=config).stdout


def test_a_list_without_numbers_is_refused_whole(config: Path, tmp_path: Path) -> None:
    dialer("campaign", "add", str(write_campaign(tmp_path)), config=config)
    leads = tmp_path / "wrong.csv"
    leads.write_text("colour,size\nred,1\n")
    done = dialer("leads", "import", str(leads), "--campaign", "spring", config=config)
    assert done.returncode == 65
    assert str(leads) in done.stderr
    assert "colour" in done.stderr
    assert "number" in done.stderr


async def run_daemon_process(home: House, **changes: Any) -> subprocess.CompletedProcess[str]:
    path = home.folder / "second.toml"
    port = home.settings.switch[0].port
    path.write_text(settings_text(home.folder, port, **changes))
    return await trio.to_thread.run_sync(lambda: dialer("run", config=path))


async def test_a_wrong_password_ends_the_daemon_with_78_and_says_what_to_change(tmp_path: Path) -> None:
    async with house(tmp_path, {"password": "another"}) as home:
        done = await run_daemon_process(home)
        assert done.returncode == 78
        assert "refused the password" in done.stderr
        assert "event_socket.conf.xml" in done.stderr
        assert "Traceback" not in done.stderr


async def test_a_second_daemon_on_the_same_database_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        done = await run_daemon_process(home, node="other")
        assert done.returncode == 78
        assert "dialer.db" in done.stderr
        assert "another daemon" in done.stderr.lower()
