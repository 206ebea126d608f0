"""What alembic runs: it is given a connection in a transaction, and neither begins nor commits one."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from campaigns import tables  # noqa: F401 - fills the metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
    compare_type=True,
)
context.run_migrations()
