"""One conversation on an event socket, without the socket.

Bytes go in, happenings come out; commands go in, bytes come out. FreeSWITCH answers in the order it was asked, so
the replies owed are a queue. A background job's result is found by the Job-UUID we chose and wrote down before the
command became bytes. States:

    CONNECTED --auth/request--> LOGGING_IN --+OK--> SUBSCRIBING --+OK--> READY
    any state --disconnect notice, rejection, broken protocol--> CLOSED
"""

from __future__ import annotations

import uuid
from collections import deque
from enum import Enum, auto
from typing import Final

import attrs

from dialer.errors import ConfigurationError
from dialer.esl import commands
from dialer.esl.framing import FrameReader
from dialer.esl.messages import (
    ApiResponse,
    AuthRequest,
    BackgroundJob,
    CommandReply,
    DisconnectNotice,
    Event,
    Message,
    ProtocolError,
    Rejection,
    read_message,
)
from dialer.esl.subscription import Subscription

# Event-Sequence counts every event of the switch, also those we did not ask for, so a small jump is normal. A queue
# that overflowed (100,000 events) leaves a jump of another size.
SEQUENCE_JUMP: Final = 2_000
# A command is some hundred bytes; whoever has this many unanswered is not being listened to.
MAX_COMMANDS_IN_FLIGHT: Final = 10_000


class LoginRefusedError(ConfigurationError):
    """The switch refused the password or this machine's address."""


class State(Enum):
    CONNECTED = auto()
    LOGGING_IN = auto()
    SUBSCRIBING = auto()
    READY = auto()
    CLOSED = auto()


@attrs.define(eq=False)
class Ticket:
    """One command on its way. `accepted` is None until its reply came; `result` until its job is done."""

    command: commands.Command
    job_uuid: str
    accepted: bool | None = None
    reply: str = ""
    result: str | None = None


@attrs.frozen
class BecameReady:
    """Login and subscription are done."""


@attrs.frozen
class Replied:
    """The switch took a command or refused it; see the ticket."""

    ticket: Ticket


@attrs.frozen
class JobDone:
    """A background job has its result; see the ticket. The event itself follows as a happening of its own."""

    ticket: Ticket


@attrs.frozen
class SequenceJumped:
    """Events were lost, as far as their numbers can tell."""

    expected: int
    received: int


@attrs.frozen
class Closed:
    """The switch ended the conversation, or broke the protocol. What it had said before is true all the same."""

    reason: str


Happening = BecameReady | Replied | JobDone | SequenceJumped | Closed | Event


