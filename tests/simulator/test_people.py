"""Who is called: distributions, mixes, scripts, and that a seed gives the same people again."""

from __future__ import annotations

import math
import random
import statistics as maths
from collections import Counter
from pathlib import Path

import attrs
import pytest
import trio
from pydantic import TypeAdapter, ValidationError
from trio.testing import MockClock

from dialer.errors import ConfigurationError
from dialer.simulator import Faults, Gateway, Outcome, Phones, Scenario, Script, Statistics, load_scenario
from dialer.simulator.distribution import Distribution
from dialer.simulator.scenario import expand_extensions

from .wiretap import connected, simulated, uuids

DISTRIBUTION: TypeAdapter[Distribution] = TypeAdapter(Distribution)


@pytest.mark.parametrize(
    ("text", "median", "mean"),
    [
        (3, 3.0, 3.0),
        ({"kind": "uniform", "low": 2, "high": 4}, 3.0, 3.0),
        ({"kind": "exponential", "mean": 10}, 10 * math.log(2), 10.0),
        ({"kind": "lognormal", "median": 9, "sigma": 0.5}, 9.0, 9 * math.exp(0.125)),
    ],
)
def test_distributions(text: object, median: float, mean: float) -> None:
    distribution = DISTRIBUTION.validate_python(text)
    rng, again = random.Random(7), random.Random(7)
    drawn = [distribution.draw(rng) for _ in range(20_000)]
    assert drawn[:100] == [distribution.draw(again) for _ in range(100)]
    assert maths.median(drawn) == pytest.approx(median, rel=0.03)
    assert maths.fmean(drawn) == pytest.approx(mean, rel=0.03)
    assert min(drawn) >= 0


@pytest.mark.parametrize(
    "text", [-1, {"kind": "nothing"}, {"kind": "fixed"}, {"kind": "fixed", "value": 1, "x": 1}, "1"]
)
def test_nonsense_is_no_distribution(text: object) -> None:
    with pytest.raises(ValidationError):
        DISTRIBUTION.validate_python(text)


def test_extensions() -> None:
    assert expand_extensions("1000-1002, 007") == ("1000", "1001", "1002", "007")
    for wrong in ("", "a", "5-3", "1-", "1-99999999"):
        with pytest.raises(ValueError, match=r"extension|backwards"):
            expand_extensions(wrong)


TOML = """
password = "secret"
heartbeat_seconds = 5

[[phones]]
extensions = "1000-1049"
answer_delay = {kind = "uniform", low = 0.2, high = 1.5}
ends_the_talk = 0.1

[gateways.carrier_a]
mix = {answer = 0.3, no_answer = 0.5, busy = 0.2}
answer_delay = {kind = "lognormal", median = 9, sigma = 0.5}
talk = {kind = "exponential", mean = 120}
patience = inf

[[gateways.carrier_a.scripts]]
suffix = "4"
outcome = "busy"

[faults]
bridge_never_comes = 0.001
events_missing = {CHANNEL_HANGUP = 0.01}
"""


