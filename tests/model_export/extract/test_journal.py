"""What an extraction has done outlives it, and is trusted only while it is true."""

import os
from pathlib import Path

import numpy as np
import pytest

from model_export.errors import DatasetError
from model_export.extract.journal import Journal
from model_export.extract.listing import ListedClip
from service.encode.features import ClipFeatures

FEATURES = ClipFeatures(np.array([1, -0.5, 1e-30], np.float32), None)


@pytest.fixture
def clip(tmp_path: Path) -> ListedClip:
    """A clip of ten bytes."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"0123456789")
    return ListedClip(path, "a.mp4", "rain")


def test_features_are_there_again_bit_for_bit(tmp_path: Path, clip: ListedClip) -> None:
    """A missing track stays missing."""
    with Journal(tmp_path / "j", "abc") as journal:
        assert journal.get(clip) is None
        journal.put(clip, FEATURES)
    with Journal(tmp_path / "j", "abc") as journal:
        found = journal.get(clip)
    assert found is not None
    assert found.audio is None
    assert found.visual is not None
    np.testing.assert_array_equal(found.visual, FEATURES.visual)


def test_other_encoders_or_a_changed_file_are_not_known(tmp_path: Path, clip: ListedClip) -> None:
    """Size and time of change count, and so do the encoders."""
    with Journal(tmp_path / "j", "abc") as journal:
        journal.put(clip, FEATURES)
    with Journal(tmp_path / "j", "xyz") as journal:
        assert journal.get(clip) is None
    with Journal(tmp_path / "j", "abc") as journal:
        assert journal.get(clip) is not None
        os.utime(clip.path, ns=(1, 1))
        assert journal.get(clip) is None
        journal.put(clip, FEATURES)
        clip.path.write_bytes(b"longer than before")
        os.utime(clip.path, ns=(1, 1))
        assert journal.get(clip) is None


def test_a_removed_journal_leaves_nothing(tmp_path: Path, clip: ListedClip) -> None:
    """Neither the file nor SQLite's own beside it."""
    journal = Journal(tmp_path / "j", "abc")
    journal.put(clip, FEATURES)
    journal.remove()
    assert list(tmp_path.iterdir()) == [clip.path]


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    """And left as it is."""
    (tmp_path / "j").write_text("my notes " * 1000)
    with pytest.raises(DatasetError, match="to start anew, remove it"):
        Journal(tmp_path / "j", "abc")
    assert (tmp_path / "j").read_text().startswith("my notes")
