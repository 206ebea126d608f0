"""Lists that take turns, queues, several numbers a lead, do-not-call lists, outcomes, the audit log.

Leads that were there become a list of their own in each campaign, called "list".
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
RESTING = "queue IS NULL AND status IN ('new', 'waiting')"
FIRST_LISTS = """
    INSERT INTO lead_list
        (campaign_id, name, source, active, priority, weight, newest_first, credit, created_at, updated_at)
    SELECT DISTINCT campaign.id, 'list', '', {true}, 0, 1, {false}, 0, campaign.created_at, campaign.updated_at
    FROM campaign JOIN lead ON lead.campaign_id = campaign.id
"""
INTO_THEM = """
    UPDATE lead SET list_id = (SELECT id FROM lead_list WHERE lead_list.campaign_id = lead.campaign_id),
        queue = CASE WHEN status = 'new' AND due_at <= CURRENT_TIMESTAMP THEN 3 ELSE NULL END
"""
LAST_CALLED = "UPDATE lead SET last_called_at = (SELECT max(closed_at) FROM attempt WHERE lead_id = lead.id)"
CARRY_OUT = """
    INSERT INTO lead
        (campaign_id, number, zones, external_key, fields, status, attempts, due_at, created_at, updated_at)
    SELECT campaign_id, number, zones, external_key, fields, 'new', 0, sealed_at, sealed_at, sealed_at
    FROM staged_lead JOIN list_import ON list_import.id = import_id
    WHERE sealed_at IS NOT NULL ORDER BY staged_lead.id ON CONFLICT DO NOTHING
"""
JUDGE = """
    UPDATE attempt SET
        counted = NOT EXISTS (SELECT 1 FROM cdr WHERE attempt_uuid = uuid AND disposition = 'skipped'),
        answered = EXISTS (SELECT 1 FROM cdr WHERE attempt_uuid = uuid AND answered_at IS NOT NULL),
        talked = EXISTS (SELECT 1 FROM cdr WHERE attempt_uuid = uuid AND bridged_at IS NOT NULL)
