"""Registrations and calls in a real Redis, as other tools read them, and the agents' facts that follow."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
from structlog.testing import capture_logs

from dialer.agents import presence as presence_module
from dialer.agents.agent import AgentState, Phones, Wants, state_of
from dialer.agents.presence import Presence
from dialer.agents.roster import Roster
from dialer.calls.snapshot import Snapshot, take_snapshot
from dialer.errors import UnavailableError
from dialer.esl.commands import Command, Show
from dialer.esl.messages import ApiResponse, CustomEvent, Event, event_from_json
from dialer.esl.switch import Switch
from dialer.settings import RedisSettings
from dialer.shared_state import SharedState, open_shared_state
from tests.patience import eventually

from ..conftest import RedisServer, SetClock
from ..esl.recorded import messages, recording
from .test_phone_calls import b_leg_of_own_call, call_by_somebody_else, event, own_call, recorded_events

NOTHING = '{"row_count": 0}'
OUR_LEG = "29561d99-26fb-4c75-8aad-532dea94577e"  # of 1002, in the recorded queries


def recorded_answer(first_row: str) -> str:
    """What a FreeSWITCH said when it was asked to show something whose first row begins so."""
    answers = [message.body for message in messages(recording("queries")) if isinstance(message, ApiResponse)]
    return next(answer for answer in answers if answer.startswith(f'{{"row_count":{first_row}'))


CHANNELS = recorded_answer('2,"rows":[{"uuid"')
REGISTRATIONS = recorded_answer('8,"rows":[{"reg_user"')


class Shown:
    """Stands for a switch of which only lists are asked."""

    def __init__(self, name: str = "a", **answers: str) -> None:
        self.name = name
        self.ready = True
        self.while_asked: Callable[[], None] = lambda: None
        self._answers = {"channels": NOTHING, "calls": NOTHING, "registrations": NOTHING, **answers}

    async def run_command(self, command: Command, *, within_seconds: float) -> str:
        assert isinstance(command, Show)
        await trio.lowlevel.checkpoint()
        self.while_asked()
        return self._answers[command.what]


class Office:
    """A presence over one Redis, and what can be read there."""

    def __init__(self, state: SharedState, prefix: str, clock: SetClock) -> None:
        self.state = state
        self.prefix = prefix
        self.settings = RedisSettings(
            prefix=prefix,
            registrations_key=f"{prefix}registrations",
            registrations_channel=f"{prefix}registrations-told",
            calls_key=f"{prefix}calls",
            calls_channel=f"{prefix}calls-told",
        )
        self.roster = Roster(state, prefix=prefix, clock=clock, lease_seconds=30.0)
        self.presence = Presence(state, self.roster, self.settings)

    def notice(self, *events: Event, switch: str = "a") -> None:
        for one in events:
            self.presence.notice(switch, one)

    async def opened(self) -> Office:
        await self.roster.restore({})
        return self

    async def written(self) -> None:
        """Returns when everything noticed so far is in Redis: a phone nobody has is registered last."""
        mark = f"mark-{trio.current_time()}"
        self.notice(registered(mark), switch="mark")

        async def arrived() -> bool:
            return mark in await self.hash("registrations")

        await eventually(arrived)
        await self.state.run(lambda client: client.hdel(self.settings.registrations_key, mark))

    async def hash(self, name: str) -> dict[str, Any]:
        found: dict[str, str] = await self.state.run(lambda client: client.hgetall(self.prefix + name))  # type: ignore[arg-type,return-value]
        return {extension: json.loads(text) for extension, text in found.items()}

    async def state_of(self, extension: str) -> AgentState:
        return state_of(await self.roster.agent(extension))

    async def rebuild(self, switch: Shown, *legs: str) -> None:
        """As when a link to the switch is there again."""
        self.presence.link_begins("a")
        self.presence.look_begins("a")
        snapshot = await take_snapshot(cast(Switch, switch))
        await self.presence.rebuild(cast(Switch, switch), snapshot, frozenset(legs))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.presence.run)
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
async def office(state: SharedState, prefix: str, clock: SetClock) -> Office:
    return await Office(state, prefix, clock).opened()


def registered(extension: str, contact: str = "sip:1000@192.0.2.1:5060", *, subclass: str = "register") -> Event:
    headers = {
        "Event-Name": "CUSTOM",
        "Event-Subclass": f"sofia::{subclass}",
        "from-user": extension,
        "contact": f'"" <{contact};transport=udp>',
    }
    return event_from_json(json.dumps(headers).encode())


async def make_ready(office: Office, extension: str) -> None:
    await office.roster.change(extension, wants=Wants.READY, campaign="north", phones=Phones.ON_DEMAND)


# Registrations


async def test_recorded_registrations(office: Office) -> None:
    """1050 registers and goes; 1051 is refused; 1052 registers and expires, by an event without from-user."""
    events = [one for one in recorded_events("registrations") if isinstance(one, CustomEvent)]
    register, unregister, refused, soon_gone, expire = events
    assert (expire.subclass, expire.header("from-user")) == ("sofia::expire", "")
    async with office.running():
        for extension in ("1050", "1052"):
            await make_ready(office, extension)
        office.notice(register, soon_gone, refused)
        await office.written()
        found = await office.hash("registrations")
        assert set(found) == {"1050", "1052"}
        assert found["1050"] == register.all_headers()
        assert found["1050"]["contact"] == '"" <sip:1050@127.0.0.1:7000>'
        assert await office.state_of("1050") is AgentState.IDLE
        assert (await office.roster.agent("1050")).switch == "a"

        office.notice(unregister, expire)
        await office.written()
        assert await office.hash("registrations") == {}
        assert await office.state_of("1050") is AgentState.OFFLINE
        assert await office.state_of("1052") is AgentState.OFFLINE


async def test_what_is_published(office: Office) -> None:
    register, unregister, *_ = [one for one in recorded_events("registrations") if one.name == "CUSTOM"]
    channels = (office.settings.registrations_channel, office.settings.calls_channel)
    pubsub: Any = await office.state.run(lambda client: client.pubsub())  # type: ignore[no-untyped-call]
    await office.state.run(lambda _client: pubsub.subscribe(*channels))
    async with office.running():
        office.notice(register, unregister, own_call("CHANNEL_CREATE"), own_call("CHANNEL_HANGUP"))
        await office.written()
    heard: list[tuple[str, Any]] = []
    while len(heard) < 4:
        message = await office.state.run(lambda _client: pubsub.get_message(timeout=5.0))
        assert message is not None
        if message["type"] == "message":
            heard.append((message["channel"], json.loads(message["data"])))
    pubsub.close()
    assert heard[:2] == [(channels[0], register.all_headers()), (channels[0], unregister.all_headers())]
    assert [(channel, value["notify"]) for channel, value in heard[2:]] == [
        (channels[1], "callout"),
        (channels[1], "hangup"),
    ]


async def test_a_second_phone_of_one_extension(office: Office) -> None:
    desk, home = "sip:1000@192.0.2.1:5060", "sips:1000@192.0.2.2:5061"
    async with office.running():
        await make_ready(office, "1000")
        office.notice(registered("1000", desk), registered("1000", home), registered("1000", desk))
        office.notice(registered("1000", desk, subclass="unregister"))
        await office.written()
        found = await office.hash("registrations")
        assert {extension: one["Event-Subclass"] for extension, one in found.items()} == {"1000": "sofia::register"}
        assert await office.state_of("1000") is AgentState.IDLE
        office.notice(registered("1000", home, subclass="expire"))
        await office.written()
        assert await office.hash("registrations") == {}
        assert await office.state_of("1000") is AgentState.OFFLINE


async def test_a_phone_that_moves_to_another_switch(office: Office) -> None:
    async with office.running():
        await make_ready(office, "1000")
        office.notice(registered("1000"))
        office.notice(registered("1000"), switch="b")
        await office.written()
        assert (await office.roster.agent("1000")).switch == "a"  # registered on both: it stays where it is
        office.notice(registered("1000", subclass="expire"))
        await office.written()
        assert set(await office.hash("registrations")) == {"1000"}
        assert (await office.roster.agent("1000")).switch == "b"
        office.notice(registered("1000", subclass="unregister"), switch="b")
        await office.written()
        assert (await office.roster.agent("1000")).switch == ""


async def test_one_that_goes_and_was_never_there(office: Office) -> None:
    async with office.running():
        office.notice(registered("1000", subclass="expire"), registered("", subclass="register"))
        await office.written()
        assert await office.hash("registrations") == {}


# Calls


async def test_recorded_call_of_a_phone(office: Office) -> None:
    create, *_, hangup = call_by_somebody_else()
    async with office.running():
        await make_ready(office, "1003")
        office.notice(registered("1003"))
        office.notice(create)
        await office.written()
        assert await office.hash("calls") == {
            "1003": {
                "username": "1003",
                "current": create.unique_id,
                "notify": "callin",
                "activity": [create.unique_id],
                create.unique_id: {
                    "Unique-ID": create.unique_id,
                    "Call-Direction": "outbound",
                    "Caller-Caller-ID-Number": "0000000000",
                    "Caller-Destination-Number": "1003",
                    "Caller-Channel-Created-Time": 1_795_217_011_939_785,
                    "Caller-Channel-Answered-Time": 0,
                },
            }
        }
        assert await office.state_of("1003") is AgentState.ON_CALL
        assert await office.roster.try_claim("north", "a", "t0") is None

        office.notice(hangup)
        await office.written()
        idle = {"username": "1003", "current": "", "notify": "hangup", "activity": []}
        assert await office.hash("calls") == {"1003": idle}
        assert await office.state_of("1003") is AgentState.IDLE


async def test_our_own_leg_takes_no_agent_away(office: Office) -> None:
    async with office.running():
        await make_ready(office, "1000")
        office.notice(registered("1000"), *recorded_events("nailed_up_agent_two_calls")[:4])
        await office.written()
        assert (await office.hash("calls"))["1000"]["notify"] == "answer"
        assert await office.state_of("1000") is AgentState.IDLE


async def test_an_agent_calls_out(office: Office) -> None:
    async with office.running():
        await make_ready(office, "1003")
        office.notice(registered("1003"), own_call("CHANNEL_CREATE"), b_leg_of_own_call("CHANNEL_CREATE"))
        await office.written()
        assert (await office.hash("calls"))["1003"]["activity"] == ["a-leg"]
        assert await office.state_of("1003") is AgentState.ON_CALL
        office.notice(b_leg_of_own_call("CHANNEL_HANGUP"))
        await office.written()
        assert await office.state_of("1003") is AgentState.ON_CALL
        office.notice(own_call("CHANNEL_HANGUP"))
        await office.written()
        assert await office.state_of("1003") is AgentState.IDLE


# Everything anew


async def test_begun_anew_from_recorded_answers(office: Office) -> None:
    for extension in ("1001", "1002", "1050"):
        await make_ready(office, extension)
    async with office.running():
        office.notice(registered("1050"))
        await office.written()
    switch = Shown(registrations=REGISTRATIONS, channels=CHANNELS)
    await office.rebuild(switch)
    found = await office.hash("registrations")
    assert sorted(found) == [str(1000 + index) for index in range(8)]
    assert found["1002"] == {
        "Event-Name": "CUSTOM",
        "Event-Subclass": "sofia::register",
        "FreeSWITCH-Hostname": "vm",
        "from-user": "1002",
        "from-host": "127.0.0.1",
        "contact": "<sip:1002@127.0.0.1:7000>",
        "status": "Registered(UDP)",
        "expires": "1795219673",
        "network-ip": "127.0.0.1",
        "network-port": "7001",
        "username": "1002",
        "realm": "127.0.0.1",
    }
    calls = await office.hash("calls")
    assert list(calls) == ["1002"]
    assert calls["1002"]["activity"] == [OUR_LEG]
    assert calls["1002"][OUR_LEG]["Caller-Channel-Created-Time"] == 1_795_216_457_000_000
    assert [await office.state_of(one) for one in ("1001", "1002", "1050")] == [
        AgentState.IDLE,
        AgentState.ON_CALL,  # a leg nobody has told to be ours
        AgentState.OFFLINE,
    ]
    async with office.running():  # the contact in the list is that of the events
        office.notice(registered("1001", "sip:1001@127.0.0.1:7000", subclass="unregister"))
        await office.written()
        assert "1001" not in await office.hash("registrations")


@pytest.mark.parametrize("known_by", ["the caller", "the roster"])
async def test_our_own_legs_are_known_when_begun_anew(office: Office, known_by: str) -> None:
    await make_ready(office, "1002")
    if known_by == "the roster":  # another daemon keeps it
        await office.roster.change("1002", leg=OUR_LEG, node="other")
    await office.rebuild(
        Shown(registrations=REGISTRATIONS, channels=CHANNELS), *([OUR_LEG] if known_by == "the caller" else [])
    )
    assert await office.state_of("1002") is AgentState.IDLE
    assert (await office.hash("calls"))["1002"]["activity"] == [OUR_LEG]


async def test_a_switch_that_has_nothing_any_more(office: Office) -> None:
    for extension in ("1002", "1003"):
        await make_ready(office, extension)
    await office.rebuild(Shown(registrations=REGISTRATIONS, channels=CHANNELS))
    async with office.running():
        office.notice(own_call("CHANNEL_CREATE"), registered("1003", "sip:1003@127.0.0.1:7000", subclass="expire"))
        await office.written()
    await office.rebuild(Shown())
    assert (await office.hash("registrations"), await office.hash("calls")) == ({}, {})
    assert await office.state_of("1002") is AgentState.OFFLINE
    await office.rebuild(Shown(registrations=REGISTRATIONS))  # phones come back, and no call hangs on them
    assert [await office.state_of(one) for one in ("1002", "1003")] == [AgentState.IDLE, AgentState.IDLE]


async def test_a_phone_found_on_another_switch_stays_there(office: Office) -> None:
    async with office.running():
        await make_ready(office, "1000")
        office.notice(registered("1000"), switch="b")
        office.notice(registered("1000"))
        await office.written()
    await office.rebuild(Shown())
    assert (await office.roster.agent("1000")).switch == "b"
    assert set(await office.hash("registrations")) == {"1000"}


async def test_what_was_noticed_before_is_not_written_after(office: Office) -> None:
    """The link was lost with events still to be written: they tell of a past."""
    await make_ready(office, "1002")
    office.notice(own_call("CHANNEL_CREATE"), registered("1002", subclass="register"))
    office.notice(registered("1002", subclass="unregister"))
    await office.rebuild(Shown(registrations=REGISTRATIONS))
    async with office.running():
        await office.written()
    assert "1002" in await office.hash("registrations")
    assert await office.hash("calls") == {}
    assert await office.state_of("1002") is AgentState.IDLE


async def test_a_call_that_ends_while_the_switch_is_asked(office: Office) -> None:
    await make_ready(office, "1002")
    switch = Shown(registrations=REGISTRATIONS, channels=CHANNELS)
    switch.while_asked = lambda: office.notice(event("CHANNEL_HANGUP", OUR_LEG, {}))
    async with office.running():
        await office.rebuild(switch)
        await office.written()
    assert await office.state_of("1002") is AgentState.IDLE


async def test_a_list_that_cannot_be_read(office: Office) -> None:
    with pytest.raises(UnavailableError, match="registrations of 'a' cannot be read"):
        await office.presence.rebuild(
            cast(Switch, Shown(registrations="-ERR no database")), Snapshot({}, {}), frozenset()
        )


# Trouble


async def test_overflow_is_told_once_and_ends_with_a_fresh_look(
    state: SharedState, prefix: str, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "MAX_EVENTS_WAITING", 3)
    office = await Office(state, prefix, clock).opened()
    with capture_logs() as logs:
        office.notice(*(registered(str(1000 + index)) for index in range(10)))
        office.notice(registered("1000"), switch="b")
    assert [(line["event"], line["switch"]) for line in logs] == [
        ("presence_overflowed", "a"),
        ("presence_overflowed", "b"),
    ]
    assert office.presence.overflowed == {"a", "b"}
    assert "3 events waiting" in repr(office.presence)
    await office.rebuild(Shown(registrations=REGISTRATIONS))
    assert office.presence.overflowed == {"b"}
    assert sorted(await office.hash("registrations")) == [str(1000 + index) for index in range(8)]


async def test_redis_away_keeps_events_in_order(own_redis: RedisServer, clock: SetClock) -> None:
    async with open_shared_state(own_redis.url, timeout_seconds=1.0) as state:
        office = await Office(state, "test:", clock).opened()
        async with office.running():
            await trio.to_thread.run_sync(own_redis.stop)
            office.notice(registered("1000"), registered("1001"), registered("1000", subclass="unregister"))
            with capture_logs() as logs:

                async def told() -> bool:
                    return any(line["event"] == "presence_not_written" for line in logs)

                await eventually(told)
            await trio.to_thread.run_sync(own_redis.start)
            await office.written()
            assert set(await office.hash("registrations")) == {"1001"}
