"""The rest that a call asks for its number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_LONGEST_REST = timedelta(days=4)  # of all profiles of the law, and a day


def upgrade() -> None:
    op.add_column("attempt", sa.Column("lockout", sa.String(length=16), nullable=True))
    attempt = sa.table("attempt", sa.column("uuid"), sa.column("lockout"))
    moment = sa.DateTime(timezone=True)
    cdr = sa.table("cdr", sa.column("attempt_uuid"), sa.column("disposition"), sa.column("ended_at", moment))
    since = datetime.now(UTC) - _LONGEST_REST
    for lockout in ("abandoned", "machine"):
        calls = sa.select(cdr.c.attempt_uuid).where(cdr.c.disposition == lockout, cdr.c.ended_at > since)
        op.execute(attempt.update().where(attempt.c.uuid.in_(calls)).values(lockout=lockout))
