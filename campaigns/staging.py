"""How a list gets in as a whole or not at all, without holding the database's writer for as long as that takes.

A million leads in one transaction would keep the writer for many seconds, and every call in progress with it. In
chunks of their own, an import that is interrupted would leave part of a list behind. So rows are first staged, in
chunks, where nobody looks; one small commit, `seal`, makes the import a fact; from there it is only carried out,
again in chunks, by whoever comes: `import_csv` itself, or the next import or daemon after a crash.

One import per campaign is staged at a time: the next one throws away what an interrupted one has left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Select, Table, delete, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, col

from campaigns.lead import LeadStatus
from campaigns.tables import ImportRow
from dialer.errors import InputRefusedError

CHUNK = 2_000  # rows in one transaction: some 20 ms of the writer's time

_staged = SQLModel.metadata.tables["staged_lead"]
_lead = SQLModel.metadata.tables["lead"]


def begin_import(session: Session, campaign_row_id: int, source: str, now: datetime) -> int:
    """A new import of the campaign, not sealed; its id."""
    row = ImportRow(campaign_id=campaign_row_id, source=source, created_at=now)
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


def sealed_imports(session: Session) -> Sequence[int]:
    """Imports, of any campaign, that are a fact and not yet carried out."""
    found = session.connection().scalars(
        select(col(ImportRow.id)).where(col(ImportRow.sealed_at).is_not(None)).order_by(col(ImportRow.id))
    )
    return [row_id for row_id in found if row_id is not None]


def stage(session: Session, import_id: int, rows: Sequence[Mapping[str, str | None]]) -> None:
    """Put `rows` (number, zones, external_key, fields) aside; of two with one number the first counts."""
    _locked(session, import_id)
    session.connection().execute(
        _insert(session, _staged).on_conflict_do_nothing(), [{"import_id": import_id, **row} for row in rows]
    )


def seal(session: Session, import_id: int, now: datetime) -> int:
    """Make the import a fact; how many different numbers it has."""
    row = _locked(session, import_id)
    row.sealed_at = now
    session.add(row)
    session.flush()
    return (
        session.connection().scalar(select(func.count()).select_from(_staged).where(_staged.c.import_id == import_id))
        or 0
    )


def carry_out(session: Session, import_id: int, now: datetime) -> int | None:
    """Make leads of the next chunk of a sealed import: how many of it the campaign did not have. None: it is done."""
    row = session.get(ImportRow, import_id, with_for_update=True)
    if row is None:
        return None  # another process was faster
    ids = session.connection().scalars(_next_chunk(import_id)).all()
    if not ids:
        session.delete(row)
        session.flush()
        return None
    chunk = (_staged.c.import_id == import_id) & _staged.c.id.between(ids[0], ids[-1])
    leads = {
        "campaign_id": literal(row.campaign_id),
        "number": _staged.c.number,
        "zones": _staged.c.zones,
        "external_key": _staged.c.external_key,
        "fields": _staged.c.fields,
        "status": literal(LeadStatus.NEW, _lead.c.status.type),
        "attempts": literal(0),
        "due_at": literal(now, _lead.c.due_at.type),
        "created_at": literal(now, _lead.c.created_at.type),
        "updated_at": literal(now, _lead.c.updated_at.type),
    }
    query = select(*leads.values()).where(chunk).order_by(_staged.c.id)
    insert = _insert(session, _lead).from_select(list(leads), query).on_conflict_do_nothing()
    added = session.connection().execute(insert, execution_options={"preserve_rowcount": True})
    session.connection().execute(delete(_staged).where(chunk))
    return added.rowcount


def discard(session: Session, import_id: int) -> bool:
    """Throw the next chunk of an unsealed import away; False when there is nothing more of it."""
    row = session.get(ImportRow, import_id, with_for_update=True)
    if row is None or row.sealed_at is not None:
        return False
    ids = session.connection().scalars(_next_chunk(import_id)).all()
    if not ids:
        session.delete(row)
        session.flush()
        return False
    session.connection().execute(
        delete(_staged).where((_staged.c.import_id == import_id) & _staged.c.id.between(ids[0], ids[-1]))
    )
    return True


def _next_chunk(import_id: int) -> Select[int]:
    return select(_staged.c.id).where(_staged.c.import_id == import_id).order_by(_staged.c.id).limit(CHUNK)


def _locked(session: Session, import_id: int) -> ImportRow:
    row = session.get(ImportRow, import_id, with_for_update=True)
    if row is None or row.sealed_at is not None:
        raise InputRefusedError(
            "another import of this campaign has begun meanwhile and thrown this one away: import one list after the"
            " other; nothing of this one was added"
        )
    return row


def _insert(session: Session, table: Table) -> sqlite.Insert | postgresql.Insert:
    dialect = sqlite if session.connection().dialect.name == "sqlite" else postgresql
    insert: sqlite.Insert | postgresql.Insert = dialect.insert(table)
    return insert
