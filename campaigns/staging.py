"""How a list gets in as a whole or not at all, without holding the database's writer for as long as that takes.

A million leads in one transaction would keep the writer for many seconds, and every call in progress with it. In
chunks of their own, an import that is interrupted would leave part of a list behind. So leads are first staged, in
chunks packed to a few kilobytes, where nobody looks; one small commit, `seal`, makes the import a fact; from there it
is only carried out, again in chunks, by whoever comes: `import_list` itself, and the next import or daemon, which
cannot know whether that was interrupted. What became of the leads is added up in the database, so that each of them
can tell the whole. A chunk is carried out and forgotten in one transaction, so a crash between two steps is harmless.

Who is there already is looked up when a chunk is carried out, in the transaction that adds the rest. On SQLite there
is one writer; on PostgreSQL all who add leads take one lock for as long as a chunk takes (`lock_additions`), so that
of two imports of one number the second finds what the first has added.

One import per campaign is staged at a time: the next one throws away what an interrupted one has left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import attrs
from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, update
from sqlalchemy.types import TypeEngine
from sqlmodel import Session, SQLModel, col

from campaigns import advisory_locks, forbidden_leads, lead_lists, store, suppression_store
from campaigns.advisory_locks import Lock
from campaigns.known_leads import KnownByKey, UniqueIn, known_keys, known_numbers
from campaigns.lead import (
    LeadNumber,
    LeadStatus,
    Queue,
    all_numbers,
    number_columns,
    numbers_from_json,
    numbers_to_json,
)
from campaigns.list_rows import StagedLead, unpack
from campaigns.tables import CampaignRow, ImportRow, SuppressionRow
from dialer.errors import InputRefusedError

CHUNK = 2_000  # leads in one transaction: some 30 ms of the writer's time
By = Literal["number", "key"]
_FORGOTTEN_AFTER: Final = timedelta(days=1)  # whoever has begun it will not look any more

_staged = SQLModel.metadata.tables["staged_chunk"]
_lead = SQLModel.metadata.tables["lead"]


@attrs.frozen
class Terms:
    """What an import does with leads that are there already."""

    list_name: str
    unique_in: UniqueIn = "campaign"
    by: By = "number"


@attrs.frozen
class Counts:
    """What became of leads; they can be added up."""

    added: int = 0  # the suppressed among them
    updated: int = 0
    duplicates_in_list: int = 0
    duplicates_in_campaign: int = 0
    duplicates_elsewhere: int = 0  # in other campaigns
    suppressed: int = 0
    numbers_kept: int = 0  # of leads that were updated during a call
    over: int = 0  # of those updated, leads that are not called any more

    @property
    def leads(self) -> int:
        """All that these were counted of."""
        there = self.duplicates_in_list + self.duplicates_in_campaign + self.duplicates_elsewhere
        return self.added + self.updated + there

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            *(mine + theirs for mine, theirs in zip(attrs.astuple(self), attrs.astuple(other), strict=True))
        )


@attrs.frozen
class CarriedOut:
    """How far an import is: what has become of its leads so far, and whether these are all."""

    counts: Counts
    finished: bool


def begin_import(session: Session, campaign_row_id: int, source: str, terms: Terms, now: datetime) -> int:
    """A new import of the campaign, not sealed; its id."""
    session.connection().execute(delete(ImportRow).where(col(ImportRow.finished_at) < now - _FORGOTTEN_AFTER))
    row = ImportRow(
        campaign_id=campaign_row_id,
        source=source,
        list_name=terms.list_name,
        unique_in=terms.unique_in,
        by=terms.by,
        created_at=now,
    )
    session.add(row)
    session.flush()
    assert row.id is not None
    return row.id


def unsealed_imports(session: Session, campaign_row_id: int) -> Sequence[int]:
    """What interrupted imports of the campaign have left."""
    return [
        row_id
        for row_id in session.connection().scalars(
            select(col(ImportRow.id)).where(
                col(ImportRow.campaign_id) == campaign_row_id, col(ImportRow.sealed_at).is_(None)
            )
        )
        if row_id is not None
    ]


def sealed_imports(session: Session) -> Sequence[tuple[int, str]]:
    """Imports, of any campaign, that are a fact and not yet carried out: each one's id, and the file it is of."""
    found = session.connection().execute(
        select(col(ImportRow.id), col(ImportRow.source))
        .where(col(ImportRow.sealed_at).is_not(None), col(ImportRow.finished_at).is_(None))
        .order_by(col(ImportRow.id))
    )
    return [(row_id, source) for row_id, source in found if row_id is not None]


