"""What has become of an import's leads so far, whoever carries it out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("list_import", sa.Column("counts", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("list_import", sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True))
