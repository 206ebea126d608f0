"""Preview: an agent sees the lead first; whoever answers then finds exactly that agent."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from campaigns.campaign import CampaignStatus
from dialer.agents.agent import Agent, AgentState, Phones, Wants
from dialer.agents.roster import Claim
from dialer.calls.held import why_gone
from dialer.errors import InputRefusedError
from tests.house import House, house, number, settings_text
from tests.patience import eventually
from tests.test_command_line import dialer

PREVIEW = {"mode": '"preview"', "preview_seconds": "60.0"}


async def offered(home: House, *extensions: str) -> dict[str, str]:
    """Waits until these agents, and no others, look at a lead; the numbers by agent."""
    found: dict[str, str] = {}

    async def condition() -> bool:
        offers = (await home.daemon.desk.status())["offers"]
        found.clear()
        found.update({offer["agent"]: offer["number"] for offer in offers})
        return set(found) == set(extensions)

    await eventually(condition)
    return found


async def begin(home: House, numbers: list[str], *agents: str, **changes: str) -> None:
    await home.campaign(**{**PREVIEW, **changes})
    await home.leads(numbers)
    await home.ready(*agents)
    await home.set_status(CampaignStatus.RUNNING)


def ask(home: House, verb: str, **arguments: Any) -> Any:
    return home.daemon.desk.verbs()[verb](**arguments)


@pytest.mark.parametrize("phones", ["nailed_up", "on_demand"])
async def test_an_accepted_lead_is_called_for_the_agent_who_saw_it(tmp_path: Path, phones: str) -> None:
    agents = ("1000", "1001", "1002")
    async with house(tmp_path) as home, home.living():
        await begin(home, [number(index) for index in range(3)], *agents, phones=f'"{phones}"')
        offers = await offered(home, *agents)
        assert len(set(offers.values())) == 3
        assert home.switch.statistics().originated == 0
        for extension in agents:
            await home.agent_is(extension, AgentState.RESERVED)
            assert (
                await ask(home, "agent_accept", extension=extension)
                == f"{offers[extension]} is called for {extension}"
            )
        cdrs = await home.closed(3)
        assert {(cdr.agent, cdr.number, cdr.disposition.value) for cdr in cdrs} == {
            (extension, called, "bridged") for extension, called in offers.items()
        }
        assert await home.lead_counts() == {"done": 3}
        await home.all_put_back(*agents)


async def test_a_skipped_lead_rests_and_is_on_record_without_a_call(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await begin(home, [number(0), number(1)], "1000")
        first = (await offered(home, "1000"))["1000"]
        with pytest.raises(InputRefusedError, match="one line of at most 200"):
            await ask(home, "agent_skip", extension="1000", reason="a\nb")
        await ask(home, "agent_skip", extension="1000", reason="called me yesterday")
        (cdr,) = await home.closed(1)
        assert (cdr.number, cdr.disposition.value, cdr.agent, cdr.note) == (
            first,
            "skipped",
            "1000",
            "called me yesterday",
        )
        assert (cdr.ringing_at, cdr.answered_at, cdr.bridged_at, cdr.hangup_cause) == (None, None, None, "")
        second = (await offered(home, "1000"))["1000"]  # and not the same again
        assert second != first
        await ask(home, "agent_skip", extension="1000")
        await home.closed(2)
        assert await home.lead_counts() == {"waiting": 2}
        await home.all_put_back("1000")
        assert home.switch.statistics().originated == 0
        with pytest.raises(InputRefusedError, match="no lead is offered to '1000'"):
            await ask(home, "agent_accept", extension="1000")


@pytest.mark.parametrize(("decides", "outcome"), [("dial", "bridged"), ("skip", "skipped")])
async def test_the_countdown_decides_when_nobody_does(tmp_path: Path, decides: str, outcome: str) -> None:
    async with house(tmp_path) as home, home.living():
        await begin(home, [number(0)], "1000", preview_seconds="1.0", preview_timeout=f'"{decides}"')
        (cdr,) = await home.closed(1)
        assert (cdr.disposition.value, cdr.agent) == (outcome, "1000")
        assert cdr.note == ("undecided after 1 s" if decides == "skip" else None)
        assert (await home.agent("1000")).wants is (Wants.PAUSE if decides == "skip" else Wants.READY)
        if decides == "dial":
            await home.all_put_back("1000")


@pytest.mark.parametrize("outcome", [1, 5, 7])
async def test_the_agent_is_held_while_it_rings_and_free_when_nobody_talks(tmp_path: Path, outcome: int) -> None:
    async with house(tmp_path) as home, home.living():
        await begin(home, [number(0, outcome)], "1000", ring_seconds="5")
        await offered(home, "1000")
        await ask(home, "agent_accept", extension="1000")
        if outcome == 5:
            await home.agent_is("1000", AgentState.RESERVED)
            calls = (await home.daemon.desk.status())["campaigns"][0]["calls"]
            assert calls["dialing"] + calls["ringing"] == 1
        (cdr,) = await home.closed(1)
        assert cdr.disposition.value in {1: {"busy"}, 5: {"no_answer"}, 7: {"hung_up", "bridged"}}[outcome]
        await home.all_put_back("1000")


async def test_no_lead_is_offered_twice_at_once_and_other_agents_stay_idle(tmp_path: Path) -> None:
    agents = ("1000", "1001", "1002")
    async with house(tmp_path) as home, home.living():
        await begin(home, [number(0)], *agents)
        (extension,) = await offered_to_one(home)
        for other in set(agents) - {extension}:
            await home.agent_is(other, AgentState.IDLE)
        await home.set_status(CampaignStatus.STOPPED)
        await home.all_put_back(*agents)
        assert await home.lead_counts() == {"new": 1}


async def offered_to_one(home: House) -> list[str]:
    found: list[str] = []

    async def condition() -> bool:
        found[:] = [offer["agent"] for offer in (await home.daemon.desk.status())["offers"]]
        return len(found) == 1

    await eventually(condition)
    return found


@pytest.mark.parametrize(
    "what", ["paused", "stopped", "stop_all", "pause", "logout", "unregisters", "phone", "own call"]
)
async def test_an_offer_is_withdrawn_and_the_lead_is_as_before(tmp_path: Path, what: str) -> None:
    async with house(tmp_path) as home, home.living():
        await begin(home, [number(0)], "1000")
        await offered(home, "1000")
        match what:
            case "paused":
                await home.set_status(CampaignStatus.PAUSED)
            case "stopped":
                await home.set_status(CampaignStatus.STOPPED)
            case "stop_all":
                await home.daemon.desk.stop_all()
            case "pause":
                await home.daemon.desk.agent_pause("1000")
            case "logout":
                await home.daemon.desk.agent_logout("1000")
            case "unregisters":
                home.switch.unregister("1000")
            case "phone":
                await home.daemon.desk.agent_pause("1000")  # or it is offered again when the phone is back
                home.switch.hang_up((await home.agent("1000")).leg)
            case _:
                home.switch.agent_calls_out("1000", "5551238")
        await offered(home)
        await home.nothing_in_flight()

        async def as_before() -> bool:
            return await home.lead_counts() == {"new": 1}

        await eventually(as_before)
        assert await home.cdrs() == []
        assert home.switch.statistics().originated == 0
        assert (await home.agent("1000")).token == ""
        if what in ("paused", "stopped", "stop_all"):
            await home.all_put_back("1000")


async def test_a_call_whose_agent_goes_while_it_rings_is_taken_back(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await begin(home, [number(0, 5)], "1000", ring_seconds="30")
        await offered(home, "1000")
        await ask(home, "agent_accept", extension="1000")

        async def ringing() -> bool:
            return home.switch.statistics().originated == 1

        await eventually(ringing)
        home.switch.hang_up((await home.agent("1000")).leg)
        (cdr,) = await home.closed(1)
        assert (cdr.disposition.value, cdr.hangup_cause) == ("cancelled", "ORIGINATOR_CANCEL")
        await home.all_put_back("1000")


async def test_a_pause_while_it_rings_leaves_the_call_to_its_agent(tmp_path: Path) -> None:
    slow = {"gateways": {"carrier_a": {"answer_delay": 2.5}}}  # longer than the agent is left unlooked at
    async with house(tmp_path, slow) as home, home.living():
        await begin(home, [number(0)], "1000")
        await offered(home, "1000")
        await ask(home, "agent_accept", extension="1000")
        await home.daemon.desk.agent_pause("1000")
        (cdr,) = await home.closed(1)
        assert (cdr.disposition.value, cdr.agent) == ("bridged", "1000")
        await home.agent_is("1000", AgentState.PAUSED)


async def test_an_offer_of_a_dead_daemon_goes_back(tmp_path: Path) -> None:
    async with house(tmp_path, calls="agent_lease_seconds = 5") as home:
        async with home.cut_short():
            await begin(home, [number(0)], "1000")
            await offered(home, "1000")
        async with home.living():
            await home.set_status(CampaignStatus.RUNNING)
            await offered(home, "1000")
            assert await home.cdrs() == []
            await ask(home, "agent_accept", extension="1000")
            (cdr,) = await home.closed(1)
            assert (cdr.disposition.value, cdr.attempt_no) == ("bridged", 1)
            await home.all_put_back("1000")


async def dialer_of(home: House, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `dialer ARGUMENTS` beside the daemon."""
    path = home.folder / "dialer.toml"
    path.write_text(settings_text(home.folder, home.settings.switch[0].port))
    return await trio.to_thread.run_sync(partial(dialer, *arguments, config=path))


