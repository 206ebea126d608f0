"""The tables. `store`, `hopper`, `staging` and `abandonment_counts` are the only places that query them.

Moments are UTC and aware, on both databases; a naive one is refused at the door. Enumerations are stored as their
values, in text, so that a database can be read by people and a new member needs no migration.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlmodel import Field, SQLModel

from campaigns.campaign import CampaignStatus
from campaigns.disposition import Disposition
from campaigns.lead import LeadStatus, Queue

E = TypeVar("E", bound=StrEnum)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment, stored in UTC. SQLite keeps it as text of one width, which sorts as time does."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class EnumText(TypeDecorator[E], Generic[E]):
    """A member of `enum`, stored as its value."""

    impl = String(16)
    cache_ok = True

    def __init__(self, enum: type[E]) -> None:
        super().__init__()
        self.enum = enum

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:
        return None if value is None else self.enum(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:
        return None if value is None else self.enum(value)


class QueueNumber(TypeDecorator[Queue]):
    """A queue, stored as its number: they are sorted by it."""

    impl = SmallInteger
    cache_ok = True

    def process_bind_param(self, value: Queue | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Queue | None:
        return None if value is None else Queue(value)


# Lists are imported again and again, and PostgreSQL uses up a number for each row that was there already. SQLite
# counts to 2**63 anyway, and numbers rows by itself only when the type is called INTEGER.
_Big: Any = BigInteger().with_variant(Integer(), "sqlite")


# Word for word in queries too: SQLite uses a part of an index only for what it sees to be in it.
RESTING = "queue IS NULL AND status IN ('new', 'waiting')"


def _moment(*, nullable: bool = False) -> Any:
    return Field(default=None, nullable=True, sa_type=UtcDateTime) if nullable else Field(sa_type=UtcDateTime)


def _enum(enum: type[StrEnum], *, nullable: bool = False) -> Any:
    # sa_type takes an instance too, whatever its annotation says: the column's type is used as it is.
    kind: Any = EnumText(enum)
    return Field(default=None, nullable=True, sa_type=kind) if nullable else Field(sa_type=kind)


class CampaignRow(SQLModel, table=True):
    """What a manager decided (`definition`, made by `campaign.dump`), and what the operator wants of it."""

    __tablename__ = "campaign"
    __table_args__ = (UniqueConstraint("name", name="uq_campaign_name"),)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=63)
    status: CampaignStatus = _enum(CampaignStatus)
    definition: str = Field(sa_type=Text)
    created_at: datetime = _moment()
    updated_at: datetime = _moment()


class LeadListRow(SQLModel, table=True):
    """A list of a campaign: what was uploaded together, and how it takes turns with the campaign's other lists."""

    __tablename__ = "lead_list"
    __table_args__ = (UniqueConstraint("campaign_id", "name", name="uq_lead_list_name"),)

    id: int | None = Field(default=None, primary_key=True)
    campaign_id: int = Field(foreign_key="campaign.id")
    name: str = Field(max_length=63)
    source: str = Field(default="", sa_type=Text)  # the file it came from first
    active: bool = True  # a list that is not active keeps its leads, and none of them is called
    priority: int = 0  # the higher one is called empty before the next gets a turn
    weight: int = 1  # among lists of one priority: turns in proportion
    newest_first: bool = False
    credit: float = 0.0  # turns owed to it by the others, as `campaigns.turns` keeps them
    created_at: datetime = _moment()
    updated_at: datetime = _moment()