def stage(session: Session, import_id: int, leads: bytes) -> None:
    """Put a chunk of leads, packed as `list_rows.pack` does, aside."""
    _locked(session, import_id)
    session.connection().execute(insert(_staged), {"import_id": import_id, "leads": leads})


def seal(session: Session, import_id: int, now: datetime) -> None:
    """Make the import a fact."""
    row = _locked(session, import_id)
    lock_additions(session)
    row.sealed_at = now
    row.watermark = newest_lead(session)
    session.add(row)
    session.flush()


def carry_out(session: Session, import_id: int, now: datetime, chunks: int = 1) -> CarriedOut | None:
    """Make leads of the next `chunks` of a sealed import, and say how far it is. None: finished and forgotten."""
    row = session.get(ImportRow, import_id, with_for_update=True, populate_existing=True)
    if row is None:
        return None
    counts = Counts(**json.loads(row.counts))
    query = _next_chunk(import_id, chunks).add_columns(_staged.c.leads)
    found = session.connection().execute(query).all()
    if not found:
        row.finished_at = row.finished_at or now
        session.add(row)
        session.flush()
        return CarriedOut(counts, finished=True)
    terms = Terms(row.list_name, row.unique_in, row.by)  # type: ignore[arg-type]  # as begin_import wrote them
    for chunk in found:
        leads = unpack(chunk.leads)
        counts += add_leads(session, row.campaign_id, leads, terms, row.watermark, now, source=row.source)
    session.connection().execute(
        delete(_staged).where(_staged.c.import_id == import_id, _staged.c.id <= found[-1].id)
    )
    row.counts = json.dumps(attrs.asdict(counts))
    session.add(row)
    session.flush()
    return CarriedOut(counts, finished=False)


def forget(session: Session, import_id: int) -> None:
    """Throw away what is known of a finished import."""
    session.connection().execute(delete(ImportRow).where(col(ImportRow.id) == import_id))


def discard(session: Session, import_id: int) -> bool:
    """Throw the next chunk of an unsealed import away; False when there is nothing more of it."""
    row = session.get(ImportRow, import_id, with_for_update=True)
    if row is None or row.sealed_at is not None:
        return False
    chunk = session.connection().scalar(_next_chunk(import_id))
    if chunk is None:
        session.delete(row)
        session.flush()
        return False
    session.connection().execute(delete(_staged).where(_staged.c.id == chunk))
    return True


def _next_chunk(import_id: int, chunks: int = 1) -> Select[Any]:
    return select(_staged.c.id).where(_staged.c.import_id == import_id).order_by(_staged.c.id).limit(chunks)


def _locked(session: Session, import_id: int) -> ImportRow:
    row = session.get(ImportRow, import_id, with_for_update=True)
    if row is None or row.sealed_at is not None:
        raise InputRefusedError(
            "another import of this campaign has begun meanwhile and thrown this one away: import one list after the"
            " other; nothing of this one was added"
        )
    return row


def lock_additions(session: Session) -> None:
    """From here to the commit nobody else adds leads, so that who is looked up and not found is not there."""
    advisory_locks.take(session, Lock.ADDITIONS)


def newest_lead(session: Session) -> int:
    """The id of the newest lead of all."""
    return session.connection().scalar(select(func.max(_lead.c.id))) or 0


def add_leads(
    session: Session,
    campaign_row_id: int,
    leads: Sequence[StagedLead],
    terms: Terms,
    watermark: int,
    now: datetime,
    *,
    source: str = "",
) -> Counts:
    """Add those of `leads` who are not there already, by `terms`; by key, those who are there are changed.

    Leads after `watermark` in a list of theirs count as being in this one.
    """
    lock_additions(session)
    suppression_store.keep_entries(session)
    lists = {
        name: store.lead_list(session, campaign_row_id, name, now, source=source).id or 0
        for name in {lead.list_name or terms.list_name for lead in leads}
    }
    placed = [(lists[lead.list_name or terms.list_name], lead) for lead in leads]
    if terms.by == "key":
        new, counts = _update_known(session, campaign_row_id, placed, terms, watermark, now)
    else:
        new, counts = _without_known(session, campaign_row_id, placed, terms, watermark)
    forbidden = _forbidden(session, campaign_row_id, [lead for _, lead in new], now)
    suppressed = _insert(session, campaign_row_id, new, forbidden, now)
    return counts + Counts(added=len(new), suppressed=suppressed)


