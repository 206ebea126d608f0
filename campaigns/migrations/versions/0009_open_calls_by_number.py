"""Which numbers are being called at this moment, found among millions of calls that are over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    still_open = sa.text("closed_at IS NULL")
    op.create_index(
        "ix_attempt_open_number", "attempt", ["number"], sqlite_where=still_open, postgresql_where=still_open
    )
