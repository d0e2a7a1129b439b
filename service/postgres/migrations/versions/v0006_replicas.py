"""When each replica was seen last; those that have jobs are seen now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "replicas",
        sa.Column("id", sa.Text(collation="C"), primary_key=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen", sa.DateTime(timezone=True), nullable=False),
    )
    op.execute("INSERT INTO replicas SELECT DISTINCT replica, now(), now() FROM jobs")