class Conversation:
    """One life of one connection.

    `receive_data` raises LoginRefusedError when the switch does not let us in; the conversation is over then, and had
    nothing to tell before.
    """

    def __init__(self, *, password: str, subscription: Subscription, peer: str) -> None:
        self.state = State.CONNECTED
        self._password = password
        self._subscription = subscription
        self._peer = peer
        self._reader = FrameReader()
        self._outgoing = bytearray()
        self._owed: deque[Ticket] = deque()
        self._jobs: dict[str, Ticket] = {}
        self._last_sequence = 0

    def __repr__(self) -> str:
        return (
            f"<Conversation with {self._peer} {self.state.name}, {len(self._owed)} replies owed, "
            f"{len(self._jobs)} jobs running, {len(self._outgoing)} bytes to send>"
        )

    @property
    def jobs_running(self) -> int:
        return len(self._jobs)

    @property
    def replies_owed(self) -> int:
        return len(self._owed)

    @property
    def has_data_to_send(self) -> bool:
        return bool(self._outgoing)

    def data_to_send(self) -> bytes:
        """Takes the bytes that are to go out now."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def send(self, command: commands.Command, job_uuid: str | None = None) -> Ticket:
        """Puts `command` among the bytes to go out and gives the ticket its outcome will be on.

        Raises InputRefusedError if the command does not pass the grammar; nothing is sent then. Only in READY.
        """
        assert self.state is State.READY
        if len(self._owed) >= MAX_COMMANDS_IN_FLIGHT:
            raise ProtocolError(f"{MAX_COMMANDS_IN_FLIGHT} commands are unanswered")
        ticket = Ticket(command, job_uuid or str(uuid.uuid4()))
        data = commands.bgapi(command, ticket.job_uuid)
        self._jobs[ticket.job_uuid] = ticket
        self._owed.append(ticket)
        self._outgoing += data
        return ticket

    def forget(self, ticket: Ticket) -> None:
        """Nobody waits for this job's result any more. Its reply is still owed and keeps its place in the queue."""
        self._jobs.pop(ticket.job_uuid, None)

    def receive_data(self, data: bytes) -> list[Happening]:
        """What `data` tells, in order; the same in whatever pieces it comes."""
        self._reader.receive_data(data)
        happenings: list[Happening] = []
        try:
            while self.state is not State.CLOSED and (frame := self._reader.next_frame()) is not None:
                self._on_message(read_message(frame), happenings)
        except ProtocolError as error:  # not raised: it would take along what the same piece had told before
            self.state = State.CLOSED
            happenings.append(Closed(f"the peer broke the protocol: {error}"))
        return happenings

    def _on_message(self, message: Message, happenings: list[Happening]) -> None:
        match message:
            case Event():
                self._on_event(message, happenings)
            case CommandReply():
                self._on_reply(message, happenings)
            case AuthRequest():
                self._on_auth_request()
            case DisconnectNotice(text):
                self.state = State.CLOSED
                happenings.append(Closed(text.strip().splitlines()[0] if text.strip() else "disconnected"))
            case Rejection(text):
                if self.state is not State.CONNECTED:
                    raise ProtocolError(f"a rejection in the state {self.state.name}")
                self.state = State.CLOSED
                raise LoginRefusedError(
                    f"{self._peer} does not accept connections from this machine ({text.strip()}): "
                    "allow its address in apply-inbound-acl of event_socket.conf.xml"
                )
            case ApiResponse():
                raise ProtocolError("an answer to an api command that was never sent")

    def _on_auth_request(self) -> None:
        if self.state is not State.CONNECTED:
            raise ProtocolError(f"the password was asked for in the state {self.state.name}")
        self._outgoing += commands.auth(self._password)
        self.state = State.LOGGING_IN

    def _on_reply(self, reply: CommandReply, happenings: list[Happening]) -> None:
        match self.state:
            case State.LOGGING_IN:
                if not reply.accepted:
                    self.state = State.CLOSED
                    raise LoginRefusedError(
                        f"{self._peer} refused the password: the switch's password in the dialer's configuration "
                        "must be the one in event_socket.conf.xml"
                    )
                self._outgoing += self._subscription.line()
                self.state = State.SUBSCRIBING
            case State.SUBSCRIBING:
                if not reply.accepted:
                    raise ProtocolError(f"the subscription was refused: {reply.text[:200]}")
                self.state = State.READY
                happenings.append(BecameReady())
            case State.READY:
                self._on_command_reply(reply, happenings)
            case _:
                raise ProtocolError(f"a reply in the state {self.state.name}")

    def _on_command_reply(self, reply: CommandReply, happenings: list[Happening]) -> None:
        if not self._owed:
            raise ProtocolError(f"a reply to nothing: {reply.text[:200]}")
        ticket = self._owed.popleft()
        if reply.job_uuid and reply.job_uuid != ticket.job_uuid:
            raise ProtocolError(f"the reply for job {reply.job_uuid} came in the place of {ticket.job_uuid}")
        ticket.accepted = reply.accepted
        ticket.reply = reply.text
        if not ticket.accepted:
            self._jobs.pop(ticket.job_uuid, None)
        happenings.append(Replied(ticket))

    def _on_event(self, event: Event, happenings: list[Happening]) -> None:
        # So nothing has been told when a login is refused: what is raised would take that along.
        if self.state in (State.CONNECTED, State.LOGGING_IN):
            raise ProtocolError(f"an event in the state {self.state.name}")
        self._watch_sequence(event, happenings)
        if isinstance(event, BackgroundJob):
            ticket = self._jobs.pop(event.job_uuid, None)
            if ticket is not None:
                ticket.result = event.body
                happenings.append(JobDone(ticket))
        happenings.append(event)

    def _watch_sequence(self, event: Event, happenings: list[Happening]) -> None:
        if self._last_sequence and event.sequence > self._last_sequence + SEQUENCE_JUMP:
            happenings.append(SequenceJumped(self._last_sequence + 1, event.sequence))
        # Threads of the switch overtake each other: the highest number counts, not the last.
        self._last_sequence = max(self._last_sequence, event.sequence)
