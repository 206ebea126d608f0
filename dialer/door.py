"""The operator's local door: what the command line asks a running daemon, over a unix socket.

File permissions are the lock. One request a connection: a line of JSON in, a line of JSON out. Who asks is what the
kernel says of the other end; root may ask in the name of whoever called it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from campaigns.audit import this_person
from dialer.errors import ConfigurationError, DialerError, InputRefusedError, UnavailableError

log = structlog.get_logger()

MAX_REQUEST_BYTES: Final = 64 * 1024
MAX_CONNECTIONS: Final = 32
REQUEST_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 30.0

Handler = Callable[..., Awaitable[Any]]

asked_by: Final[ContextVar[str]] = ContextVar("asked_by", default="daemon")
"""Who asked for what is being done, for the audit log. Set for each request."""


async def serve_door(
    path: Path,
    mode: int,
    handlers: Mapping[str, Handler],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answers requests at `path` until cancelled, then removes the socket.

    Raises ConfigurationError if the socket cannot be made. A socket that a dead daemon left behind is replaced.
    """
    listener_socket = await trio.to_thread.run_sync(_bind, path, mode)
    limiter = trio.CapacityLimiter(MAX_CONNECTIONS)
    one_at_a_time = trio.CapacityLimiter(1)  # not of the threads that others wait for

    async def answer(stream: trio.SocketStream) -> None:
        async with limiter, stream:
            with trio.move_on_after(REQUEST_SECONDS + ANSWER_SECONDS):
                try:
                    uid = _uid_of(stream.socket)
                    asked_by.set(await trio.to_thread.run_sync(_name_of, uid, limiter=one_at_a_time))
                    line = await _read_line(stream)
                    await stream.send_all(await _answer(line, handlers, is_root=uid == 0))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    log.debug("door_visitor_left")

    try:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listener_socket))
        task_status.started()
        await trio.serve_listeners(answer, [listener])
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _uid_of(peer: trio.socket.SocketType) -> int:
    """Of the process at the other end (unix(7), SO_PEERCRED)."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


@lru_cache(maxsize=256)
def _name_of(uid: int) -> str:
    """Asked in a thread: the book of users may be far away."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _bind(path: Path, mode: int) -> socket.socket:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if not stat.S_ISSOCK(path.stat().st_mode):
                raise ConfigurationError(f"door.path {path}: there is something else of that name; move it away")
            if is_open(path):
                raise ConfigurationError(f"door.path {path}: another daemon answers there; it needs another")
            path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            before = os.umask(0o777 & ~mode)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            # A shift that logs in by a script comes all at once; whoever finds the queue full is turned away.
            listener.listen(socket.SOMAXCONN)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigurationError(f"door.path {path}: cannot be opened: {error}") from error
    return listener


def is_open(path: Path) -> bool:
    """Whether a daemon is behind the door at `path`, as far as can be seen without asking it anything."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # too busy to take us in, or not ours to ask: somebody is there
            return True
        return True


async def _read_line(stream: trio.abc.ReceiveStream) -> bytes:
    data = bytearray()
    with trio.move_on_after(REQUEST_SECONDS):
        while b"\n" not in data and len(data) <= MAX_REQUEST_BYTES:
            more = await stream.receive_some(MAX_REQUEST_BYTES)
            if not more:
                break
            data += more
    return bytes(data)


async def _answer(line: bytes, handlers: Mapping[str, Handler], *, is_root: bool = False) -> bytes:
    try:
        if len(line) > MAX_REQUEST_BYTES or not line.endswith(b"\n"):
            raise InputRefusedError(f"a request is one line of JSON of at most {MAX_REQUEST_BYTES} bytes")
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputRefusedError(f"a request is one line of JSON: {error}") from error
        verb = request.pop("verb", None) if isinstance(request, dict) else None
        on_behalf_of = request.pop("on_behalf_of", None) if isinstance(request, dict) else None
        if is_root and isinstance(on_behalf_of, str) and on_behalf_of.isprintable():
            asked_by.set(on_behalf_of)
        handler = handlers.get(verb) if isinstance(verb, str) else None
        if handler is None:
            raise InputRefusedError(f"there is no verb {verb!r:.100}; there is {', '.join(sorted(handlers))}")
        try:
            # An answer that is no JSON is a failure of the handler's, and of nobody else.
            answer = json.dumps({"ok": await handler(**request)})
        except TypeError as error:
            raise InputRefusedError(f"{verb}: {error}") from error
        except DialerError:
            raise
        except Exception as error:  # a question must not end the calls of everybody else
            log.exception("door_request_failed", verb=verb)
            raise InputRefusedError(
                f"{verb}: failed inside the daemon ({type(error).__name__}: {error}); its log tells more"
            ) from error
    except DialerError as error:
        answer = json.dumps({"error": str(error)})
    return answer.encode() + b"\n"


def ask(path: Path, verb: str, **arguments: Any) -> Any:
    """Asks the daemon behind `path` and gives its answer; blocking, for the command line.

    Raises UnavailableError if no daemon answers there, InputRefusedError with what the daemon said against it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(ANSWER_SECONDS)
        data = bytearray()
        try:
            door.connect(str(path))
            request = {"verb": verb, "on_behalf_of": this_person(), **arguments}
            door.sendall(json.dumps(request).encode() + b"\n")
            while not data.endswith(b"\n"):
                more = door.recv(1 << 20)
                if not more:
                    break
                data += more
        except (OSError, ValueError) as error:
            raise UnavailableError(
                f"no daemon answers at {path} ({error}): start it with `dialer run`, "
                "or name the configuration it runs with in --config"
            ) from error
    if not data.endswith(b"\n"):
        raise UnavailableError(f"the daemon at {path} closed the door without an answer")
    answer = json.loads(data)
    if "error" in answer:
        raise InputRefusedError(answer["error"])
    return answer["ok"]
