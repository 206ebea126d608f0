"""What dies while people talk: the daemon, its line to the switch, Redis, the switch itself, an agent's leg.

Twenty conversations are up each time. What became of them is asked of FreeSWITCH, over a connection the daemon knows
nothing of, and of the records at the end.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from ..conftest import RedisServer
from .cable import laid
from .dialer_process import Dialer
from .event_socket import EventSocket
from .laboratory import Carrier, Laboratory, Outcome, Phones, rows
from .machinery import wait_until
from .test_dialer import only_parked_agents, settled

COUNT = 20
CAMPAIGN = "held"
HANG_UPS = 5  # customers that leave while something is away
# A customer whom nobody takes over is hung up by the switch itself: connect and bridge seconds, and eight.
DEAD_MAN_SECONDS = 12.0
LEASE_SECONDS = 30.0  # calls.agent_lease_seconds, unless configured
BRIDGES = 3000
DROPPED_LEGS = 20  # by their phones, besides those FreeSWITCH loses; so some always are
DROP_EVERY_SECONDS = 5.0
BRIDGING_PHONES = 40


class Talk(NamedTuple):
    """A conversation as FreeSWITCH has it."""

    customer: str  # the uuid of the channel, which is the attempt's
    agent_leg: str
    number: str
    extension: str


def whose(channel: dict[str, Any]) -> tuple[str, str]:
    """The profile a channel is on and who is at its far end: a number by a gateway, or an extension."""
    _, profile, far_end = channel["name"].split("/", 2)  # sofia/external/NUMBER, sofia/internal/EXTENSION@HOST:PORT
    return profile, far_end.partition("@")[0]


async def talks_on(laboratory: Laboratory) -> set[Talk]:
    """Every bridge of a customer with an agent."""
    async with await EventSocket.open(laboratory.esl_port, laboratory.password) as socket:
        channels = rows(await socket.api("show channels as json"))
        calls = rows(await socket.api("show calls as json"))
    far_ends = {channel["uuid"]: whose(channel) for channel in channels}
    found = set()
    for call in calls:
        for customer, leg in ((call["uuid"], call["b_uuid"]), (call["b_uuid"], call["uuid"])):
            match far_ends.get(customer), far_ends.get(leg):
                case ("external", number), ("internal", extension):
                    found.add(Talk(customer, leg, number, extension))
    return found


async def alive(laboratory: Laboratory, uuids: Collection[str]) -> set[str]:
    """Those of the channels that are there, each asked for by name: the lists lag behind."""
    async with await EventSocket.open(laboratory.esl_port, laboratory.password) as socket:
        return {uuid for uuid in uuids if await socket.api(f"uuid_exists {uuid}") == "true"}


async def each_has_one_parked_leg(laboratory: Laboratory, extensions: Sequence[str]) -> bool:
    """There is nothing on the switch but one parked leg of each extension."""
    if not await only_parked_agents(laboratory, len(extensions)):
        return False
    return sorted(whose(channel) for channel in await laboratory.channels()) == [
        ("internal", extension) for extension in sorted(extensions)
    ]


async def stays(condition: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Fails as soon as the condition does not hold at some moment of that time."""
    deadline = trio.current_time() + seconds
    while trio.current_time() < deadline:
        assert await condition()
        await trio.sleep(0.5)


