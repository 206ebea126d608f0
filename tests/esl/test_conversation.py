"""Rows of what was sent, bytes in, happenings and bytes out; every recording; and any order the switch may choose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import uuid4

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dialer.errors import InputRefusedError
from dialer.esl import conversation as conversation_module
from dialer.esl.commands import Exists
from dialer.esl.conversation import (
    SEQUENCE_JUMP,
    BecameReady,
    Closed,
    Conversation,
    Happening,
    JobDone,
    LoginRefusedError,
    Replied,
    SequenceJumped,
    State,
    Ticket,
)
from dialer.esl.messages import BackgroundJob, Event, ProtocolError
from dialer.esl.subscription import DIALER, Subscription
from tests.esl.recorded import NAMES, frames, messages, recording, sent
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
JOBS: Final = [f"{i:08x}-0000-4000-8000-000000000000" for i in range(4)]
FIRST, SECOND, THIRD, FOURTH = JOBS
PASSWORD: Final = "correct horse"
SUBSCRIBE: Final = b"event json HEARTBEAT CUSTOM sofia::register\n\n"
PEER: Final = "the event socket of 'fs1' at 10.0.0.1:8021"


def fresh() -> Conversation:
    return Conversation(password=PASSWORD, subscription=Subscription(("HEARTBEAT",), ("sofia::register",)), peer=PEER)


def ready() -> Conversation:
    conversation = fresh()
    assert conversation.receive_data(LET_IN) == [BecameReady()]
    conversation.data_to_send()
    return conversation


def said(happenings: Iterable[Happening]) -> list[str]:
    """Happenings in words, so that a row can be read."""
    words: list[str] = []
    for happening in happenings:
        match happening:
            case BecameReady():
                words.append("ready")
            case Replied(ticket):
                words.append(f"{'accepted' if ticket.accepted else 'refused'} {JOBS.index(ticket.job_uuid) + 1}")
            case JobDone(ticket):
                words.append(f"done {JOBS.index(ticket.job_uuid) + 1}: {ticket.result}")
            case SequenceJumped(expected, received):
                words.append(f"jumped from {expected} to {received}")
            case Closed(reason):
                words.append(f"closed: {reason}")
            case Event():
                words.append(f"event {happening.name}")
    return words


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


# --- login ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Login:
    """A row: what the switch says to somebody who has just connected."""

    what: str
    hears: bytes
    happenings: list[str]
    says: bytes
    state: State


AUTH: Final = b"auth correct horse\n\n"
LOGINS = [
    Login("nothing yet", b"Content-Type: auth/req", [], b"", State.CONNECTED),
    Login("password asked for", AUTH_REQUEST, [], AUTH, State.LOGGING_IN),
    Login("password taken", AUTH_REQUEST + LOGGED_IN, [], AUTH + SUBSCRIBE, State.SUBSCRIBING),
    Login("subscribed", LET_IN, ["ready"], AUTH + SUBSCRIBE, State.READY),
    Login(
        "subscription refused",
        AUTH_REQUEST + LOGGED_IN + reply("-ERR no keywords supplied"),
        ["closed: the peer broke the protocol: the subscription was refused: -ERR no keywords supplied"],
        AUTH + SUBSCRIBE,
        State.CLOSED,
    ),
    Login(
        "password asked for twice",
        AUTH_REQUEST * 2,
        ["closed: the peer broke the protocol: the password was asked for in the state LOGGING_IN"],
        AUTH,
        State.CLOSED,
    ),
    Login(
        "a reply before any question",
        LOGGED_IN,
        ["closed: the peer broke the protocol: a reply in the state CONNECTED"],
        b"",
        State.CLOSED,
    ),
    Login("goodbye at once", disconnect(), ["closed: Disconnected, goodbye."], b"", State.CLOSED),
    Login("goodbye without a word", disconnect(""), ["closed: disconnected"], b"", State.CLOSED),
    Login(
        "an event before login",
        event("HEARTBEAT"),
        ["closed: the peer broke the protocol: an event in the state CONNECTED"],
        b"",
        State.CLOSED,
    ),
    Login(
        "no FreeSWITCH at all",
        b"SSH-2.0-OpenSSH_9.2\r\n\n\n",
        [r"closed: the peer broke the protocol: a header line without a colon: b'SSH-2.0-OpenSSH_9.2\r'"],
        b"",
        State.CLOSED,
    ),
    Login(
        "what comes after the goodbye is not heard",
        LET_IN + disconnect() + event("HEARTBEAT") + b"garbage\n\n",
        ["ready", "closed: Disconnected, goodbye."],
        AUTH + SUBSCRIBE,
        State.CLOSED,
    ),
]


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("row", LOGINS, ids=lambda row: row.what)
def test_login(row: Login, size: int) -> None:
    conversation = fresh()
    happenings: list[Happening] = []
    says = b""
    for piece in pieces_of(row.hears, size):
        happenings += conversation.receive_data(piece)
        says += conversation.data_to_send()
    assert said(happenings) == row.happenings
    assert says == row.says
    assert conversation.state is row.state


@pytest.mark.parametrize(
    ("hears", "message"),
    [
        (
            AUTH_REQUEST + WRONG_PASSWORD + disconnect(),
            f"{PEER} refused the password: the switch's password in the dialer's configuration must be the one in "
            "event_socket.conf.xml",
        ),
        (
            rude_rejection(),
            f"{PEER} does not accept connections from this machine (Access Denied, go away.): allow its address in "
            "apply-inbound-acl of event_socket.conf.xml",
        ),
    ],
    ids=["password", "address"],
)
def test_who_is_not_let_in_is_told_what_to_change(hears: bytes, message: str) -> None:
    conversation = fresh()
    with pytest.raises(LoginRefusedError) as caught:
        conversation.receive_data(hears)
    assert str(caught.value) == message
    assert conversation.state is State.CLOSED
    assert conversation.receive_data(disconnect()) == []


@pytest.mark.parametrize("first", [accepted(FIRST), numbered(1)])
def test_a_rejection_after_the_login_takes_nothing_along(first: bytes) -> None:
    conversation = ready()
    conversation.send(Exists(CALL), FIRST)
    told = conversation.receive_data(first + rude_rejection())
    assert len(told) == 2
    assert told[1] == Closed("the peer broke the protocol: a rejection in the state READY")


def test_events_come_after_the_login() -> None:
    assert fresh().receive_data(numbered(1) + rude_rejection()) == [
        Closed("the peer broke the protocol: an event in the state CONNECTED")
    ]
    assert fresh().receive_data(AUTH_REQUEST + numbered(1) + WRONG_PASSWORD) == [
        Closed("the peer broke the protocol: an event in the state LOGGING_IN")
    ]


def test_the_recorded_refusal_is_one() -> None:
    with pytest.raises(LoginRefusedError, match="refused the password"):
        fresh().receive_data(recording("auth_refused"))


def test_the_password_is_in_no_repr_and_no_error() -> None:
    conversation = fresh()
    told = [repr(conversation)]
    conversation.receive_data(AUTH_REQUEST)
    told.append(repr(conversation))  # its bytes wait to be sent now
    with pytest.raises(LoginRefusedError) as caught:
        conversation.receive_data(WRONG_PASSWORD)
    told += [repr(conversation), str(caught.value), repr(caught.value)]
    assert not [text for text in told if "horse" in text]


def test_a_password_that_is_two_lines_is_never_sent() -> None:
    conversation = Conversation(password="a\n\napi fsctl shutdown", subscription=DIALER, peer=PEER)
    with pytest.raises(InputRefusedError):
        conversation.receive_data(AUTH_REQUEST)
    assert conversation.data_to_send() == b""


# --- commands -------------------------------------------------------------------------------------------------------


@attrs.frozen
class Exchange:
    """A row: `commands` were sent, then the switch says `hears`. What each ticket knows at the end."""

    what: str
    commands: int
    hears: bytes
    happenings: list[str]
    tickets: list[tuple[bool | None, str, str | None]]
    replies_owed: int = 0
    jobs_running: int = 0
    forget: tuple[int, ...] = ()


def ok(number: int) -> str:
    return f"+OK Job-UUID: {JOBS[number]}"


EXCHANGES = [
    Exchange("not answered yet", 1, b"", [], [(None, "", None)], 1, 1),
    Exchange("accepted", 1, accepted(FIRST), ["accepted 1"], [(True, ok(0), None)], 0, 1),
    Exchange(
        "accepted and done",
        1,
        accepted(FIRST) + job(FIRST, "true"),
        ["accepted 1", "done 1: true", "event BACKGROUND_JOB"],
        [(True, ok(0), "true")],
    ),
    Exchange(
        "a job that fails was accepted all the same",
        1,
        accepted(FIRST) + job(FIRST, "-ERR USER_BUSY\n"),
        ["accepted 1", "done 1: -ERR USER_BUSY\n", "event BACKGROUND_JOB"],
        [(True, ok(0), "-ERR USER_BUSY\n")],
    ),
    Exchange(
        "a refusal has no Job-UUID and keeps its place in the queue",
        3,
        accepted(FIRST) + reply("-ERR command not found") + accepted(THIRD),
        ["accepted 1", "refused 2", "accepted 3"],
        [(True, ok(0), None), (False, "-ERR command not found", None), (True, ok(2), None)],
        0,
        2,
    ),
    Exchange(
        "neither +OK nor -ERR is no acceptance",
        1,
        b"Content-Type: command/reply\n\n",
        ["refused 1"],
        [(False, "", None)],
    ),
    Exchange(
        "jobs end in their own order",
        3,
        accepted(FIRST) + accepted(SECOND) + job(SECOND, "b") + accepted(THIRD) + job(THIRD, "c") + job(FIRST, "a"),
        [
            *("accepted 1", "accepted 2", "done 2: b", "event BACKGROUND_JOB", "accepted 3", "done 3: c"),
            *("event BACKGROUND_JOB", "done 1: a", "event BACKGROUND_JOB"),
        ],
        [(True, ok(0), "a"), (True, ok(1), "b"), (True, ok(2), "c")],
    ),
    Exchange(
        "a result that overtakes its reply",
        1,
        job(FIRST, "a") + accepted(FIRST),
        ["done 1: a", "event BACKGROUND_JOB", "accepted 1"],
        [(True, ok(0), "a")],
    ),
    Exchange(
        "a result is told once",
        1,
        accepted(FIRST) + job(FIRST, "a") + job(FIRST, "b"),
        ["accepted 1", "done 1: a", "event BACKGROUND_JOB", "event BACKGROUND_JOB"],
        [(True, ok(0), "a")],
    ),
    Exchange(
        "a forgotten job's reply is still owed, its result is an event only",
        2,
        accepted(FIRST) + job(FIRST, "a") + accepted(SECOND) + job(SECOND, "b"),
        ["accepted 1", "event BACKGROUND_JOB", "accepted 2", "done 2: b", "event BACKGROUND_JOB"],
        [(True, ok(0), None), (True, ok(1), "b")],
        forget=(0,),
    ),
    Exchange(
        "a forgotten command that is refused",
        2,
        reply("-ERR no") + accepted(SECOND),
        ["refused 1", "accepted 2"],
        [(False, "-ERR no", None), (True, ok(1), None)],
        0,
        1,
        forget=(0,),
    ),
    Exchange(
        "somebody else's job",
        1,
        job(FOURTH, "+OK") + accepted(FIRST),
        ["event BACKGROUND_JOB", "accepted 1"],
        [(True, ok(0), None)],
        0,
        1,
    ),
    Exchange(
        "a reply to nothing",
        0,
        reply("+OK whatever"),
        ["closed: the peer broke the protocol: a reply to nothing: +OK whatever"],
        [],
    ),
    Exchange(
        "a reply to another command",
        2,
        accepted(SECOND),
        [f"closed: the peer broke the protocol: the reply for job {SECOND} came in the place of {FIRST}"],
        [(None, "", None), (None, "", None)],
        1,
        2,
    ),
    Exchange(
        "an answer to `api`, which is never used",
        1,
        b"Content-Type: api/response\nContent-Length: 4\n\ntrue",
        ["closed: the peer broke the protocol: an answer to an api command that was never sent"],
        [(None, "", None)],
        1,
        1,
    ),
    Exchange(
        "what was said before the protocol broke is heard",
        1,
        accepted(FIRST) + event("CHANNEL_HANGUP", Unique_ID=CALL) + b"Content-Length: many\n\n",
        [
            "accepted 1",
            "event CHANNEL_HANGUP",
            "closed: the peer broke the protocol: a Content-Length that is no number of bytes: 'many'",
        ],
        [(True, ok(0), None)],
        0,
        1,
    ),
    Exchange(
        "goodbye with replies owed",
        2,
        accepted(FIRST) + disconnect("The system is being shut down.\n") + accepted(SECOND),
        ["accepted 1", "closed: The system is being shut down."],
        [(True, ok(0), None), (None, "", None)],
        1,
        2,
    ),
]


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("row", EXCHANGES, ids=lambda row: row.what)
def test_exchange(row: Exchange, size: int) -> None:
    conversation = ready()
    tickets = [conversation.send(Exists(CALL), JOBS[number]) for number in range(row.commands)]
    assert conversation.data_to_send() == b"".join(
        f"bgapi uuid_exists {CALL}\nJob-UUID: {JOBS[number]}\n\n".encode() for number in range(row.commands)
    )
    for number in row.forget:
        conversation.forget(tickets[number])
    happenings: list[Happening] = []
    for piece in pieces_of(row.hears, size):
        happenings += conversation.receive_data(piece)
    assert said(happenings) == row.happenings
    assert [(ticket.accepted, ticket.reply, ticket.result) for ticket in tickets] == row.tickets
    assert (conversation.replies_owed, conversation.jobs_running) == (row.replies_owed, row.jobs_running)
    assert conversation.data_to_send() == b""


def test_forgotten_after_the_result_or_twice_is_no_harm() -> None:
    conversation = ready()
    ticket = conversation.send(Exists(CALL), FIRST)
    conversation.receive_data(accepted(FIRST) + job(FIRST, "true"))
    conversation.forget(ticket)
    conversation.forget(ticket)
    assert ticket.result == "true"
    data = conversation.data_to_send()
    assert repr(conversation) == f"<Conversation with {PEER} READY, 0 replies owed, 0 jobs running, 0 bytes to send>"
    assert data


def test_each_command_without_a_job_id_gets_one_of_its_own() -> None:
    conversation = ready()
    first, second = conversation.send(Exists(CALL)), conversation.send(Exists(CALL))
    assert first.job_uuid != second.job_uuid
    lines = conversation.data_to_send().split(b"\n\n")
    assert [line.endswith(t.job_uuid.encode()) for line, t in zip(lines, (first, second), strict=False)] == [True] * 2


def test_a_command_that_is_refused_here_leaves_nothing_behind() -> None:
    conversation = ready()
    with pytest.raises(InputRefusedError):
        conversation.send(Exists(CALL), "x\ny")
    assert (conversation.replies_owed, conversation.jobs_running, conversation.data_to_send()) == (0, 0, b"")


def test_no_more_than_so_many_commands_go_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation_module, "MAX_COMMANDS_IN_FLIGHT", 3)
    conversation = ready()
    for number in range(3):
        conversation.send(Exists(CALL), JOBS[number])
    conversation.data_to_send()
    with pytest.raises(ProtocolError, match="3 commands are unanswered"):
        conversation.send(Exists(CALL), FOURTH)
    assert (conversation.replies_owed, conversation.jobs_running, conversation.data_to_send()) == (3, 3, b"")
    conversation.receive_data(accepted(FIRST))
    conversation.send(Exists(CALL), FOURTH)
    assert conversation.replies_owed == 3


# --- lost events ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sequences", "jumps"),
    [
        ([5, 6, 7], []),
        ([900_000], []),  # where the count begins is the switch's business
        ([5, 5 + SEQUENCE_JUMP], []),
        ([5, 5 + SEQUENCE_JUMP + 1], [(6, 2006)]),
        ([5, 9000, 9001, 9002], [(6, 9000)]),  # told once
        ([5, 9000, 5, 6, 9001], [(6, 9000)]),  # threads overtake each other
        ([9000, 5, 9001], []),
        ([5, 9000, 20_000], [(6, 9000), (9001, 20_000)]),
        ([5, 0, 9000], [(6, 9000)]),  # an event without a number
    ],
)
def test_a_jump_of_the_event_numbers_is_reported_once(sequences: Sequence[int], jumps: list[tuple[int, int]]) -> None:
    happenings = ready().receive_data(b"".join(numbered(sequence) for sequence in sequences))
    assert [(h.expected, h.received) for h in happenings if isinstance(h, SequenceJumped)] == jumps
    assert [h.sequence for h in happenings if isinstance(h, Event)] == sequences


# --- recordings -----------------------------------------------------------------------------------------------------

# One client was not let in, the other never subscribed.
NOT_OURS: Final = {"queries", "auth_refused"}


@attrs.frozen
class AsRecorded:
    """A command as a recording's client wrote it."""

    text: str

    def line(self) -> str:
        return self.text


