"""One life of one connection to a FreeSWITCH: from an open stream to its end, never used again.

Two tasks: the reader parses and hands over, and never waits for anything but bytes; the writer sends what has piled
up. `run_link` ends when the connection does; in every case all who still wait for a reply are told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from dialer.errors import DialerError, OutcomeUnknownError, UnavailableError
from dialer.esl.commands import Command
from dialer.esl.conversation import (
    BecameReady,
    Closed,
    Conversation,
    JobDone,
    LoginRefusedError,
    Replied,
    SequenceJumped,
    State,
    Ticket,
)
from dialer.esl.messages import Event, ProtocolError
from dialer.esl.subscription import Subscription

RECEIVE_BYTES: Final = 256 * 1024


class CommandRefusedError(DialerError):
    """FreeSWITCH answered a command with -ERR; `reply` is its answer."""

    def __init__(self, command: Command, reply: str) -> None:
        super().__init__(f"FreeSWITCH refused {command.line().split(' ', 1)[0]}: {reply.strip()}")
        self.reply = reply.strip()


@attrs.frozen
class LinkLimits:
    """How long a link waits before it gives up on its peer."""

    login_seconds: float = 5.0
    # bgapi is answered in 2 ms by an idle switch and in 6 ms under 1,200 calls: a reply this late never comes.
    reply_seconds: float = 5.0
    heartbeat_seconds: float = 20.0
    missed_heartbeats: int = 3


class Link:
    """A connection that is logged in and subscribed. Made by `run_link` only."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        conversation: Conversation,
        limits: LinkLimits,
        on_end: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._on_end = on_end
        self._conversation = conversation
        self._limits = limits
        self._wake_writer = trio.Event()
        self._waiters: dict[int, trio.Event] = {}
        self._ended: str | None = None
        self._heard_at = trio.current_time()
        self._oldest_sent_at: float | None = None
        self._dropped = trio.Event()
        self._dropped_because = ""

    def __repr__(self) -> str:
        return f"<Link {self._conversation!r}{' ended: ' + self._ended if self._ended else ''}>"

    def submit(self, command: Command, job_uuid: str | None = None) -> Ticket:
        """Sends `command` and does not wait. Its outcome is on the ticket, its job's result comes as an event too.

        Raises UnavailableError when the link has ended, InputRefusedError when the command breaks the grammar.
        """
        if self._ended is not None or self._conversation.state is not State.READY:
            raise UnavailableError(f"the event socket is away: {self._ended or 'the switch closes it'}")
        try:
            ticket = self._conversation.send(command, job_uuid)
        except ProtocolError as error:
            raise UnavailableError(f"the event socket does not answer: {error}") from error
        if self._oldest_sent_at is None:
            self._oldest_sent_at = trio.current_time()
        self._wake_writer.set()
        return ticket

    async def accepted(self, ticket: Ticket) -> None:
        """Waits until the switch has taken the command, or refused it.

        Raises CommandRefusedError; OutcomeUnknownError if no reply came in time or the link ended first.
        """
        await self._wait(ticket, lambda: ticket.accepted is not None, self._limits.reply_seconds)
        if not ticket.accepted:
            raise CommandRefusedError(ticket.command, ticket.reply)

    async def refused(self, ticket: Ticket) -> None:
        """Returns once the switch has refused the command, or its job failed; waits for ever if neither happens.

        Returns too when the link ends: then nothing more will be told.
        """
        while self._ended is None and not _is_refusal(ticket):
            await self._wait_for_word(ticket)

    async def run(self, command: Command, *, within_seconds: float) -> str:
        """Sends `command`, waits for its job's result and gives that.

        Raises CommandRefusedError when the result or the reply is -ERR; OutcomeUnknownError if the result did not
        come in time or the link ended; UnavailableError if the link had ended before.
        """
        ticket = self.submit(command)
        try:
            await self._wait(ticket, lambda: ticket.result is not None or ticket.accepted is False, within_seconds)
        finally:
            self._conversation.forget(ticket)
        answer = ticket.reply if ticket.result is None else ticket.result
        if _is_refusal(ticket):
            raise CommandRefusedError(command, answer)
        return answer

    async def _wait(self, ticket: Ticket, done: Callable[[], bool], within_seconds: float) -> None:
        with trio.move_on_after(within_seconds):
            while not done():
                if self._ended is not None:
                    raise OutcomeUnknownError(f"the event socket ended before an answer came: {self._ended}")
                await self._wait_for_word(ticket)
            return
        name = ticket.command.line().split(" ", 1)[0]
        raise OutcomeUnknownError(f"no answer to {name} within {within_seconds:g} s")

    async def _wait_for_word(self, ticket: Ticket) -> None:
        """Waits until the switch has said something about `ticket`, or the link has ended."""
        event = self._waiters.setdefault(id(ticket), trio.Event())
        try:
            await event.wait()
        finally:  # given up: the next waiter is not left without an event, nor an event without a waiter
            if self._waiters.get(id(ticket)) is event and not event.statistics().tasks_waiting:
                del self._waiters[id(ticket)]

    def drop(self, reason: str) -> None:
        """Ends the link for `reason`, soon."""
        self._dropped_because = self._dropped_because or reason
        self._dropped.set()

    async def _wait_until_dropped(self) -> str:
        await self._dropped.wait()
        return self._dropped_because

    def _wake(self, ticket: Ticket) -> None:
        event = self._waiters.pop(id(ticket), None)
        if event is not None:
            event.set()

    def _end(self, reason: str) -> None:
        if self._ended is None:
            self._ended = reason
            self._on_end()  # before those who wait are woken: they are to find it gone
        for event in self._waiters.values():
            event.set()
        self._waiters.clear()

    async def _read(
        self, ready: trio.Event, on_event: Callable[[Event], None], on_jump: Callable[[SequenceJumped], None]
    ) -> str:
        """Reads until the stream ends and says why it ended."""
        while True:
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                return f"connection lost ({error.__cause__ or error})"
            if not data:
                return "the switch closed the connection"
            self._heard_at = trio.current_time()
            for happening in self._conversation.receive_data(bytes(data)):
                match happening:
                    case Event():
                        on_event(happening)
                    case Replied(ticket):
                        self._oldest_sent_at = trio.current_time() if self._conversation.replies_owed else None
                        self._wake(ticket)
                    case JobDone(ticket):
                        self._wake(ticket)
                    case SequenceJumped():
                        on_jump(happening)
                    case BecameReady():
                        ready.set()
                    case Closed(reason):
                        return reason
            if self._conversation.has_data_to_send:  # it logs in and subscribes by itself
                self._wake_writer.set()

    async def _write(self) -> str:
        while True:
            await self._wake_writer.wait()
            self._wake_writer = trio.Event()
            data = self._conversation.data_to_send()
            if data:
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    return f"connection lost ({error.__cause__ or error})"

    async def _watch(self) -> str:
        """Ends when the switch has been silent, or owed a reply, for too long."""
        silence_seconds = self._limits.heartbeat_seconds * self._limits.missed_heartbeats
        reply_seconds = self._limits.reply_seconds
        while True:
            now = trio.current_time()
            heard_by = self._heard_at + silence_seconds
            # A command sent while this sleeps is due later than any moment this can wake.
            replied_by = (now if self._oldest_sent_at is None else self._oldest_sent_at) + reply_seconds
            if now >= heard_by:
                return f"nothing heard for {silence_seconds:g} s, {self._limits.missed_heartbeats} heartbeats missed"
            if now >= replied_by:
                return f"no reply to a command within {reply_seconds:g} s"
            await trio.sleep_until(min(heard_by, replied_by))