def would_add(
    session: Session, campaign_row_id: int, leads: Sequence[StagedLead], terms: Terms, now: datetime
) -> Counts:
    """What `add_leads` would answer, as far as that can be told without adding; nothing is changed."""
    lists = {row.name: row.id or 0 for row in lead_lists.lists_of(session, campaign_row_id)}
    for name in {lead.list_name or terms.list_name for lead in leads} - lists.keys():
        lists[name] = -1 - len(lists)  # it would be made
    placed = [(lists[lead.list_name or terms.list_name], lead) for lead in leads]
    if terms.by == "key":
        known = known_keys(session, campaign_row_id, [lead.external_key or "" for lead in leads], terms.unique_in)
        new, counts, _ = _sorted_by_key(placed, known, campaign_row_id, terms, _NO_WATERMARK, now)
    else:
        new, counts = _without_known(session, campaign_row_id, placed, terms, _NO_WATERMARK)
    forbidden = _forbidden(session, campaign_row_id, [lead for _, lead in new], now)
    suppressed = sum(_first_allowed(lead, forbidden) is None for _, lead in new)
    return counts + Counts(added=len(new), suppressed=suppressed)


_NO_WATERMARK: Final = 2**62
_Placed = tuple[int, StagedLead]  # a lead and the list it goes to


def _without_known(
    session: Session, campaign_row_id: int, placed: Sequence[_Placed], terms: Terms, watermark: int
) -> tuple[list[_Placed], Counts]:
    known = known_numbers(session, campaign_row_id, [lead.number for _, lead in placed], terms.unique_in)
    new: list[_Placed] = []
    seen: set[tuple[int, str]] = set()
    in_list = in_campaign = elsewhere = 0
    for each in placed:
        list_id, lead = each
        scope = list_id if terms.unique_in == "list" else 0
        if (scope, lead.number) in seen:
            in_list += 1
            continue
        seen.add((scope, lead.number))
        there = known.get(lead.number)
        found = there and [one for one in there if not scope or one.list_id == list_id]
        if not found:
            new.append(each)
        elif any(one.id > watermark and one.list_id == list_id for one in found):
            in_list += 1
        elif any(one.campaign_id == campaign_row_id for one in found):
            in_campaign += 1
        else:
            elsewhere += 1
    return new, Counts(
        duplicates_in_list=in_list, duplicates_in_campaign=in_campaign, duplicates_elsewhere=elsewhere
    )  # fmt: skip


def _forbidden(session: Session, campaign_row_id: int, leads: Sequence[StagedLead], now: datetime) -> frozenset[str]:
    """Those numbers of `leads` that are on a do-not-call list."""
    if not leads or session.connection().scalar(select(col(SuppressionRow.id)).limit(1)) is None:
        return frozenset()
    row = session.get_one(CampaignRow, campaign_row_id)
    return forbidden_leads.suppressed_numbers(session, store.definition_of(row), _all_numbers(leads), now)


def _all_numbers(leads: Sequence[StagedLead]) -> list[str]:
    numbers = [lead.number for lead in leads]
    numbers += [number for lead in leads if lead.numbers != "[]" for number, *_ in json.loads(lead.numbers)]
    return numbers


# What a lead is made of, in the order in which `_insert` gives it.
_COLUMNS: Final = (
    *("number", "zones", "region", "kind", "numbers", "number_no", "first_number", "external_key", "account"),
    *("fields", "priority", "consent_at", "consent_evidence", "callback_at", "list_id", "status", "queue", "due_at"),
    *("campaign_id", "attempts", "history", "created_at", "updated_at"),
)


