"""The rows of label sets, of their labels and of their changes: read and written inside a transaction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from sqlalchemy import Connection, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from service.labels.changes import (
    MAX_PAGE_TEMPLATES,
    check_quotas,
    found_set,
    read_templates,
    with_labels,
)
from service.labels.label import Label, label_key
from service.labels.repeats import REMEMBERED_FOR, Answer, Change
from service.labels.store import Content, Edit, LabelSet, LabelSetSummary, Owner
from service.postgres.schema import label_set_changes, label_sets
from service.postgres.schema import labels as label_rows

_SUMMARY = [
    label_sets.c[name]
    for name in ("name", "n_labels", "n_characters", "templates", "guarantee", "etag", "created", "updated")
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
# Without waiting for others that forget the same, who would be in another order.
_FORGET = text(
    """
    DELETE FROM label_set_changes WHERE (label_set, request) IN (
        SELECT label_set, request FROM label_set_changes WHERE made < now() - CAST(:age AS interval)
        FOR UPDATE SKIP LOCKED
    )
    """
)
_PROMPT = text(
    """
    UPDATE labels SET prompts = new.prompts
    FROM unnest(CAST(:prompts AS text[]), CAST(:hashes AS bytea[])) AS new (prompts, key_hash)
    WHERE labels.label_set = :label_set AND labels.key_hash = new.key_hash
    """
)


def lock_set(connection: Connection, name: str, owner: Owner) -> None:
    """Keep other changes of a set away until the end of the transaction.

    Owners are locked before sets by everyone, so that two transactions never wait for each other.
    """
    if _has_quotas(owner):
        connection.execute(_LOCK, {"what": f"owner {owner.id}"})
    connection.execute(_LOCK, {"what": f"label set {name}"})


def find_answer(connection: Connection, name: str, change: Change) -> Answer | None:
    """How a change of a set was answered before; None: it was not made, or long ago."""
    templates = select(label_sets.c.templates).where(label_sets.c.name == name).scalar_subquery()
    found = connection.execute(
        select(label_set_changes.c.answer, templates).where(
            label_set_changes.c.label_set == name,
            label_set_changes.c.request == change.request,
            label_set_changes.c.content == change.content,
            label_set_changes.c.made >= func.now() - REMEMBERED_FOR,
        )
    ).first()
    return None if found is None else Answer.read(found[0], read_templates(found[1]))


def keep_answer(connection: Connection, name: str, change: Change, answer: Answer) -> None:
    """Keep how a change was answered, and forget those that are too old."""
    facts = {"content": change.content, "answer": answer.as_text(), "made": func.now()}
    new = {"label_set": name, "request": change.request, **facts}
    connection.execute(
        insert(label_set_changes)
        .values(new)
        .on_conflict_do_update(index_elements=["label_set", "request"], set_=facts)
    )
    connection.execute(_FORGET, {"age": REMEMBERED_FOR})


def find_set(connection: Connection, name: str) -> LabelSetSummary | None:
    """A set but for its labels."""
    row = connection.execute(select(*_SUMMARY).where(label_sets.c.name == name)).first()
    return None if row is None else _summary(row)


def _has_quotas(owner: Owner) -> bool:
    return owner.max_label_sets is not None or owner.max_labels is not None


def check_owner(connection: Connection, owner: Owner, name: str, n_labels: int) -> None:
    """Check what an owner would own with so many labels in this set, whoever owns it now."""
    if not _has_quotas(owner):
        return
    n_others, n_their_labels = connection.execute(
        select(func.count(), func.coalesce(func.sum(label_sets.c.n_labels), 0)).where(
            label_sets.c.owner == owner.id, label_sets.c.name != name
        )
    ).one()
    check_quotas(owner, n_others, n_their_labels, n_labels)


def read_page(connection: Connection, after: str, limit: int) -> list[LabelSetSummary]:
    """Up to limit sets whose names sort behind `after`; fewer where their templates are long."""
    # Known without reading them, unlike the number of characters, which in JSON is the same.
    length = func.octet_length(label_sets.c.templates)
    so_far = func.sum(length).over(order_by=label_sets.c.name, rows=(None, 0))
    found = (
        select(*_SUMMARY, so_far.label("so_far"))
        .where(label_sets.c.name > after)
        .order_by(label_sets.c.name)
        .limit(limit)
        .subquery()
    )
    fitting = select(found).where(func.coalesce(found.c.so_far, 0) <= MAX_PAGE_TEMPLATES)
    return list(map(_summary, connection.execute(fitting.order_by(found.c.name))))


def read_set(connection: Connection, name: str) -> LabelSet:
    """A whole set."""
    summary = found_set(name, find_set(connection, name))
    rows = connection.execute(
        select(label_rows.c.name, label_rows.c.prompts)
        .where(label_rows.c.label_set == name)
        .order_by(label_rows.c.position)
    )
    return with_labels(summary, tuple(map(_label, rows)))


def import_set(connection: Connection, found: LabelSet, owner: str) -> bool | None:
    """Write a set of another store as it is; changes of all sets must be kept away (`lock_all_sets`).

    Returns:
        Whether it was written; False: it is there already; None: another one of its name is.
    """
    stored = find_set(connection, found.name)
    if stored is None:
        write_set(connection, found, Owner(owner))
        _add_labels(connection, found.name, 0, found.labels)
        return True
    is_same = stored.etag == found.etag or _content_of(read_set(connection, found.name)) == _content_of(found)
    return False if is_same else None


def _content_of(found: LabelSet) -> Content:
    return Content(found.labels, found.templates, found.guarantee)


def lock_all_sets(connection: Connection) -> None:
    """Keep all changes of sets away until the end of the transaction; they can be read."""
    connection.execute(text("LOCK TABLE label_sets IN SHARE ROW EXCLUSIVE MODE"))


def _summary(row: Any) -> LabelSetSummary:
    """Of a row of those columns, whose types SQLAlchemy does not tell."""
    return LabelSetSummary(
        name=row.name,
        n_labels=row.n_labels,
        n_characters=row.n_characters,
        templates=read_templates(row.templates),
        guarantee=row.guarantee,
        etag=row.etag,
        created=row.created.astimezone(UTC),
        updated=row.updated.astimezone(UTC),
    )


def write_set(connection: Connection, summary: LabelSetSummary, owner: Owner) -> None:
    """Write a set but for its labels."""
    facts = {
        "templates": None if summary.templates is None else json.dumps(summary.templates),
        "guarantee": summary.guarantee,
        "owner": owner.id,
        **_edited_facts(summary),
    }
    new = {"name": summary.name, "created": summary.created, **facts}
    connection.execute(
        insert(label_sets).values(new).on_conflict_do_update(index_elements=["name"], set_=facts)
    )


def update_set(connection: Connection, summary: LabelSetSummary, owner: Owner | None = None) -> None:
    """Write what an edit changes of a set but for its labels; without an owner it keeps its own."""
    facts = {**_edited_facts(summary), **({} if owner is None else {"owner": owner.id})}
    connection.execute(update(label_sets).where(label_sets.c.name == summary.name).values(facts))


def _edited_facts(summary: LabelSetSummary) -> dict[str, object]:
    return {name: getattr(summary, name) for name in ("n_labels", "n_characters", "etag", "updated")}


def replace_labels(connection: Connection, name: str, labels: Sequence[Label]) -> None:
    """Write all labels of a set."""
    connection.execute(delete(label_rows).where(label_rows.c.label_set == name))
    _add_labels(connection, name, 0, labels)


def merge_labels(connection: Connection, name: str, labels: Sequence[Label]) -> Edit:
    """Append the labels that are new, and give the others the prompts that come with them."""
    hashes = {_key_hash(label.name): label for label in labels}
    stored = _stored(connection, name, list(hashes))
    added = [label for key, label in hashes.items() if key not in stored]
    pairs = [
        (stored[key], Label(stored[key].name, label.prompts))
        for key, label in hashes.items()
        if key in stored and label.prompts and label.prompts != stored[key].prompts
    ]
    replaced, prompted = tuple(old for old, _ in pairs), tuple(new for _, new in pairs)
    if prompted:
        connection.execute(_PROMPT, _arrays(name, prompted, without="names"))
    if added:
        last = connection.scalar(
            select(func.max(label_rows.c.position)).where(label_rows.c.label_set == name)
        )
        _add_labels(connection, name, 0 if last is None else last + 1, added)
    return Edit(added=tuple(added), prompted=prompted, replaced=replaced)


def remove_label(connection: Connection, name: str, label: str) -> Label | None:
    """Take out a label whose name is the same; None: there is none."""
    row = connection.execute(
        delete(label_rows)
        .where(label_rows.c.label_set == name, label_rows.c.key_hash == _key_hash(label))
        .returning(label_rows.c.name, label_rows.c.prompts)
    ).first()
    return None if row is None else _label(row)


def delete_set(connection: Connection, name: str) -> None:
    """Delete a set with its labels."""
    connection.execute(delete(label_sets).where(label_sets.c.name == name))


def _stored(connection: Connection, name: str, hashes: list[bytes]) -> Mapping[bytes, Label]:
    rows = connection.execute(
        text(
            "SELECT key_hash, name, prompts FROM labels "
            "WHERE label_set = :label_set AND key_hash = ANY(CAST(:hashes AS bytea[]))"
        ),
        {"label_set": name, "hashes": hashes},
    )
    return {bytes(key): _label(row) for key, *row in rows}


def _add_labels(connection: Connection, name: str, first: int, labels: Sequence[Label]) -> None:
    """Write labels from a position on."""
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


def _label(row: Sequence[Any]) -> Label:
    name, prompts = row
    return Label(name, tuple(json.loads(prompts)))


def _key_hash(name: str) -> bytes:
    """What makes two names the same, at a size that any index takes."""
    return hashlib.sha256(label_key(name).encode()).digest()
