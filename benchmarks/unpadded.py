"""`ahse` whose batches are not padded on a GPU, to measure what padding brings."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from service.batch import batched_encoders
from service.cli import main
from service.encode.encoders import Encoders


def _as_they_are(encoders: Encoders, **_: Any) -> Encoders:
    return encoders


if __name__ == "__main__":
    with patch.object(batched_encoders, "padded", _as_they_are):
        main()
