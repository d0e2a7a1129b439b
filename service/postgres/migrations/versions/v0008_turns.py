"""Turns of owners are not stored any more: whoever works on the jobs of a replica knows them."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Drop the column, with which its index goes, and make one without it."""
    op.drop_column("jobs", "turn")
    op.create_index("jobs_by_owner", "jobs", ["owner"])
