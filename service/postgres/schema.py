"""The tables, as the newest migration leaves them.

Text that is compared or sorted has the collation C, whose order is that of code points on every server.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

REVISION = "0008"
"""Of the newest migration; numbers with four digits, so that older and newer can be told apart."""
VERSION_TABLE = "ahse_schema"

metadata = MetaData()

label_sets = Table(
    "label_sets",
    metadata,
    Column("name", Text(collation="C"), primary_key=True),
    Column("etag", Text, nullable=False),
    Column("templates", Text),
    Column("guarantee", Double),
    Column("n_labels", Integer, nullable=False),
    Column("n_characters", BigInteger, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("updated", DateTime(timezone=True), nullable=False),
    Column("owner", Text(collation="C"), nullable=False),
    Index("label_sets_by_owner", "owner"),
)
"""`templates`: JSON. `n_characters`: as `count_characters` counts them (service/labels/label)."""

labels = Table(
    "labels",
    metadata,
    Column(
        "label_set", Text(collation="C"), ForeignKey("label_sets.name", ondelete="CASCADE"), primary_key=True
    ),
    Column("position", Integer, primary_key=True),
    Column("name", Text(collation="C"), nullable=False),
    Column("prompts", Text, nullable=False),
    Column("key_hash", LargeBinary, nullable=False),
    UniqueConstraint("label_set", "key_hash", name="labels_by_key"),
)
"""`prompts`: JSON. `key_hash`: of `label_key`, which itself may be too long for an index."""

label_set_changes = Table(
    "label_set_changes",
    metadata,
    Column("label_set", Text(collation="C"), primary_key=True),
    Column("request", LargeBinary, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("answer", Text, nullable=False),
    Column("made", DateTime(timezone=True), nullable=False),
    Index("label_set_changes_by_age", "made"),
)
"""What changes of late are recognised by when they come again (service/labels/repeats), also that of a set
that was deleted. `answer`: JSON, without the templates of the set."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text(collation="C"), primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("expires", DateTime(timezone=True)),
    Column("rate", Text),
    Column("quotas", Text, nullable=False),
)
"""`scopes`, `quotas`: JSON. Of a key itself only the hash is kept."""

embeddings = Table(
    "embeddings",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("key", LargeBinary, nullable=False),
    Column("embedding", LargeBinary, nullable=False),
    UniqueConstraint("key", name="embeddings_by_key"),
)
"""A cache; the smallest ids are the oldest."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text(collation="C"), primary_key=True),
    Column("replica", Text(collation="C"), nullable=False),
    Column("owner", Text(collation="C"), nullable=False),
    Column("state", Text, nullable=False),
    Column("n_clips", Integer, nullable=False),
    Column("n_done", Integer, nullable=False),
    Column("n_failed", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("ended", Double),
    Column("expires", Double),
    Column("n_bytes", BigInteger, nullable=False),
    Column("idempotency_key", Text(collation="C")),
    Column("fields", Text, nullable=False),
    Index("jobs_by_owner", "owner"),
    Index("jobs_unfinished", "replica", "id", postgresql_where=text("ended IS NULL")),
    Index("jobs_by_key", "owner", "idempotency_key", unique=True),
)
"""Times: seconds since 1970. `replica`: on whose disk its clips are."""

replicas = Table(
    "replicas",
    metadata,
    Column("id", Text(collation="C"), primary_key=True),
    Column("since", DateTime(timezone=True), nullable=False),
    Column("seen", DateTime(timezone=True), nullable=False),
)
"""`seen`: when a replica said last that it is there; `since`: from when on it has said so without a break."""

job_clips = Table(
    "job_clips",
    metadata,
    Column("job", Text(collation="C"), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("n_bytes", BigInteger, nullable=False),
    Column("outcome", Text),
)
"""`name`: JSON, since a file name may hold characters that a text of the database can't. `outcome`: JSON."""

job_webhooks = Table(
    "job_webhooks",
    metadata,
    Column("job", Text(collation="C"), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next", Double),
    Column("url", Text, nullable=False),
    Column("secret", Text),
)
