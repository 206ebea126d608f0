"""The operator's door: who may come in, what is answered, and that nobody can break it."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from dialer import door as door_module
from dialer.door import MAX_REQUEST_BYTES, ask, serve_door
from dialer.errors import ConfigurationError, DialerError, InputRefusedError, UnavailableError


async def greet(name: str, times: int = 1) -> str:
    await trio.lowlevel.checkpoint()
    return f"hello {name}" * times


async def refuse() -> None:
    raise InputRefusedError("nobody of that name")


async def break_down(what: str) -> None:
    raise {"key": KeyError("x"), "value": ValueError("no\nnumber"), "group": ExceptionGroup("two", [OSError()])}[what]


async def thing() -> object:
    return {1, 2}  # a set is no JSON


async def large() -> str:
    return "x" * 3_000_000


HANDLERS: dict[str, Callable[..., Awaitable[Any]]] = {
    "greet": greet,
    "refuse": refuse,
    "break_down": break_down,
    "large": large,
    "thing": thing,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "door.sock"


async def fails_to_open(path: Path) -> None:
    with trio.fail_after(60):
        await serve_door(path, 0o660, {})


def is_there(path: Path) -> bool:
    return path.exists()


def mode_of(path: Path) -> int:
    return path.stat().st_mode


@asynccontextmanager
async def open_door(path: Path, mode: int = 0o660) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_door, path, mode, HANDLERS)
        yield
        nursery.cancel_scope.cancel()


async def asked(path: Path, verb: str, **arguments: Any) -> Any:
    return await trio.to_thread.run_sync(partial(ask, path, verb, **arguments))


async def sent(path: Path, request: bytes) -> dict[str, Any]:
    """The answer to bytes that `ask` would never send."""
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(request)
        await stream.send_eof()
        answer = b""
        async for data in stream:
            answer += data
    found: dict[str, Any] = json.loads(answer)
    return found


async def test_questions_and_answers(path: Path) -> None:
    async with open_door(path):
        assert await asked(path, "greet", name="Ada") == "hello Ada"
        assert await asked(path, "greet", name="Zoë\n", times=2) == "hello Zoë\nhello Zoë\n"
        assert len(await asked(path, "large")) == 3_000_000
        with pytest.raises(InputRefusedError, match=r"^nobody of that name$"):
            await asked(path, "refuse")
    assert not is_there(path)


async def test_many_at_once(path: Path) -> None:
    answers: list[str] = []

    async def one(index: int) -> None:
        answers.append(await asked(path, "greet", name=str(index)))

    async with open_door(path), trio.open_nursery() as nursery:
        for index in range(100):
            nursery.start_soon(one, index)
    assert sorted(answers) == sorted(f"hello {index}" for index in range(100))


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o666])
async def test_its_permissions_are_those_configured(path: Path, mode: int) -> None:
    umask = os.umask(0o022)
    try:
        async with open_door(path, mode):
            assert mode_of(path) == stat.S_IFSOCK | mode
    finally:
        assert os.umask(umask) == 0o022


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (b"", "one line of JSON"),
        (b"\n", "one line of JSON"),
        (b'{"verb": "greet", "name": "no line end"}', "one line of JSON"),
        (b'{"verb": "greet"', "one line of JSON"),
        (b"GET / HTTP/1.1\r\n\r\n", "one line of JSON"),
        (b"\xff\xfe\n", "one line of JSON"),
        (b"[" * 60_000 + b"\n", "one line of JSON"),
        (b'{"verb": "greet", "name": ' + b"9" * 5_000 + b"}\n", "one line of JSON"),
        (b'{"verb": "refuse"}\n{"verb": "refuse"}\n', "one line of JSON"),
        (b"[]\n", "there is no verb None; there is break_down, greet, large, refuse, thing"),
        (b"{}\n", "there is no verb None"),
        (b'{"verb": ["greet"]}\n', "there is no verb ['greet']"),
        (b'{"verb": "' + b"x" * 60_000 + b'"}\n', "xxx; there is break_down"),
        (b'{"verb": "thing"}\n', "thing: Object of type set is not JSON serializable"),
        (b'{"verb": "gret"}\n', "there is no verb 'gret'"),
        (b'{"verb": "greet"}\n', "greet: greet() missing 1 required positional argument: 'name'"),
        (b'{"verb": "greet", "nam": 1}\n', "greet: greet() got an unexpected keyword argument 'nam'"),
        (b'{"verb": "greet", "name": "x", "times": null}\n', "greet: can't multiply"),
    ],
)
async def test_bad_requests_are_answered_and_the_door_lives_on(path: Path, request_: bytes, says: str) -> None:
    async with open_door(path):
        answer = await sent(path, request_)
        assert says in answer["error"]
        assert await asked(path, "greet", name="Ada") == "hello Ada"


@pytest.mark.parametrize("what", ["key", "value", "group"])
async def test_a_handler_that_breaks_is_told_and_the_door_lives_on(path: Path, what: str) -> None:
    async with open_door(path):
        with capture_logs() as logs, pytest.raises(InputRefusedError, match="break_down: failed inside the daemon"):
            await asked(path, "break_down", what=what)
        assert [line["event"] for line in logs] == ["door_request_failed"]
        assert await asked(path, "greet", name="Ada") == "hello Ada"


async def test_a_request_too_large(path: Path) -> None:
    async with open_door(path):
        just = b'{"verb": "greet", "name": "' + b"x" * (MAX_REQUEST_BYTES - 30) + b'"}\n'
        assert "ok" in await sent(path, just)
        answer = await sent(path, just[:-3] + b"xxxx" + just[-3:])
        assert answer == {"error": "a request is one line of JSON of at most 65536 bytes"}
        with trio.fail_after(5):  # no end of it is waited for
            async with await trio.open_unix_socket(path) as endless:
                await endless.send_all(b"x" * (MAX_REQUEST_BYTES + 1))
                assert b"one line of JSON" in await endless.receive_some()
        with pytest.raises(DialerError):
            await asked(path, "greet", name="x" * 1_000_000)
        assert await asked(path, "greet", name="Ada") == "hello Ada"


async def test_visitors_who_leave_or_say_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "REQUEST_SECONDS", 0.1)
    async with open_door(path):
        for request in (b"", b'{"verb": "large"}\n'):
            async with await trio.open_unix_socket(path) as stream:
                await stream.send_all(request or b"{")
        async with await trio.open_unix_socket(path) as silent:
            data = b""
            async for more in silent:
                data += more
        assert "one line of JSON" in json.loads(data)["error"]
        assert await asked(path, "greet", name="Ada") == "hello Ada"


async def test_a_dead_daemon_s_socket_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert is_there(path)
    async with open_door(path):
        assert await asked(path, "greet", name="Ada") == "hello Ada"


async def test_a_living_daemon_s_socket_is_not(path: Path) -> None:
    async with open_door(path):
        with pytest.raises(ConfigurationError, match=r"door\.path .*: another daemon answers there"):
            await fails_to_open(path)
        assert await asked(path, "greet", name="Ada") == "hello Ada"


async def test_one_too_busy_to_answer_is_alive(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))  # nobody accepts it, and the queue is full
        with pytest.raises(ConfigurationError, match="another daemon answers there"):
            await fails_to_open(path)
        assert is_there(path)


async def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    file = trio.Path(tmp_path / "door.sock")
    await file.write_text("somebody's")
    with pytest.raises(ConfigurationError, match="there is something else of that name"):
        await fails_to_open(Path(file))
    assert await file.read_text() == "somebody's"


async def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    await trio.Path(tmp_path / "file").write_text("")
    for path in (tmp_path / ("x" * 150), tmp_path / "file" / "door.sock"):
        with pytest.raises(ConfigurationError, match=r"door\.path .*: cannot be opened"):
            await fails_to_open(path)


def test_nobody_there(path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"no daemon answers at .*: start it with `dialer run`.*--config"):
        ask(path, "status")
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(UnavailableError, match="start it with `dialer run`"):
        ask(path, "status")


@pytest.mark.parametrize("answer", [b"", b'{"ok": "half an ans'])
async def test_a_daemon_that_dies_while_it_is_asked(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "door.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def die() -> None:
            visitor, _ = listener.accept()
            with visitor:
                visitor.recv(1000)
                visitor.sendall(answer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, die)
            with pytest.raises(UnavailableError, match="closed the door without an answer"):
                await asked(path, "status")
