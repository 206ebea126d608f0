"""Who is logged in, so that a Redis that has lost its data can be told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "agent_login",
        sa.Column("extension", sa.String(64), nullable=False),
        sa.Column("campaign", sa.String(63), nullable=False),
        sa.Column("wants", sa.String(16), nullable=False),
        sa.Column("phones", sa.String(16), nullable=False),
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("extension"),
    )