@attrs.frozen
class Replay:
    """A recording as this program's own client would have had it: without the replies to what it never sends."""

    login: bytes
    rest: bytes
    commands: list[tuple[str, str]]  # and its Job-UUID


def replay(name: str) -> Replay:
    kept: list[bytes] = []
    commands: list[tuple[str, str]] = []
    asked = iter(sent(name))
    for frame in frames(recording(name)):
        if frame.startswith(b"Content-Type: api/response"):
            assert next(asked).startswith("api ")
            continue
        if frame.startswith(b"Content-Type: command/reply"):
            verb, _, rest = next(asked).partition(" ")
            if verb in ("filter", "exit"):
                continue
            if verb not in ("auth", "event"):
                job_uuid = frame.partition(b"\nJob-UUID: ")[2].strip().decode() or str(uuid4())
                commands.append((rest if verb == "bgapi" else verb, job_uuid))
        kept.append(frame)
    return Replay(b"".join(kept[:3]), b"".join(kept[3:]), commands)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_OURS])
def test_a_recording_whole_and_byte_by_byte(name: str) -> None:
    tape = replay(name)
    results = {m.job_uuid: m.body for m in messages(tape.rest) if isinstance(m, BackgroundJob)}
    ends: list[tuple[list[str], list[Event]]] = []
    for piece_size in (len(tape.rest), 1):
        conversation = fresh()
        assert said(conversation.receive_data(tape.login)) == ["ready"]
        tickets = [conversation.send(AsRecorded(line), job_uuid) for line, job_uuid in tape.commands]
        happenings: list[Happening] = []
        for piece in pieces_of(tape.rest, piece_size):
            happenings += conversation.receive_data(piece)
        for ticket in tickets:
            assert ticket.accepted is (ticket.command.line() != "nosuch"), ticket
            assert ticket.reply == (
                f"+OK Job-UUID: {ticket.job_uuid}" if ticket.accepted else "-ERR command not found"
            )
            assert ticket.result == results.get(ticket.job_uuid), ticket
        assert [h.ticket for h in happenings if isinstance(h, Replied)] == tickets
        assert {h.ticket.job_uuid for h in happenings if isinstance(h, JobDone)} == set(results)
        assert conversation.replies_owed == 0
        ends.append(
            (
                [type(h).__name__ for h in happenings] + [h.reason for h in happenings if isinstance(h, Closed)],
                [h for h in happenings if isinstance(h, Event)],
            )
        )
    assert ends[0] == ends[1]
    assert ends[0][1] == [m for m in messages(tape.rest) if isinstance(m, Event)]
    if name == "customer_dies_mid_bridge":  # its client did not wait for the goodbye
        assert conversation.state is State.READY
    else:
        reason = "The system is being shut down." if name == "shutdown" else "Disconnected, goodbye."
        assert ends[0][0][-1] == reason


