"""Where hostile or broken bytes come in: one function for each, which raises only when a promise is broken."""

from __future__ import annotations

import functools
import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import attrs
import msgspec
import trio
import trio.testing
from sqlalchemy import text as sql
from sqlmodel import Session
from structlog.testing import capture_logs

from campaigns import list_import as lists
from campaigns import store
from campaigns.campaign import Campaign, dump, load, parse_campaign
from campaigns.database import open_database
from campaigns.list_columns import parse_told
from campaigns.list_reading import open_table
from campaigns.list_rows import Refusal, RowReader, StagedLead, task_of, unpack
from dialer import door as door_module
from dialer.door import Handler
from dialer.errors import ConfigurationError, InputRefusedError
from dialer.esl.commands import Exists, is_name
from dialer.esl.conversation import (
    Closed,
    Conversation,
    Happening,
    JobDone,
    LoginRefusedError,
    Replied,
    State,
)
from dialer.esl.framing import FrameReader
from dialer.esl.messages import Event, ProtocolError, read_message
from dialer.esl.subscription import Subscription
from dialer.settings import parse_settings
from tests.campaigns.test_list_files import EXCEL
from tests.esl.recorded import NAMES, frames, recording
from tests.esl.wire import LET_IN, WRONG_PASSWORD, accepted, disconnect, event, job, numbered, reply, rude_rejection
from tests.fuzz.mutator import Mutator, TomlMutator

CONFIG: Final = Path(__file__).parents[2] / "config"
SOURCE: Final = "FILE"
JOBS: Final = tuple(f"{i:08x}-0000-4000-8000-000000000000" for i in range(3))
LARGEST: Final = 2**63 - 1  # what a database holds
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")


def promise(kept: object, what: str) -> None:
    """As assert, which Python can be told to leave out."""
    if not kept:
        raise AssertionError(what)


# The event socket


def event_socket(data: bytes) -> None:
    """Any bytes are happenings, a broken protocol or a refused login; the same in whatever pieces they come."""
    _read_frames(data)
    random = Random(zlib.crc32(data))
    let_in = random.random() < 0.5
    whole = _converse([data], let_in=let_in)
    pieces = _converse(chopped(data, random), let_in=let_in)
    promise(whole == pieces, f"in pieces it is {pieces!r:.2000}, in one {whole!r:.2000}")


def _read_frames(data: bytes) -> None:
    reader = FrameReader()
    reader.receive_data(data)
    try:
        while (frame := reader.next_frame()) is not None:
            promise(len(frame.body) == int(frame.headers.get("Content-Length", len(frame.body))), "a body's length")
            message = read_message(frame)
            if isinstance(message, Event):
                _judge_event(message)
    except ProtocolError:
        pass


def _judge_event(event: Event) -> None:
    """What is read of an event is text that can be written and numbers that can be stored, in both readers alike."""
    headers = event.all_headers()
    promise(event.name, "an event has a name")
    for field in _fields(type(event)):
        value = getattr(event, field.name)
        if isinstance(value, str):
            value.encode()
            if headers and isinstance(headers.get(field.encode_name), str | None) and value.isascii():
                told = headers.get(field.encode_name) or ""
                promise(told == value, f"{field.name} is {value!r} in one reader and {told!r} in the other")
        elif isinstance(value, int):
            promise(0 <= value <= LARGEST, f"{field.name} is {value}")
    for leg in event.legs:
        leg.encode()
    promise(event.header("Event-Name") == (event.name if headers else ""), "its name in both readers")


