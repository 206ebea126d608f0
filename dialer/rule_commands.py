"""Commands about who may be called: do-not-call lists, why a lead is called or not, what a list has before it."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import attrs
import typer
from sqlmodel import Session

from campaigns import audit, explain, forbidden_leads, store, suppression_store
from campaigns.campaign import zone_info
from campaigns.database import Database
from campaigns.explain import Explanation, Outline
from campaigns.find_leads import MOST_SHOWN, Named, find_leads
from campaigns.list_columns import plain, role_of
from campaigns.numbers import parse_number
from campaigns.rules.verdict import Verdict
from campaigns.suppression_store import NewEntry, Scope
from campaigns.tables import AuditRow, LeadRow, SuppressionRow
from dialer.command_line import (
    DEFAULT_CONFIG,
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

CHUNK: Final = 5_000  # entries in one transaction: some 50 ms of the writer's time
_REFUSED_SHOWN: Final = 20

dnc_app = typer.Typer(no_args_is_help=True, help="Do-not-call lists: add, import, remove, list, check.")

SellerOption = Annotated[str | None, typer.Option("--seller", help="Only for campaigns of this seller.")]
OneCampaignOption = Annotated[str | None, typer.Option("--campaign", help="Only for this campaign.")]
CountryOption = Annotated[
    str | None, typer.Option("--country", help="ISO 3166 code of the country whose national numbers these may be.")
]
DaysOption = Annotated[
    float | None, typer.Option("--days", min=0.01, max=36_500, help="For so many days; for good without it.")
]
SourceOption = Annotated[str | None, typer.Option("--source", help="Where they are from; kept with each of them.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept with each of them.")]


def _scope(seller: str | None, campaign: str | None) -> tuple[Scope, str]:
    if seller is not None and campaign is not None:
        raise InputRefusedError("--seller and --campaign exclude each other; without either it is for all campaigns")
    if seller is not None:
        return Scope.SELLER, seller
    if campaign is not None:
        return Scope.CAMPAIGN, campaign
    return Scope.SYSTEM, ""


def _shown(scope: Scope, name: str) -> str:
    return "all campaigns" if scope is Scope.SYSTEM else f"{scope.value} {name}"


def _entry(text: str, country: str | None) -> NewEntry:
    """A number, or with a star at its end all numbers that begin so. Raises InputRefusedError."""
    stripped = text.strip()
    if stripped.endswith("*"):
        return NewEntry(stripped.removesuffix("*"), is_prefix=True)
    if country is None and not stripped.startswith("+"):
        raise InputRefusedError(f"{stripped!r} is not in E.164, like +12125550100: say with --country how to read it")
    return NewEntry(parse_number(stripped, country or "US").e164)


@dnc_app.command("add")
def dnc_add(
    numbers: Annotated[list[str], typer.Argument(help="Numbers, or beginnings of numbers with a star: '+1900*'.")],
    config: ConfigOption = DEFAULT_CONFIG,
    seller: SellerOption = None,
    campaign: OneCampaignOption = None,
    country: CountryOption = None,
    days: DaysOption = None,
    source: SourceOption = None,
    reason: ReasonOption = "",
) -> None:
    """Put numbers on a do-not-call list: nobody on it is called from the next call on."""
    settings, scope = load_settings(config), _scope(seller, campaign)
    entries = [_entry(number, country) for number in numbers]
    now, who = right_now(), audit.this_person()
    expires_at = now + timedelta(days=days) if days is not None else None

    def add(session: Session) -> int:
        _check_scope(session, *scope)
        before = [_described(session, entry, *scope) for entry in entries]
        added = suppression_store.add_entries(
            session,
            entries,
            scope=scope[0],
            scope_name=scope[1],
            source=source or who,
            added_by=who,
            now=now,
            reason=reason,
            expires_at=expires_at,
        )
        for entry, was in zip(entries, before, strict=True):
            became = _described(session, entry, *scope)
            if became != was:
                action, subject = "add" if was is None else "change", entry.pattern + "*" * entry.is_prefix
                audit.note(
                    session,
                    who=who,
                    action=action,
                    kind="suppression",
                    subject=subject,
                    now=now,
                    before=was,
                    after=became,
                )
        return added

    added = write(settings, add)
    typer.echo(f"{added} added for {_shown(*scope)}, {len(entries) - added} were there already")


def _described(session: Session, entry: NewEntry, scope: Scope, name: str) -> dict[str, Any] | None:
    """What the audit log keeps of an entry; None if there is none."""
    session.expire_all()  # it is written past the session
    row = suppression_store.entry_of(session, entry, scope, name)
    if row is None:
        return None
    return {"scope": _shown(scope, name), "source": row.source, "reason": row.reason, "expires_at": row.expires_at}


def _check_scope(session: Session, scope: Scope, name: str) -> None:
    """A campaign that does not exist is a slip of the pen, and would leave somebody unprotected.

    A seller may be given a list before its first campaign: it is told, in case it is one, too.
    """
    if scope is Scope.CAMPAIGN:
        store.get_campaign(session, name)
    elif scope is Scope.SELLER:
        sellers = {str(json.loads(row.definition).get("seller")) for row in store.campaign_rows(session)} - {"None"}
        if name not in sellers:
            known = f"they are for {', '.join(sorted(sellers))}" if sellers else "they name no seller"
            typer.echo(f"no campaign is for the seller {name!r} as yet; {known}", err=True)


@dnc_app.command("import")
def dnc_import(
    file: Path,
    config: ConfigOption = DEFAULT_CONFIG,
    seller: SellerOption = None,
    campaign: OneCampaignOption = None,
    country: CountryOption = None,
    days: DaysOption = None,
    source: SourceOption = None,
    reason: ReasonOption = "",
) -> None:
    """Put the numbers of a file on a do-not-call list: all columns that its heading calls numbers, as in lists of
    leads; without a heading, the first. A star ends a beginning.

    It may be imported again: entries that are there take the new source, reason and expiry, unless they forbid the
    number for longer.
    """
    settings, (scope, name) = load_settings(config), _scope(seller, campaign)
    now, who = right_now(), audit.this_person()
    expires_at = now + timedelta(days=days) if days is not None else None
    told = _Told()
    refused = told.refused

    async def load(database: Database) -> tuple[int, int]:
        await database.read(partial(_check_scope, scope=scope, name=name))
        entries, read_ones, added = _entries(file, country, told), 0, 0
        while chunk := list(islice(entries, CHUNK)):
            read_ones += len(chunk)
            added += await database.write(
                partial(
                    suppression_store.add_entries,
                    entries=chunk,
                    scope=scope,
                    scope_name=name,
                    source=source or str(file),
                    added_by=who,
                    now=now,
                    reason=reason,
                    expires_at=expires_at,
                )
            )
        counts = {"entries": read_ones, "new": added, "refused": len(refused)}
        after = {**counts, "numbers": told.where, "scope": _shown(scope, name)}
        await database.write(
            partial(audit.note, who=who, action="import", kind="suppression", subject=str(file), now=now, after=after)
        )
        return read_ones, added

    read_ones, added = in_database(settings, load)
    for complaint in refused[:_REFUSED_SHOWN]:
        typer.echo(complaint, err=True)
    if len(refused) > _REFUSED_SHOWN:
        typer.echo(f"{file}: and {len(refused) - _REFUSED_SHOWN} more that are no numbers", err=True)
    if refused and not read_ones:
        raise InputRefusedError(
            f"{file}: none of the {len(refused)} cells in {told.where} is a number; nothing was added"
        )
    typer.echo(f"{file}: the numbers are in {told.where}")
    typer.echo(
        f"{file}: {added} added for {_shown(scope, name)}, {read_ones - added} were there already, "
        f"{len(refused)} refused"
    )


@attrs.define
class _Told:
    """What a person is to know of a file: where its numbers are, and what was none."""

    where: str = "the first column"
    refused: list[str] = attrs.field(factory=list)


def _entries(file: Path, country: str | None, told: _Told) -> Iterator[NewEntry]:
    columns: tuple[int, ...] | None = None
    try:
        with file.open(encoding="utf-8-sig", newline="", errors="replace") as lines:
            for line, row in enumerate(csv.reader(lines), 1):
                cells = [cell.strip() for cell in row]
                if not any(cells):
                    continue
                if columns is None:
                    columns = (0,)
                    if _is_heading(cells):
                        columns = _columns_of_numbers(file, cells)
                        told.where = " and ".join(f"the column {cells[column]!r}" for column in columns)
                        continue
                for cell in (cells[column] for column in columns if column < len(cells) and cells[column]):
                    try:
                        yield _entry(cell, country)
                    except InputRefusedError as error:
                        told.refused.append(f"{file}: line {line}: {error}")
    except OSError as error:
        raise InputRefusedError(f"{file} cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise InputRefusedError(f"{file} is no list of numbers, one a line: {error}") from None


def _is_heading(cells: Sequence[str]) -> bool:
    """Whether a file's first line names its columns: that of the numbers may be "phone 1", and not the first."""
    if not any(map(str.isdigit, cells[0])):
        return True
    return any(map(str.isalpha, cells[0])) and any(role_of(plain(cell)) == "number" for cell in cells)