class House:
    """A laboratory with twenty phones and a carrier, and the dialer between them."""

    def __init__(self, laboratory: Laboratory, dialer: Dialer, carrier: Carrier, phones: Phones) -> None:
        self.laboratory = laboratory
        self.dialer = dialer
        self.carrier = carrier
        self.phones = phones
        self._leads = 0

    @classmethod
    async def furnished(cls, laboratory: Laboratory, dialer: Dialer) -> House:
        carrier = await laboratory.carrier(ring=(20, 60))
        phones = await laboratory.phones(COUNT, ring=(50, 150))
        await dialer.campaign(CAMPAIGN, wrap_up_seconds="0.0")
        return cls(laboratory, dialer, carrier, phones)

    async def new_leads(self, count: int) -> None:
        """People who stay on the line until they are told to hang up."""
        numbers = [Outcome.HOLDS.number(index) for index in range(self._leads, self._leads + count)]
        self._leads += count
        await self.dialer.leads(CAMPAIGN, numbers)

    async def open(self) -> set[Talk]:
        """Every agent ready, the campaign started, twenty conversations up."""
        await self.new_leads(COUNT)
        ready = [["agent", "ready", extension, "--campaign", CAMPAIGN] for extension in self.phones.extensions]
        await self.dialer.cli_for_each(*ready)
        await wait_until(lambda: only_parked_agents(self.laboratory, COUNT), 30)
        await self.dialer.cli("campaign", "start", CAMPAIGN)
        return await self.all_talk()

    async def all_talk(self, within_seconds: float = 30) -> set[Talk]:
        """Waits until twenty talk, each agent in one conversation, and nobody else is on the switch."""

        async def is_so() -> bool:
            talks = await talks_on(self.laboratory)
            agents = sorted(talk.extension for talk in talks)
            return agents == self.phones.extensions and len(await self.laboratory.channels()) == 2 * COUNT

        with self.told():
            await wait_until(is_so, within_seconds, every=0.2)
        return await talks_on(self.laboratory)

    async def still_talk(self, talks: Collection[Talk], besides: int = 0) -> bool:
        """These very conversations are on, with no channel more or less; `besides` are parked legs."""
        legs = {uuid for talk in talks for uuid in (talk.customer, talk.agent_leg)}
        return (
            await talks_on(self.laboratory) == set(talks)
            and await alive(self.laboratory, legs) == legs
            and len(await self.laboratory.channels()) == len(legs) + besides
        )

    async def hang_up(self, talks: Collection[Talk]) -> None:
        """The customers do, and the switch has noticed when this returns."""
        for talk in talks:
            await self.carrier.hang_up(talk.customer)

        customers = {talk.customer for talk in talks}

        async def are_gone() -> bool:
            listed = {row["uuid"] for row in await self.laboratory.channels()}
            bridged = {talk.customer for talk in await talks_on(self.laboratory)}
            return not (customers & (listed | bridged) or await alive(self.laboratory, customers))

        await wait_until(are_gone, 10)

    async def all_parked(self, within_seconds: float = 30) -> None:
        """Waits until each agent has one parked leg, and there is nothing else."""
        with self.told():
            await wait_until(
                lambda: each_has_one_parked_leg(self.laboratory, self.phones.extensions), within_seconds, every=0.2
            )

    async def recorded(self, count: int, within_seconds: float = 30) -> None:
        """Waits until there are so many records; the command reads the database, whatever is away."""

        async def is_so() -> bool:
            return len(await self.dialer.cdrs(CAMPAIGN)) >= count

        with self.told():
            await wait_until(is_so, within_seconds, every=0.5)

    async def switch_is_away(self) -> bool:
        return not (await self.dialer.status())["switches"][0]["ready"]

    async def switch_is_ready(self) -> bool:
        return not await self.switch_is_away()

    def told(self) -> _Told:
        return _Told(self.dialer)

    async def check_records(
        self, talks: Collection[Talk], *, still_on: Collection[Talk] = ()
    ) -> dict[str, dict[str, Any]]:
        """One record for each conversation, with the agent FreeSWITCH had in it; gives them by attempt."""
        cdrs = await self.dialer.cdrs(CAMPAIGN)
        found = sorted(
            (
                cdr["attempt_uuid"],
                cdr["disposition"],
                cdr["agent"],
                cdr["agent_leg"],
                cdr["number"],
                cdr["attempt_no"],
            )
            for cdr in cdrs
        )
        expected = sorted(
            (talk.customer, "bridged", talk.extension, talk.agent_leg, f"+{talk.number}", 1) for talk in talks
        )
        assert found == expected, self.dialer.log_tail()
        assert sorted(self.dialer.open_attempts()) == sorted(talk.customer for talk in still_on)
        return {cdr["attempt_uuid"]: cdr for cdr in cdrs}


