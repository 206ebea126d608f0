"""Which calls were abandoned, and how many in each hour; judged by 2 seconds for what there is.

The rule is that of campaigns/abandonment.py as it was when this was written.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JUDGE = """
    UPDATE cdr SET abandoned = CASE
        WHEN disposition = 'bridged' THEN coalesce(wait_ms, 2001) > 2000
        WHEN disposition = 'hung_up' AND wait_ms <= 2000 THEN NULL
        ELSE TRUE
    END
    WHERE answered_at IS NOT NULL
"""
# SQLite keeps a moment as text of one width, in UTC.
HOUR = {
    "sqlite": "substr(answered_at, 1, 13) || ':00:00.000000'",
    "postgresql": "date_trunc('hour', answered_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'",
}
COUNT = """
    INSERT INTO abandonment_hour (campaign_id, hour, live_answers, abandoned)
    SELECT campaign_id, {hour}, count(*), sum(CASE WHEN abandoned THEN 1 ELSE 0 END)
    FROM cdr WHERE abandoned IS NOT NULL GROUP BY 1, 2
"""


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        op.execute("SET LOCAL statement_timeout = 0")  # millions of calls may be judged at once
    op.add_column("cdr", sa.Column("abandoned", sa.Boolean(), nullable=True))
    op.create_table(
        "abandonment_hour",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("live_answers", sa.Integer(), nullable=False),
        sa.Column("abandoned", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"]),
        sa.PrimaryKeyConstraint("campaign_id", "hour"),
    )
    op.execute(JUDGE)
    op.execute(COUNT.format(hour=HOUR[dialect]))
    op.create_index(
        "ix_cdr_abandoned",
        "cdr",
        ["campaign_id", "answered_at", "attempt_uuid"],
        sqlite_where=sa.text("abandoned = 1"),
        postgresql_where=sa.text("abandoned"),
    )
