"""The changes of label sets by which one that comes again is recognised, in place of the last of each set."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "label_set_changes",
        sa.Column("label_set", sa.Text(collation="C"), primary_key=True),
        sa.Column("request", sa.LargeBinary, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("made", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("label_set_changes_by_age", "label_set_changes", ["made"])
    op.drop_column("label_sets", "last_change")