def _is_refusal(ticket: Ticket) -> bool:
    """The command was not taken, or its job failed."""
    return ticket.accepted is False or (ticket.result or "").startswith(("-ERR", "-USAGE"))


async def run_link(
    stream: trio.abc.Stream,
    *,
    password: str,
    subscription: Subscription,
    peer: str,
    limits: LinkLimits,
    on_ready: Callable[[Link], None],
    on_event: Callable[[Event], None],
    on_jump: Callable[[SequenceJumped], None],
    on_end: Callable[[], None] = lambda: None,
) -> str:
    """Lives one life of a connection over `stream` and says why it ended.

    Calls `on_ready` once, when login and subscription are done; from the first event on `on_event`, which must not
    block; and `on_end` at the very moment the link is of no more use. Closes the stream. Raises LoginRefusedError
    when the switch does not let us in; a broken protocol ends the link like any other loss. When it returns or is
    cancelled, all who waited got OutcomeUnknownError.
    """
    conversation = Conversation(password=password, subscription=subscription, peer=peer)
    link = Link(stream, conversation, limits, on_end)
    ready = trio.Event()
    reasons: list[str] = []
    refused: list[LoginRefusedError] = []

    async def until(part: Callable[[], Awaitable[str]], scope: trio.CancelScope) -> None:
        try:
            reasons.append(await part())
        except LoginRefusedError as error:  # carried past the nursery, which would wrap it in a group
            refused.append(error)
            reasons.append(str(error))
        link._end(reasons[0])  # at once: nobody may send while the stream is being closed
        scope.cancel()

    try:
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(until, lambda: link._read(ready, on_event, on_jump), nursery.cancel_scope)
            nursery.start_soon(until, link._write, nursery.cancel_scope)
            with trio.move_on_after(limits.login_seconds):
                await ready.wait()
            if ready.is_set():
                on_ready(link)
                nursery.start_soon(until, link._watch, nursery.cancel_scope)
                nursery.start_soon(until, link._wait_until_dropped, nursery.cancel_scope)
            else:
                reasons.append(f"no login within {limits.login_seconds:g} s")
                nursery.cancel_scope.cancel()
    finally:
        link._end(reasons[0] if reasons else "the daemon closed it")
    if refused:
        raise refused[0]
    return reasons[0]
