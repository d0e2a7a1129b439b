"""Label sets and their labels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "label_sets",
        sa.Column("name", sa.Text(collation="C"), primary_key=True),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("templates", sa.Text),
        sa.Column("guarantee", sa.Double),
        sa.Column("n_labels", sa.Integer, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.Text(collation="C"), nullable=False),
        sa.Column("last_change", sa.LargeBinary, nullable=False),
    )
    op.create_index("label_sets_by_owner", "label_sets", ["owner"])
    op.create_table(
        "labels",
        sa.Column(
            "label_set",
            sa.Text(collation="C"),
            sa.ForeignKey("label_sets.name", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("prompts", sa.Text, nullable=False),
        sa.Column("key_hash", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("label_set", "key_hash", name="labels_by_key"),
    )
