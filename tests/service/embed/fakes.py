"""Text encoders that tests hold and let go, and names to embed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from service.encode.encoders import Encoders
from service.encode.features import TextFeatures
from service.encode.text import encode_labels
from service.labels.label import Candidates, Label, SetVersion, make_label

WAIT_S = 30.0
# Bytes for more names than any test has.
ROOM = 10**6


class HeldEncoding:
    """`encode_labels` that writes down what it is asked, and stays in it while `slow` is among the names."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.fails = False

    def __call__(self, encoders: Encoders, labels: Sequence[Label], templates: Any = None) -> TextFeatures:
        """Encode for real, in the end."""
        names = [label.name for label in labels]
        self.asked.append(names)
        if "slow" in names:
            self.begun.set()
            assert self.go_on.wait(WAIT_S)
            if self.fails:
                self.fails = False
                raise RuntimeError("broken")
        return encode_labels(encoders, labels, templates)


def labels_of(*names: str) -> tuple[Label, ...]:
    """Labels without prompts."""
    return tuple(make_label(name) for name in names)


def names_of(*names: str) -> Candidates:
    """Candidates of a request."""
    return Candidates(labels_of(*names))


def set_of(name: str, *names: str, etag: str = "etag") -> Candidates:
    """Candidates of a label set."""
    return Candidates(labels_of(*names), SetVersion(name, etag))
