"""What every command of the command line needs: its options, the database, a word to a running daemon."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import trio
import typer
from sqlmodel import Session

from campaigns.database import Database, open_database
from dialer import door
from dialer.errors import UnavailableError
from dialer.settings import Settings

T = TypeVar("T")

DEFAULT_CONFIG: Final = Path("/etc/dialer/dialer.toml")

ConfigOption = Annotated[
    # One that cannot be read is told as any other mistake in it is, with the same exit code.
    Path,
    typer.Option("--config", "-c", envvar="DIALER_CONFIG", readable=False, help="The daemon's configuration file."),
]
CampaignOption = Annotated[str, typer.Option("--campaign", help="The campaign's name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON value instead of text.")]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="A JSON object a line instead of text.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Comma-separated values with a header line.")]


def in_database(settings: Settings, work: Callable[[Database], Any]) -> Any:
    """Runs one unit of work on the database, beside a daemon or without one."""

    async def run() -> Any:
        async with open_database(settings.database.url, node=None) as database:
            return await work(database)

    return trio.run(run)


def write(settings: Settings, work: Callable[[Session], T]) -> T:
    """Runs `work` in a transaction; its result once that is on disk."""
    result: T = in_database(settings, lambda database: database.write(work))
    return result


def read(settings: Settings, work: Callable[[Session], T]) -> T:
    """Runs `work` on one state of the database, which it cannot change."""
    result: T = in_database(settings, lambda database: database.read(work))
    return result


def tell_daemon(settings: Settings) -> str:
    """Tells a running daemon at once; without one the database holds it until one starts, and the text says so."""
    try:
        door.ask(settings.door.path, "campaigns_changed")
    except UnavailableError:
        return " (no daemon is running; it takes effect when one does)"
    return ""


def right_now() -> datetime:
    """The moment at which a command is given."""
    return datetime.now(UTC)