# --- any order ------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Asked:
    """One command as the machine below knows it."""

    ticket: Ticket
    expected: list[object] = attrs.field(factory=lambda: [None, "", None])
    forgotten: bool = False


class AnyLawfulOrder(RuleBasedStateMachine):
    """A switch that replies in order, ends jobs in any, and whose bytes come in any pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.conversation = ready()
        self.unanswered: list[Asked] = []
        self.running: list[Asked] = []
        self.all: list[Asked] = []
        self.wire = b""
        self.delivered = 0
        # What is true once the wire has come this far: (end, whose, field, value)
        self.coming: list[tuple[int, Asked | None, int, object]] = []
        self.words: list[object] = []
        self.expected_words: list[object] = []

    @rule()
    def command(self) -> None:
        asked = Asked(self.conversation.send(Exists(CALL)))
        data = self.conversation.data_to_send()
        assert data.endswith(f"Job-UUID: {asked.ticket.job_uuid}\n\n".encode())
        self.unanswered.append(asked)
        self.all.append(asked)

    @precondition(lambda self: self.unanswered)
    @rule(takes=st.booleans())
    def answer(self, takes: bool) -> None:
        asked = self.unanswered.pop(0)
        if takes:
            self.wire += accepted(asked.ticket.job_uuid)
            self.running.append(asked)
        else:
            self.wire += reply("-ERR no")
        self.coming.append((len(self.wire), asked, 0, takes))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), result=st.sampled_from(["+OK", "-ERR USER_BUSY", "true", "grüße\n\n"]))
    def end_job(self, data: st.DataObject, result: str) -> None:
        asked = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.wire += job(asked.ticket.job_uuid, result)
        self.coming.append((len(self.wire), asked, 2, result))

    @rule()
    def other_peoples_event(self) -> None:
        self.wire += event("CHANNEL_ANSWER", Unique_ID=str(uuid4()))
        self.coming.append((len(self.wire), None, 0, None))

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.all))
        asked.forgotten = True
        self.conversation.forget(asked.ticket)

    @rule(size=st.integers(1, 900))
    def deliver(self, size: int) -> None:
        piece = self.wire[self.delivered : self.delivered + size]
        self.delivered += len(piece)
        for happening in self.conversation.receive_data(piece):
            match happening:
                case Replied(ticket) | JobDone(ticket):
                    self.words.append((type(happening), ticket.job_uuid))
                case Event():
                    self.words.append(happening.name)
                case _:
                    self.words.append(happening)
        while self.coming and self.coming[0][0] <= self.delivered:
            self._has_come(*self.coming.pop(0)[1:])

    def _has_come(self, asked: Asked | None, field: int, value: object) -> None:
        if asked is None:
            self.expected_words.append("CHANNEL_ANSWER")
        elif field == 0:
            text = f"+OK Job-UUID: {asked.ticket.job_uuid}" if value else "-ERR no"
            asked.expected[:2] = [value, text]
            self.expected_words.append((Replied, asked.ticket.job_uuid))
        else:
            if not asked.forgotten:
                asked.expected[2] = value
                self.expected_words.append((JobDone, asked.ticket.job_uuid))
            self.expected_words.append("BACKGROUND_JOB")

    @invariant()
    def each_ticket_knows_its_own_outcome(self) -> None:
        for asked in self.all:
            ticket = asked.ticket
            assert [ticket.accepted, ticket.reply, ticket.result] == asked.expected
        assert self.words == self.expected_words

    def teardown(self) -> None:
        self.deliver(len(self.wire))
        while self.unanswered:
            self.answer(True)
        while self.running:
            asked = self.running.pop()
            self.wire += job(asked.ticket.job_uuid, "late")
            self.coming.append((len(self.wire), asked, 2, "late"))
        self.deliver(len(self.wire))
        self.each_ticket_knows_its_own_outcome()
        assert (self.conversation.replies_owed, self.conversation.jobs_running) == (0, 0)


TestAnyLawfulOrder = AnyLawfulOrder.TestCase
TestAnyLawfulOrder.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