class LeadRow(SQLModel, table=True):
    """Somebody to be called, by the number that is their turn.

    A lead that is NEW or WAITING stands in one of two places. In a `queue` (see `lead.Queue`) it may be called at
    once, as far as is known; without one it rests until `due_at`. `due_at` means nothing once the lead is final.
    """

    __tablename__ = "lead"
    __table_args__ = (
        CheckConstraint("queue IS NULL OR status IN ('new', 'waiting')", name="ck_lead_queue"),
        # What is called next: the queues of a campaign, list by list, in order.
        Index(
            "ix_lead_ready",
            "campaign_id",
            "queue",
            "list_id",
            "priority",
            "id",
            sqlite_where=text("queue IS NOT NULL"),
            postgresql_where=text("queue IS NOT NULL"),
        ),
        # Who has rested long enough.
        Index(
            "ix_lead_resting",
            "campaign_id",
            "due_at",
            "id",
            sqlite_where=text(RESTING),
            postgresql_where=text(RESTING),
        ),
        Index("ix_lead_status", "campaign_id", "status"),
        Index("ix_lead_number", "number"),
        Index(
            "ix_lead_first_number",
            "first_number",
            sqlite_where=text("first_number IS NOT NULL"),
            postgresql_where=text("first_number IS NOT NULL"),
        ),
        Index(
            "ix_lead_external_key",
            "campaign_id",
            "external_key",
            sqlite_where=text("external_key IS NOT NULL"),
            postgresql_where=text("external_key IS NOT NULL"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=_Big)
    campaign_id: int = Field(foreign_key="campaign.id")
    list_id: int = Field(foreign_key="lead_list.id")
    number: str = Field(max_length=16)  # E.164; of several, the one to be called next
    zones: str = Field(sa_type=Text)  # JSON list of zone names: where that number may be
    region: str | None = Field(default=None, max_length=8)  # ISO 3166-2, like US-FL, or the country alone
    kind: str = Field(default="unknown", max_length=16, sa_column_kwargs={"server_default": "unknown"})
    # All numbers in their order, when there are several: a JSON list of [number, zones, kind, region].
    numbers: str = Field(default="[]", sa_type=Text, sa_column_kwargs={"server_default": "[]"})
    number_no: int = Field(default=0, sa_column_kwargs={"server_default": "0"})  # which of `numbers` is `number`
    # The first of several: what the lead is known by when the list comes again, whichever is to be called next.
    first_number: str | None = Field(default=None, max_length=16)
    external_key: str | None = Field(default=None, sa_type=Text)  # what the list's owner calls it
    account: str | None = Field(default=None, sa_type=Text)  # whom several leads belong to
    fields: str = Field(default="{}", sa_type=Text)  # JSON object: the list's other columns
    status: LeadStatus = _enum(LeadStatus)
    queue: Queue | None = Field(default=Queue.NEW, nullable=True, sa_type=QueueNumber)
    priority: int = Field(default=0, sa_column_kwargs={"server_default": "0"})  # within its list, the higher first
    attempts: int = 0
    due_at: datetime = _moment()
    put_off_by: str | None = Field(default=None, max_length=32)  # the rule it rests for; None after an attempt
    last_disposition: Disposition | None = _enum(Disposition, nullable=True)
    agent_disposition: str | None = Field(default=None, max_length=63)  # what the last agent said of it
    history: str = Field(default="{}", sa_type=Text, sa_column_kwargs={"server_default": "{}"})  # see recycle.History
    last_called_at: datetime | None = _moment(nullable=True)  # when its last call ended
    callback_at: datetime | None = _moment(nullable=True)  # promised to the person
    callback_agent: str | None = Field(default=None, max_length=64)  # and by whom, if by nobody else
    consent_at: datetime | None = _moment(nullable=True)
    consent_evidence: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = _moment()
    updated_at: datetime = _moment()


class AttemptRow(SQLModel, table=True):
    """One call to one lead, written down before it is placed; open until its CDR is written."""

    __tablename__ = "attempt"
    __table_args__ = (
        # After a restart a node asks for its own open attempts. They are few among millions.
        Index(
            "ix_attempt_open",
            "node",
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
        # How often somebody has been called lately, and what of that counts against the next call.
        Index("ix_attempt_number", "number", "opened_at"),
        Index("ix_attempt_lead", "lead_id", "opened_at"),
        Index(
            "ix_attempt_account",
            "account",
            "opened_at",
            sqlite_where=text("account IS NOT NULL"),
            postgresql_where=text("account IS NOT NULL"),
        ),
    )

    uuid: str = Field(primary_key=True, max_length=36)
    lead_id: int = Field(foreign_key="lead.id", sa_type=_Big)
    campaign_id: int = Field(foreign_key="campaign.id")
    number: str = Field(max_length=16)
    gateway: str = Field(max_length=63)
    switch: str = Field(sa_type=Text)
    node: str = Field(max_length=63)
    account: str | None = Field(default=None, sa_type=Text)
    caller_id: str | None = Field(default=None, max_length=32)  # of the trunk's pool
    attempt_no: int
    # What became of it, as caps count it; known once it is closed.
    counted: bool = Field(default=True, sa_column_kwargs={"server_default": true()})  # a phone may have rung
    answered: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    talked: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    lockout: str | None = Field(default=None, max_length=16)  # the rest it asks for: see `called_numbers`
    # Shown to an agent first: nothing has been sent yet. Cleared before the originate is.
    offered: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    opened_at: datetime = _moment()
    closed_at: datetime | None = _moment(nullable=True)


class CdrRow(SQLModel, table=True):
    """What is left of an attempt when it is over. Never changed."""

    __tablename__ = "cdr"
    __table_args__ = (
        # For the export, in order, and for counting outcomes since some moment without reading the rows.
        Index("ix_cdr_ended", "campaign_id", "ended_at", "attempt_uuid", "disposition"),
        # The calls behind the abandonment report: a few in a hundred.
        Index(
            "ix_cdr_abandoned",
            "campaign_id",
            "answered_at",
            "attempt_uuid",
            sqlite_where=text("abandoned = 1"),
            postgresql_where=text("abandoned"),
        ),
    )

    attempt_uuid: str = Field(primary_key=True, max_length=36, foreign_key="attempt.uuid")
    campaign_id: int = Field(foreign_key="campaign.id")
    lead_id: int = Field(foreign_key="lead.id", sa_type=_Big)
    attempt_no: int
    number: str = Field(max_length=16)
    gateway: str = Field(max_length=63)
    switch: str = Field(sa_type=Text)
    node: str = Field(max_length=63)
    caller_id: str | None = Field(default=None, sa_type=Text)
    agent: str | None = Field(default=None, sa_type=Text)
    agent_leg: str | None = Field(default=None, max_length=36)
    disposition: Disposition = _enum(Disposition)
    hangup_cause: str = Field(max_length=63)
    sip_status: int | None = None
    hung_up_by: str | None = Field(default=None, max_length=16)  # customer, agent or dialer
    originated_at: datetime = _moment()
    ringing_at: datetime | None = _moment(nullable=True)
    early_media_at: datetime | None = _moment(nullable=True)
    answered_at: datetime | None = _moment(nullable=True)
    bridged_at: datetime | None = _moment(nullable=True)
    ended_at: datetime = _moment()
    ring_ms: int | None = None
    wait_ms: int | None = None
    talk_ms: int | None = None
    recording: str | None = Field(default=None, sa_type=Text)
    keys: str | None = Field(default=None, max_length=32)  # what a broadcast's listener pressed, in order
    note: str | None = Field(default=None, sa_type=Text)  # what else there is to tell, as why a lead was skipped
    # As campaigns/abandonment.py judged it when the record was made; None where it does not count at all.
    abandoned: bool | None = None
    # For a call that was taken for a machine: how likely it was a person all the same, in thousandths.
    false_positive_permille: int | None = None


class AbandonmentHourRow(SQLModel, table=True):
    """A campaign's answers in one hour: people, those abandoned, machines. Kept with the CDRs, exactly."""

    __tablename__ = "abandonment_hour"

    campaign_id: int = Field(primary_key=True, foreign_key="campaign.id")
    hour: datetime = Field(primary_key=True, sa_type=UtcDateTime)  # its start
    live_answers: int
    abandoned: int
    machines: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    false_positive_permille: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})  # their sum


class CallOutcomeRow(SQLModel, table=True):
    """What an agent said of a conversation, in the campaign's own words; beside the CDR, which is never changed."""

    __tablename__ = "call_outcome"
    __table_args__ = (
        # What was said lately, by whom; and how often what of a campaign, without reading the rows.
        Index("ix_call_outcome_set", "set_at", "agent"),
        Index("ix_call_outcome_campaign", "campaign_id", "set_at", "name"),
    )

    attempt_uuid: str = Field(primary_key=True, max_length=36, foreign_key="attempt.uuid")
    campaign_id: int = Field(foreign_key="campaign.id")
    lead_id: int = Field(foreign_key="lead.id", sa_type=_Big)
    agent: str = Field(max_length=64)
    name: str = Field(max_length=63)
    set_by: str = Field(max_length=16)  # agent, key or default
    note: str | None = Field(default=None, sa_type=Text)
    callback_at: datetime | None = _moment(nullable=True)
    callback_agent: str | None = Field(default=None, max_length=64)
    # JSON: the lead as it was before the step that this led to; another outcome's step begins there.
    before: str = Field(default="{}", sa_type=Text)
    set_at: datetime = _moment()


class SuppressionRow(SQLModel, table=True):
    """A number, or all numbers that begin alike, that must not be called: by anybody, a seller, or a campaign."""

    __tablename__ = "suppression"
    __table_args__ = (
        UniqueConstraint("pattern", "is_prefix", "scope", "scope_name", name="uq_suppression"),
        Index(
            "ix_suppression_prefix",  # a few among millions
            "pattern",
            sqlite_where=text("is_prefix = 1"),
            postgresql_where=text("is_prefix"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=_Big)
    pattern: str = Field(max_length=16)  # E.164, or the beginning of it
    is_prefix: bool = False
    scope: str = Field(max_length=16)  # system, seller or campaign
    scope_name: str = Field(default="", max_length=63)  # which seller or campaign
    source: str = Field(sa_type=Text)  # where it is from: a register, a file, the key of a phone
    reason: str = Field(default="", sa_type=Text)
    added_by: str = Field(max_length=64)
    added_at: datetime = _moment()
    expires_at: datetime | None = _moment(nullable=True)


class CallerIdDayRow(SQLModel, table=True):
    """How many calls have shown a number on one day, as its trunk counts days."""

    __tablename__ = "caller_id_day"

    caller_id: str = Field(primary_key=True, max_length=32)
    day: date = Field(primary_key=True)
    calls: int


class AuditRow(SQLModel, table=True):
    """A change that a person made: who, when, to what, and what it was before and after."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_subject", "kind", "subject", "id"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=_Big)
    at: datetime = _moment()
    who: str = Field(max_length=64)
    action: str = Field(max_length=32)
    kind: str = Field(max_length=32)  # campaign, list, lead, suppression, agent, dialer
    subject: str = Field(sa_type=Text)  # which of them
    before: str | None = Field(default=None, sa_type=Text)  # JSON
    after: str | None = Field(default=None, sa_type=Text)  # JSON


class AgentLoginRow(SQLModel, table=True):
    """What an agent last asked for. Redis has what is true now; this is for a Redis that has forgotten it."""

    __tablename__ = "agent_login"

    extension: str = Field(primary_key=True, max_length=64)
    campaign: str = Field(max_length=63)
    wants: str = Field(max_length=16)
    phones: str = Field(max_length=16)
    node: str = Field(max_length=63)
    updated_at: datetime = _moment()


class PacingStateRow(SQLModel, table=True):
    """What a campaign's pacer knew when it last dialed in this hour of the day (of UTC)."""

    __tablename__ = "pacing_state"

    campaign_id: int = Field(primary_key=True, foreign_key="campaign.id")
    hour: int = Field(primary_key=True)
    state: str = Field(sa_type=Text)  # JSON, see dialer/pacing/state.py
    updated_at: datetime = _moment()


class ImportRow(SQLModel, table=True):
    """A list on its way in. Until it is sealed it is nothing; from then on it is in, as far as anyone is told."""

    __tablename__ = "list_import"

    id: int | None = Field(default=None, primary_key=True)
    campaign_id: int = Field(foreign_key="campaign.id")
    source: str = Field(sa_type=Text)
    list_name: str = Field(default="list", max_length=63, sa_column_kwargs={"server_default": "list"})
    unique_in: str = Field(default="campaign", max_length=16, sa_column_kwargs={"server_default": "campaign"})
    by: str = Field(default="number", max_length=16, sa_column_kwargs={"server_default": "number"})
    # The newest lead when it was sealed: those after it in its lists are its own.
    watermark: int = Field(default=0, sa_type=_Big, sa_column_kwargs={"server_default": "0"})
    created_at: datetime = _moment()
    sealed_at: datetime | None = _moment(nullable=True)
    counts: str = Field(default="{}", sa_type=Text, sa_column_kwargs={"server_default": "{}"})  # so far, as JSON
    finished_at: datetime | None = _moment(nullable=True)  # whoever has begun it looks, and throws it away


class StagedChunkRow(SQLModel, table=True):
    """Some leads of a list on its way in, packed: a row each would be written three times, in three tables."""

    __tablename__ = "staged_chunk"
    __table_args__ = (Index("ix_staged_chunk_import", "import_id", "id"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=_Big)
    import_id: int = Field(foreign_key="list_import.id")
    leads: bytes = Field(sa_type=LargeBinary)
