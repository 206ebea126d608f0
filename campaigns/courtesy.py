"""Giving way to a dialer on the same machine: whoever reads a list takes what processor time is left.

Linux shares a processor between sessions first, and minds the niceness of a process only within its own (sched(7),
autogroup): a niced import in a terminal would get as much as the daemon. So both are set, for as long as the work
takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_TRIES: Final = 5
_AGAIN_SECONDS: Final = 0.1
_SESSION: Final = Path("/proc/self/autogroup")  # like "/autogroup-123 nice 0"


@contextmanager
def giving_way(niceness: int) -> Iterator[None]:
    """Within the context this process and its session are at least so nice; none that is nicer is changed."""
    process = os.getpriority(os.PRIO_PROCESS, 0)
    session = _session_niceness()
    _set(process, session, max(process, niceness), max(session, niceness))
    try:
        yield
    finally:
        _set(max(process, niceness), max(session, niceness), process, session)


def take_what_is_left() -> None:
    """From now on this process runs only where a processor has nothing else to do. Not for one that holds a lock.

    Whoever wakes up takes its place at once, where the nicest of the others would first end their slice (sched(7)).
    """
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _session_niceness() -> int:
    try:
        return int(_SESSION.read_text(encoding="ascii").split()[-1])
    except (OSError, ValueError, IndexError):
        return 0  # sessions are not told apart here


def _set(process: int, session: int, new_process: int, new_session: int) -> None:
    with suppress(OSError):  # only root may take niceness back
        if new_process != process:
            os.setpriority(os.PRIO_PROCESS, 0, new_process)
    if new_session != session:
        _tell_session(new_session)


def _tell_session(niceness: int) -> None:
    """Linux lets it be told ten times a second on the whole machine; whoever comes too soon asks again."""
    for _ in range(_TRIES):
        try:
            _SESSION.write_text(str(niceness), encoding="ascii")
        except BlockingIOError:
            time.sleep(_AGAIN_SECONDS)
        except OSError:
            return  # there are none here
        else:
            return
