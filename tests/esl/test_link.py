"""A link against a switch played by hand, on virtual time: every wait, every end, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import pytest
import trio
from trio.testing import (
    MemoryReceiveStream,
    MemorySendStream,
    MockClock,
    lockstep_stream_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from dialer.errors import InputRefusedError, OutcomeUnknownError, UnavailableError
from dialer.esl import conversation as conversation_module
from dialer.esl.commands import Exists, Kill
from dialer.esl.conversation import LoginRefusedError, SequenceJumped
from dialer.esl.link import CommandRefusedError, Link, LinkLimits, run_link
from dialer.esl.messages import Event
from tests.esl.fake_switch import PASSWORD, SUBSCRIBE, SUBSCRIPTION, FakeSwitch, no_task_left
from tests.esl.wire import (
    AUTH_REQUEST,
    LET_IN,
    LOGGED_IN,
    WRONG_PASSWORD,
    accepted,
    disconnect,
    event,
    job,
    numbered,
    reply,
    rude_rejection,
)

CALL: Final = "891ebad9-befe-4171-9569-7c757e361ac0"
OTHER: Final = "36566cd7-5720-48bb-b4d7-d43ddd35c25e"
PEER: Final = "the event socket of 'fs1' at 10.0.0.1:8021"


@attrs.define(eq=False)
class Life:
    """One life of a link, seen from both ends."""

    switch: FakeSwitch
    link: Link | None = None
    heard: list[Event] = attrs.field(factory=list)
    jumps: list[SequenceJumped] = attrs.field(factory=list)
    on_event: Callable[[Event], None] | None = None
    reason: str | None = None
    error: BaseException | None = None
    ended_at: float | None = None
    over: trio.Event = attrs.field(factory=trio.Event)

    async def live(self, stream: trio.abc.Stream, limits: LinkLimits) -> None:
        def ready(link: Link) -> None:
            assert self.link is None, "ready twice"
            self.link = link

        def take(event: Event) -> None:
            self.heard.append(event)
            if self.on_event is not None:
                self.on_event(event)

        try:
            self.reason = await run_link(
                stream,
                password=PASSWORD,
                subscription=SUBSCRIPTION,
                peer=PEER,
                limits=limits,
                on_ready=ready,
                on_event=take,
                on_jump=self.jumps.append,
            )
        except LoginRefusedError as error:
            self.error = error
        finally:
            self.ended_at = trio.current_time()
            self.over.set()

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.heard]

    async def ends(self) -> str:
        await self.over.wait()
        assert self.reason is not None
        return self.reason


@asynccontextmanager
async def living(
    *,
    let_in: bool = True,
    limits: LinkLimits | None = None,
    pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = memory_stream_pair,
) -> AsyncIterator[Life]:
    """A link and its switch. Whatever the test did, its end finds no task, no open stream and no waiter."""
    ours, theirs = pair()
    life = Life(FakeSwitch(theirs))
    with no_task_left():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.live, ours, limits or LinkLimits())
            if let_in:
                await life.switch.lets_in()
                await wait_all_tasks_blocked()
                assert life.link is not None
            yield life
            await life.switch.closes()
            await life.over.wait()
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"closed?")
    if life.link is not None:
        assert not life.link._waiters
        with pytest.raises(UnavailableError, match="the event socket is away: "):
            life.link.submit(Exists(CALL))


@attrs.define(eq=False)
class Outcome:
    """What became of one who waits."""

    value: object = None
    error: Exception | None = None
    at: float | None = None

    async def of(self, wait: Callable[[], Awaitable[object]]) -> None:
        try:
            self.value = await wait()
        except (CommandRefusedError, OutcomeUnknownError, UnavailableError) as error:
            self.error = error
        self.at = trio.current_time()


def link_of(life: Life) -> Link:
    assert life.link is not None
    return life.link


# --- commands -------------------------------------------------------------------------------------------------------


async def test_run_gives_the_jobs_result(autojump_clock: MockClock) -> None:
    async with living() as life, trio.open_nursery() as nursery:
        outcome = Outcome()
        nursery.start_soon(outcome.of, lambda: link_of(life).run(Exists(CALL), within_seconds=5))
        heard = await life.switch.hears_command()
        assert heard.line == f"uuid_exists {CALL}"
        await life.switch.says(accepted(heard.job_uuid))
        await trio.sleep(3)
        assert "1 jobs running" in repr(life.link)
        await life.switch.says(job(heard.job_uuid, "true"))
        await wait_all_tasks_blocked()
        assert (outcome.value, outcome.error, outcome.at) == ("true", None, 3.0)
        assert life.names == ["BACKGROUND_JOB"]


@pytest.mark.parametrize("answer", ["-ERR No such channel!\n", "-USAGE: <uuid>\n"])
async def test_a_job_that_fails_is_a_refusal(autojump_clock: MockClock, answer: str) -> None:
    async with living() as life, trio.open_nursery() as nursery:
        nursery.start_soon(life.switch.obeys, answer)
        with pytest.raises(CommandRefusedError) as caught:
            await link_of(life).run(Kill(CALL), within_seconds=5)
        assert caught.value.reply == answer.strip()
        assert str(caught.value) == f"FreeSWITCH refused uuid_kill: {answer.strip()}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("text", ["-ERR command not found", "", "something new"])
async def test_a_reply_that_is_no_ok_is_a_refusal(autojump_clock: MockClock, text: str) -> None:
    async with living() as life, trio.open_nursery() as nursery:
        ran, asked = Outcome(), Outcome()
        link = link_of(life)
        nursery.start_soon(ran.of, lambda: link.run(Kill(CALL), within_seconds=5))
        await wait_all_tasks_blocked()
        nursery.start_soon(asked.of, lambda: link.accepted(link.submit(Kill(OTHER))))
        await life.switch.hears_command()
        await life.switch.hears_command()
        await life.switch.says(reply(text), reply(text))
        await wait_all_tasks_blocked()
        for outcome in (ran, asked):
            assert isinstance(outcome.error, CommandRefusedError)
            assert (outcome.error.reply, outcome.at) == (text, 0.0)


async def test_accepted_does_not_wait_for_the_job(autojump_clock: MockClock) -> None:
    async with living() as life, trio.open_nursery() as nursery:
        outcome = Outcome()
        ticket = link_of(life).submit(Kill(CALL), OTHER)
        nursery.start_soon(outcome.of, lambda: link_of(life).accepted(ticket))
        assert (await life.switch.hears_command()).job_uuid == OTHER
        await trio.sleep(2)
        await life.switch.says(accepted(OTHER))
        await wait_all_tasks_blocked()
        assert (outcome.error, outcome.at, ticket.result) == (None, 2.0, None)
        await link_of(life).accepted(ticket)  # and again, at once


async def test_no_result_in_time_is_an_unknown_outcome_and_the_late_one_is_no_harm(autojump_clock: MockClock) -> None:
    async with living() as life, trio.open_nursery() as nursery:
        outcome = Outcome()
        nursery.start_soon(outcome.of, lambda: link_of(life).run(Exists(CALL), within_seconds=12.5))
        first = await life.switch.hears_command()
        await life.switch.says(accepted(first.job_uuid))
        await trio.sleep(20)
        assert isinstance(outcome.error, OutcomeUnknownError)
        assert (str(outcome.error), outcome.at) == ("no answer to uuid_exists within 12.5 s", 12.5)
        assert "0 jobs running" in repr(life.link)  # forgotten: a job that never ends must not be kept for ever
        await life.switch.says(job(first.job_uuid, "late"))
        await wait_all_tasks_blocked()
        nursery.start_soon(life.switch.obeys, "true")
        assert await link_of(life).run(Exists(CALL), within_seconds=5) == "true"
        assert trio.current_time() == 20.0
        nursery.cancel_scope.cancel()


async def test_what_breaks_the_grammar_is_not_sent(autojump_clock: MockClock) -> None:
    async with living() as life:
        with pytest.raises(InputRefusedError):
            link_of(life).submit(Exists(CALL), "x\ny")
        await trio.sleep(10)  # nothing is owed, so nothing ends the link
        assert life.reason is None


async def test_too_many_unanswered_are_refused_here(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_module, "MAX_COMMANDS_IN_FLIGHT", 2)
    async with living() as life:
        for _ in range(2):
            link_of(life).submit(Exists(CALL))
        with pytest.raises(UnavailableError, match="2 commands are unanswered"):
            link_of(life).submit(Exists(CALL))


async def test_a_waiter_who_gives_up_leaves_each_reply_to_its_own_ticket(autojump_clock: MockClock) -> None:
    async with living() as life, trio.open_nursery() as nursery:
        link = link_of(life)
        gives_up = trio.CancelScope()
        nursery.start_soon(_within(gives_up, lambda: link.run(Kill(CALL), within_seconds=60)))
        first = await life.switch.hears_command()
        second_outcome = Outcome()
        nursery.start_soon(second_outcome.of, lambda: link.run(Exists(OTHER), within_seconds=60))
        second = await life.switch.hears_command()
        gives_up.cancel()
        await wait_all_tasks_blocked()
        await life.switch.says(reply("-ERR no such thing"), accepted(second.job_uuid))
        await life.switch.says(job(first.job_uuid, "not yours"), job(second.job_uuid, "yours"))
        await wait_all_tasks_blocked()
        assert (second_outcome.value, second_outcome.error) == ("yours", None)
        assert "0 replies owed, 0 jobs running" in repr(link)


def _within(scope: trio.CancelScope, wait: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        with scope:
            await wait()

    return run


async def test_of_two_waiters_on_one_ticket_one_may_give_up(autojump_clock: MockClock) -> None:
    async with living() as life, trio.open_nursery() as nursery:
        link = link_of(life)
        ticket = link.submit(Kill(CALL))
        outcome, scope = Outcome(), trio.CancelScope()
        nursery.start_soon(outcome.of, lambda: link.accepted(ticket))
        nursery.start_soon(_within(scope, lambda: link.refused(ticket)))
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        await trio.sleep(1)
        await life.switch.says(accepted(ticket.job_uuid))
        await wait_all_tasks_blocked()
        assert (outcome.error, outcome.at) == (None, 1.0)


# --- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "returns"),
    [
        ([], False),
        (["accepted"], False),
        (["accepted", "+OK done"], False),
        (["accepted", "-ERR Invalid uuid\n"], True),
        (["-ERR"], True),
    ],
    ids=str,
)
async def test_refused_returns_for_a_refusal_only(autojump_clock: MockClock, says: list[str], returns: bool) -> None:
    async with living() as life:
        ticket = link_of(life).submit(Kill(CALL))
        await life.switch.hears_command()
        returned = False
        with trio.move_on_after(4):
            async with trio.open_nursery() as nursery:
                outcome = Outcome()
                nursery.start_soon(outcome.of, lambda: link_of(life).refused(ticket))
                for text in says:
                    await trio.sleep(1)
                    if text.startswith(("+", "-")) and text != "-ERR":
                        await life.switch.says(job(ticket.job_uuid, text))
                    else:
                        await life.switch.says(accepted(ticket.job_uuid) if text == "accepted" else reply(text))
            returned = True
            assert outcome.at == len(says)
        assert returned is returns
        assert not link_of(life)._waiters  # given up a thousand times a day, it must leave nothing


async def test_refused_returns_at_once_when_it_is_known_already_and_when_the_link_has_ended(
    autojump_clock: MockClock,
) -> None:
    async with living() as life, trio.open_nursery() as nursery:
        link = link_of(life)
        lost, open_one = link.submit(Kill(CALL)), link.submit(Kill(OTHER))
        await life.switch.says(reply("-ERR no"))
        await wait_all_tasks_blocked()
        await link.refused(lost)
        outcome = Outcome()
        nursery.start_soon(outcome.of, lambda: link.refused(open_one))
        await trio.sleep(2)
        await life.switch.closes()
        await life.ends()
        await link.refused(open_one)
        await wait_all_tasks_blocked()
        assert outcome.at == 2.0


# --- the end --------------------------------------------------------------------------------------------------------


async def _closes(switch: FakeSwitch) -> None:
    await switch.closes()


async def _closes_within_a_frame(switch: FakeSwitch) -> None:
    await switch.says(event("HEARTBEAT")[:-5])
    await switch.closes()


async def _says_goodbye(switch: FakeSwitch) -> None:
    await switch.says(disconnect())


async def _talks_garbage(switch: FakeSwitch) -> None:
    await switch.says(b"HTTP/1.1 200 OK\r\n\n\n")


async def _answers_what_nobody_asked(switch: FakeSwitch) -> None:
    await switch.says(accepted(OTHER))


ENDS = [
    (_closes, "the switch closed the connection"),
    (_closes_within_a_frame, "the switch closed the connection"),
    (_says_goodbye, "Disconnected, goodbye."),
    (_talks_garbage, r"the peer broke the protocol: a header line without a colon: b'HTTP/1.1 200 OK\r'"),
    (_answers_what_nobody_asked, None),
]


@pytest.mark.parametrize(("end", "reason"), ENDS, ids=lambda value: getattr(value, "__name__", ""))
async def test_the_links_end_fails_all_who_wait(
    autojump_clock: MockClock, end: Callable[[FakeSwitch], Awaitable[None]], reason: str | None
) -> None:
    async with living() as life, trio.open_nursery() as nursery:
        link = link_of(life)
        run, asked, refused = Outcome(), Outcome(), Outcome()
        nursery.start_soon(run.of, lambda: link.run(Exists(CALL), within_seconds=60))
        await life.switch.hears_command()
        ticket = link.submit(Kill(CALL))
        nursery.start_soon(asked.of, lambda: link.accepted(ticket))
        nursery.start_soon(refused.of, lambda: link.refused(ticket))
        await trio.sleep(2)
        await end(life.switch)
        said = await life.ends()
        await wait_all_tasks_blocked()
        assert said == reason or (
            reason is None and said.startswith("the peer broke the protocol: the reply for job")
        )
        for outcome in (run, asked):
            assert isinstance(outcome.error, OutcomeUnknownError)
            assert str(outcome.error) == f"the event socket ended before an answer came: {said}"
        assert [run.at, asked.at, refused.at, life.ended_at] == [2.0] * 4
        assert repr(link).endswith(f"ended: {said}>")


async def test_a_broken_connection_says_how_it_broke(autojump_clock: MockClock) -> None:
    async def breaks() -> None:
        await trio.sleep(3)
        raise trio.BrokenResourceError from ConnectionResetError(104, "Connection reset by peer")

    async with living() as life:
        stream: Any = link_of(life)._stream
        assert isinstance(stream.receive_stream, MemoryReceiveStream)
        stream.receive_stream.receive_some_hook = breaks
        await life.switch.says(event("HEARTBEAT"))  # the next receive is the one that breaks
        assert await life.ends() == "connection lost ([Errno 104] Connection reset by peer)"
        assert life.ended_at == 3.0


async def test_a_write_into_a_broken_connection_ends_the_link(autojump_clock: MockClock) -> None:
    async def breaks() -> None:
        raise trio.BrokenResourceError("gone")

    async with living() as life:
        stream: Any = link_of(life)._stream
        assert isinstance(stream.send_stream, MemorySendStream)
        stream.send_stream.send_all_hook = breaks
        with pytest.raises(OutcomeUnknownError, match=r"connection lost \(gone\)"):
            await link_of(life).run(Exists(CALL), within_seconds=5)
        assert await life.ends() == "connection lost (gone)"


async def test_what_the_last_piece_told_before_the_end_is_heard(autojump_clock: MockClock) -> None:
    async with living() as life, trio.open_nursery() as nursery:
        outcome = Outcome()
        nursery.start_soon(outcome.of, lambda: link_of(life).run(Exists(CALL), within_seconds=60))
        heard = await life.switch.hears_command()
        await life.switch.says(
            accepted(heard.job_uuid),
            job(heard.job_uuid, "true"),
            event("SHUTDOWN"),
            b"garbage\n\n",
            event("HEARTBEAT"),
        )
        await life.ends()
        await wait_all_tasks_blocked()
        assert outcome.value == "true"
        assert life.names == ["BACKGROUND_JOB", "SHUTDOWN"]


@pytest.mark.parametrize("last_words", [disconnect("The system is being shut down.\n"), b"garbage\n\n"])
async def test_who_sends_while_the_switch_says_goodbye_is_told_it_is_away(
    autojump_clock: MockClock, last_words: bytes
) -> None:
    """Event and goodbye come in one piece: whom the event wakes must not send into a closed conversation."""
    refusals: list[UnavailableError] = []

    async with living() as life, trio.open_nursery() as nursery:
        link = link_of(life)
        woken = trio.Event()

        def on_event(event: Event) -> None:
            woken.set()
            with pytest.raises(UnavailableError) as caught:
                link.submit(Kill(CALL))
            refusals.append(caught.value)

        async def wakes() -> None:
            await woken.wait()
            with pytest.raises(UnavailableError) as caught:
                link.submit(Kill(CALL))
            refusals.append(caught.value)

        life.on_event = on_event
        for _ in range(5):
            nursery.start_soon(wakes)
        await wait_all_tasks_blocked()
        await life.switch.says(event("SHUTDOWN"), last_words)
        await life.ends()
    assert len(refusals) == 6


async def test_who_sends_while_the_stream_is_being_closed_is_told_it_is_away(autojump_clock: MockClock) -> None:
    async with living() as life:
        link = link_of(life)
        stream: Any = link._stream
        close: Callable[[], Awaitable[None]] = stream.aclose
        told: list[str] = []

        async def close_slowly() -> None:
            with pytest.raises(UnavailableError) as caught:
                link.submit(Kill(CALL))
            told.append(str(caught.value))
            await close()

        stream.aclose = close_slowly
        await life.switch.closes()
        await life.ends()
        assert told == ["the event socket is away: the switch closed the connection"]


async def test_cancelled_it_tells_all_who_wait_and_closes_the_stream(autojump_clock: MockClock) -> None:
    """Cancelled after each number of steps, from before the login to the middle of a command."""
    told = 0
    for steps in range(60):
        ours, theirs = memory_stream_pair()
        life, switch = Life(FakeSwitch(theirs)), FakeSwitch(theirs)
        outcome = Outcome()

        async def play(switch: FakeSwitch = switch) -> None:
            await switch.lets_in()
            await switch.hears_command()

        async def use(life: Life = life, outcome: Outcome = outcome) -> None:
            while life.link is None:
                await trio.lowlevel.checkpoint()
                if life.over.is_set():
                    return
            await outcome.of(lambda: link_of(life).run(Exists(CALL), within_seconds=1000))

        with no_task_left():
            async with trio.open_nursery() as users, trio.open_nursery() as nursery:
                users.start_soon(use)
                nursery.start_soon(play)
                nursery.start_soon(life.live, ours, LinkLimits())
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        assert life.over.is_set()
        assert outcome.value is None
        if outcome.error is not None:
            assert isinstance(outcome.error, (OutcomeUnknownError, UnavailableError))
            assert "the daemon closed it" in str(outcome.error)
            told += 1
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()
    assert told > 10  # the later ones did come to have a waiter


# --- silence --------------------------------------------------------------------------------------------------------


async def test_three_missed_heartbeats_end_the_link(autojump_clock: MockClock) -> None:
    async with living() as life:
        await trio.sleep(20)
        await life.switch.says(event("HEARTBEAT"))
        await trio.sleep(12.25)
        await life.switch.says(event("CUSTOM")[:9])  # anything heard will do
        assert await life.ends() == "nothing heard for 60 s, 3 heartbeats missed"
        assert life.ended_at == 92.25


async def test_a_switch_that_beats_lives_for_ever(autojump_clock: MockClock) -> None:
    async with living() as life:
        for _ in range(100):
            await trio.sleep(59.5)
            await life.switch.says(event("HEARTBEAT"))
        await wait_all_tasks_blocked()
        assert (life.reason, len(life.heard)) == (None, 100)


async def test_a_reply_owed_for_five_seconds_ends_the_link_whatever_else_is_heard(autojump_clock: MockClock) -> None:
    async with living() as life, trio.open_nursery() as nursery:
        await trio.sleep(7.25)
        outcome = Outcome()
        nursery.start_soon(outcome.of, lambda: link_of(life).run(Exists(CALL), within_seconds=60))
        for _ in range(4):
            await trio.sleep(1)
            await life.switch.says(event("HEARTBEAT"))
        assert await life.ends() == "no reply to a command within 5 s"
        await wait_all_tasks_blocked()
        assert (life.ended_at, outcome.at) == (12.25, 12.25)
        assert isinstance(outcome.error, OutcomeUnknownError)


async def test_each_reply_is_waited_for_anew(autojump_clock: MockClock) -> None:
    async with living() as life:
        tickets = [link_of(life).submit(Exists(CALL)) for _ in range(3)]
        for ticket in tickets[:2]:
            await trio.sleep(4.5)
            await life.switch.says(accepted(ticket.job_uuid))
        await life.ends()
        assert life.ended_at == 14.0


async def test_all_replied_there_is_nothing_to_wait_for(autojump_clock: MockClock) -> None:
    async with living() as life:
        ticket = link_of(life).submit(Exists(CALL))
        await life.switch.says(accepted(ticket.job_uuid))
        await trio.sleep(50)
        assert life.reason is None


async def test_the_limits_are_settings(autojump_clock: MockClock) -> None:
    async with living(limits=LinkLimits(reply_seconds=0.5, heartbeat_seconds=2, missed_heartbeats=2)) as life:
        assert await life.ends() == "nothing heard for 4 s, 2 heartbeats missed"
        assert life.ended_at == 4.0


async def test_a_peer_that_does_not_read_blocks_neither_reader_nor_end(autojump_clock: MockClock) -> None:
    async with living(pair=lockstep_stream_pair) as life:
        link = link_of(life)
        for _ in range(100):
            link.submit(Exists(CALL))
        await wait_all_tasks_blocked()  # the writer is stuck in its send
        for _ in range(3):
            await trio.sleep(1)
            await life.switch.says(event("HEARTBEAT"))
        await wait_all_tasks_blocked()
        assert life.names == ["HEARTBEAT"] * 3
        assert await life.ends() == "no reply to a command within 5 s"
        assert life.ended_at == 5.0


# --- login ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "hears"),
    [
        (b"", []),
        (AUTH_REQUEST, [f"auth {PASSWORD}"]),
        (AUTH_REQUEST + LOGGED_IN, [f"auth {PASSWORD}", SUBSCRIBE]),
        (LET_IN[:-1], [f"auth {PASSWORD}", SUBSCRIBE]),
    ],
    ids=["silent", "asks only", "does not subscribe", "almost"],
)
async def test_no_login_in_five_seconds(autojump_clock: MockClock, says: bytes, hears: list[str]) -> None:
    async with living(let_in=False) as life:
        await life.switch.says(says)
        assert await life.ends() == "no login within 5 s"
        assert (life.link, life.ended_at) == (None, 5.0)
        assert [await life.switch.hears() for _ in hears] == hears
        assert await life.switch.hears() == ""  # closed


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (AUTH_REQUEST + WRONG_PASSWORD + disconnect(), "refused the password"),
        (rude_rejection(), "does not accept connections from this machine"),
    ],
)
async def test_a_refused_login_is_raised_as_it_is(autojump_clock: MockClock, says: bytes, message: str) -> None:
    async with living(let_in=False) as life:
        await life.switch.says(says)
        await life.over.wait()
        assert type(life.error) is LoginRefusedError  # not in a group
        assert message in str(life.error)
        assert (life.link, life.ended_at) == (None, 0.0)


async def test_a_switch_that_lets_in_and_says_goodbye_in_one_breath(autojump_clock: MockClock) -> None:
    async with living(let_in=False) as life:
        await life.switch.says(LET_IN, disconnect())
        assert await life.ends() == "Disconnected, goodbye."


# --- events ---------------------------------------------------------------------------------------------------------


async def test_events_come_in_order_and_a_jump_is_told(autojump_clock: MockClock) -> None:
    async with living() as life:
        await life.switch.says(*(numbered(sequence) for sequence in (1, 2, 9000, 9001)))
        await wait_all_tasks_blocked()
        assert [event.sequence for event in life.heard] == [1, 2, 9000, 9001]
        assert life.jumps == [SequenceJumped(3, 9000)]


async def test_commands_go_out_in_the_order_they_were_given(autojump_clock: MockClock) -> None:
    async with living() as life:
        sent = [link_of(life).submit(Exists(CALL)).job_uuid for _ in range(500)]
        assert [(await life.switch.hears_command()).job_uuid for _ in range(500)] == sent
