"""A Switch through connects, losses, refusals and restarts, on virtual time, against switches played by hand."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from dialer.errors import OutcomeUnknownError, UnavailableError
from dialer.esl.commands import Exists, Kill
from dialer.esl.conversation import LoginRefusedError
from dialer.esl.messages import Event
from dialer.esl.switch import (
    BACKOFF_FIRST_SECONDS,
    BACKOFF_LAST_SECONDS,
    Switch,
    SwitchAddress,
    backoff_seconds,
)
from tests.esl.fake_switch import PASSWORD, SUBSCRIPTION, FakeSwitch, no_task_left
from tests.esl.wire import AUTH_REQUEST, WRONG_PASSWORD, disconnect, event, numbered

CALL: Final = "891ebad9-befe-4171-9569-7c757e361ac0"
OTHER: Final = "36566cd7-5720-48bb-b4d7-d43ddd35c25e"
ADDRESS: Final = SwitchAddress("fs1", "10.0.0.1", 8021, PASSWORD)
SEED: Final = 7

Play = Callable[[FakeSwitch], Awaitable[None]]


class Exchange:
    """Connects by a script: each entry refuses, or plays one connection. After the last, nobody picks up any more."""

    def __init__(self, *script: Exception | Play) -> None:
        self.connects: list[float] = []
        self.streams: list[trio.abc.Stream] = []
        self.nursery: trio.Nursery | None = None
        self._script = list(script)
        self._connected = trio.Event()

    async def wait_connects(self, count: int) -> None:
        while len(self.connects) < count:
            await self._connected.wait()

    async def connect(self, address: SwitchAddress) -> trio.abc.Stream:
        assert address is ADDRESS
        self.connects.append(trio.current_time())
        connected, self._connected = self._connected, trio.Event()
        connected.set()
        await trio.lowlevel.checkpoint()
        if not self._script:
            await trio.sleep_forever()
        play = self._script.pop(0)
        if isinstance(play, Exception):
            raise play
        ours, theirs = memory_stream_pair()
        self.streams.append(ours)
        assert self.nursery is not None
        self.nursery.start_soon(self._play, play, FakeSwitch(theirs))
        return ours

    async def _play(self, play: Play, switch: FakeSwitch) -> None:
        try:
            await play(switch)
        except trio.BrokenResourceError:
            pass  # the daemon was cancelled


@attrs.define(eq=False)
class World:
    """A running Switch and what it told."""

    switch: Switch
    exchange: Exchange
    told: list[str] = attrs.field(factory=list)
    heard: list[str] = attrs.field(factory=list)
    on_epoch: Callable[[Switch], Awaitable[None]] | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def open(self, switch: Switch) -> None:
        assert switch is self.switch
        assert (switch.connected, switch.ready) == (True, False)
        self.told.append(f"epoch {switch.epoch} at {trio.current_time():.4f}")
        if self.on_epoch is not None:
            await self.on_epoch(switch)
        self.told.append(f"opened {switch.epoch}")

    def lost(self, switch: Switch) -> None:
        assert (switch.connected, switch.ready) == (False, False)
        self.told.append(f"lost {switch.epoch}: {switch.last_loss}")

    def hear(self, event: Event) -> None:
        self.heard.append(event.name)

    async def run(self) -> None:
        with self.scope:
            await self.switch.run(on_event=self.hear, on_epoch=self.open, on_lost=self.lost)


@asynccontextmanager
async def running(
    *script: Exception | Play, on_epoch: Callable[[Switch], Awaitable[None]] | None = None
) -> AsyncIterator[World]:
    """At the block's end the switch is cancelled; then no task and no open stream is left, and it says so."""
    exchange = Exchange(*script)
    switch = Switch(ADDRESS, rng=random.Random(SEED), subscription=SUBSCRIPTION, connect=exchange.connect)
    world = World(switch, exchange, on_epoch=on_epoch)
    with no_task_left():
        async with trio.open_nursery() as players, trio.open_nursery() as nursery:
            exchange.nursery = players
            nursery.start_soon(world.run)
            yield world
            world.scope.cancel()
        assert (switch.connected, switch.ready) == (False, False)
    for stream in exchange.streams:
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"closed?")


