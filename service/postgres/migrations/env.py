"""Read by Alembic: runs the migrations on the connection that `upgrade` gives, inside its transaction."""

from __future__ import annotations

from alembic import context

from service.postgres.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
