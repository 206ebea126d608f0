"""Recorded events parsed a second, from the wire's bytes to a value a program can use, beside two other clients.

Ours reads `event json`, the peers read `event plain`, each the format it subscribes to. The recordings are mostly
plain, so their events are written in JSON anew, as mod_event_socket writes it; the recorded JSON events prove the
writer right. The peers are served better than in life: greenswitch reads from memory, and genesis, whose framing is
tied to asyncio, gets each frame cut and only parses.
"""

from __future__ import annotations

import importlib.util
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from bench.shared import tell
from dialer.esl.framing import FrameReader
from dialer.esl.messages import Frame, read_message

ROOT: Final = Path(__file__).parents[1]
RECORDINGS: Final = ROOT / "tests" / "recordings"
PEERS: Final = ROOT / ".venv" / "bench-peers"
REQUIREMENTS: Final = Path(__file__).with_name("peers.txt")
GOALS: Final = {"greenswitch": 15, "genesis": 30}

ROUNDS: Final = 7
OUR_EVENTS: Final = 20_000
THEIR_EVENTS: Final = 2_000
READ_BYTES: Final = 64 * 1024  # what a socket mostly gives at once under load
# A variable that FreeSWITCH pushes onto: an array even with one value in it (switch_event.c).
ARRAYS: Final = frozenset({"variable_transfer_history"})

Pairs = list[tuple[str, Any]]
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def recorded_frames() -> list[Frame]:
    """Every frame of every recording."""
    found: list[Frame] = []
    for path in sorted(RECORDINGS.glob("*.esl")):
        reader = FrameReader()
        reader.receive_data(path.read_bytes())
        while (frame := reader.next_frame()) is not None:
            found.append(frame)
    return found


def json_body(pairs: Pairs) -> bytes:
    """An event as mod_event_socket writes it in `event json`: cJSON unformatted, a name may come twice."""
    members = (f"{json.dumps(name)}:{_dumps(value)}" for name, value in pairs)
    return ("{" + ",".join(members) + "}").encode()


def plain_pairs(body: bytes) -> Pairs:
    """The headers of an `event plain` body in order; an array is a list, as in JSON."""
    pairs: Pairs = []
    for line in body.decode().rstrip("\n").split("\n"):
        name, _, encoded = line.partition(": ")
        value = unquote(encoded)
        is_array = name in ARRAYS or value.startswith("ARRAY::")
        pairs.append((name, value.removeprefix("ARRAY::").split("|:") if is_array else value))
    return pairs


def wire(content_type: str, body: bytes) -> bytes:
    return f"Content-Length: {len(body)}\nContent-Type: {content_type}\n\n".encode() + body


def events() -> tuple[list[bytes], list[bytes]]:
    """The recorded CHANNEL events as plain bodies and the same as JSON bodies."""
    plain: list[bytes] = []
    for frame in recorded_frames():
        match frame.headers.get("Content-Type"):
            case "text/event-json":
                if json_body(json.loads(frame.body, object_pairs_hook=list)) != frame.body:
                    raise RuntimeError("the JSON written here is not what the recordings show")
            case "text/event-plain" if frame.body.startswith(b"Event-Name: CHANNEL_"):
                plain.append(frame.body)
    return plain, [json_body(plain_pairs(body)) for body in plain]


def repeated(bodies: list[bytes], content_type: str, count: int) -> bytes:
    """`count` events on the wire, the bodies over and over."""
    frames = [wire(content_type, body) for body in bodies]
    return b"".join(frames[number % len(frames)] for number in range(count))


def per_second(parse: Callable[[], int]) -> float:
    started = time.perf_counter()
    parsed = parse()
    return parsed / (time.perf_counter() - started)


def ours(stream: bytes) -> Callable[[], int]:
    chunks = [stream[start : start + READ_BYTES] for start in range(0, len(stream), READ_BYTES)]

    def parse() -> int:
        reader, parsed = FrameReader(), 0
        for chunk in chunks:
            reader.receive_data(chunk)
            while (frame := reader.next_frame()) is not None:
                read_message(frame)
                parsed += 1
        return parsed

    return parse


def greenswitch(stream: bytes) -> Callable[[], int]:
    from greenswitch.esl import ESLProtocol  # type: ignore[import-not-found]

    def parse() -> int:
        protocol = ESLProtocol()
        protocol.sock_file = io.BytesIO(stream)
        protocol.receive_events()  # until the end of the stream
        return int(protocol._esl_event_queue.qsize())

    return parse


def genesis(stream: bytes) -> Callable[[], int]:
    spec = importlib.util.spec_from_file_location("genesis_parser", PEERS / "genesis" / "protocol" / "parser.py")
    if spec is None or spec.loader is None:
        raise ImportError("genesis/protocol/parser.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cut = list(_cut(stream))

    def parse() -> int:
        for head, body in cut:
            event = module.parse_headers(head.decode())
            event.update(module.parse_headers(body.decode()))
        return len(cut)

    return parse


def _cut(stream: bytes) -> Iterable[tuple[bytes, bytes]]:
    reader = FrameReader()
    reader.receive_data(stream)
    while (frame := reader.next_frame()) is not None:
        head = "".join(f"{name}: {value}\n" for name, value in frame.headers.items())
        yield head.encode(), frame.body


def install_peers() -> str:
    """Installs the peers once; gives what went wrong, or nothing."""
    mark = PEERS / "installed.txt"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if not (mark.exists() and mark.read_text(encoding="utf-8") == wanted):
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        options = ["--require-hashes", "--upgrade", "--target", str(PEERS), "-r", str(REQUIREMENTS)]
        done = subprocess.run([*pip, *options], capture_output=True, text=True)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["pip failed without a word"])[-1]
        mark.write_text(wanted, encoding="utf-8")
    sys.path.append(str(PEERS))
    return ""


def main() -> None:
    plain, in_json = events()
    size = sum(map(len, in_json)) / len(in_json)
    parsers = {"ours": ours(repeated(in_json, "text/event-json", OUR_EVENTS))}
    missing = dict.fromkeys(GOALS, install_peers())
    their_stream = repeated(plain, "text/event-plain", THEIR_EVENTS)
    for name, peer in (("greenswitch", greenswitch), ("genesis", genesis)):
        if not missing[name]:
            try:
                parsers[name] = peer(their_stream)
            except (ImportError, OSError) as error:
                missing[name] = f"{type(error).__name__}: {error}"
    rates: dict[str, list[float]] = {name: [] for name in parsers}
    for _ in range(ROUNDS):  # in turns, so that a busy moment of the machine hits all of them
        for name, parse in parsers.items():
            rates[name].append(per_second(parse))
    our_rate = statistics.median(rates["ours"])
    tell("parse.events", round(our_rate), "events/s", events=len(in_json), bytes_per_event=round(size), rounds=ROUNDS)
    for name, goal in GOALS.items():
        if missing[name]:
            tell(f"parse.ratio_{name}", None, "x", peer=name, peer_missing=missing[name], goal=f">= {goal}")
            continue
        ratio = statistics.median(mine / its for mine, its in zip(rates["ours"], rates[name], strict=True))
        peer_rate = round(statistics.median(rates[name]))
        tell(
            f"parse.ratio_{name}", ratio, "x", peer=name, peer_events=peer_rate, goal=f">= {goal}", met=ratio >= goal
        )


if __name__ == "__main__":
    main()
