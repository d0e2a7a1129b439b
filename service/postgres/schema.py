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
)

REVISION = "0003"
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
    Column("created", DateTime(timezone=True), nullable=False),
    Column("updated", DateTime(timezone=True), nullable=False),
    Column("owner", Text(collation="C"), nullable=False),
    Column("last_change", LargeBinary, nullable=False),
    Index("label_sets_by_owner", "owner"),
)
"""`templates`: JSON. `last_change`: hash of the change that was made last and of the id of its request."""

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
