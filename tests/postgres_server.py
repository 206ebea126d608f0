"""A throw-away PostgreSQL for tests: made in a temporary directory, reached by a socket there, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql
from sqlalchemy import make_url

START_SECONDS = 30


class NoServerError(Exception):
    """Why there is no PostgreSQL here."""


def _find(program: str) -> str:
    places = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    if found is None:
        raise NoServerError(
            f"no {program} in PATH or /usr/lib/postgresql; set DIALER_TEST_POSTGRES_URL to use a server"
        )
    return found


def _user() -> int | None:
    """Whom to run it as: PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_uid
    except KeyError:
        raise NoServerError("PostgreSQL refuses to run as root, and there is no user postgres") from None


@contextmanager
def throw_away_server() -> Iterator[str]:
    """The URL of a server's maintenance database; the server ends with the context."""
    initdb, postgres, user = _find("initdb"), _find("postgres"), _user()
    with tempfile.TemporaryDirectory(prefix="dialer-pg-") as directory:
        if user is not None:
            os.chown(directory, user, -1)
        data = f"{directory}/data"
        made = subprocess.run(
            [initdb, "--pgdata", data, "--auth", "trust", "--username", "dialer", "--no-sync", "--encoding", "UTF8"],
            user=user,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
        )
        if made.returncode != 0:
            raise NoServerError(f"initdb failed: {made.stderr.strip()}")
        options = {"listen_addresses": "", "unix_socket_directories": directory, "fsync": "off"}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with open(f"{directory}/log", "wb") as log:
            server = subprocess.Popen(
                [postgres, "-D", data, *arguments],
                user=user,
                cwd="/",
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        try:
            url = f"postgresql://dialer@/postgres?host={directory}"
            _wait_until_up(url, server)
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # PostgreSQL's "fast" shutdown
            server.wait(START_SECONDS)


def _wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise NoServerError(f"the server did not start within {START_SECONDS} s") from None
            time.sleep(0.02)


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """A database in `server` for as long as the block lasts; gives its URL."""
    name = f"dialer_test_{uuid4().hex}"
    made = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(made)
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
