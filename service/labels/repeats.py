"""Changes of label sets that come again, since the answer to their request was lost."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from service.labels.store import LabelSetSummary, Owner, Precondition

REMEMBERED_FOR = timedelta(minutes=15)
"""How long a change is recognised: longer than the tries of a client take."""


@dataclass(frozen=True)
class Change:
    """What a change of one set is recognised by.

    Under an id the change that was made last is kept. So a client that uses one id for all its changes loses
    none: what was undone under the same id is made again.

    Attributes:
        request: Hash of the id of its request.
        content: Hash of all that was asked for: condition, owner, action and labels.
    """

    request: bytes
    content: bytes


def change_of(precondition: Precondition, owner: Owner, action: str, content: object) -> Change:
    """A change; without the id of a request it is only recognised by the call that makes it."""
    asked = [precondition.etags, precondition.absent, owner.id, action, content]
    request_id = precondition.request_id or uuid4().hex
    return Change(
        hashlib.sha256(request_id.encode()).digest(), hashlib.sha256(json.dumps(asked).encode()).digest()
    )


@dataclass(frozen=True)
class Answer:
    """How a change was answered.

    It is stored without the templates of the set, which may be long where the change was short.

    Attributes:
        summary: The set after it; None: it was deleted.
        is_new: Whether the change made the set.
    """

    summary: LabelSetSummary | None
    is_new: bool = False

    def as_text(self) -> str:
        """As it is stored: JSON."""
        short = None if self.summary is None else replace(self.summary, templates=None)
        return json.dumps(asdict(replace(self, summary=short)), default=datetime.isoformat)

    @classmethod
    def read(cls, text: str, templates: tuple[str, ...] | None) -> Answer:
        """An answer that was stored, with the templates that the set has now."""
        stored: dict[str, Any] = json.loads(text)
        facts = stored["summary"]
        if facts is None:
            return cls(None)
        times = {name: datetime.fromisoformat(facts[name]) for name in ("created", "updated")}
        return cls(LabelSetSummary(**{**facts, **times, "templates": templates}), stored["is_new"])
