"""Locks in files beside a SQLite database, that say which daemons run on it.

`<database>.lock` is held by every daemon: exclusively by one that must be alone, shared by those that know of each
other. `<database>.<node>.lock` is held by the daemon of that name. The operating system lets go of them when a
process ends, however it ends; a file that is left over means nothing.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dialer.errors import ConfigurationError

NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


@contextmanager
def daemon_locks(path: Path, node: str, *, exclusive: bool) -> Iterator[None]:
    """Hold the locks of the daemon `node` on the database `path`; ConfigurationError when another daemon has them."""
    common, own = Path(f"{path}.lock"), Path(f"{path}.{node}.lock")
    with ExitStack() as held:
        if not held.enter_context(_flock(own, fcntl.LOCK_EX)):
            raise ConfigurationError(refusal(str(path), node, _holder(own), same_node=True, exclusive=exclusive))
        if not held.enter_context(_flock(common, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)):
            raise ConfigurationError(
                refusal(str(path), node, _holders(path, own), same_node=False, exclusive=exclusive)
            )
        own.write_text(f"pid {os.getpid()}\n")
        yield


@contextmanager
def _flock(path: Path, operation: int) -> Iterator[bool]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"the lock file {path} cannot be opened: {error.strerror}; the daemon's user must be able to write beside"
            " its database"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _holders(path: Path, own: Path) -> str:
    """The daemons whose own locks are held now."""
    found = []
    for lock in sorted(path.parent.iterdir()):
        if lock in (own, Path(f"{path}.lock")) or not re.fullmatch(re.escape(path.name) + r"\..+\.lock", lock.name):
            continue
        with _flock(lock, fcntl.LOCK_SH) as free:
            if not free:
                node = lock.name[len(path.name) + 1 : -len(".lock")]
                found.append(f"{node}, {_holder(lock)}")
    return "; ".join(found)


def refusal(name: str, node: str, holders: str, *, same_node: bool, exclusive: bool) -> str:
    """The sentence that tells an operator why a second daemon is not started."""
    who = f" ({holders})" if holders else ""
    if same_node:
        return (
            f"another daemon called {node} runs on the database {name}{who};"
            " stop it, or give this one a node name of its own"
        )
    if exclusive:
        return (
            f"another daemon runs on the database {name}{who}, and this one has a Redis of its own, so they would not"
            " know of each other's agents; stop it, or give both the same Redis"
        )
    return (
        f"another daemon runs on the database {name}{who} with a Redis of its own, so this one would not know of its"
        " agents; stop it, or give both the same Redis"
    )