async def serve(switch: FakeSwitch) -> None:
    """Lets in and obeys until the client goes."""
    await switch.lets_in()
    await switch.obeys()


def serve_for(seconds: float, *last_words: bytes) -> Play:
    async def play(switch: FakeSwitch) -> None:
        await switch.lets_in()
        await trio.sleep(seconds)
        await switch.says(*last_words)
        await switch.closes()

    return play


async def hang_up_at_once(switch: FakeSwitch) -> None:
    await switch.closes()


async def refuse_the_password(switch: FakeSwitch) -> None:
    await switch.says(AUTH_REQUEST)
    await switch.hears()
    await switch.says(WRONG_PASSWORD, disconnect())


NOBODY: Final = ConnectionRefusedError(111, "Connection refused")


class Waits:
    """The same dice as the switch's: how long it must have waited, one after the other."""

    def __init__(self) -> None:
        self._rng = random.Random(SEED)

    def after(self, failures: int) -> float:
        return backoff_seconds(failures, self._rng)


# --- backoff --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers())
def test_backoff_doubles_from_a_tenth_of_a_second_to_ten_with_jitter_above_half(attempt: int, seed: int) -> None:
    seconds = backoff_seconds(attempt, random.Random(seed))
    ceiling = min(BACKOFF_LAST_SECONDS, BACKOFF_FIRST_SECONDS * 2 ** min(attempt, 30))
    assert ceiling / 2 <= seconds <= ceiling
    assert BACKOFF_FIRST_SECONDS / 2 <= seconds <= BACKOFF_LAST_SECONDS


def test_daemons_do_not_come_back_in_step() -> None:
    waits = {backoff_seconds(5, random.Random(seed)) for seed in range(100)}
    assert len(waits) == 100
    assert max(waits) - min(waits) > 0.4 * max(waits)


async def test_connects_that_fail_are_tried_again_ever_more_slowly(autojump_clock: MockClock) -> None:
    refusals = [NOBODY, trio.TooSlowError(), *[NOBODY] * 10]
    async with running(*refusals, serve) as world:
        await world.switch.wait_ready()
        waits, at = Waits(), 0.0
        expected = [at := at + waits.after(failures) for failures in range(len(refusals))]
        assert world.exchange.connects == pytest.approx([0.0, *expected])
        gaps = [b - a for a, b in zip(world.exchange.connects, world.exchange.connects[1:], strict=False)]
        assert 0.05 <= gaps[0] <= 0.1
        assert all(5 <= gap <= 10 for gap in gaps[7:])
        assert world.switch.epoch == 1


@pytest.mark.parametrize(
    ("error", "loss"),
    [
        (NOBODY, "no connection to 10.0.0.1:8021 ([Errno 111] Connection refused)"),
        (trio.TooSlowError(), "no connection to 10.0.0.1:8021 (too slow)"),
    ],
)
async def test_why_there_is_no_connection(autojump_clock: MockClock, error: Exception, loss: str) -> None:
    async with running(error) as world:
        await trio.sleep(1)
        assert (world.switch.last_loss, world.told) == (loss, [])


async def test_a_switch_that_picks_up_and_does_not_log_in_is_no_epoch(autojump_clock: MockClock) -> None:
    async with running(hang_up_at_once, hang_up_at_once, hang_up_at_once, serve) as world:
        await world.switch.wait_ready()
        waits, at = Waits(), 0.0
        expected = [at := at + waits.after(failures) for failures in range(3)]
        assert world.exchange.connects == pytest.approx([0.0, *expected])
        assert [line.split(" at ")[0] for line in world.told] == ["epoch 1", "opened 1"]


# --- epochs ---------------------------------------------------------------------------------------------------------