class _Told:
    """Lets a wait that was too long end with the daemon's last words."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, trio.TooSlowError):
            error.add_note(self._dialer.log_tail())


def endings(cdrs: dict[str, dict[str, Any]], talks: Collection[Talk]) -> Counter[tuple[str, str | None]]:
    """How the conversations ended, by cause and by who hung up."""
    records = [cdrs[talk.customer] for talk in talks]
    return Counter((cdr["hangup_cause"], cdr["hung_up_by"]) for cdr in records)


async def test_conversations_outlive_a_killed_daemon(laboratory: Laboratory, tmp_path: Path) -> None:
    """kill -9 and a new start: adopted, not dialed again, and recorded whoever hangs up."""
    dialer = Dialer(laboratory, tmp_path)
    house = await House.furnished(laboratory, dialer)
    async with dialer.running() as process:
        talks = sorted(await house.open())
        process.kill()
        await process.wait()
    assert await house.still_talk(talks)
    by_agent, by_customer = talks[: COUNT // 2], talks[COUNT // 2 :]
    async with dialer.running():
        adopted = [line for line in dialer.log_lines() if line["event"] == "conversation_adopted"]
        assert {line["attempt"] for line in adopted} == {talk.customer for talk in talks}
        await stays(lambda: house.still_talk(talks), DEAD_MAN_SECONDS)
        await dialer.cli_for_each(*(["agent", "hangup", talk.extension] for talk in by_agent))
        await house.hang_up(by_customer)
        await settled(dialer, CAMPAIGN, 30)
        await house.all_parked()
        cdrs = await house.check_records(talks)
        assert endings(cdrs, by_agent) == {("NORMAL_CLEARING", "dialer"): len(by_agent)}
        assert endings(cdrs, by_customer) == {("NORMAL_CLEARING", "customer"): len(by_customer)}
        await house.new_leads(COUNT)  # each agent is as good as before
        more = await house.all_talk()
        await house.hang_up(more)
        await house.all_parked()
        await house.recorded(2 * COUNT)
    await house.check_records([*talks, *more])
    await wait_until(lambda: only_parked_agents(laboratory, 0), 10)


async def test_conversations_outlive_a_cut_event_socket(laboratory: Laboratory, tmp_path: Path) -> None:
    """Who hangs up unseen is recorded when the line is back; the others never notice."""
    async with laid(laboratory.esl_port) as cable:
        dialer = Dialer(laboratory, tmp_path, port=cable.port)
        house = await House.furnished(laboratory, dialer)
        async with dialer.running():
            talks = sorted(await house.open())
            unseen, others = talks[:HANG_UPS], talks[HANG_UPS:]
            await cable.cut()
            await wait_until(house.switch_is_away, 10)
            await house.hang_up(unseen)
            await stays(lambda: house.still_talk(others, besides=HANG_UPS), 5)
            assert cable.carried == 1
            await cable.mend()
            await wait_until(house.switch_is_ready, 30)
            await house.recorded(HANG_UPS)
            cdrs = await house.check_records(unseen, still_on=others)
            assert endings(cdrs, unseen) == {("", None): HANG_UPS}  # nobody told why
            await stays(lambda: house.still_talk(others, besides=HANG_UPS), DEAD_MAN_SECONDS)
            await house.new_leads(HANG_UPS)
            more = await house.all_talk() - set(others)
            await house.hang_up([*others, *more])
            await house.all_parked()
            await settled(dialer, CAMPAIGN, 30)
        cdrs = await house.check_records([*talks, *more])
        assert endings(cdrs, [*others, *more]) == {("NORMAL_CLEARING", "customer"): COUNT}
    await wait_until(lambda: only_parked_agents(laboratory, 0), 10)


async def lose_redis(house: House, redis: RedisServer, *, forget: bool) -> tuple[list[Talk], list[Talk]]:
    """Twenty talk, Redis is killed and started again; gives those who hung up meanwhile, and the others."""
    talks = sorted(await house.open())
    meanwhile, others = talks[:HANG_UPS], talks[HANG_UPS:]
    redis.kill()
    await house.hang_up(meanwhile)
    await house.recorded(HANG_UPS)  # while Redis is away
    await stays(lambda: house.still_talk(others, besides=HANG_UPS), 5)
    if forget:
        redis.forget()
    await trio.to_thread.run_sync(redis.start)
    cdrs = await house.check_records(meanwhile, still_on=others)
    assert endings(cdrs, meanwhile) == {("NORMAL_CLEARING", "customer"): HANG_UPS}
    return meanwhile, others


async def test_conversations_outlive_redis(
    laboratory: Laboratory, tmp_path: Path, own_redis: RedisServer
) -> None:  # fmt: skip
    """Redis dies and comes back with its data: the agents who became free meanwhile get new calls."""
    dialer = Dialer(laboratory, tmp_path, redis_url=own_redis.url)
    house = await House.furnished(laboratory, dialer)
    async with dialer.running():
        meanwhile, others = await lose_redis(house, own_redis, forget=False)
        await house.new_leads(HANG_UPS)
        talks = await house.all_talk(90)  # what could not be given back comes free with its lease
        assert talks > set(others)
        await house.hang_up(talks)
        await house.all_parked()
        await settled(dialer, CAMPAIGN, 30)
    cdrs = await house.check_records([*meanwhile, *talks])
    assert endings(cdrs, talks) == {("NORMAL_CLEARING", "customer"): COUNT}
    await wait_until(lambda: only_parked_agents(laboratory, 0), 10)


async def test_conversations_outlive_a_redis_that_comes_back_empty(
    laboratory: Laboratory, tmp_path: Path, own_redis: RedisServer
) -> None:
    """Nobody is cut off, and every record is right."""
    dialer = Dialer(laboratory, tmp_path, redis_url=own_redis.url)
    house = await House.furnished(laboratory, dialer)
    async with dialer.running():
        meanwhile, others = await lose_redis(house, own_redis, forget=True)

        async def others_talk() -> bool:
            return await talks_on(laboratory) >= set(others)

        await stays(others_talk, LEASE_SECONDS)
        await house.hang_up(others)
        await settled(dialer, CAMPAIGN, 30)
    cdrs = await house.check_records([*meanwhile, *others])
    assert endings(cdrs, others) == {("NORMAL_CLEARING", "customer"): len(others)}
    await wait_until(lambda: only_parked_agents(laboratory, 0), 10)


async def test_agents_outlive_a_redis_that_comes_back_empty(
    laboratory: Laboratory, tmp_path: Path, own_redis: RedisServer
) -> None:
    """All are known again as they were: who became free gets new calls, nobody on a call gets a second one."""
    dialer = Dialer(laboratory, tmp_path, redis_url=own_redis.url)
    house = await House.furnished(laboratory, dialer)
    async with dialer.running():
        _, others = await lose_redis(house, own_redis, forget=True)
        await house.new_leads(HANG_UPS)
        talks = await house.all_talk(90)
        assert talks > set(others)
        states = Counter(one["state"] for one in (await dialer.status())["agents"])
        assert states == {"on_call": COUNT}
        await house.hang_up(talks)
        await house.all_parked()
    await wait_until(lambda: only_parked_agents(laboratory, 0), 10)


async def test_the_dialer_outlives_the_switch(laboratory: Laboratory, tmp_path: Path) -> None:
    """The switch dies with all conversations in it: they are recorded, phones are rung again, dialing goes on."""
    dialer = Dialer(laboratory, tmp_path)
    house = await House.furnished(laboratory, dialer)
    async with dialer.running():
        talks = sorted(await house.open())
        laboratory.kill()
        await wait_until(house.switch_is_away, 10)
        await laboratory.start()
        await wait_until(house.switch_is_ready, 30)
        assert await talks_on(laboratory) == set()
        await house.recorded(COUNT)
        cdrs = await house.check_records(talks)  # they did talk, so that is what the record says
        assert endings(cdrs, talks) == {("", None): COUNT}
        await house.phones.register()
        await house.all_parked()
        assert not await alive(laboratory, [talk.agent_leg for talk in talks])
        await house.new_leads(COUNT)
        more = await house.all_talk()
        await house.hang_up(more)
        await house.all_parked()
        await settled(dialer, CAMPAIGN, 30)
    cdrs = await house.check_records([*talks, *more])
    assert endings(cdrs, more) == {("NORMAL_CLEARING", "customer"): COUNT}
    await wait_until(lambda: only_parked_agents(laboratory, 0), 10)


class LegCounter:
    """Counts the agents' legs that FreeSWITCH hangs up, and why."""

    def __init__(self, socket: EventSocket) -> None:
        self._socket = socket
        self.causes: Counter[str] = Counter()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        await self._socket.subscribe("CHANNEL_HANGUP")
        await self._socket.send("filter variable_dialer_agent /^1/")
        task_status.started()
        while True:
            event = await self._socket.event()
            self.causes[event["Hangup-Cause"]] += 1