def _insert(
    session: Session, campaign_row_id: int, new: Sequence[_Placed], forbidden: frozenset[str], now: datetime
) -> int:
    """Add `new`; how many of them stand on a do-not-call list with all their numbers."""
    if not new:
        return 0
    connection = session.connection()
    moment = _moments(connection)
    when = moment(now)
    constants = (campaign_row_id, 0, "{}", when, when)
    fresh = (LeadStatus.NEW.value, Queue.NEW.value, when)
    suppressed = 0
    rows: list[tuple[object, ...]] = []
    for list_id, lead in new:
        number = (lead.number, lead.zones, lead.region, lead.kind, lead.numbers, 0)
        first_number = None if lead.numbers == "[]" else lead.number
        state: tuple[object, ...] = fresh
        if lead.callback_at is not None:
            state = (LeadStatus.NEW.value, None, moment(lead.callback_at))
        if forbidden:
            allowed = _first_allowed(lead, forbidden)
            if allowed is None:
                suppressed += 1
                state = (LeadStatus.SUPPRESSED.value, None, when)
            elif first_number is not None:
                e164, zones, kind, region, number_no = allowed
                number = (e164, json.dumps(zones, separators=(",", ":")), region, kind, lead.numbers, number_no)
        rows.append(
            (
                *number,
                first_number,
                lead.external_key,
                lead.account,
                lead.fields,
                lead.priority or 0,
                None if lead.consent_at is None else moment(lead.consent_at),
                lead.consent_evidence,
                None if lead.callback_at is None else moment(lead.callback_at),
                list_id,
                *state,
                *constants,
            )
        )
    # By the driver itself: SQLAlchemy would look at each value of each row again, which takes as long as the insert.
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    marks = ", ".join([mark] * len(_COLUMNS))
    connection.exec_driver_sql(f"INSERT INTO lead ({', '.join(_COLUMNS)}) VALUES ({marks})", rows)  # noqa: S608
    return suppressed


def _moments(connection: Connection) -> Any:
    """What makes of a moment what the driver wants."""
    kind: TypeEngine[datetime] = _lead.c.due_at.type
    return kind.dialect_impl(connection.dialect).bind_processor(connection.dialect)


def _first_allowed(lead: StagedLead, forbidden: frozenset[str]) -> tuple[Any, ...] | None:
    """The first of the lead's numbers that may be called: number, zones, kind, region, and which it is."""
    if lead.numbers == "[]":
        return None if lead.number in forbidden else (lead.number,)
    for number_no, (number, zones, kind, region) in enumerate(json.loads(lead.numbers)):
        if number not in forbidden:
            return number, zones, kind, region, number_no
    return None


# By key


def _update_known(
    session: Session, campaign_row_id: int, placed: Sequence[_Placed], terms: Terms, watermark: int, now: datetime
) -> tuple[list[_Placed], Counts]:
    known = known_keys(
        session, campaign_row_id, [lead.external_key or "" for _, lead in placed], terms.unique_in, to_change=True
    )
    new, counts, updates = _sorted_by_key(placed, known, campaign_row_id, terms, watermark, now)
    _run_updates(session, updates)
    forbidden_leads.look_again(session, [each.lead_id for each in updates if each.other_numbers], now)
    return new, counts


def _sorted_by_key(
    placed: Sequence[_Placed],
    known: Mapping[str, Sequence[KnownByKey]],
    campaign_row_id: int,
    terms: Terms,
    watermark: int,
    now: datetime,
) -> tuple[list[_Placed], Counts, list[_Update]]:
    """Who is new, and what is to be changed of those who are known; of two rows with one key the last counts."""
    latest: dict[tuple[int, str], _Placed] = {}
    in_list = updated = elsewhere = numbers_kept = over = 0
    for list_id, lead in placed:
        key = (list_id if terms.unique_in == "list" else 0, lead.external_key or "")
        in_list += key in latest
        latest[key] = (list_id, lead)
    new: list[_Placed] = []
    updates: list[_Update] = []
    for (scope, external_key), (list_id, lead) in latest.items():
        found = [one for one in known.get(external_key, ()) if not scope or one.list_id == scope]
        mine = [one for one in found if one.campaign_id == campaign_row_id]
        for one in mine:
            update = _update_of(one, lead, now)
            updates.append(update)
            numbers_kept += one.is_busy
            over += one.status in _OVER and "status" not in update.values
        if not found:
            new.append((list_id, lead))
        elif not mine:
            elsewhere += 1
        elif all(one.id > watermark for one in mine):
            in_list += 1
        else:
            updated += 1
    counts = Counts(
        updated=updated,
        duplicates_in_list=in_list,
        duplicates_elsewhere=elsewhere,
        numbers_kept=numbers_kept,
        over=over,
    )
    return new, counts, updates


@attrs.frozen
class _Update:
    """What is to be changed of a lead."""

    lead_id: int
    values: Mapping[str, object]
    other_numbers: bool


_OVER: Final = (LeadStatus.DONE, LeadStatus.DEAD, LeadStatus.EXHAUSTED)
_DETAILS: Final = ("account", "priority", "consent_at", "consent_evidence")


