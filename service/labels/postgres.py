"""Label sets in PostgreSQL, shared by replicas: what one has changed the next request on any other sees."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from service.errors import StoreUnavailableError, UnknownLabelError, UnknownLabelSetError
from service.labels.changes import (
    RecentSets,
    check_precondition,
    check_quotas,
    check_stored,
    edited,
    put_over,
    version_of,
    with_labels,
)
from service.labels.label import Label, check_count, check_labels, label_key
from service.labels.store import (
    NOBODY,
    Content,
    Edit,
    LabelSet,
    LabelSetSummary,
    Owner,
    Precondition,
)
from service.postgres.database import PostgresDatabase
from service.postgres.schema import label_sets
from service.postgres.schema import labels as label_rows

_SUMMARY = [
    label_sets.c[name]
    for name in ("name", "n_labels", "templates", "guarantee", "etag", "created", "updated")
]
# Each set, and each owner who has quotas, is locked for the transaction that changes it.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))")
# A statement has a deadline, so that a set of any size must not be one.
_LABELS_PER_STATEMENT = 20_000
_ADD = text(
    """
    INSERT INTO labels (label_set, position, name, prompts, key_hash)
    SELECT :label_set, :first + number - 1, name, prompts, key_hash
    FROM unnest(CAST(:names AS text[]), CAST(:prompts AS text[]), CAST(:hashes AS bytea[]))
        WITH ORDINALITY AS new (name, prompts, key_hash, number)
    """
)
_PROMPT = text(
    """
    UPDATE labels SET prompts = new.prompts
    FROM unnest(CAST(:prompts AS text[]), CAST(:hashes AS bytea[])) AS new (prompts, key_hash)
    WHERE labels.label_set = :label_set AND labels.key_hash = new.key_hash
    """
)


class PostgresLabelStore:
    """A LabelStore in a database, which it does not close.

    While the database is away, `get` returns sets as they were read last, marked as stale.

    A change whose answer was lost is recognised when it comes again under the same request id, as long as it
    is the last one of its set: then nothing is changed, and it is answered as before.

    Args:
        database: Where the tables are.
        max_labels: Most labels in a set.
    """

    def __init__(self, database: PostgresDatabase, max_labels: int) -> None:
        self._database = database
        self._max_labels = max_labels
        self._recent = RecentSets()

    def get(self, name: str) -> LabelSet:
        """The set of that name; the same value as before if it has not changed."""
        known = self._recent.get(name)
        try:
            return self._current(name, known)
        except StoreUnavailableError:
            if known is None:
                raise
            return replace(known, is_stale=True)

    def _current(self, name: str, known: LabelSet | None) -> LabelSet:
        if known is not None:
            version = self._database.ask(
                "SELECT etag, created, updated FROM label_sets WHERE name = %s", (name,)
            )
            if version == version_of(known):
                return known
        try:
            found = self._database.read(lambda connection: _read(connection, name), is_long=True)
        except UnknownLabelSetError:
            self._recent.forget(name)
            raise
        self._recent.keep(found)
        return found

    def page(self, after: str, limit: int) -> list[LabelSetSummary]:
        """Up to limit sets whose names sort behind `after`, in order of name."""
        query = select(*_SUMMARY).where(label_sets.c.name > after).order_by(label_sets.c.name).limit(limit)
        return self._database.read(lambda connection: list(map(_summary, connection.execute(query))))

    def put(
        self, name: str, content: Content, precondition: Precondition, owner: Owner = NOBODY
    ) -> tuple[LabelSetSummary, bool]:
        """Create or replace a set; the flag says that it is new."""
        check_labels(content.labels, self._max_labels, may_be_empty=True)
        change = _hash_of(precondition, owner, "put", content.etag)

        def work(connection: Connection) -> tuple[LabelSetSummary, bool]:
            before, last_change = _lock_and_find(connection, name, owner)
            if before is not None and last_change == change:
                return before, before.created == before.updated
            check_precondition(precondition, name, before)
            _check_quotas(connection, owner, name, len(content.labels))
            after = put_over(before, name, content)
            _write(connection, after, change, owner)
            if before is None or before.etag != after.etag:
                connection.execute(delete(label_rows).where(label_rows.c.label_set == name))
                _add_rows(connection, name, 0, content.labels)
            return after, before is None

        after, is_new = self._database.write(work)
        self._recent.keep(with_labels(after, content.labels))
        return after, is_new

    def add(
        self, name: str, labels: Sequence[Label], precondition: Precondition, owner: Owner = NOBODY
    ) -> LabelSetSummary:
        """Append the labels that are new; the sum is checked like a new set."""
        check_labels(labels, self._max_labels, may_be_empty=True)
        sent = [[label.name, label.prompts] for label in labels]
        change = _hash_of(precondition, owner, "add", sent)

        def add_to(connection: Connection, before: LabelSetSummary) -> tuple[LabelSetSummary, Edit]:
            edit = _merge(connection, name, labels)
            after = edited(before, edit)
            check_count(after.n_labels, self._max_labels)
            _check_quotas(connection, owner, name, after.n_labels)
            _write(connection, after, change, owner)
            return after, edit

        return self._edit(name, precondition, change, add_to, owner)

    def remove(self, name: str, label: str, precondition: Precondition) -> LabelSetSummary:
        """Take one label out."""
        change = _hash_of(precondition, NOBODY, "remove", label)

        def remove_from(connection: Connection, before: LabelSetSummary) -> tuple[LabelSetSummary, Edit]:
            gone = connection.scalar(
                delete(label_rows)
                .where(label_rows.c.label_set == name, label_rows.c.key_hash == _key_hash(label))
                .returning(label_rows.c.name)
            )
            if gone is None:
                raise UnknownLabelError(f"label set {name!r} has no label {label[:80]!r}")
            edit = Edit(removed=(gone,))
            after = edited(before, edit)
            _write(connection, after, change)
            return after, edit

        return self._edit(name, precondition, change, remove_from)

    def _edit(
        self,
        name: str,
        precondition: Precondition,
        change: bytes,
        make: Callable[[Connection, LabelSetSummary], tuple[LabelSetSummary, Edit]],
        owner: Owner = NOBODY,
    ) -> LabelSetSummary:
        def work(connection: Connection) -> tuple[LabelSetSummary, LabelSetSummary, Edit]:
            found, last_change = _lock_and_find(connection, name, owner)
            before = check_stored(name, found)
            if last_change == change:
                return before, before, Edit()
            check_precondition(precondition, name, before)
            return before, *make(connection, before)

        before, after, edit = self._database.write(work)
        self._recent.edit(before, after, edit)
        return after

    def delete(self, name: str, precondition: Precondition) -> None:
        """Delete a set; one that is gone when this is tried again was deleted."""
        n_tries = 0

        def work(connection: Connection) -> None:
            nonlocal n_tries
            n_tries += 1
            found, _ = _lock_and_find(connection, name, NOBODY)
            if found is None and n_tries > 1:
                return
            check_precondition(precondition, name, check_stored(name, found))
            connection.execute(delete(label_sets).where(label_sets.c.name == name))

        self._database.write(work)
        self._recent.forget(name)

    def check(self) -> None:
        """Try the database, so that it is known and logged whether it is away; never raise.

        A replica goes on with the sets that it has read, so it stays ready: a database is away from all
        replicas at once, and none would be left to answer.
        """
        with contextlib.suppress(StoreUnavailableError):
            self._database.ask("SELECT 1")

    def close(self) -> None:
        """Nothing: who opened the database closes it."""


def _lock_and_find(
    connection: Connection, name: str, owner: Owner
) -> tuple[LabelSetSummary | None, bytes | None]:
    """Keep other changes of a set away until the end of the transaction; the set, and its last change.

    Owners are locked before sets by everyone, so that two transactions never wait for each other.
    """
    if _has_quotas(owner):
        connection.execute(_LOCK, {"what": f"owner {owner.id}"})
    connection.execute(_LOCK, {"what": f"label set {name}"})
    row = connection.execute(
        select(*_SUMMARY, label_sets.c.last_change).where(label_sets.c.name == name)
    ).first()
    return (None, None) if row is None else (_summary(row), bytes(row.last_change))


def _has_quotas(owner: Owner) -> bool:
    return owner.max_label_sets is not None or owner.max_labels is not None


def _check_quotas(connection: Connection, owner: Owner, name: str, n_labels: int) -> None:
    if not _has_quotas(owner):
        return
    n_others, n_their_labels = connection.execute(
        select(func.count(), func.coalesce(func.sum(label_sets.c.n_labels), 0)).where(
            label_sets.c.owner == owner.id, label_sets.c.name != name
        )
    ).one()
    check_quotas(owner, n_others, n_their_labels, n_labels)


def _read(connection: Connection, name: str) -> LabelSet:
    row = connection.execute(select(*_SUMMARY).where(label_sets.c.name == name)).first()
    summary = check_stored(name, None if row is None else _summary(row))
    rows = connection.execute(
        select(label_rows.c.name, label_rows.c.prompts)
        .where(label_rows.c.label_set == name)
        .order_by(label_rows.c.position)
    )
    return with_labels(summary, tuple(Label(label, tuple(json.loads(prompts))) for label, prompts in rows))


def _summary(row: Any) -> LabelSetSummary:
    """A row of the columns _SUMMARY, whose types SQLAlchemy does not tell."""
    return LabelSetSummary(
        name=row.name,
        n_labels=row.n_labels,
        templates=None if row.templates is None else tuple(json.loads(row.templates)),
        guarantee=row.guarantee,
        etag=row.etag,
        created=row.created.astimezone(UTC),
        updated=row.updated.astimezone(UTC),
    )


def _write(
    connection: Connection, summary: LabelSetSummary, change: bytes, owner: Owner | None = None
) -> None:
    """Write a set but for its labels; without an owner a stored one keeps its own."""
    facts = {
        "n_labels": summary.n_labels,
        "templates": None if summary.templates is None else json.dumps(summary.templates),
        "guarantee": summary.guarantee,
        "etag": summary.etag,
        "updated": summary.updated,
        "last_change": change,
        **({} if owner is None else {"owner": owner.id}),
    }
    new = {"owner": "", **facts, "name": summary.name, "created": summary.created}
    connection.execute(
        insert(label_sets).values(new).on_conflict_do_update(index_elements=["name"], set_=facts)
    )


def _merge(connection: Connection, name: str, labels: Sequence[Label]) -> Edit:
    """Append the labels that are new, and give the others the prompts that come with them."""
    hashes = {_key_hash(label.name): label for label in labels}
    stored = _stored(connection, name, list(hashes))
    added = [label for key, label in hashes.items() if key not in stored]
    prompted = [
        Label(stored[key].name, label.prompts)
        for key, label in hashes.items()
        if key in stored and label.prompts and label.prompts != stored[key].prompts
    ]
    if prompted:
        connection.execute(_PROMPT, _arrays(name, prompted, without="names"))
    if added:
        last = connection.scalar(
            select(func.max(label_rows.c.position)).where(label_rows.c.label_set == name)
        )
        _add_rows(connection, name, 0 if last is None else last + 1, added)
    return Edit(added=tuple(added), prompted=tuple(prompted))


def _stored(connection: Connection, name: str, hashes: list[bytes]) -> Mapping[bytes, Label]:
    rows = connection.execute(
        text(
            "SELECT key_hash, name, prompts FROM labels "
            "WHERE label_set = :label_set AND key_hash = ANY(CAST(:hashes AS bytea[]))"
        ),
        {"label_set": name, "hashes": hashes},
    )
    return {bytes(key): Label(label, tuple(json.loads(prompts))) for key, label, prompts in rows}


def _add_rows(connection: Connection, name: str, first: int, labels: Sequence[Label]) -> None:
    for start in range(0, len(labels), _LABELS_PER_STATEMENT):
        some = labels[start : start + _LABELS_PER_STATEMENT]
        connection.execute(_ADD, {"first": first + start, **_arrays(name, some)})


def _arrays(name: str, labels: Sequence[Label], without: str = "") -> dict[str, object]:
    arrays: dict[str, object] = {
        "label_set": name,
        "names": [label.name for label in labels],
        "prompts": [json.dumps(label.prompts) for label in labels],
        "hashes": [_key_hash(label.name) for label in labels],
    }
    return {key: value for key, value in arrays.items() if key != without}


def _key_hash(name: str) -> bytes:
    """What makes two names the same, at a size that any index takes."""
    return hashlib.sha256(label_key(name).encode()).digest()


def _hash_of(precondition: Precondition, owner: Owner, action: str, content: object) -> bytes:
    """What a change is recognised by: all of it, and the id of its request; without one by this call."""
    request_id = precondition.request_id or uuid4().hex
    change = [request_id, precondition.etags, precondition.absent, owner.id, action, content]
    return hashlib.sha256(json.dumps(change).encode()).digest()