async def drop_legs(laboratory: Laboratory, phones: Phones) -> None:
    """Now and then a phone hangs up, whatever its leg does at that moment: one phone after the other."""
    for extension in phones.extensions[:DROPPED_LEGS]:
        legs = {whose(channel): channel["uuid"] for channel in await laboratory.channels()}
        leg = legs["internal", extension]
        await phones.hang_up(leg)
        await wait_until(partial(is_gone, laboratory, leg), 10)
        await trio.sleep(DROP_EVERY_SECONDS)


async def is_gone(laboratory: Laboratory, uuid: str) -> bool:
    return not await alive(laboratory, [uuid])


async def test_lost_legs_are_replaced(
    laboratory: Laboratory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three thousand bridges on forty nailed-up legs: some are lost on the way, and each is rung again."""
    await laboratory.carrier(ring=(20, 60), talk=(300, 1000))
    phones = await laboratory.phones(BRIDGING_PHONES, ring=(50, 150))
    dialer = Dialer(laboratory, tmp_path, concurrency=100, calls_per_second=20)
    await dialer.campaign("many", wrap_up_seconds="0.0", retries="{ max_attempts = 1 }")
    prefixes = ("1202555", "1212555", "1303555")
    numbers = [Outcome.TALKS.number(index, prefix) for prefix in prefixes for index in range(BRIDGES // 3)]
    await dialer.leads("many", numbers)
    async with (
        dialer.running(),
        await EventSocket.open(laboratory.esl_port, laboratory.password) as socket,
        trio.open_nursery() as nursery,
    ):
        await dialer.cli_for_each(*(["agent", "ready", one, "--campaign", "many"] for one in phones.extensions))
        await wait_until(lambda: only_parked_agents(laboratory, BRIDGING_PHONES), 30)
        ended = LegCounter(socket)
        await nursery.start(ended.run)
        await dialer.cli("campaign", "start", "many")
        async with trio.open_nursery() as beside:
            beside.start_soon(drop_legs, laboratory, phones)
            await settled(dialer, "many", 300)
        await wait_until(lambda: each_has_one_parked_leg(laboratory, phones.extensions), 30)
        counts = (await dialer.status())["metrics"]["counts"]
        seen = ended.causes.total()
        nursery.cancel_scope.cancel()
    cdrs = await dialer.cdrs("many")
    outcomes = Counter(cdr["disposition"] for cdr in cdrs)
    figure = {"name": "agent_legs_lost", "value": seen - DROPPED_LEGS, "unit": f"of {BRIDGES} bridges"}
    with capsys.disabled():
        print("\n" + json.dumps(figure), flush=True)
    print(outcomes, ended.causes, counts)
    assert sorted(cdr["number"] for cdr in cdrs) == sorted(f"+{number}" for number in numbers)
    # A leg that goes in the very frames of its bridge may take the customer along; that is ours to count as dropped.
    assert set(outcomes) <= {"bridged", "abandoned", "hung_up"}, dialer.log_tail()
    assert outcomes["bridged"] >= BRIDGES - seen
    assert dialer.open_attempts() == []
    assert seen >= DROPPED_LEGS
    assert counts["agent_legs_up"] == BRIDGING_PHONES + seen  # each was replaced, and once
    await wait_until(lambda: only_parked_agents(laboratory, 0), 10)
