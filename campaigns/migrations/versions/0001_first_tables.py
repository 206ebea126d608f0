"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "campaign",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", name="uq_campaign_name"),
    )
    op.create_table(
        "lead",
        sa.Column("id", BIG, nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.String(16), nullable=False),
        sa.Column("zones", sa.Text(), nullable=False),
        sa.Column("external_key", sa.Text(), nullable=True),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("last_disposition", sa.String(16), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("campaign_id", "number", name="uq_lead_campaign_number"),
    )
    op.create_index("ix_lead_callable", "lead", ["campaign_id", "status", "due_at", "id"])

    op.create_table(
        "list_import",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("sealed_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "attempt",
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("lead_id", BIG, nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.String(16), nullable=False),
        sa.Column("gateway", sa.String(63), nullable=False),
        sa.Column("switch", sa.Text(), nullable=False),
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("opened_at", MOMENT, nullable=False),
        sa.Column("closed_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"]),
        sa.ForeignKeyConstraint(["lead_id"], ["lead.id"]),
        sa.PrimaryKeyConstraint("uuid"),
    )
    op.create_index(
        "ix_attempt_open",
        "attempt",
        ["node"],
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )

    op.create_table(
        "staged_lead",
        sa.Column("id", BIG, nullable=False),
        sa.Column("import_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.String(16), nullable=False),
        sa.Column("zones", sa.Text(), nullable=False),
        sa.Column("external_key", sa.Text(), nullable=True),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["import_id"], ["list_import.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("import_id", "number", name="uq_staged_lead_number"),
    )
    op.create_table(
        "cdr",
        sa.Column("attempt_uuid", sa.String(36), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("lead_id", BIG, nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("number", sa.String(16), nullable=False),
        sa.Column("gateway", sa.String(63), nullable=False),
        sa.Column("switch", sa.Text(), nullable=False),
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("caller_id", sa.Text(), nullable=True),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.Column("agent_leg", sa.String(36), nullable=True),
        sa.Column("disposition", sa.String(16), nullable=False),
        sa.Column("hangup_cause", sa.String(63), nullable=False),
        sa.Column("sip_status", sa.Integer(), nullable=True),
        sa.Column("hung_up_by", sa.String(16), nullable=True),
        sa.Column("originated_at", MOMENT, nullable=False),
        sa.Column("ringing_at", MOMENT, nullable=True),
        sa.Column("early_media_at", MOMENT, nullable=True),
        sa.Column("answered_at", MOMENT, nullable=True),
        sa.Column("bridged_at", MOMENT, nullable=True),
        sa.Column("ended_at", MOMENT, nullable=False),
        sa.Column("ring_ms", sa.Integer(), nullable=True),
        sa.Column("wait_ms", sa.Integer(), nullable=True),
        sa.Column("talk_ms", sa.Integer(), nullable=True),
        sa.Column("recording", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["attempt_uuid"], ["attempt.uuid"]),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"]),
        sa.ForeignKeyConstraint(["lead_id"], ["lead.id"]),
        sa.PrimaryKeyConstraint("attempt_uuid"),
    )
    op.create_index("ix_cdr_ended", "cdr", ["campaign_id", "ended_at", "attempt_uuid", "disposition"])


def downgrade() -> None:
    for table in ("cdr", "staged_lead", "attempt", "list_import", "lead", "campaign"):
        op.drop_table(table)
