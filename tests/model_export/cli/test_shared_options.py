"""What several training commands read from their options."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_export.cli.shared_options import read_unseen
from model_export.errors import DatasetError
from service.errors import LabelError


def test_unseen_classes_are_names_or_the_lines_of_a_file(tmp_path: Path) -> None:
    """A byte-order mark and empty lines are no part of a name."""
    file = tmp_path / "unseen.txt"
    file.write_bytes("\ufeffrain\r\n\r\n fire  crackling\r\n".encode())
    assert read_unseen([str(file), "dog barks"]) == ["rain", "fire crackling", "dog barks"]
    assert read_unseen(None) == []


@pytest.mark.parametrize("content", [None, b"", b"\n \n"])
def test_unseen_classes_without_a_name_are_refused(tmp_path: Path, content: bytes | None) -> None:
    """Else a random fifth of the classes would be taken in place of those that were meant."""
    file = tmp_path / "unseen.txt"
    file.write_bytes(content or b"")
    with pytest.raises(DatasetError, match="no class name in it; give one, or one a line in a file"):
        read_unseen(["rain", "" if content is None else str(file)])


def test_unseen_classes_that_can_not_be_read_are_refused_in_words(tmp_path: Path) -> None:
    """A file in another encoding; a name that is too long for a file is one that is too long for a label."""
    file = tmp_path / "unseen.txt"
    file.write_bytes("café\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="no text in UTF-8; save it as one"):
        read_unseen([str(file)])
    with pytest.raises(LabelError):
        read_unseen(["x" * 5000])
