"""How much text each label set has. Kept answers don't say, and have templates: they are forgotten."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Count the characters of names, and of prompts with the names filled in."""
    op.add_column("label_sets", sa.Column("n_characters", sa.BigInteger, nullable=False, server_default="0"))
    op.alter_column("label_sets", "n_characters", server_default=None)
    op.execute(
        """
        UPDATE label_sets SET n_characters = coalesce((
            SELECT sum(length(labels.name) + coalesce((
                SELECT sum(length(replace(prompt, '{}', labels.name)))
                FROM jsonb_array_elements_text(
                    CAST(CASE WHEN prompts = '[]' THEN coalesce(templates, '[]') ELSE prompts END AS jsonb)
                ) AS prompt
            ), 0))
            FROM labels WHERE label_set = label_sets.name
        ), 0)
        """
    )
    op.execute("DELETE FROM label_set_changes")