def _update_of(known: KnownByKey, lead: StagedLead, now: datetime) -> _Update:
    """All that a list may say of a lead, but never its status or its attempts.

    The numbers of a lead in a call stay as they are: what becomes of it at the end is told by them. The number whose
    turn it is keeps it, if the lead still has it.
    """
    before = all_numbers(known)
    # A list does not take away what is known of things that it has no column for.
    values: dict[str, object] = {name: value for name in _DETAILS if (value := getattr(lead, name)) is not None}
    values["fields"] = json.dumps({**json.loads(known.fields), **json.loads(lead.fields)}, ensure_ascii=False)
    if not known.is_busy:
        values |= number_values(lead, known.number, before)
        if known.put_off_by is not None:
            values["due_at"] = now  # a rule has put it off; of where it is now, the rule may say otherwise
        if lead.callback_at is not None and _may_be_called_back(known, lead.callback_at, now):
            status = known.status if known.status is LeadStatus.NEW else LeadStatus.WAITING
            promised = {"callback_at": lead.callback_at, "due_at": lead.callback_at, "status": status}
            values |= {**promised, "queue": None, "put_off_by": None}
    others = not known.is_busy and new_numbers(before, values)
    if others and known.is_dead:
        values |= lives_again(now)
    return _Update(known.id, {**values, "updated_at": now}, others)


def _may_be_called_back(known: KnownByKey, callback_at: datetime, now: datetime) -> bool:
    """Who was reached, or tried in vain, may ask for another call; a list of yesterday asks for none again."""
    if known.status in (LeadStatus.DONE, LeadStatus.EXHAUSTED):
        return callback_at > now
    return known.status in (LeadStatus.NEW, LeadStatus.WAITING)


def new_numbers(before: Sequence[LeadNumber], values: Mapping[str, object]) -> bool:
    """Whether the `values` of `number_values` bring a lead a number that it did not have before."""
    several = numbers_from_json(str(values["numbers"]))
    after = {one.number for one in several} or {str(values["number"])}
    return bool(after - {one.number for one in before})


def lives_again(now: datetime) -> dict[str, object]:
    """The columns of a lead that had no number that anybody has, and has got one."""
    return {"status": LeadStatus.WAITING, "queue": None, "due_at": now, "put_off_by": None}


def number_values(lead: StagedLead, current: str, before: Sequence[LeadNumber]) -> dict[str, object]:
    """The columns of a lead that has the numbers of `lead` and had those `before`.

    `current` keeps its turn, if it is among them. Where a number is stays known if `lead` only takes it from the
    number: another list has said it.
    """
    known = {one.number: one for one in before}
    told = _in_its_place(all_numbers(lead), before) if not lead.says_numbers else all_numbers(lead)
    numbers = [_where_it_was(one, known.get(one.number), lead) for one in told]
    place = next((place for place, one in enumerate(numbers) if one.number == current), 0)
    several = len(numbers) > 1
    return {
        **number_columns(place, numbers[place]),
        "numbers": numbers_to_json(numbers) if several else "[]",
        "first_number": numbers[0].number if several else None,
    }


def _in_its_place(told: Sequence[LeadNumber], before: Sequence[LeadNumber]) -> Sequence[LeadNumber]:
    """The numbers of a lead of which a list says only the first: the others stay."""
    if any(one.number == told[0].number for one in before):
        return [told[0] if one.number == told[0].number else one for one in before]
    return [*told, *before[1:]]


def _where_it_was(number: LeadNumber, before: LeadNumber | None, lead: StagedLead) -> LeadNumber:
    if before is None:
        return number
    zones = number.zones if lead.says_zones else before.zones
    return attrs.evolve(number, zones=zones, region=number.region if lead.says_region else before.region)


def _run_updates(session: Session, updates: Sequence[_Update]) -> None:
    by_shape: dict[tuple[str, ...], list[dict[str, object]]] = {}
    for each in updates:
        row = {f"_{name}": value for name, value in each.values.items()}
        by_shape.setdefault(tuple(sorted(each.values)), []).append({"_lead_id": each.lead_id, **row})
    for shape, rows in by_shape.items():
        statement = (
            update(_lead)
            .where(_lead.c.id == bindparam("_lead_id"))
            .values({name: bindparam(f"_{name}", type_=_lead.c[name].type) for name in shape})
        )
        session.connection().execute(statement, rows)
