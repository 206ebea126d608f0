"""What the laboratory is built with: processes that never outlive us, ports, templates, waiting."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path

import trio

HOST = "127.0.0.1"
RTP_SPAN = 4096  # a call takes two ports, so 2,000 legs
RTP_BLOCKS = range(16384, 32768, RTP_SPAN)  # below the ports the kernel gives to others by itself
PR_SET_PDEATHSIG = 1

Milliseconds = int | tuple[int, int]  # a tuple: anything between the two, evenly


class LaboratoryError(Exception):
    """Something in the laboratory itself did not work; says nothing about what is tested in it."""


def find_binary(name: str) -> str | None:
    """`freeswitch` or `sipp`: from DIALER_FREESWITCH or DIALER_SIPP if set, otherwise from the PATH."""
    return shutil.which(os.environ.get(f"DIALER_{name.upper()}") or name)


async def wait_until(
    condition: Callable[[], Awaitable[bool]], within_seconds: float = 60, *, every: float = 0.05
) -> None:
    """Asks again and again: for what no event tells."""
    with trio.fail_after(within_seconds):
        while not await condition():  # noqa: ASYNC110  it is another program's state
            await trio.sleep(every)


async def wait_exit(process: subprocess.Popen[bytes]) -> int:
    while (code := process.poll()) is None:  # noqa: ASYNC110  not started by trio: see laboratory.py
        await trio.sleep(0.02)
    return code


def filled(template: Path, **words: object) -> str:
    """The template with every @word@ replaced; a word that is missing is an error."""
    return re.sub(r"@([a-z_]+)@", lambda match: str(words[match[1]]), template.read_text())


def pause(length: Milliseconds) -> str:
    """The attributes of SIPp's <pause>."""
    if isinstance(length, int):
        return f'milliseconds="{length}"'
    return f'distribution="uniform" min="{length[0]}" max="{length[1]}"'


def tail(file: Path, lines: int) -> list[str]:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 200 * lines))
        return stream.read().decode(errors="replace").splitlines()[-lines:]


def spawn(arguments: Sequence[str], *, output: Path) -> subprocess.Popen[bytes]:
    with output.open("ab") as stream:
        return subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=output.parent,
            start_new_session=True, preexec_fn=die_with_parent(),
        )  # fmt: skip


@functools.cache
def die_with_parent() -> Callable[[], None]:
    """What a child does before it becomes another program; the library is opened here, not after the fork."""
    prctl = ctypes.CDLL(None).prctl
    return functools.partial(prctl, PR_SET_PDEATHSIG, signal.SIGKILL)


def is_free(port: int) -> bool:
    """For both UDP and TCP; a port in TIME_WAIT counts as free."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True


def free_ports(count: int) -> list[int]:
    """Different ports that nobody holds just now; another process may take one before we do, which is rare."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            taken = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            taken.bind((HOST, 0))
            port: int = taken.getsockname()[1]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    probe.bind((HOST, port))
                except OSError:
                    continue
            found.append(port)
    return found


def free_media_port(taken: Collection[int]) -> int:
    """Where a SIPp can send sound from: it binds the ports for video too, two and three further on."""
    while True:
        (first,) = free_ports(1)
        block = range(first, first + 4)
        if not set(block) & set(taken) and all(is_free(port) for port in block):
            return first


@contextlib.contextmanager
def reserved_rtp_ports() -> Iterator[int]:
    """The first port for RTP of a block no other laboratory uses: whoever has a block holds its very first port."""
    for block in RTP_BLOCKS:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lock:
            try:
                lock.bind((HOST, block))
            except OSError:
                continue
            yield block + 2
            return
    raise LaboratoryError(f"{len(RTP_BLOCKS)} laboratories run already")
