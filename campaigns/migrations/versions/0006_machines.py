"""Calls that were taken for answering machines, and how many of them count as abandoned people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cdr", sa.Column("false_positive_permille", sa.Integer(), nullable=True))
    for name in ("machines", "false_positive_permille"):
        op.add_column("abandonment_hour", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