async def test_the_command_line_shows_the_list_s_columns_and_decides(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign(**PREVIEW)
        list_of_one = tmp_path / "list.csv"
        list_of_one.write_text(f"number,name,town\n{number(0)},Zoë,Trier\n")
        await dialer_of(home, "leads", "import", str(list_of_one), "--campaign", "test")
        await home.ready("1000")
        await home.set_status(CampaignStatus.RUNNING)
        await offered(home, "1000")
        shown = (await dialer_of(home, "agent", "offer", "1000")).stdout
        assert number(0) in shown
        assert "name: Zoë" in shown
        assert json.loads((await dialer_of(home, "agent", "offer", "1000", "--json")).stdout)["fields"] == {
            "name": "Zoë",
            "town": "Trier",
        }
        status = (await dialer_of(home, "status")).stdout
        assert "1 offered" in status
        assert "offered to" in status
        skipped = await dialer_of(home, "agent", "skip", "1000", "--reason", "wrong town")
        assert skipped.stdout == f"{number(0)} is skipped\n"
        (cdr,) = await home.closed(1)
        assert cdr.note == "wrong town"
        refused = await dialer_of(home, "agent", "accept", "1000")
        assert (refused.returncode, "no lead is offered to '1000'" in refused.stderr) == (65, True)


CLAIM = Claim("token", "1000", "leg", Phones.NAILED_UP)
THERE = Agent(
    "1000", wants=Wants.READY, switch="fs", leg="leg", leg_switch="fs", token="token", phones=Phones.NAILED_UP
)


@pytest.mark.parametrize(
    ("changes", "offered_why", "ringing_why"),
    [
        ({}, "", ""),
        ({"wants": Wants.PAUSE}, "paused", ""),
        ({"wants": Wants.LOGOUT}, "logged out", "logged out"),
        ({"switch": ""}, "the phone is not registered", "the phone is not registered"),
        ({"switch": "fs2"}, "the phone is not registered", "the phone is not registered"),
        ({"other_calls": 1}, "on another call", "on another call"),
        ({"leg": ""}, "the phone hung up", "the phone hung up"),
        ({"leg": "another"}, "the phone hung up", "the phone hung up"),
        ({"token": "another"}, "the claim was lost", "the claim was lost"),
        ({"token": ""}, "the claim was lost", "the claim was lost"),
    ],
)
def test_why_an_agent_is_gone(changes: dict[str, Any], offered_why: str, ringing_why: str) -> None:
    agent = attrs.evolve(THERE, **changes)
    assert why_gone(agent, CLAIM, "fs", offered=True) == offered_why
    assert why_gone(agent, CLAIM, "fs", offered=False) == ringing_why
