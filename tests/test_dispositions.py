"""Agents say what became of their conversations: at the door, and by keys on their phones in wrap-up."""

from __future__ import annotations

import csv
import io
import json
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import trio

from campaigns.campaign import CampaignStatus
from campaigns.tables import CallOutcomeRow
from dialer.agents.agent import AgentState
from dialer.agents.roster import Roster
from dialer.errors import InputRefusedError, UnavailableError
from tests.house import House, house, number, settings_text
from tests.patience import eventually
from tests.test_command_line import dialer

WORDS = """[
    { name = "no_sale" },
    { name = "sale", title = "Sold", key = "1" },
    { name = "later", then = "recycle", delay_seconds = 3600.0, key = "2" },
    { name = "call_back", then = "callback", key = "3" },
    { name = "never", then = "do_not_call", key = "9" },
]""".replace("\n", "")
SPOKEN = {"dispositions": WORDS, "default_disposition": '"no_sale"', "wrap_up_seconds": "30.0"}


async def talked(home: House, *agents: str, **changes: str) -> None:
    """Each of `agents` has talked to one person and is in wrap-up."""
    await home.campaign(**{**SPOKEN, **changes})
    await home.leads([number(index) for index in range(len(agents))])
    await home.ready(*agents)
    await home.set_status(CampaignStatus.RUNNING)
    await home.closed(len(agents))
    if "wrap_up_seconds" not in changes:
        for extension in agents:
            await home.agent_is(extension, AgentState.WRAP_UP)


async def said(home: House) -> dict[str, tuple[str, str]]:
    """What was said of each agent's conversations, and how."""
    rows = await home.rows(CallOutcomeRow)
    return {row.agent: (row.name, row.set_by) for row in rows}


async def is_said(home: House, expected: dict[str, tuple[str, str]]) -> None:
    async def condition() -> bool:
        return await said(home) == expected

    await eventually(condition)


def dispose(home: House, extension: str, name: str, **how: Any) -> Any:
    return home.daemon.desk.verbs()["agent_dispose"](extension=extension, name=name, **how)


async def press(home: House, extension: str, key: str) -> None:
    assert home.switch.press((await home.agent(extension)).leg, key)


async def command(home: House, *arguments: str) -> CompletedProcess[str]:
    config = home.folder / "dialer.toml"
    config.write_text(settings_text(home.folder, home.settings.switch[0].port))
    return await trio.to_thread.run_sync(partial(dialer, *arguments, config=config))


async def test_a_missing_word_gets_the_default_and_status_and_records_show_all(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await talked(home, "1000", "1001")
        assert await said(home) == {"1000": ("no_sale", "default"), "1001": ("no_sale", "default")}
        assert "is Sold" in await dispose(home, "1001", "sale", note="two of them")
        status = await home.daemon.desk.status()
        assert status["campaigns"][0]["said_24h"] == {"no_sale": 1, "sale": 1}
        assert {one["extension"]: one["last_said"] for one in status["agents"]} == {"1000": "no_sale", "1001": "sale"}
        records = [
            json.loads(line)
            for line in (await command(home, "cdr", "--campaign", "test", "--json")).stdout.splitlines()
        ]
        found = {one["agent"]: (one["outcome"], one["outcome_set_by"], one["outcome_note"]) for one in records}
        assert found == {"1000": ("no_sale", "default", None), "1001": ("sale", "agent", "two of them")}
        text = (await command(home, "cdr", "--campaign", "test", "--csv")).stdout
        header, *rows = csv.reader(io.StringIO(text))
        assert {row[header.index("outcome")] for row in rows} == {"no_sale", "sale"}
        shown = [dict(zip(header, row, strict=True)) for row in rows]
        for name in ("attempt_uuid", "number", "gateway", "agent", "hung_up_by", "disposition", "lead_id"):
            assert [one[name].removeprefix("'") for one in shown] == [str(one[name]) for one in records], name
        assert list(records[0]) == header
        assert "  sale\n" in (await command(home, "cdr", "--campaign", "test")).stdout


async def test_at_the_command_line(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await talked(home, "1000")
        words = ("agent", "dispose", "1000", "call_back", "--in-minutes", "90", "--for-anyone")
        told = (await command(home, *words)).stdout.strip()
        assert "to be called back 20" in told
        assert told.endswith("by anybody")
        assert await home.lead_counts() == {"waiting": 1}
        refused = await command(home, "agent", "dispose", "1000", "sold")
        assert refused.returncode == 65
        assert (
            "'sold' is no disposition of the campaign test; there are no_sale, sale (Sold, key 1)" in refused.stderr
        )


async def test_what_is_said_during_the_conversation_is_about_that_one(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.dial([number(0, 8)], **SPOKEN)
        await home.ready("1000")
        await home.agent_is("1000", AgentState.ON_CALL)
        await dispose(home, "1000", "later")
        await home.daemon.desk.agent_hangup("1000")
        await home.closed(1)
        assert await said(home) == {"1000": ("later", "agent")}
        assert await home.lead_counts() == {"waiting": 1}


async def test_until_the_next_conversation_begins_the_last_one_is_meant(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await talked(home, "1000", wrap_up_seconds="0.0")
        await home.agent_is("1000", AgentState.IDLE)
        assert f"{number(0)} is Sold" in await dispose(home, "1000", "sale")
        await home.leads([number(1, 8)])
        await home.agent_is("1000", AgentState.ON_CALL)
        assert f"{number(1, 8)} is later" in await dispose(home, "1000", "later")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"name": "sold"}, "is no disposition"),
        ({"name": ""}, "are texts"),
        ({"name": 5}, "are texts"),
        ({"name": "sale", "for_anyone": "yes"}, "true or false"),
        ({"name": "call_back", "in_minutes": "5"}, "in_minutes is a number of minutes"),
        ({"name": "call_back", "in_minutes": float("nan")}, "number of minutes"),
        ({"name": "call_back", "in_minutes": True}, "number of minutes"),
    ],
)
async def test_what_is_no_answer_is_refused_at_the_door(
    tmp_path: Path, arguments: dict[str, Any], reason: str
) -> None:
    async with house(tmp_path) as home, home.living():
        await talked(home, "1000")
        with pytest.raises(InputRefusedError, match=reason):
            await home.daemon.desk.verbs()["agent_dispose"](extension="1000", **arguments)
        assert await said(home) == {"1000": ("no_sale", "default")}


