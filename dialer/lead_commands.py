"""Commands for lists and leads: import, export, add, change and withdraw, and how lists take turns."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from sqlmodel import Session

from campaigns import audit
from campaigns.courtesy import giving_way
from campaigns.database import Database
from campaigns.lead import LeadStatus
from dialer import door
from dialer.command_line import (
    DEFAULT_CONFIG,
    CampaignOption,
    ConfigOption,
    CsvOption,
    JsonLinesOption,
    JsonOption,
    in_database,
    read,
    right_now,
    tell_daemon,
    write,
)
from dialer.errors import InputRefusedError
from dialer.settings import Settings, load_settings
from dialer.text_table import as_text, safe_cell, text_table

__all__ = ["leads_app", "list_app"]

leads_app = typer.Typer(no_args_is_help=True, help="Leads: import, export, add, change, withdraw.")
list_app = typer.Typer(no_args_is_help=True, help="Lists of a campaign, and how they take turns: show, set.")
REFUSALS_SHOWN: Final = 20
OF_A_DAEMON: Final = 2  # processors that one at work, its Redis and its switch would miss
NICENESS: Final = 5  # not more: this process holds the database's writer now and then, which the daemon waits for
_AGAIN: Final = 0.2  # seconds between two looks of the bar

UniqueOption = Annotated[
    Literal["list", "campaign", "everywhere"], typer.Option("--unique-in", help="Where a number may be once.")
]
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
    unique_in: UniqueOption = "campaign",
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
    settings = load_settings(config)
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
        who=audit.this_person(),
        processors_left=OF_A_DAEMON if door.is_open(settings.door.path) else 0,
    )
    with giving_way(NICENESS), _progress_bar() as progress:
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
        "over": counts.over,
        "refused_rows": report.refused_rows,
        "refused": [{"line": one.line, "value": one.value, "reason": one.reason} for one in report.refused],
        "refused_file": None if report.refused_file is None else str(report.refused_file),
        "read_as": report.about,
        "columns": [{"name": name, "role": role, "found": how} for name, role, how in report.columns.described()],
        "notes": dict(report.notes),
        "dry_run": report.dry_run,
        "finished": [{"file": one.source, "added": one.counts.added} for one in report.finished],
    }


def _import_text(file: Path, report: Any) -> str:
    counts = report.counts
    kept = f"{counts.added} leads added"
    if counts.updated:
        kept += f", {counts.updated} changed"
    text = f"{file}: {kept}, {report.duplicates} were there already, {report.refused_rows} refused"
    lines = [
        f"{one.source}: an import that was not finished yet is finished now, {one.counts.added} leads added"
        for one in report.finished
    ]
    lines.append(f"{text}{_in_file(report.refused_file)}")
    if report.dry_run:
        lines = [f"{file}: {report.about}; nothing is stored", _columns_table(report), *_first_leads(report)]
        lines.append(text.replace("leads added", "leads would be added").replace("changed", "would be changed"))
    if counts.suppressed:
        lines.append(f"{counts.suppressed} of them are on a do-not-call list and will not be called")
    if counts.over:
        lines.append(f"{counts.over} of those changed are over, and are not called")
    if counts.numbers_kept:
        lines.append(f"{counts.numbers_kept} of those changed are in a call, and keep the numbers they had")
    lines += [f"{number} rows: {note}" for note, number in report.notes.items()]
    guessed = [name for name, role, how in report.columns.described() if role == "number" and how.startswith("guess")]
    if guessed and not report.dry_run:
        lines.append(f"the numbers were taken from the column {guessed[0]!r}, as no column has the name of one")
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


@leads_app.command("export")
def leads_export(
    campaign: CampaignOption,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonLinesOption = False,
    as_csv: CsvOption = False,
    status: Annotated[
        list[LeadStatus] | None, typer.Option(help="Only leads of this status; may be repeated.")
    ] = None,
    list_name: Annotated[list[str] | None, typer.Option("--list", help="Only this list; may be repeated.")] = None,
) -> None:
    """Print every lead with all that is known of it; CSV (the default) is safe to open in a spreadsheet."""
    from campaigns import lead_lists, list_export, store

    if as_json and as_csv:
        raise InputRefusedError("--json and --csv exclude each other; choose one")

    async def export(database: Database) -> None:
        row = await database.read(lambda session: store.get_campaign(session, campaign))
        campaign_row_id = row.id or 0
        lists = [
            await database.read(partial(lead_lists.list_called, campaign_row_id=campaign_row_id, name=name))
            for name in list_name or []
        ]
        wanted = list_export.Wanted(campaign_row_id, tuple(status or ()), tuple(one.id or 0 for one in lists))
        writer = csv.writer(sys.stdout)
        shape = None if as_json else await database.read(partial(list_export.table_shape, wanted=wanted))
        if shape is not None:
            writer.writerow(map(safe_cell, shape.header()))
        last = 0
        while page := await database.read(partial(list_export.page, wanted=wanted, after_id=last)):
            for lead in page:
                if shape is not None:
                    writer.writerow(map(safe_cell, shape.row(lead)))
                else:
                    typer.echo(json.dumps(lead, ensure_ascii=False))
            last = page[-1]["id"]

    in_database(load_settings(config), export)


NumberOption = Annotated[
    list[str] | None, typer.Option("--number", help="As dialed in the campaign's country, or +…; repeat it for more.")
]
FieldOption = Annotated[list[str] | None, typer.Option("--field", help="NAME=VALUE, one of the lead's own fields.")]
KeyOption = Annotated[str | None, typer.Option("--key", help="The lead's external key.")]
AccountOption = Annotated[str | None, typer.Option("--account", help="Whom it belongs to, with other leads.")]
PriorityOption = Annotated[int | None, typer.Option("--priority", help="Within its list the higher is called first.")]
ConsentOption = Annotated[
    str | None, typer.Option("--consent-at", help='When consent was given, like 2026-11-02 10:30; "" takes it away.')
]
EvidenceOption = Annotated[str | None, typer.Option("--consent-evidence", help="Where it can be seen.")]
ZoneOption = Annotated[str | None, typer.Option("--timezone", help="Where it is, if its number does not say so.")]
WhichArgument = Annotated[str | None, typer.Argument(help="Its number, or its id of up to six digits.")]
IdOption = Annotated[int | None, typer.Option("--id", help="The lead's id, of any length.")]


def _fields(told: Sequence[str] | None) -> dict[str, str]:
    fields: dict[str, str] = {}
    for each in told or ():
        name, divided, value = each.partition("=")
        if not divided or not name.strip():
            raise InputRefusedError(f"--field {each!r} should be NAME=VALUE")
        fields[name.strip()] = value.strip()
    return fields


@leads_app.command("add")
def leads_add(
    campaign: CampaignOption,
    number: NumberOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    list_name: Annotated[str, typer.Option("--list", help="The list it goes to, made on first use.")] = "added",
    field: FieldOption = None,
    key: KeyOption = None,
    account: AccountOption = None,
    priority: PriorityOption = None,
    timezone: ZoneOption = None,
    consent_at: ConsentOption = None,
    consent_evidence: EvidenceOption = None,
    unique_in: UniqueOption = "campaign",
) -> None:
    """Add one lead to a campaign; it may be called at once."""
    from campaigns.lead_changes import LeadDetails, add_lead
    from campaigns.staging import Counts

    details = LeadDetails(
        number or (), _fields(field), key, account, priority, timezone, consent_at, consent_evidence
    )
    settings, who, now = load_settings(config), audit.this_person(), right_now()

    def work(session: Session) -> tuple[Counts, str]:
        counts = add_lead(session, campaign, details, list_name=list_name, unique_in=unique_in, who=who, now=now)
        return counts, _never_called(session, settings, now) if counts.added else ""

    counts, never = write(settings, work)
    if not counts.added:
        raise InputRefusedError(
            f"the number is there already; --unique-in says where it may be once (now {unique_in})"
        )
    text = "added" if not counts.suppressed else "added, but it is on a do-not-call list and will not be called"
    if never and not counts.suppressed:
        text = f"added, but it is not called as things stand: {never}"
    typer.echo(f"campaign {campaign}: {text}{tell_daemon(settings)}")


def _never_called(session: Session, settings: Settings, now: datetime) -> str:
    """What stands against the lead just added, but for what passes with time, or with the start of its campaign."""
    from campaigns.explain import explain
    from campaigns.staging import newest_lead
    from campaigns.tables import LeadRow

    lead = session.get_one(LeadRow, newest_lead(session))
    said = explain(session, lead, settings.trunks(), now).verdicts
    of_lead = (each for each in said if each.rule not in ("campaign", "list"))
    return "; ".join(each.reason for each in of_lead if not each.allowed and each.allowed_at is None)


@leads_app.command("change")
def leads_change(
    campaign: CampaignOption,
    which: WhichArgument = None,
    lead_id: IdOption = None,
    of_key: Annotated[str | None, typer.Option("--of-key", help="The lead with this external key.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    number: NumberOption = None,
    field: FieldOption = None,
    key: KeyOption = None,
    account: AccountOption = None,
    priority: PriorityOption = None,
    timezone: ZoneOption = None,
    consent_at: ConsentOption = None,
    consent_evidence: EvidenceOption = None,
    unique_in: UniqueOption = "campaign",
) -> None:
    """Change what is said of a lead. Numbers given take the place of all it has; of one in a call they stay."""
    from campaigns.find_leads import MOST_SHOWN, Named, find_leads
    from campaigns.lead_changes import LeadDetails, change_lead, locked_leads

    details = LeadDetails(
        number or (), _fields(field), key, account, priority, timezone, consent_at, consent_evidence
    )
    settings = load_settings(config)

    named = Named(which, lead_id, of_key)
    who, now = audit.this_person(), right_now()

    async def change(database: Database) -> str:
        ids = await database.read(partial(find_leads, named=named, campaign=campaign))
        if len(ids) > 1:
            shown = ", ".join(map(str, ids[:MOST_SHOWN])) + (", …" if len(ids) > MOST_SHOWN else "")
            raise InputRefusedError(f"{len(ids)} leads are meant; say which by its id: {shown}")

        def work(session: Session) -> str:
            (lead,) = locked_leads(session, ids)
            moved = change_lead(session, campaign, lead, details, unique_in=unique_in, who=who, now=now)
            if lead.status not in (LeadStatus.NEW, LeadStatus.WAITING, LeadStatus.DIALING):
                return f", but it is {lead.status.value}: it is not called"
            return "" if moved else ", but it is in a call: its numbers, and where they are, stay"

        return f"lead {ids[0]}: changed{await database.write(work)}"

    typer.echo(f"{in_database(settings, change)}{tell_daemon(settings)}")


@leads_app.command("withdraw")
def leads_withdraw(
    campaign: CampaignOption,
    which: WhichArgument = None,
    lead_id: IdOption = None,
    key: KeyOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Take a lead out for good: it is not called again. One in a call is withdrawn when that ends."""
    from campaigns.find_leads import Named, find_leads
    from campaigns.lead_changes import locked_leads, withdraw_lead

    settings, named = load_settings(config), Named(which, lead_id, key)
    who, now = audit.this_person(), right_now()

    async def withdraw(database: Database) -> list[tuple[int, bool]]:
        ids = await database.read(partial(find_leads, named=named, campaign=campaign))
        return await database.write(
            lambda session: [
                (lead.id or 0, withdraw_lead(session, campaign, lead, who=who, now=now))
                for lead in locked_leads(session, ids)
            ]
        )

    for lead_id, at_once in in_database(settings, withdraw):
        told = "withdrawn" if at_once else "is in a call, and is withdrawn when that ends"
        typer.echo(f"lead {lead_id}: {told}")
    tell_daemon(settings)