def test_a_scenario_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(TOML)
    scenario = load_scenario(path)
    assert scenario.gateways["carrier_a"].scripts == (Script(suffix="4", outcome=Outcome.BUSY),)
    assert scenario.faults.events_missing == {"CHANNEL_HANGUP": 0.01}
    assert scenario.domain == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nosuch = 1", "nosuch"),
        ("password = ", "not TOML"),
        ("[gateways.a]\ntalk = -1", "gateways.a.talk"),
        ("[gateways.a]\nmix = {answer = 0}", "weights"),
        ('[[gateways.a.scripts]]\noutcome = "busy"', "exactly one"),
        ('[[phones]]\nextensions = "x"', "extension"),
        ("[faults]\nevent_late = 2", "faults.event_late"),
    ],
)
def test_a_wrong_scenario_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=complaint):
        load_scenario(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_scenario(tmp_path / "nosuch.toml")


@pytest.mark.parametrize(
    ("script", "number", "matches"),
    [
        (Script(number="123", outcome=Outcome.BUSY), "123", True),
        (Script(number="123", outcome=Outcome.BUSY), "1234", False),
        (Script(prefix="12", outcome=Outcome.BUSY), "123", True),
        (Script(suffix="23", outcome=Outcome.BUSY), "123", True),
        (Script(suffix="12", outcome=Outcome.BUSY), "123", False),
        (Script(regex="^1.3$", outcome=Outcome.BUSY), "123", True),
        (Script(regex="^1$", outcome=Outcome.BUSY), "123", False),
    ],
)
def test_scripts(script: Script, number: str, matches: bool) -> None:
    assert script.matches(number) is matches


async def test_a_script_presses_keys_while_the_message_plays(autojump_clock: MockClock) -> None:
    carrier = Gateway.model_validate(
        {"scripts": [{"suffix": "9", "outcome": "answer", "keys": "19", "key_delay": 0.4}], "answer_delay": 1.0}
    )
    scenario = Scenario(gateways={"carrier_a": carrier}, missing_sounds=frozenset({"/no.wav"}))
    async with simulated(scenario) as switch, connected(switch) as client:
        program = "'set:park_timeout=2:NORMAL_CLEARING,playback:/a.wav,playback:/no.wav,park' inline"
        await client.send(f"bgapi originate sofia/gateway/carrier_a/129 {program}")
        await client.wait_event("CHANNEL_HANGUP")
        told = ("PLAYBACK_START", "DTMF", "CHANNEL_PARK", "CHANNEL_HANGUP")
        seen = [
            (event["Event-Name"], event.get("DTMF-Digit") or event.get("Hangup-Cause"))
            for event in client.events()
            if event["Event-Name"] in told
        ]
    assert seen == [
        ("PLAYBACK_START", None),
        ("DTMF", "1"),
        ("DTMF", "9"),
        ("CHANNEL_PARK", None),
        ("CHANNEL_HANGUP", "NORMAL_CLEARING"),
    ]


async def day(seed: int, calls: int = 400) -> Statistics:
    """A few hundred calls through a mixed carrier, all ended."""
    carrier = Gateway.model_validate(
        {
            "mix": {"answer": 4, "busy": 1, "no_answer": 4, "early_media_answer": 1},
            "answer_delay": {"kind": "lognormal", "median": 8, "sigma": 0.5},
            "patience": {"kind": "exponential", "mean": 10},
        }
    )
    scenario = Scenario(realistic_headers=False, gateways={"carrier_a": carrier})
    async with simulated(scenario, seed=seed) as switch, connected(switch) as client:
        for _, uuid in zip(range(calls), uuids(), strict=False):
            variables = f"{{origination_uuid={uuid},ignore_early_media=true,originate_timeout=30}}"
            await client.send(f"bgapi originate {variables}sofia/gateway/carrier_a/{uuid[-6:]} &park()")
            await trio.sleep(0.1)
        await trio.sleep(300)
        assert not switch.channels
        return switch.statistics()


async def test_a_seed_gives_the_same_day(autojump_clock: MockClock) -> None:
    one, again, other = await day(1), await day(1), await day(2)
    assert one == attrs.evolve(again, peak_channels=one.peak_channels)  # milliseconds may differ, people do not
    assert one.causes != other.causes
    assert one.originated == 400
    assert sum(one.causes.values()) == 400
    assert one.answered == one.abandoned  # nobody was bridged
    assert 0.4 < one.answered / 400 < 0.6
    assert 0.06 < one.causes["USER_BUSY"] / 400 < 0.14


async def test_people_are_the_same_in_any_order(autojump_clock: MockClock) -> None:
    """A number does what it does, whoever was called before it, and does something else the second time."""
    answered = []
    for order in (range(200), range(199, -1, -1)):
        carrier = Gateway(mix={Outcome.ANSWER: 1, Outcome.BUSY: 1}, patience=1)
        async with (
            simulated(Scenario(realistic_headers=False, gateways={"carrier_a": carrier})) as switch,
            connected(switch) as client,
        ):
            for number in [*order, *order]:
                await client.send(f"bgapi originate sofia/gateway/carrier_a/{number} &park()")
                await trio.sleep(0.05)
            await trio.sleep(10)
            numbers = [event["Caller-Destination-Number"] for event in client.events("CHANNEL_ANSWER")]
            answered.append(Counter(numbers))
    assert answered[0] == answered[1]
    assert {answered[0][str(number)] for number in range(200)} == {0, 1, 2}


async def test_talk_patience_and_early_leavers(autojump_clock: MockClock) -> None:
    carrier = Gateway(talk=30, patience=10, scripts=(Script(suffix="8", outcome=Outcome.ANSWER_HANG_UP),))
    scenario = Scenario(realistic_headers=False, gateways={"carrier_a": carrier})
    async with simulated(scenario) as switch, connected(switch) as client:
        lived = {}
        for number, bridged in (("1", False), ("2", True), ("8", False)):
            uuid = f"c0000000-0000-4000-8000-00000000000{number}"
            agent = f"a0000000-0000-4000-8000-00000000000{number}"
            await client.job(f"originate {{origination_uuid={uuid}}}sofia/gateway/carrier_a/{number} &park()")
            if bridged:
                await client.job(f"originate {{origination_uuid={agent}}}user/1000 &park()")
                await client.job(f"uuid_bridge {uuid} {agent}")
            await client.wait_event("CHANNEL_DESTROY", uuid)
            begin = client.events("CHANNEL_BRIDGE" if bridged else "CHANNEL_ANSWER", uuid)[0]
            end = client.events("CHANNEL_HANGUP", uuid)[0]
            lived[number] = int(end["Event-Date-Timestamp"]) - int(begin["Event-Date-Timestamp"])
        assert lived == {"1": 10_000_000, "2": 30_000_000, "8": 700_000}
        statistics = switch.statistics()
        assert (statistics.answered, statistics.bridged, statistics.abandoned) == (3, 1, 2)
        assert len(statistics.waits) == 1


async def test_phones_that_reject_leave_or_end_the_talk(autojump_clock: MockClock) -> None:
    phones = (
        Phones(extensions="1000", behaviour="rejects"),
        Phones(extensions="1001", leaves_after=60),
        Phones(extensions="1002", ends_the_talk=1.0),
    )
    scenario = Scenario(realistic_headers=False, phones=phones, gateways={"carrier_a": Gateway(talk=30)})
    async with simulated(scenario) as switch, connected(switch) as client:
        assert await client.job("originate user/1000 &park()") == "-ERR CALL_REJECTED\n"
        leaver = (await client.job("originate user/1001 &park()")).split()[1]
        await client.wait_event("CHANNEL_DESTROY", leaver)
        agent = (await client.job("originate {park_after_bridge=true}user/1002 &park()")).split()[1]
        customer = (await client.job("originate {park_after_bridge=true}sofia/gateway/carrier_a/1 &park()")).split()[
            1
        ]
        await client.job(f"uuid_bridge {customer} {agent}")
        await client.wait_event("CHANNEL_DESTROY", agent)
        assert set(switch.channels) == {customer}


async def test_faults_of_events(autojump_clock: MockClock) -> None:
    faults = Faults(events_missing={"CHANNEL_PROGRESS": 1.0})
    async with (
        simulated(Scenario(realistic_headers=False, faults=faults)) as switch,
        connected(switch) as client,
    ):
        switch.faults.lose_event("CHANNEL_HANGUP")
        switch.faults.force("answer_after_hangup")
        uuid = (await client.job("originate user/1000 &park()")).split()[1]
        await client.job(f"uuid_kill {uuid}")
        await trio.sleep(1)
        names = client.names(uuid)
        assert not {"CHANNEL_PROGRESS", "CHANNEL_HANGUP"} & set(names)
        assert Counter(names)["CHANNEL_ANSWER"] == 2
        switch.faults.force("event_late")
        switch.register("1000")
        switch.register("1001")
        await trio.sleep(1)
        assert [event["from-user"] for event in client.events("CUSTOM")] == ["1001", "1000"]
        assert dict(switch.statistics().faults) == {
            "missing CHANNEL_PROGRESS": 1,
            "missing CHANNEL_HANGUP": 1,
            "answer_after_hangup": 1,
            "event_late": 1,
        }
        with pytest.raises(ValueError, match="no fault"):
            switch.faults.force("nosuch")


async def test_gateways_go_and_come(autojump_clock: MockClock) -> None:
    async with simulated() as switch, connected(switch) as client:
        switch.gateway_state("carrier_a", up=False)
        assert (await client.wait_event("CUSTOM"))["Event-Subclass"] == "sofia::gateway_state"
        assert await client.job("originate sofia/gateway/carrier_a/1 &park()") == "-ERR GATEWAY_DOWN\n"
        assert "<status>DOWN</status>" in await client.ask("api sofia xmlstatus gateway carrier_a")
        switch.gateway_state("carrier_a", up=True)
        assert (await client.job("originate sofia/gateway/carrier_a/1 &park()")).startswith("+OK")


async def test_a_thousand_calls(autojump_clock: MockClock) -> None:
    """Fifty nailed-up agents, a thousand answered calls, each bridged to whoever is free; the counts must agree."""
    scenario = Scenario(
        realistic_headers=False,
        phones=(Phones(extensions="1000-1049"),),
        gateways={"carrier_a": Gateway.model_validate({"talk": {"kind": "exponential", "mean": 8}})},
    )
    async with simulated(scenario) as switch, connected(switch) as client:
        agents = [f"a0000000-0000-4000-8000-{number:012}" for number in range(50)]
        for number, agent in enumerate(agents):
            variables = f"{{origination_uuid={agent},park_after_bridge=true}}"
            await client.send(f"bgapi originate {variables}user/{1000 + number} &park()")
        await trio.sleep(1)
        free, names = list(agents), uuids()
        waiting: list[str] = []
        seen = 0
        placed = 0
        while placed < 1000 or len(switch.channels) > 50:
            if placed < 1000:
                placed += 1
                command = (
                    f"originate {{origination_uuid={next(names)},ignore_early_media=true}}sofia/gateway/carrier_a/1"
                )
                await client.send(f"bgapi {command} &park()")
            await trio.sleep(0.2)
            for frame in client.frames[seen:]:
                event = frame.event if frame.is_event else {}
                if event.get("Event-Name") == "CHANNEL_PARK":
                    (free if event["Unique-ID"] in agents else waiting).append(event["Unique-ID"])
            seen = len(client.frames)
            free = list(dict.fromkeys(free))
            while free and waiting:
                await client.send(f"bgapi uuid_bridge {waiting.pop(0)} {free.pop(0)}")
        statistics = switch.statistics()
        assert statistics.originated == statistics.answered == statistics.bridged == statistics.bridges == 1000
        assert statistics.abandoned == statistics.orphans == statistics.agents_lost == 0
        assert statistics.bridges_to_non_idle == 0
        assert len(client.events("CHANNEL_BRIDGE")) == 1000
        assert len(statistics.waits) == 1000
        assert max(statistics.waits) < 1