"""


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        op.execute("SET LOCAL statement_timeout = 0")  # millions of leads are touched
    _new_tables()
    _finish_imports()
    op.drop_index("ix_lead_callable", "lead")
    for column in (
        sa.Column("list_id", sa.Integer(), nullable=True),
        sa.Column("region", sa.String(8), nullable=True),
        sa.Column("kind", sa.String(16), nullable=False, server_default="unknown"),
        sa.Column("numbers", sa.Text(), nullable=False, server_default="[]"),
        sa.Column("number_no", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("first_number", sa.String(16), nullable=True),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("queue", sa.SmallInteger(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("put_off_by", sa.String(32), nullable=True),
        sa.Column("agent_disposition", sa.String(63), nullable=True),
        sa.Column("history", sa.Text(), nullable=False, server_default="{}"),
        sa.Column("last_called_at", MOMENT, nullable=True),
        sa.Column("callback_at", MOMENT, nullable=True),
        sa.Column("callback_agent", sa.String(64), nullable=True),
        sa.Column("consent_at", MOMENT, nullable=True),
        sa.Column("consent_evidence", sa.Text(), nullable=True),
    ):
        op.add_column("lead", column)
    literals = {"true": "1", "false": "0"} if dialect == "sqlite" else {"true": "true", "false": "false"}
    op.execute(FIRST_LISTS.format(**literals))
    op.execute(INTO_THEM)
    with op.batch_alter_table("lead") as lead:
        lead.drop_constraint("uq_lead_campaign_number", type_="unique")
        lead.alter_column("list_id", existing_type=sa.Integer(), nullable=False)
        lead.create_check_constraint("ck_lead_queue", "queue IS NULL OR status IN ('new', 'waiting')")
        lead.create_foreign_key("fk_lead_list_id", "lead_list", ["list_id"], ["id"])
    _lead_indexes()
    for column in (
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("caller_id", sa.String(32), nullable=True),
        sa.Column("counted", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("answered", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("talked", sa.Boolean(), nullable=False, server_default=sa.false()),
    ):
        op.add_column("attempt", column)
    op.execute(JUDGE)
    op.create_index("ix_attempt_number", "attempt", ["number", "opened_at"])
    op.create_index("ix_attempt_lead", "attempt", ["lead_id", "opened_at"])
    op.execute(LAST_CALLED)
    _partial_index("ix_attempt_account", "attempt", ["account", "opened_at"], "account IS NOT NULL")


def _finish_imports() -> None:
    """Lists that a killed import had read whole are carried out, as they would have been by the next start."""
    op.execute(CARRY_OUT)
    op.drop_table("staged_lead")
    op.execute("DELETE FROM list_import")
    for column in (
        sa.Column("list_name", sa.String(63), nullable=False, server_default="list"),
        sa.Column("unique_in", sa.String(16), nullable=False, server_default="campaign"),
        sa.Column("by", sa.String(16), nullable=False, server_default="number"),
        sa.Column("watermark", BIG, nullable=False, server_default="0"),
    ):
        op.add_column("list_import", column)
    op.create_table(
        "staged_chunk",
        sa.Column("id", BIG, nullable=False),
        sa.Column("import_id", sa.Integer(), nullable=False),
        sa.Column("leads", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["import_id"], ["list_import.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_staged_chunk_import", "staged_chunk", ["import_id", "id"])


def _lead_indexes() -> None:
    _partial_index(
        "ix_lead_ready", "lead", ["campaign_id", "queue", "list_id", "priority", "id"], "queue IS NOT NULL"
    )
    _partial_index("ix_lead_resting", "lead", ["campaign_id", "due_at", "id"], RESTING)
    op.create_index("ix_lead_status", "lead", ["campaign_id", "status"])
    op.create_index("ix_lead_number", "lead", ["number"])
    _partial_index("ix_lead_first_number", "lead", ["first_number"], "first_number IS NOT NULL")
    _partial_index("ix_lead_external_key", "lead", ["campaign_id", "external_key"], "external_key IS NOT NULL")


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _new_tables() -> None:
    op.create_table(
        "lead_list",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("newest_first", sa.Boolean(), nullable=False),
        sa.Column("credit", sa.Float(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("campaign_id", "name", name="uq_lead_list_name"),
    )
    op.create_table(
        "call_outcome",
        sa.Column("attempt_uuid", sa.String(36), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("lead_id", BIG, nullable=False),
        sa.Column("agent", sa.String(64), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("set_by", sa.String(16), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("callback_at", MOMENT, nullable=True),
        sa.Column("callback_agent", sa.String(64), nullable=True),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("set_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["attempt_uuid"], ["attempt.uuid"]),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"]),
        sa.ForeignKeyConstraint(["lead_id"], ["lead.id"]),
        sa.PrimaryKeyConstraint("attempt_uuid"),
    )
    op.create_index("ix_call_outcome_set", "call_outcome", ["set_at", "agent"])
    op.create_index("ix_call_outcome_campaign", "call_outcome", ["campaign_id", "set_at", "name"])
    op.create_table(
        "suppression",
        sa.Column("id", BIG, nullable=False),
        sa.Column("pattern", sa.String(16), nullable=False),
        sa.Column("is_prefix", sa.Boolean(), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("scope_name", sa.String(63), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("added_by", sa.String(64), nullable=False),
        sa.Column("added_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("pattern", "is_prefix", "scope", "scope_name", name="uq_suppression"),
    )
    op.create_index(
        "ix_suppression_prefix",
        "suppression",
        ["pattern"],
        sqlite_where=sa.text("is_prefix = 1"),
        postgresql_where=sa.text("is_prefix"),
    )
    op.create_table(
        "caller_id_day",
        sa.Column("caller_id", sa.String(32), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("caller_id", "day"),
    )
    op.create_table(
        "audit",
        sa.Column("id", BIG, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("who", sa.String(64), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_audit_subject", "audit", ["kind", "subject", "id"])