@list_app.command("show")
def list_show(campaign: CampaignOption, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show a campaign's lists, how they take turns, and their leads by status."""
    from campaigns import lead_lists, store

    def look(session: Session) -> list[dict[str, Any]]:
        row = store.get_campaign(session, campaign)
        return [
            {
                "list": one.row.name,
                "active": one.row.active,
                "priority": one.row.priority,
                "weight": one.row.weight,
                "newest_first": one.row.newest_first,
                "source": one.row.source,
                "leads": {status.value: count for status, count in one.leads.items()},
            }
            for one in lead_lists.summaries(session, row.id or 0)
        ]

    rows = read(load_settings(config), look)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo(f"the campaign {campaign} has no lists yet; import one with `dialer leads import`")
        return
    table = text_table("list", "active", "priority", "weight", "order", "leads")
    for row in rows:
        leads = ", ".join(f"{count} {status}" for status, count in row["leads"].items() if count) or "none"
        order = "newest first" if row["newest_first"] else "oldest first"
        active = "yes" if row["active"] else "no"
        table.add_row(row["list"], active, str(row["priority"]), str(row["weight"]), order, leads)
    typer.echo(as_text(table))


@list_app.command("set")
def list_set(
    name: Annotated[str, typer.Argument(metavar="LIST")],
    campaign: CampaignOption,
    config: ConfigOption = DEFAULT_CONFIG,
    priority: Annotated[
        int | None, typer.Option(help="The list of the highest is called empty before the next.")
    ] = None,
    weight: Annotated[
        int | None, typer.Option(help="Among lists of one priority: turns in proportion, 1 to 1000.")
    ] = None,
    newest_first: Annotated[bool | None, typer.Option("--newest-first/--oldest-first")] = None,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Of one that is not, nobody is called.")
    ] = None,
) -> None:
    """Change how a list takes its turns; it holds from the next call on."""
    from campaigns import lead_lists, store

    change = lead_lists.ListChange(priority, weight, newest_first, active)
    settings = load_settings(config)
    now, who = right_now(), audit.this_person()

    def apply(session: Session) -> str:
        row_id = store.get_campaign(session, campaign).id or 0
        row = lead_lists.change_list(session, campaign, row_id, name, change, who=who, now=now)
        order = "newest first" if row.newest_first else "oldest first"
        state = "active" if row.active else "not active"
        return f"list {row.name}: {state}, priority {row.priority}, weight {row.weight}, {order}"

    typer.echo(f"{write(settings, apply)}{tell_daemon(settings)}")
