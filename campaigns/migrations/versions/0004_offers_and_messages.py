"""Leads that are offered to an agent before they are called, and what people did with a message played to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempt", sa.Column("offered", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("cdr", sa.Column("keys", sa.String(32), nullable=True))
    op.add_column("cdr", sa.Column("note", sa.Text(), nullable=True))
