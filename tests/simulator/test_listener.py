"""One connection: login, subscriptions, filters, order, slow readers, and how it ends."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dialer.simulator import Faults, Scenario

from .wiretap import EVERYTHING, connected, simulated

UUID = "c0000000-0000-4000-8000-000000000001"
SMALL = Scenario(realistic_headers=False)


async def test_wrong_password_ends_it(autojump_clock: MockClock) -> None:
    async with simulated() as switch, connected(switch, login=None) as client:
        assert await client.ask("event json ALL") == "-ERR command not found"
        assert await client.ask("auth wrong") == "-ERR invalid"
        await client.wait_closed()
        assert client.frames[-1].kind == "text/disconnect-notice"
        await trio.sleep(1)
        assert switch.listeners == ()


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("event plain", "-ERR no keywords supplied"),
        ("event plain NONSENSE", "-ERR no keywords supplied"),
        ("event json HEARTBEAT", "+OK event listener enabled json"),
        ("EVENT PLAIN heartbeat", "+OK event listener enabled plain"),
        ("nixevent HEARTBEAT", "+OK events nixed"),
        ("noevents", "-ERR not listening for events"),
        ("filter Unique-ID x", "+OK filter added. [Unique-ID]=[x]"),
        ("filter delete Unique-ID x", "+OK filter deleted. [Unique-ID][x]"),
        ("filter x", "-ERR invalid syntax"),
        ("divert_events on", "-ERR not controlling a session."),
        ("what", "-ERR command not found"),
        ("api nosuch x", "-ERR nosuch Command not found!\n"),
        ("exit", "+OK bye"),
    ],
)
async def test_replies(command: str, reply: str, autojump_clock: MockClock) -> None:
    async with simulated() as switch, connected(switch, login=None) as client:
        await client.ask("auth ClueCon")
        assert await client.ask(command) == reply


async def test_replies_come_in_order_and_before_their_jobs(autojump_clock: MockClock) -> None:
    async with simulated() as switch, connected(switch) as client:
        jobs = [f"{number:08}-0000-4000-8000-000000000000" for number in range(200)]
        await client.stream.send_all("".join(f"bgapi status\nJob-UUID: {job}\n\n" for job in jobs).encode())
        await trio.sleep(1)
        replies = [frame.outer("Job-UUID") for frame in client.frames if frame.outer("Job-UUID")]
        assert replies == jobs
        for job in jobs:
            order = [
                frame.kind
                for frame in client.frames
                if frame.outer("Job-UUID") == job or (frame.is_event and frame.event.get("Job-UUID") == job)
            ]
            assert order == ["command/reply", "text/event-json"]


async def test_custom_events_need_their_subclass(autojump_clock: MockClock) -> None:
    async with simulated() as switch, connected(switch, login=None) as client:
        await client.ask("auth ClueCon")
        await client.ask("event json CUSTOM sofia::register")
        switch.register("1000")
        switch.unregister("1000")
        await trio.sleep(1)
        assert [event["Event-Subclass"] for event in client.events()] == ["sofia::register"]
        await client.ask("event json CUSTOM sofia::expire")
        switch.expire("1001")
        await trio.sleep(1)
        assert [event["Event-Subclass"] for event in client.events()] == ["sofia::register", "sofia::expire"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["Event-Name CHANNEL_CREATE"], ["CHANNEL_CREATE"]),
        (["event-name channel_create"], ["CHANNEL_CREATE"]),
        (["Event-Name /CHANNEL_(CREATE|ORIGINATE)/"], ["CHANNEL_CREATE", "CHANNEL_ORIGINATE"]),
        (["Unique-ID " + UUID, "Event-Name -CHANNEL_PROGRESS"], ["CHANNEL_CREATE", "CHANNEL_ORIGINATE"]),
        (["variable_mine yes"], ["CHANNEL_CREATE", "CHANNEL_ORIGINATE", "CHANNEL_PROGRESS"]),
        (["No-Such-Header x"], []),
    ],
)
async def test_filters(filters: list[str], names: list[str], autojump_clock: MockClock) -> None:
    """An event without the header is not sent: with most filters BACKGROUND_JOB and sofia events vanish too."""
    async with simulated() as switch, connected(switch) as client:
        for filter_ in filters:
            await client.ask(f"filter {filter_}")
        switch.register("1000")
        variables = f"{{origination_uuid={UUID},mine=yes}}"
        await client.ask(f"bgapi originate {variables}sofia/gateway/carrier_a/1 &park()")
        await trio.sleep(0.5)
        assert client.names() == names
        await client.ask("filter delete all")
        await client.wait_event("BACKGROUND_JOB")


async def test_a_slow_reader_loses_events_and_then_the_connection(autojump_clock: MockClock) -> None:
    scenario = SMALL.model_copy(update={"event_queue_limit": 10, "lost_events_limit": 5})
    async with simulated(scenario) as switch, connected(switch) as client:
        listener = switch.listeners[0]
        switch.stall()
        for _ in range(10 + 3):
            switch.register("1000")
        assert (listener.waiting, listener.lost) == (10, 3)
        switch.stall(stalled=False)
        await trio.sleep(1)
        sequence = [int(event["Event-Sequence"]) for event in client.events()]
        switch.register("1000")
        await trio.sleep(1)
        assert int(client.events()[-1]["Event-Sequence"]) == sequence[-1] + 4  # the three lost show as a gap
        assert len(client.events()) == 11

        switch.stall()
        for _ in range(10 + 6):
            switch.register("1000")
        await client.wait_closed()
        await wait_all_tasks_blocked()
        assert switch.listeners == ()


async def test_event_sequence_has_gaps_for_what_nobody_asked_for(autojump_clock: MockClock) -> None:
    async with simulated() as switch, connected(switch) as client:
        await client.ask("bgapi originate user/1000 &park()")
        await client.wait_event("CHANNEL_PARK")
        numbers = [int(event["Event-Sequence"]) for event in client.events()]
        assert numbers == sorted(set(numbers))
        assert numbers != list(range(numbers[0], numbers[0] + len(numbers)))


async def test_an_api_that_takes_time_holds_everything_up(autojump_clock: MockClock) -> None:
    async with simulated() as switch, connected(switch) as client:
        await client.send(f"api originate {{origination_uuid={UUID}}}sofia/gateway/carrier_a/1 &park()")
        await client.send("api create_uuid")
        await trio.sleep(2)
        assert client.events() == []
        await client.wait_event("CHANNEL_PARK")
        kinds = [frame.kind for frame in client.frames[3:]]
        assert kinds.index("api/response") < kinds.index("text/event-json")


async def test_a_half_open_connection(autojump_clock: MockClock) -> None:
    async with simulated() as switch, connected(switch) as client:
        switch.stall()
        await client.send("api status")
        await trio.sleep(300)
        assert not client.closed
        assert client.frames[-1].outer("Reply-Text") == "+OK event listener enabled json"


async def test_a_connection_cut_in_a_frame(autojump_clock: MockClock) -> None:
    async with simulated() as switch, connected(switch) as client:
        switch.register("1000")
        switch.drop_connections(in_a_frame=True)
        await client.wait_closed()
        await wait_all_tasks_blocked()
        assert client.rest
        assert switch.listeners == ()


async def test_connections_end_by_chance(autojump_clock: MockClock) -> None:
    faults = Faults.model_validate({"connection_resets_after": 5})
    async with simulated(SMALL.model_copy(update={"faults": faults})) as switch, connected(switch) as client:
        began = trio.current_time()
        await client.wait_closed()
        assert trio.current_time() - began == 5


async def test_restart_loses_everything(autojump_clock: MockClock) -> None:
    async with simulated() as switch:
        core = switch.core_uuid
        async with connected(switch) as client:
            await client.job(f"originate {{origination_uuid={UUID}}}user/1000 &park()")
            switch.restart()
            await client.wait_closed()
            assert "SHUTDOWN" not in client.names()
        assert not switch.channels
        assert switch.core_uuid != core
        async with connected(switch) as client:
            assert (await client.ask(f"api uuid_exists {UUID}")) == "false"
            switch.register("1000")
            assert int((await client.wait_event("CUSTOM"))["Event-Sequence"]) < 5


async def test_after_a_shutdown_nobody_is_served(autojump_clock: MockClock) -> None:
    async with simulated() as switch:
        async with connected(switch) as client:
            await client.job("fsctl shutdown")
            await client.wait_closed()
            assert client.names()[-1] == "SHUTDOWN"
            assert client.frames[-1].body == b"The system is being shut down.\n"
        async with connected(switch, login=None) as client:
            await client.wait_closed()
            assert client.frames == []
        switch.restart()
        async with connected(switch):
            pass


async def test_faults_of_replies(autojump_clock: MockClock) -> None:
    async with simulated() as switch, connected(switch) as client:
        switch.faults.force("bgapi_refused")
        assert (await client.ask("bgapi status")).startswith("-ERR")
        assert client.frames[-1].outer("Job-UUID") == ""
        switch.faults.force("reply_slow")
        began = trio.current_time()
        await client.ask("api status")
        assert trio.current_time() - began == pytest.approx(0.5)
        switch.faults.force("originate_fails_silently")
        assert await client.job("originate user/1000 &park()") == "-ERR NORMAL_TEMPORARY_FAILURE\n"
        assert client.names() == ["BACKGROUND_JOB"]


async def test_two_connections_see_the_same(autojump_clock: MockClock) -> None:
    async with simulated() as switch, connected(switch) as one, connected(switch, login="plain") as other:
        await one.job(f"originate {{origination_uuid={UUID},x='a b:c'}}user/1000 &park()")
        await trio.sleep(1)
        assert one.names() == other.names()
        for mine, theirs in zip(one.events(), other.events(), strict=True):
            mine.pop("_body", None)
            assert mine == theirs
        assert other.events("CHANNEL_PARK")[0]["variable_x"] == "a b:c"


async def test_events_in_batches(autojump_clock: MockClock) -> None:
    """With `delivery_ms` events wait for the next poll, as a real switch's do; a command wakes it."""
    async with simulated(SMALL.model_copy(update={"delivery_ms": 20})) as switch, connected(switch) as client:
        await trio.sleep(1)
        client.frames.clear()
        switch.register("1000")
        await trio.sleep(0.001)
        switch.register("1001")
        await trio.sleep(0.03)
        times = [frame.at for frame in client.frames]
        assert times[1] - times[0] == pytest.approx(0.02)
        switch.register("1002")
        assert "UP" in await client.ask("api status")
        assert len(client.events()) <= 3
    assert "BACKGROUND_JOB" in EVERYTHING
