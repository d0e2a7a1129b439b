"""Turns of owners are not stored any more: whoever works on the jobs of a replica knows them.

Bytes of a clip are those of its outcome, once it has one.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Drop the column, with which its index goes, make one without it, and count outcomes."""
    op.drop_column("jobs", "turn")
    op.create_index("jobs_by_owner", "jobs", ["owner"])
    op.execute("UPDATE job_clips SET n_bytes = octet_length(outcome) WHERE outcome IS NOT NULL")
