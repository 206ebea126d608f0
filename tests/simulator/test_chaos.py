"""Everything at once, at random: whatever is asked of it, the switch keeps its own laws.

The simulator raises when a channel goes a way that no channel of a real switch goes, so reaching the end is half of
the test. The other half: every leg lives one life, and nothing is left over.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
import trio
from trio.testing import MockClock

from dialer.simulator import Faults, Gateway, Phones, Scenario, SimulatedSwitch

from .wiretap import Client, connected, simulated

STEPS = 400
SOUND = "tone_stream://%(300,200,440)"
TARGETS = (
    "&park()",
    f"&endless_playback({SOUND})",
    r"'loop_playback:+2 tone_stream://%(300\,200\,440),hangup:NO_USER_RESPONSE' inline",
    "'sleep:700,playback:x.wav' inline",
)
VARIABLES = (
    "ignore_early_media=true",
    "ignore_early_media=false",
    "park_after_bridge=true",
    "park_after_bridge=true,park_timeout=3",
    "hangup_after_bridge=true",
    "execute_on_answer='sched_hangup +2 NO_USER_RESPONSE'",
)
CARRIER = Gateway.model_validate(
    {
        "mix": {
            "answer": 6,
            "busy": 1,
            "not_found": 1,
            "no_answer": 1,
            "early_media_answer": 2,
            "early_media_failure": 1,
            "answer_hang_up": 2,
        },
        "ring_delay": {"kind": "uniform", "low": 0, "high": 0.1},
        "answer_delay": {"kind": "uniform", "low": 0, "high": 0.3},
        "gives_up_after": 2,
        "talk": {"kind": "exponential", "mean": 1},
        "patience": {"kind": "exponential", "mean": 3},
    }
)
PHONES = (
    Phones.model_validate({"extensions": "1000-1019", "answer_delay": {"kind": "uniform", "low": 0, "high": 0.2}}),
    Phones.model_validate({"extensions": "1020-1029", "ends_the_talk": 1, "leaves_after": 2}),
    Phones(extensions="1030-1034", behaviour="rejects"),
    Phones(extensions="1035-1039", behaviour="never_answers"),
)
OFTEN = Faults(
    bridge_at_answer_loses_customer=0.3,
    bridge_at_answer_loses_agent=0.2,
    bridge_never_comes=0.05,
    bridge_kills_both=0.05,
    bridge_loses_agent=0.05,
    death_mid_bridge_loses_agent=0.3,
    answer_after_hangup=0.1,
)


class Chaos:
    """A client that does anything to any channel."""

    def __init__(self, switch: SimulatedSwitch, client: Client, rng: random.Random) -> None:
        self.switch = switch
        self.client = client
        self.rng = rng
        self.count = 0

    async def step(self) -> None:
        uuids = list(self.switch.channels)
        if len(uuids) < 3 or self.rng.random() < 0.35:
            await self.client.send("bgapi " + self._originate())
            return
        one, other = self.rng.choice(uuids), self.rng.choice(uuids)
        command = self.rng.choice(
            (
                f"uuid_bridge {one} {other}",
                f"uuid_bridge {one} {other}",
                f"uuid_bridge {one} {other}",
                f"uuid_kill {one}",
                f"uuid_park {one}",
                f"uuid_transfer {one} 'playback:y.wav,park:' inline",
                f"uuid_transfer {one} -both 'park:' inline",
                f"uuid_transfer {one} -bleg 'sleep:100,hangup:' inline",
                f"uuid_record {one} start /tmp/{one}",
                f"uuid_record {one} stop /tmp/{one}",
                f"sched_hangup +1 {one}",
                f"sched_del {one}",
                f"uuid_setvar {one} transfer_history",
                f"uuid_recv_dtmf {one} 12",
                f"uuid_dump {one} json",
                "show channels as json",
                "show calls as json",
            )
        )
        if self.rng.random() < 0.1:
            self.switch.hang_up(one)
        elif self.rng.random() < 0.05:
            self.switch.agent_calls_out("1000", str(self.rng.randrange(1000)))
        else:
            await self.client.send(f"bgapi {command}")

    def _originate(self) -> str:
        self.count += 1
        uuid = f"{self.count:08}-0000-4000-8000-000000000000"
        phone = f"user/{self.rng.randrange(1000, 1040)}"
        endpoint = self.rng.choice((phone, f"sofia/gateway/carrier_a/{self.rng.randrange(10000)}"))
        variables = self.rng.choice(VARIABLES)
        return f"originate {{origination_uuid={uuid},{variables}}}{endpoint} {self.rng.choice(TARGETS)}"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("faults", [Faults(), OFTEN], ids=["few", "many"])
async def test_chaos(faults: Faults, seed: int, autojump_clock: MockClock) -> None:
    scenario = Scenario(
        realistic_headers=False, phones=PHONES, gateways={"carrier_a": CARRIER}, faults=faults, sound_seconds=0.5
    )
    rng = random.Random(seed)
    async with simulated(scenario, seed=seed) as switch, connected(switch) as client:
        chaos = Chaos(switch, client, rng)
        for _ in range(STEPS):
            await chaos.step()
            await trio.sleep(rng.choice((0.0, 0.001, 0.01, 0.02, 0.05, 0.2)))
            _check_partners(switch)
        await client.send("bgapi hupall")
        await trio.sleep(5)
        assert not switch.channels
        _check_lives(client)
        _check_counts(switch, client)


def _check_partners(switch: SimulatedSwitch) -> None:
    for channel in switch.channels.values():
        if channel.partner is not None:
            assert channel.partner.partner is channel
            assert channel.first_of_bridge is not channel.partner.first_of_bridge
            assert channel.bridging is None
        if channel.bridging is not None:
            assert not channel.bridging.over
            assert channel.bridging.other(channel).bridging is channel.bridging


def _check_lives(client: Client) -> None:
    lives: dict[str, list[str]] = defaultdict(list)
    jobs: Counter[str] = Counter()
    for event in client.events():
        if "Unique-ID" in event:
            lives[event["Unique-ID"]].append(event["Event-Name"])
        elif event["Event-Name"] == "BACKGROUND_JOB":
            jobs[event["Job-UUID"]] += 1
    assert set(jobs.values()) == {1}
    assert len(jobs) == sum(frame.outer("Job-UUID") != "" for frame in client.frames if not frame.is_event)
    for uuid, names in lives.items():
        assert names[0] == "CHANNEL_CREATE", uuid
        assert names[-2:] == ["CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY"], uuid
        count = Counter(names)
        for once in ("CHANNEL_CREATE", "CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY"):
            assert count[once] == 1, (uuid, once)
        assert count["CHANNEL_BRIDGE"] == count["CHANNEL_UNBRIDGE"], uuid
        assert count["CHANNEL_PARK"] == count["CHANNEL_UNPARK"], uuid
        assert count["PLAYBACK_START"] == count["PLAYBACK_STOP"], uuid
        assert count["RECORD_START"] == count["RECORD_STOP"], uuid


def _check_counts(switch: SimulatedSwitch, client: Client) -> None:
    statistics = switch.statistics()
    assert statistics.bridges <= len(client.events("CHANNEL_BRIDGE"))
    assert statistics.live == 0
    assert sum(statistics.causes.values()) == statistics.originated
    assert statistics.abandoned + statistics.bridged == statistics.answered
