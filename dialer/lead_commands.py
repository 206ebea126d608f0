"""Commands for lists and leads: import, export, add, change and withdraw, and how lists take turns."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from campaigns.campaign import zone_info
from campaigns.database import Database
from campaigns.lead import LeadStatus
from dialer.command_line import (
    DEFAULT_CONFIG,
    CampaignOption,
    ConfigOption,
    CsvOption,
    JsonOption,
    in_database,
    read,
    right_now,
    tell_daemon,
    write,
)
from dialer.errors import InputRefusedError
from dialer.settings import load_settings
from dialer.text_table import as_text, safe_cell, text_table

__all__ = ["leads_app", "list_app"]

leads_app = typer.Typer(no_args_is_help=True, help="Leads: import, export, add, change, withdraw.")
list_app = typer.Typer(no_args_is_help=True, help="Lists of a campaign, and how they take turns: show, set.")
REFUSALS_SHOWN: Final = 20
_AGAIN: Final = 0.2  # seconds between two looks of the bar

ListOption = Annotated[str | None, typer.Option("--list", help="The list's name.")]


@leads_app.command("import")
def leads_import(
    file: Path,
    campaign: CampaignOption,
    config: ConfigOption = DEFAULT_CONFIG,
    list_name: Annotated[
        str | None, typer.Option("--list", help="The list they go to, made on first use; default: the file's name.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="ROLE=NAME: what a column holds, if its name does not say. Repeat it for several numbers."),
    ] = None,
    number_column: Annotated[str | None, typer.Option(help="The same as --column number=NAME.")] = None,
    unique_in: Annotated[
        Literal["list", "campaign", "everywhere"], typer.Option(help="Where a number may be once.")
    ] = "campaign",
    by: Annotated[
        Literal["number", "key"], typer.Option(help="What leads are known by; by key, those there are changed.")
    ] = "number",
    encoding: Annotated[str | None, typer.Option(help="Like cp1252; found out without it.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="One character, or 'tab'; found out without it.")] = None,
    sheet: Annotated[str | None, typer.Option(help="Of a spreadsheet; default: the first that can be seen.")] = None,
    refused: Annotated[
        Path | None, typer.Option(help="Where refused rows are written; default: FILE.refused.csv.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be stored, and store nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Import a list of leads, CSV or XLSX; good rows are kept, each refused one is told by line."""
    from campaigns.list_columns import parse_told
    from campaigns.list_import import ImportOptions, ImportReport, import_list

    told = [*([f"number={number_column}"] if number_column is not None else []), *(column or [])]
    options = ImportOptions(
        list_name=list_name,
        unique_in=unique_in,
        by=by,
        columns=parse_told(told),
        encoding=encoding,
        delimiter="\t" if delimiter == "tab" else delimiter,
        sheet=sheet,
        refused_path=refused,
        dry_run=dry_run,
    )
    settings = load_settings(config)
    with _progress_bar() as progress:
        report: ImportReport = in_database(
            settings,
            lambda database: import_list(
                database, file, campaign, now=right_now(), options=options, progress=progress
            ),
        )
    typer.echo(json.dumps(_import_json(report)) if as_json else _import_text(file, report))
    if not as_json:
        for one in report.refused[:REFUSALS_SHOWN]:
            typer.echo(f"{file}: line {one.line}: {one.reason}", err=True)
        if report.refused_rows > REFUSALS_SHOWN:
            more = report.refused_rows - REFUSALS_SHOWN
            typer.echo(f"{file}: and {more} more" + _in_file(report.refused_file), err=True)
    if not dry_run:
        tell_daemon(settings)


def _in_file(path: Path | None) -> str:
    return "" if path is None else f"; all of them are in {path}"


@contextmanager
def _progress_bar() -> Iterator[Any]:
    """What import_list tells how far it is: on a terminal a bar with the rate and the time left, else nothing."""
    if not sys.stderr.isatty():
        yield lambda _rows, _done, _size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        *(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()),
        *(TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s"), TimeRemainingColumn()),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        reading = bar.add_task("reading", total=None, rows=0, rate=0.0)
        storing = bar.add_task("storing", total=None, rows=0, rate=0.0, visible=False)

        def tell(rows: int, done: int, size: int) -> None:
            task = reading if done else storing
            elapsed = bar.tasks[task].elapsed or 0.0
            bar.update(
                task,
                completed=done or rows,
                total=size,
                rows=rows,
                rate=rows / elapsed if elapsed > _AGAIN else 0.0,
                visible=True,
            )

        yield tell


def _import_json(report: Any) -> dict[str, Any]:
    counts = report.counts
    return {
        "list": report.list_name,
        "rows": report.rows,
        "added": counts.added,
        "updated": counts.updated,
        "duplicates": report.duplicates,
        "duplicates_in_list": counts.duplicates_in_list,
        "duplicates_in_campaign": counts.duplicates_in_campaign,
        "duplicates_elsewhere": counts.duplicates_elsewhere,
        "suppressed": counts.suppressed,
        "numbers_kept": counts.numbers_kept,
        "refused_rows": report.refused_rows,
        "refused": [{"line": one.line, "value": one.value, "reason": one.reason} for one in report.refused],
        "refused_file": None if report.refused_file is None else str(report.refused_file),
        "read_as": report.about,
        "columns": [{"name": name, "role": role, "found": how} for name, role, how in report.columns.described()],
        "notes": dict(report.notes),
        "dry_run": report.dry_run,
    }


def _import_text(file: Path, report: Any) -> str:
    counts = report.counts
    kept = f"{counts.added} leads added"
    if counts.updated:
        kept += f", {counts.updated} changed"
    text = f"{file}: {kept}, {report.duplicates} were there already, {report.refused_rows} refused"
    lines = [f"{text}{_in_file(report.refused_file)}"]
    if report.dry_run:
        lines = [f"{file}: {report.about}; nothing is stored", _columns_table(report), *_first_leads(report)]
        lines.append(text.replace("leads added", "leads would be added").replace("changed", "would be changed"))
    if counts.suppressed:
        lines.append(f"{counts.suppressed} of them are on a do-not-call list and will not be called")
    if counts.numbers_kept:
        lines.append(f"{counts.numbers_kept} of those changed are in a call, and keep the numbers they had")
    lines += [f"{number} rows: {note}" for note, number in report.notes.items()]
    if "guess" in report.about and not report.dry_run:
        lines.append(f"read as {report.about}")
    return "\n".join(lines)


def _columns_table(report: Any) -> str:
    table = text_table("column", "taken for", "why")
    for row in report.columns.described():
        table.add_row(*row)
    return as_text(table)


def _first_leads(report: Any) -> list[str]:
    lines = ["", "the first of them:"] if report.first else []
    for lead in report.first:
        numbers = [one[0] for one in json.loads(lead.numbers)] or [lead.number]
        where = ", ".join(json.loads(lead.zones)) or "the campaign's zone"
        about = [lead.kind, lead.region or "no region", where]
        more = {
            name: getattr(lead, name) for name in ("external_key", "account", "priority", "callback_at", "list_name")
        }
        about += [f"{name} {value}" for name, value in more.items() if value is not None]
        lines.append(f"  {', '.join(numbers)}  ({'; '.join(about)})  {lead.fields}")
    return [*lines, ""] if lines else []