async def test_who_has_not_talked_has_nothing_to_say(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign(**SPOKEN)
        await home.ready("1000")
        with pytest.raises(InputRefusedError, match="1000 has had no conversation of which anything could be said"):
            await dispose(home, "1000", "sale")


async def test_keys_on_the_phone_in_wrap_up(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await talked(home, "1000", "1001", "1002")
        await press(home, "1000", "2")
        await press(home, "1001", "7")  # which means nothing
        await press(home, "1002", "9")
        await is_said(home, {"1000": ("later", "key"), "1001": ("no_sale", "default"), "1002": ("never", "key")})
        assert await home.lead_counts() == {"waiting": 1, "done": 1, "dead": 1}
        (entry,) = await home.suppressions()
        assert (entry.source, entry.added_by) == ("told an agent", "agent 1002")
        await press(home, "1000", "1")  # thought again
        await is_said(home, {"1000": ("sale", "key"), "1001": ("no_sale", "default"), "1002": ("never", "key")})


async def test_a_day_of_keys_is_obeyed_to_the_last(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await talked(home, "1000")
        for _ in range(40):
            await press(home, "1000", "7")
        await press(home, "1000", "1")
        await is_said(home, {"1000": ("sale", "key")})


async def test_keys_during_the_conversation_are_meant_for_somebody_else(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.dial([number(0, 8)], **SPOKEN)
        await home.ready("1000")
        await home.agent_is("1000", AgentState.ON_CALL)
        await press(home, "1000", "2")
        await home.daemon.desk.agent_hangup("1000")
        await home.closed(1)
        assert await said(home) == {"1000": ("no_sale", "default")}


async def test_a_key_is_obeyed_once_redis_and_the_database_are_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dialer.wrap_up.ASK_AGAIN_SECONDS", 0.1)
    async with house(tmp_path) as home, home.living():
        await talked(home, "1000")

        async def away(*_args: object) -> Any:
            raise UnavailableError("away")

        with monkeypatch.context() as patch:
            patch.setattr(Roster, "agent", away)
            patch.setattr(home.daemon.database, "write", away)
            assert home.switch.press(next(iter(home.switch.channels)), "1")
            await trio.sleep(0.25)
            patch.undo()
            patch.setattr(home.daemon.database, "write", away)

            async def waits_for_the_database() -> bool:
                return home.daemon.ledger.unwritten == 1

            await eventually(waits_for_the_database)
        await is_said(home, {"1000": ("sale", "key")})


@pytest.mark.parametrize("forgets", [False, True])
async def test_the_next_life_of_the_daemon_knows_the_last_conversation(tmp_path: Path, forgets: bool) -> None:
    async with house(tmp_path) as home:
        async with home.cut_short():
            await talked(home, "1000")
        async with home.living():
            if forgets:
                await home.daemon.roster.change("1000", last_call="")
            assert "is Sold" in await dispose(home, "1000", "sale")
            assert await said(home) == {"1000": ("sale", "agent")}