def _columns_of_numbers(file: Path, heading: Sequence[str]) -> tuple[int, ...]:
    """Nothing is guessed from what is in them: with a wrong column those who asked not to be called would be."""
    known = tuple(column for column, name in enumerate(heading) if role_of(plain(name)) == "number")
    if known or len(heading) == 1:
        return known or (0,)
    raise InputRefusedError(
        f"{file} has the columns {', '.join(map(repr, heading))}, and none of them is known to hold numbers: call it "
        "'number'; nothing was added"
    )


@dnc_app.command("remove")
def dnc_remove(
    numbers: Annotated[list[str], typer.Argument(help="As they were added.")],
    config: ConfigOption = DEFAULT_CONFIG,
    seller: SellerOption = None,
    campaign: OneCampaignOption = None,
    country: CountryOption = None,
    reason: ReasonOption = "",
) -> None:
    """Take numbers off a do-not-call list; leads that rest for it may be called again."""
    settings, (scope, name) = load_settings(config), _scope(seller, campaign)
    entries = [_entry(number, country) for number in numbers]
    now, who = right_now(), audit.this_person()

    def remove(session: Session) -> int:
        were = {(one.pattern, one.is_prefix): _described(session, one, scope, name) for one in entries}
        removed = forbidden_leads.allow(session, entries, scope=scope, scope_name=name, now=now)
        if not removed:
            raise InputRefusedError(f"none of them is on the list for {_shown(scope, name)}; see `dialer dnc check`")
        for one in removed:
            audit.note(
                session,
                who=who,
                action="remove",
                kind="suppression",
                subject=one.pattern + "*" * one.is_prefix,
                now=now,
                before=were[one.pattern, one.is_prefix],
                after={"why": reason} if reason else None,
            )
        return len(removed)

    removed = write(settings, remove)
    typer.echo(f"{removed} removed for {_shown(scope, name)}{tell_daemon(settings)}")