async def test_epochs_count_up_and_each_is_subscribed_and_opened_anew(autojump_clock: MockClock) -> None:
    """Each `lets_in` checks password and subscription."""
    async with running(serve_for(30), NOBODY, serve_for(40, disconnect()), serve) as world:
        await trio.sleep(100)
        waits = Waits()
        second = 30 + waits.after(0) + waits.after(1)
        third = second + 40 + waits.after(0)
        assert world.told == [
            "epoch 1 at 0.0000",
            "opened 1",
            "lost 1: the switch closed the connection",
            f"epoch 2 at {second:.4f}",
            "opened 2",
            "lost 2: Disconnected, goodbye.",
            f"epoch 3 at {third:.4f}",
            "opened 3",
        ]
        assert (world.switch.ready, world.switch.epoch) == (True, 3)
        assert await world.switch.run_command(Exists(CALL)) == "true"


async def test_it_is_not_ready_until_the_epoch_is_opened_over_the_new_link(autojump_clock: MockClock) -> None:
    seen: list[tuple[str, bool]] = []

    async def on_epoch(switch: Switch) -> None:
        seen.append((await switch.run_command(Exists(CALL)), switch.ready))
        with pytest.raises(UnavailableError, match="not ready yet"):  # no call is placed before
            await switch.submit_accepted(Kill(CALL), OTHER)
        await trio.sleep(7)

    async with running(serve, on_epoch=on_epoch) as world:
        await world.switch.wait_ready()
        assert (trio.current_time(), seen) == (7.0, [("true", False)])
        await world.switch.submit_accepted(Kill(CALL), OTHER)


@pytest.mark.parametrize("error", [UnavailableError("no Redis"), OutcomeUnknownError("no Redis")])
async def test_an_epoch_that_cannot_be_opened_ends_and_is_tried_again_ever_more_slowly(
    autojump_clock: MockClock, error: Exception
) -> None:
    async def on_epoch(switch: Switch) -> None:
        if switch.epoch <= 8:
            raise error

    async with running(*[serve] * 8, serve_for(10), serve, on_epoch=on_epoch) as world:
        await world.switch.wait_ready()
        waits, at = Waits(), 0.0
        expected = [at := at + waits.after(failures) for failures in range(8)]
        assert world.exchange.connects == pytest.approx([0.0, *expected])
        assert (world.switch.epoch, world.switch.last_loss) == (
            9,
            "the new epoch could not be opened: no Redis",
        )
        assert world.told[1] == "lost 1: the new epoch could not be opened: no Redis"
        assert world.told[-1] == "opened 9"
        await trio.sleep(11)  # an epoch that was opened makes the next wait short again
        assert world.exchange.connects[9] == pytest.approx(at + 10 + waits.after(0))


async def test_who_waits_through_an_epoch_that_fails_sees_the_next_one_opened(autojump_clock: MockClock) -> None:
    async def on_epoch(switch: Switch) -> None:
        await trio.sleep(1)
        if switch.epoch == 1:
            raise UnavailableError("no Redis")

    async with running(serve, hang_up_at_once, serve, on_epoch=on_epoch) as world:
        with trio.fail_after(60):
            await world.switch.wait_ready()
        assert world.switch.epoch == 2


async def test_a_link_lost_while_its_epoch_is_opened(autojump_clock: MockClock) -> None:
    async def on_epoch(switch: Switch) -> None:
        if switch.epoch == 1:
            await trio.sleep_forever()

    async with running(serve_for(3), serve, on_epoch=on_epoch) as world:
        await world.switch.wait_ready()
        assert world.told[1:] == [
            "lost 1: the switch closed the connection",
            f"epoch 2 at {3 + Waits().after(0):.4f}",
            "opened 2",
        ]


async def test_an_opening_that_ends_after_its_link_opens_nothing(autojump_clock: MockClock) -> None:
    """A thread that asks the database cannot be cancelled: it may come back when the link is long gone."""

    async def on_epoch(switch: Switch) -> None:
        with trio.CancelScope(shield=switch.epoch == 1):
            await trio.sleep(5)

    async with running(serve_for(3), serve, on_epoch=on_epoch) as world:
        await trio.sleep(5)
        await wait_all_tasks_blocked()
        assert (world.switch.connected, world.switch.ready) == (False, False)
        await trio.sleep(1)
        assert (world.switch.connected, world.switch.ready, world.switch.epoch) == (True, False, 2)
        await world.switch.wait_ready()
        assert trio.current_time() == pytest.approx(5 + Waits().after(0) + 5)