@functools.cache
def _fields(kind: type[Event]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _converse(pieces: Sequence[bytes], *, let_in: bool) -> list[object]:
    """What a conversation tells of `pieces`, in values that can be compared."""
    conversation = Conversation(password="x", subscription=Subscription(("HEARTBEAT",), ()), peer="the peer")
    if let_in:
        conversation.receive_data(LET_IN)
        for uuid in JOBS:
            conversation.send(Exists(uuid), uuid)
    told: list[object] = []
    for piece in pieces:
        was_closed = conversation.state is State.CLOSED
        try:
            happenings = conversation.receive_data(piece)
        except LoginRefusedError as error:
            promise(conversation.state is State.CLOSED, "a refused login is the end")
            told.append(f"refused: {error}")
            continue
        promise(not (was_closed and happenings), "nothing is told after the end")
        told += map(_comparable, happenings)
    conversation.data_to_send()
    promise(conversation.replies_owed <= len(JOBS), "no reply is owed that was not asked for")
    promise(sum(isinstance(one, Closed | str) for one in told) <= 1, "there is one end")
    return [*told, conversation.state]


def _comparable(happening: Happening) -> object:
    """Tickets of two conversations are never the same; what a happening is not about may come later."""
    match happening:
        case Replied(ticket):
            return "replied", ticket.job_uuid, ticket.accepted, ticket.reply
        case JobDone(ticket):
            return "done", ticket.job_uuid, ticket.result
        case _:
            return happening


def chopped(data: bytes, random: Random) -> list[bytes]:
    """`data` in pieces, few or many."""
    cuts = sorted(random.randint(0, len(data)) for _ in range(random.choice((1, 2, 5, 20, 60))))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def reframed(data: bytes) -> bytes:
    """`data` with the length its first frame has: else no change of a body would be read as one."""
    head, _, body = data.partition(b"\n\n")
    return re.sub(rb"(Content-Length: )[0-9]+", b"\\g<1>%d" % len(body), head, count=1) + b"\n\n" + body


@functools.cache
def _event_socket_corpus() -> list[bytes]:
    recorded = [frame for name in NAMES for frame in frames(recording(name))]
    kinds: dict[bytes, bytes] = {}  # one of each kind, the shortest: the recordings are megabytes
    for frame in recorded:
        found = re.search(rb'Event-Name["]?: ?"?(\w+)', frame)
        kind = frame[:40] + (found[1] if found is not None else frame[40:60])
        kinds[kind] = min(kinds.get(kind, frame), frame, key=len)
    as_json = [  # not whole: they have 150 headers, of which we read ten
        event(match["Event-Name"], **{name: match[name] for name in sorted(match, key=_how_common)[:25]})
        for match in (_plain_headers(frame) for frame in kinds.values())
        if "Event-Name" in match
    ]
    written = [LET_IN, LET_IN + WRONG_PASSWORD, WRONG_PASSWORD, rude_rejection(), disconnect(), reply("+OK")]
    jobs = [accepted(uuid) for uuid in JOBS] + [job(uuid, "+OK done\n") for uuid in JOBS]
    talk = b"".join(jobs) + numbered(5) + numbered(9000) + event("CHANNEL_BRIDGE", Unique_ID=JOBS[0])
    short = sorted(kinds.values(), key=len)[: len(kinds) * 2 // 3]
    return [*short, max(kinds.values(), key=len), *as_json, *written, *jobs, talk, LET_IN + talk, numbered(1)]


def _how_common(name: str) -> bool:
    return not name.startswith(("Event", "Unique", "Job", "Bridge", "Other", "Hangup", "variable_sip", "Call-"))


def _plain_headers(frame: bytes) -> dict[str, str]:
    pairs = (line.split(": ", 1) for line in frame.decode(errors="replace").splitlines() if ": " in line)
    return {name: value for name, value in pairs if name != "Content-Type"} if b"event-plain" in frame else {}


# A list


def list_import(data: bytes) -> None:
    """Any file is rows that can be dialed, refusals with their line, or refused whole."""
    random = Random(zlib.crc32(data))
    path = _directory() / "list.csv"
    path.write_bytes(data)
    campaign = random.choice(
        (_CAMPAIGN, _CAMPAIGN, attrs_campaign("DE", "Europe/Berlin"), attrs_campaign("GB", None))
    )
    told = random.choice(([], [], [], ["number=name"], ["account=name"], ["callback_at=name", "priority=note"]))
    refused: list[Refusal] = []
    try:
        with open_table(path) as table:
            columns, table = lists._columns(path, table, campaign.country, parse_told(told))
            columns.number_column.encode()
            table.about.encode()
            task = task_of(
                columns,
                country=campaign.country,
                timezone=campaign.timezone,
                by_key=random.random() < 0.1,
                is_spreadsheet=table.is_spreadsheet,
                now=_NOON,
            )
            reader = RowReader(task)
            while rows := lists._some_of(table.rows):
                chunk = reader.chunk(rows)
                promise(chunk.count + len(chunk.refused) == len(rows), "each row is a lead or refused")
                refused += chunk.refused
                for lead in unpack(chunk.leads):
                    _judge_lead(lead)
    except InputRefusedError as error:
        _judge_complaint(error, str(path))
    breaks = data.count(b"\n") + data.count(b"\r")
    for refusal in refused:
        promise(1 < refusal.line <= breaks + 1 or data[:2] == b"PK", f"there is no line {refusal.line}")
        promise(refusal.reason, "a refusal has a reason")
        refusal.value.encode()


def attrs_campaign(country: str, timezone: str | None) -> Campaign:
    return Campaign(name="spring", gateways=("carrier",), country=country, timezone=timezone)


_CAMPAIGN: Final = attrs_campaign("US", None)


def _judge_lead(lead: StagedLead) -> None:
    promise(_E164.fullmatch(lead.number), f"the number {lead.number!r}")
    promise(isinstance(json.loads(lead.zones), list), "zones are a list")
    promise(isinstance(json.loads(lead.fields), dict), "fields are an object")
    for number, zones, kind, _ in json.loads(lead.numbers):
        promise(_E164.fullmatch(number) and isinstance(zones, list) and kind, f"the numbers {lead.numbers!r}")
    for value in (lead.fields, lead.external_key, lead.account, lead.consent_evidence, lead.list_name):
        promise("\0" not in (value or ""), "PostgreSQL takes no NUL")
        (value or "").encode()


def list_import_to_database(data: bytes) -> None:
    """A whole import: what the report says is what the database has, and nothing stays behind."""
    path = _directory() / "whole.csv"
    path.write_bytes(data)
    database = _directory() / "used.db"
    shutil.copy(_database_template(), database)
    trio.run(_whole_import, f"sqlite:///{database}", path)


async def _whole_import(url: str, path: Path) -> None:
    report = None
    async with open_database(url, node=None) as database:
        try:
            report = await lists.import_list(database, path, "spring", now=_NOON)
        except InputRefusedError as error:
            _judge_complaint(error, str(path))

        def count(session: Session) -> list[int]:
            tables = ("lead", "staged_chunk", "list_import")
            return [session.connection().execute(sql(f"SELECT count(*) FROM {t}")).scalar_one() for t in tables]

        found = await database.read(count)
    promise(found == [report.added if report else 0, 0, 0], f"{report} left {found}")
    if report is not None:
        promise(report.rows == report.added + report.duplicates + report.refused_rows, f"{report} adds up")


_NOON: Final = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    memory = Path("/dev/shm")  # a file for each input: on a disk that is most of the time
    return tempfile.TemporaryDirectory(
        prefix="fuzz-", ignore_cleanup_errors=True, dir=memory if memory.is_dir() else None
    )


def _directory() -> Path:
    return Path(_temporary().name)


@functools.cache
def _database_template() -> Path:
    path = _directory() / "template.db"

    async def make() -> None:
        async with open_database(f"sqlite:///{path}", node=None) as database:
            await database.write(lambda session: store.add_campaign(session, _CAMPAIGN, _NOON) and None)

    trio.run(make)
    return path


_LISTS: Final = (
    "id,Phone Number,Name,timezone,Note\n"
    'k1,(212) 555-0100,"Zoë, née O\'Hara",,"two\nlines"\nk2,+12125550101,Ann,America/Denver,\n'
    ",+49 30 901820,Jörg\n\n",
    "\ufeffnumber;name\r\n2125550100;Zoë\r\n2125550101;Ann\r\n2125550100;again\r\n",
    'sep=;\nnumber;name\n2125550100;"Zoë"',
    '"number","name"\n"2125550100","Zoë"\n4.91E+11,x\n12ab,y\n',
    "name\tnumber\nZoë\t+80012345678\nB\t+4930901820\n",
    "number\n" + "".join(f"212555{i:04}\n" for i in range(30)),
)
_LIST_BYTES: Final = [
    *(text.encode() for text in _LISTS),
    *(text.encode("utf-16") for text in _LISTS[:3]),
    b"\xfe\xff" + _LISTS[0].encode("utf-16-be"),
    "number,name\n2125550100,Zo\xeb\n".encode("latin-1"),
    b"phone,phone 2,state,zip,account\n2125550100,3055550100,FL,33101,7\n2125550101,x,,2134,\n",
    b"what|ever\nA|2125550100\nB|2125550101\n",
    EXCEL,
]
_LIST_TOKENS: Final = (
    *(b"sep=", b"sep=;\n", b'sep="\n', b"sep=\r\n", b"number", b"phone,", b"timezone", b"id,", b",,,,", b";", b'""'),
    *(b"Europe/Berlin", b"Etc/Unknown", b"+49 30 901820", b"+80012345678", b"(212) 555-0100", b"++", b"2125550100"),
    *(b"4.91E+11", b"4917212345678.0", b"../../etc/passwd", "‐".encode(), "\u00a0".encode(), b"a,b,c,"),
)


# Configuration


def settings(data: bytes) -> None:
    """Any text is the daemon's settings or every mistake in it, a line each."""
    try:
        found = parse_settings(data.decode(errors="replace"), SOURCE)
    except ConfigurationError as error:
        _judge_complaint(error, SOURCE)
        return
    promise(found.switch, "there is a switch")
    promise(found.gateway, "there is a gateway")
    found.model_dump_json().encode()
    repr(found).encode()


def campaign(data: bytes) -> None:
    """Any text is a campaign, which the database gives back as it was, or every mistake in it, a line each."""
    try:
        found = parse_campaign(data.decode(errors="replace"), SOURCE)
    except InputRefusedError as error:
        _judge_complaint(error, SOURCE)
        return
    promise(load(dump(found)) == found, "a campaign comes back from the database as it was")


def _judge_complaint(error: Exception, source: str) -> None:
    text = str(error)
    text.encode()
    for line in text.split("\n"):
        promise(line.startswith(source), f"a line that does not say where: {line[:200]!r}")


def _without_comments(text: str) -> bytes:
    """Shorter, and so quicker; what is commented out is given too."""
    lines = (re.sub(r"\s+# .*", "", line) for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("# ")).encode() + b"\n"


def _configuration(name: str) -> list[bytes]:
    text = (CONFIG / name).read_text(encoding="utf-8")
    whole = _without_comments(text)
    tables = re.split(rb"\n(?=\[)", whole)
    everything = re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)
    some = [tables[0] + b"\n" + table for table in tables[1:]]
    return [*[whole] * 6, _without_comments(everything), *some, b"\n".join(tables[:3]), tables[0]]


_TOML_TOKENS: Final = (
    *(
        b"[[switch]]",
        b"[[gateway]]",
        b"[database]",
        b"[retries]",
        b"[retries.delay_seconds]",
        b"[[windows]]",
        b"[a.b]",
    ),
    *(b"name = ", b"port = 0", b'"""', b"'''", b"a = [", b"a = {", b'"a\\nb" = 1', b"#", b'"never"', b'"24:00"'),
    *(b'"09:00+02:00"', b'"sqlite:///x"', b'"postgresql://u:p@h/d"', b'"0777"', b'["mon", "mon"]', b'"US"', b'"1e9"'),
    *(b"0x" + b"f" * 4000, b"1979-05-27", b'password = "x"', b'url = "redis://:p@h"', b"\\U00110000", b"[[[[[[[["),
)


# The local door


def door(data: bytes) -> None:
    """Any request gets one line of JSON, in whatever pieces it comes and whether it ends or not."""
    with capture_logs():
        answer = trio.run(_visit, data, clock=trio.testing.MockClock(autojump_threshold=0))
    promise(answer.endswith(b"\n") and answer.count(b"\n") == 1, f"one line, not {answer[:200]!r}")
    found = json.loads(answer)
    promise(isinstance(found, dict) and len(found) == 1 and found.keys() <= {"ok", "error"}, f"{found!r:.200}")
    promise("ok" in found or (isinstance(found["error"], str) and found["error"]), "an error says what is wrong")


async def _visit(data: bytes) -> bytes:
    visitor = _Visitor(data)
    with trio.fail_after(door_module.REQUEST_SECONDS + 1):
        return await door_module._answer(await door_module._read_line(visitor), _HANDLERS)


class _Visitor(trio.abc.ReceiveStream):
    """Sends its request in pieces, and then hangs up or says nothing more."""

    def __init__(self, data: bytes) -> None:
        random = Random(zlib.crc32(data))
        self._pieces = iter([piece for piece in chopped(data, random) if piece])
        self._hangs_up = random.random() < 0.5

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        piece = next(self._pieces, b"")
        if not piece and not self._hangs_up:
            await trio.sleep_forever()
        return piece

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class FakeDesk:
    """The desk's verbs without what is behind them; a test holds the two together."""

    async def campaigns_changed(self) -> str:
        return "noted"

    async def agent_ready(self, extension: str, campaign: str) -> str:
        is_name(None, None, extension)
        if campaign != "spring":
            raise InputRefusedError(f"there is no campaign {campaign!r}")
        return f"{extension} is ready for {campaign}"

    async def agent_pause(self, extension: str) -> str:
        return f"{extension.strip()} is paused"

    async def agent_logout(self, extension: str) -> str:
        return str({"1001": "logged out"}[extension])

    async def stop_all(self) -> str:
        return "stopped"

    async def reload(self) -> str:
        return "nothing has changed"

    async def agent_hangup(self, extension: str) -> str:
        raise InputRefusedError(f"{extension} is on no call of this dialer")

    async def agent_offer(self, extension: str) -> dict[str, Any]:
        return {"agent": extension, "fields": {"name": "\ud800"}}

    async def agent_accept(self, extension: str) -> str:
        raise InputRefusedError(f"no lead is offered to {extension!r} at this daemon now")

    async def agent_skip(self, extension: str, reason: str = "") -> str:
        return f"{extension.strip()}: {reason.strip()}"

    async def agent_dispose(
        self,
        extension: str,
        name: str,
        at: str = "",
        in_minutes: float | None = None,
        for_anyone: bool = False,
        note: str = "",
    ) -> str:
        if not note.isprintable() or (in_minutes is not None and not 0 <= in_minutes < 1e6):
            raise InputRefusedError("that cannot be said of a conversation")
        return f"{extension.strip()}: {name.strip()} {at.strip()}"

    async def status(self) -> dict[str, Any]:
        return {"node": "dialer", "agents": [], "metrics": {"p50": 0.5, "name": "\ud800"}}


async def _echo(**anything: Any) -> Any:
    return anything


async def _thing() -> Any:
    return {1, 2}  # no JSON


VERBS: Final = (
    *("status", "campaigns_changed", "stop_all", "reload"),
    *("agent_ready", "agent_pause", "agent_logout", "agent_hangup", "agent_offer", "agent_accept", "agent_skip"),
    "agent_dispose",
)
_DESK: Final = FakeDesk()
_HANDLERS: Final[Mapping[str, Handler]] = {verb: getattr(_DESK, verb) for verb in VERBS} | {
    "echo": _echo,
    "thing": _thing,
}
_REQUESTS: Final = [
    *(json.dumps({"verb": verb}).encode() + b"\n" for verb in _HANDLERS),
    *(json.dumps({"verb": verb, "extension": "1001"}).encode() + b"\n" for verb in VERBS[2:]),
    *(json.dumps({"verb": verb, "extension": "1001", "campaign": "spring"}).encode() + b"\n" for verb in VERBS[2:4]),
    b'{"verb": "echo", "a": [1, {"b": "\\ud83d\\ude00"}], "c": 1.5, "d": null, "name": "Zo\xc3\xab"}\n',
    '{"verb": "status"}\n'.encode("utf-16"),
]
_DOOR_TOKENS: Final = (
    *(b'"verb": ', b'"status"', b'"echo"', b'"self": 1, ', b'"extension": ', b'"campaign"', b"}\n", b'{"a":', b"[["),
    *(b'"verb": [[[[[[[[[[', b'{"verb": "echo", "a": ', b"}\n{", b'"__class__"', b'"line"', b'"handlers"'),
)


@attrs.frozen
class Target:
    """One place, how to make inputs for it, and what part of the inputs asked for it can do in the time."""

    check: Callable[[bytes], None]
    corpus: Callable[[], Sequence[bytes]]
    tokens: Sequence[bytes]
    longest: int
    share: float = 1.0
    is_toml: bool = False
    mend: Callable[[bytes], bytes] | None = None

    def maker(self) -> Callable[[Random], bytes]:
        """What makes an input of dice."""
        mutator = Mutator(self.corpus(), self.tokens, self.longest)
        mend = self.mend
        if mend is not None:
            return lambda random: (mend if random.random() < 0.5 else bytes)(mutator.make(random))
        if not self.is_toml:
            return mutator.make
        toml = TomlMutator(self.corpus())
        return lambda random: (toml if random.random() < 0.5 else mutator).make(random)


_ESL_TOKENS: Final = (
    *(b"Content-Length: ", b"Content-Type: ", b"Content-Type: text/event-json\n\n", b"Content-Length: 0\n", b"\n\n"),
    *(
        b"Content-Type: text/event-plain",
        b"Content-Type: command/reply\n",
        b"Reply-Text: +OK\n",
        b"-ERR",
        b"\n\n\n\n",
    ),
    *(b"Content-Type: auth/request\n\n", b"Content-Type: api/response\n\n", b'"Event-Name":', b'"Event-Sequence":'),
    *(b'{"Event-Name":"HEARTBEAT","Event-Sequence":', b'"Unique-ID":', b'"_body":', b"Event-Name: X\n", b'"raw":1,'),
    *(b"Content-Length: 67108865\n", b"Content-Length: 9999999\n", *map(str.encode, JOBS)),
)

TARGETS: Final[Mapping[str, Target]] = {
    "event_socket": Target(event_socket, _event_socket_corpus, _ESL_TOKENS, 96 * 1024, mend=reframed),
    "list_import": Target(list_import, lambda: _LIST_BYTES, _LIST_TOKENS, 64 * 1024),
    "list_import_to_database": Target(
        list_import_to_database, lambda: _LIST_BYTES, _LIST_TOKENS, 16 * 1024, share=0.001
    ),
    "settings": Target(settings, lambda: _configuration("dialer.toml"), _TOML_TOKENS, 64 * 1024, is_toml=True),
    "campaign": Target(campaign, lambda: _configuration("campaign.toml"), _TOML_TOKENS, 64 * 1024, is_toml=True),
    "door": Target(door, lambda: _REQUESTS, _DOOR_TOKENS, 80 * 1024),
}