@dnc_app.command("list")
def dnc_list(
    config: ConfigOption = DEFAULT_CONFIG,
    seller: SellerOption = None,
    campaign: OneCampaignOption = None,
    as_json: JsonLinesOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Count the entries of each do-not-call list, or write them all with --csv or --json (an object a line)."""
    settings = load_settings(config)
    if not (as_json or as_csv):
        table = text_table("for", "entries")
        for scope, name, count in read(settings, suppression_store.counts):
            table.add_row(_shown(Scope(scope), name), str(count))
        typer.echo(as_text(table))
        return
    wanted = _scope(seller, campaign) if seller or campaign else (None, None)
    writer = csv.DictWriter(sys.stdout, list(SuppressionRow.model_fields))

    async def export(database: Database) -> None:
        if as_csv:
            writer.writeheader()
        after = 0
        while page := await database.read(
            partial(suppression_store.entries, scope=wanted[0], scope_name=wanted[1], after_id=after)
        ):
            for row in page:
                values = row.model_dump(mode="json")
                if as_json:
                    typer.echo(json.dumps(values))
                else:
                    writer.writerow({name: safe_cell(value) for name, value in values.items()})
            after = page[-1].id or 0

    in_database(settings, export)


@dnc_app.command("check")
def dnc_check(
    number: str, config: ConfigOption = DEFAULT_CONFIG, country: CountryOption = None, as_json: JsonOption = False
) -> None:
    """Say which do-not-call lists a number is on."""
    settings, e164 = load_settings(config), _entry(number, country).pattern
    found = read(settings, lambda session: suppression_store.entries_for(session, [e164])).get(e164, ())
    if as_json:
        typer.echo(json.dumps([_entry_value(one) for one in found], default=str))
        return
    if not found:
        typer.echo(f"{e164} is on no do-not-call list")
    for one in found:
        until = f" until {one.expires_at:%Y-%m-%d %H:%M} UTC" if one.expires_at else ""
        expired = ", expired" if one.expires_at and one.expires_at <= right_now() else ""
        typer.echo(
            f"{one.pattern}{'*' * one.is_prefix}  for {_shown(Scope(one.scope), one.scope_name)}{until}{expired}, "
            f"from {one.source}"
        )


def _entry_value(entry: Any) -> dict[str, Any]:
    return {
        name: getattr(entry, name) for name in ("pattern", "is_prefix", "scope", "scope_name", "source", "expires_at")
    }


def check_lead(
    what: Annotated[
        str | None,
        typer.Argument(metavar="NUMBER|ID|KEY", help="Any number of the lead, its id, or its external key."),
    ] = None,
    lead_id: Annotated[int | None, typer.Option("--id", help="The lead's id, of any length.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="The lead's external key.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    campaign: Annotated[str | None, typer.Option("--campaign", help="Of this campaign only.")] = None,
    country: CountryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say in plain words every rule that allows or stops a call to a lead now, and until when."""
    settings, now = load_settings(config), right_now()
    named = Named(what, lead_id, key)
    found = read(settings, lambda session: _explanations(session, settings, named, campaign, country, now))
    if as_json:
        typer.echo(json.dumps([_explanation_value(one) for one in found], default=str))
        return
    typer.echo("\n\n".join(_explanation_text(one, now) for one in found))


def _explanations(
    session: Session, settings: Settings, named: Named, campaign: str | None, country: str | None, now: datetime
) -> list[Explanation]:
    ids = find_leads(session, named, campaign, country=country, or_key=True, most=MOST_SHOWN)
    trunks = settings.trunks()
    return [explain.explain(session, session.get_one(LeadRow, lead_id), trunks, now) for lead_id in ids]


def _explanation_value(one: Explanation) -> dict[str, Any]:
    return {
        "campaign": one.campaign,
        "list": one.list_name,
        "lead": one.lead.model_dump(mode="json"),
        "allowed": one.answer.allowed,
        "rule": one.answer.rule,
        "allowed_at": one.answer.allowed_at,
        "verdicts": [
            {"rule": each.rule, "allowed": each.allowed, "reason": each.reason, "allowed_at": each.allowed_at}
            for each in one.verdicts
        ],
    }


def _explanation_text(one: Explanation, now: datetime) -> str:
    answer = one.answer
    lead = one.lead
    when = "now" if answer.allowed else _until(answer.allowed_at, now, lead.zones)
    head = f"lead {lead.id}, {lead.number}, campaign {one.campaign}, list {one.list_name}: "
    head += "may be called now" if answer.allowed else f"is not called: {answer.reason}{when}"
    table = text_table("", "rule", "why", "until")
    for each in one.verdicts:
        moment = _until(each.allowed_at, now, lead.zones).removeprefix(", until ")
        until = "" if each.allowed else moment or _for_ever(each)
        table.add_row("yes" if each.allowed else "no", each.rule, each.reason, until)
    return f"{head}\n{as_text(table)}"


def _for_ever(verdict: Verdict) -> str:
    return "it is changed" if verdict.rule in ("campaign", "list", "gateway") else "for good"


def _until(moment: datetime | None, now: datetime, zones: str) -> str:
    """The end of a refusal, on UTC's clock and on the lead's own where there is one."""
    if moment is None:
        return ""
    text = f", until {moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    names = json.loads(zones)
    if len(names) == 1:
        text += f" ({moment.astimezone(zone_info(names[0])):%a %H:%M} in {names[0]})"
    return text


def campaign_dry_run(name: str, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Count a campaign's leads by what would happen to each now, and over the next 24 hours. Calls nobody."""
    settings, now = load_settings(config), right_now()
    trunks = settings.trunks()

    def count(session: Session) -> Outline:
        row = store.get_campaign(session, name)
        *_, whole = explain.outline(session, row, trunks, now)
        return whole

    found = read(settings, count)
    typer.echo(json.dumps(_outline_value(found)) if as_json else _outline_text(name, found))


def _outline_value(found: Outline) -> dict[str, Any]:
    return {
        "at": found.now.isoformat(),
        "leads": found.total,
        "callable_now": found.callable_now,
        "over": {status.value: count for status, count in found.over.items()},
        "blocked": dict(found.blocked.most_common()),
        "examples": found.examples,
        "callable_by_hour": found.by_hour,
        "later": found.later,
        "never": found.never,
    }


def _outline_text(name: str, found: Outline) -> str:
    rules = text_table("leads", "what stops them", "for example")
    for rule, count in found.blocked.most_common():
        rules.add_row(str(count), rule, found.examples[rule])
    over = text_table("leads", "that are over")
    for status, count in found.over.most_common():
        over.add_row(str(count), status.value)
    hours = text_table("hour (UTC)", "leads that become callable")
    for ahead, count in enumerate(found.by_hour):
        if count:
            hours.add_row(f"{found.now + timedelta(hours=ahead):%a %H:%M}", str(count))
    parts = [f"campaign {name}: {found.total} leads, {found.callable_now} may be called now"]
    if found.blocked:
        parts += [as_text(rules)]
    if found.over:
        parts += [as_text(over)]
    if any(found.by_hour):
        parts += [as_text(hours)]
    parts += [f"after 24 hours: {found.later}; not as things stand: {found.never}"]
    return "\n\n".join(parts)


def show_audit(
    config: ConfigOption = DEFAULT_CONFIG,
    kind: Annotated[audit.Kind | None, typer.Option(help="What was changed.")] = None,
    subject: Annotated[str | None, typer.Option(help="Which of them, as the audit log calls it.")] = None,
    days: Annotated[float, typer.Option(min=0.01, max=36_500, help="So far back.")] = 30.0,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show who changed what, when, and what it was before and after."""
    settings, since = load_settings(config), right_now() - timedelta(days=days)
    rows: Sequence[AuditRow] = read(
        settings, lambda session: audit.notes(session, kind=kind, subject=subject, since=since, limit=limit)
    )
    if as_json:
        typer.echo(json.dumps([row.model_dump(mode="json") for row in rows]))
        return
    table = text_table("when (UTC)", "who", "what", "before", "after")
    for row in rows:
        what = f"{row.action} {row.kind} {row.subject}"
        table.add_row(f"{row.at:%Y-%m-%d %H:%M:%S}", row.who, what, row.before or "", row.after or "")
    typer.echo(as_text(table))