# --- use ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ([], "not (connected|ready) yet"),
        ([NOBODY], r"no connection to 10.0.0.1:8021 \(\[Errno 111\] Connection refused\)"),
        ([serve_for(0.5)], "the switch closed the connection"),
    ],
    ids=["never connected", "unreachable", "lost"],
)
async def test_while_it_is_away_every_command_is_unavailable(
    autojump_clock: MockClock, script: list[Exception | Play], why: str
) -> None:
    async with running(*script) as world:
        await trio.sleep(1)
        switch = world.switch
        uses: list[Callable[[], Awaitable[object]]] = [
            lambda: switch.run_command(Exists(CALL)),
            lambda: switch.submit_accepted(Kill(CALL), OTHER),
        ]
        for use in uses:
            with pytest.raises(UnavailableError, match=f"the switch 'fs1' is away: {why}"):
                await use()
        with pytest.raises(UnavailableError, match=f"the switch 'fs1' is away: {why}"):
            switch.submit(Kill(CALL))


async def test_commands_in_flight_when_the_link_is_lost(autojump_clock: MockClock) -> None:
    async with running(serve_for(2)) as world:
        await world.switch.wait_ready()
        ticket = world.switch.submit(Kill(CALL))
        with pytest.raises(OutcomeUnknownError, match="the switch closed the connection"):
            await world.switch.submit_accepted(Kill(CALL), OTHER)
        assert trio.current_time() == 2.0
        await world.switch.refused(ticket)  # nothing more will be told


async def test_events_and_jumps_are_counted_over_all_epochs(autojump_clock: MockClock) -> None:
    words = [numbered(1), numbered(9000), event("SHUTDOWN")]
    async with running(serve_for(1, *words), serve_for(1, *words)) as world:
        await trio.sleep(5)
        assert world.heard == ["HEARTBEAT", "HEARTBEAT", "SHUTDOWN"] * 2
        assert (world.switch.events_received, world.switch.sequence_jumps, world.switch.epoch) == (6, 2, 2)


async def test_a_refused_password_is_neither_retried_nor_hidden(autojump_clock: MockClock) -> None:
    exchange = Exchange(serve_for(1), refuse_the_password, serve)
    switch = Switch(ADDRESS, rng=random.Random(SEED), subscription=SUBSCRIPTION, connect=exchange.connect)
    world = World(switch, exchange)
    with no_task_left():
        async with trio.open_nursery() as exchange.nursery:
            with pytest.raises(LoginRefusedError) as caught:  # a group of them would not pass
                await world.run()
    assert str(caught.value).startswith("the event socket of 'fs1' at 10.0.0.1:8021 refused the password: ")
    assert PASSWORD not in str(caught.value)
    assert len(exchange.connects) == 2
    assert (switch.connected, switch.ready) == (False, False)


def test_the_password_is_in_no_repr() -> None:
    switch = Switch(ADDRESS, rng=random.Random(SEED))
    assert PASSWORD not in f"{ADDRESS!r} {ADDRESS} {switch!r} {vars(switch)!r}"


# --- cancellation ---------------------------------------------------------------------------------------------------


async def test_it_can_be_cancelled_at_any_point(autojump_clock: MockClock) -> None:
    """After each number of steps through refusal, login, opening, use and loss. `running` checks what is left."""

    async def on_epoch(switch: Switch) -> None:
        await switch.run_command(Exists(CALL))

    async def serve_one(switch: FakeSwitch) -> None:
        await switch.lets_in()
        with trio.move_on_after(0.001):
            await switch.obeys()
        await switch.closes()

    reached = set()
    for connects in range(1, 5):
        for steps in range(40):
            async with running(NOBODY, serve_one, hang_up_at_once, serve, on_epoch=on_epoch) as world:
                await world.exchange.wait_connects(connects)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                reached.add((connects, len(world.told), world.switch.connected, world.switch.ready))
    assert {told for _, told, _, _ in reached} == {0, 1, 2, 3, 4, 5}
    assert {(connected, ready) for _, _, connected, ready in reached} == {(False, False), (True, False), (True, True)}
