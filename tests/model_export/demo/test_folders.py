"""Clips in folders, as a user's own would lie there."""

from pathlib import Path

import pytest

from model_export.demo.folders import FolderTakenError, write_class_folders
from model_export.demo.world import World
from service.decode import decode_clip
from service.media import DecodeLimits, DecodeSpec


def test_each_class_has_a_folder_of_clips_with_both_tracks(tmp_path: Path) -> None:
    """Named as the class; no two clips are the same."""
    names = write_class_folders(tmp_path / "clips", 2, 2, seed=0)
    assert set(names) <= {spec.name for spec in World().classes}
    assert sorted(folder.name for folder in (tmp_path / "clips").iterdir()) == sorted(names)
    files = sorted((tmp_path / "clips").rglob("*.mp4"))
    assert len({file.read_bytes() for file in files}) == 4
    spec = DecodeSpec(n_frames=1, image_size_px=32, sample_rate_hz=16_000, max_audio_s=5)
    clips = [decode_clip(file, spec, DecodeLimits()) for file in files]
    assert all(clip.visual.used and clip.audio.used for clip in clips)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    """Clips of two makings would be taken for one data set."""
    (tmp_path / "mine.mp4").touch()
    with pytest.raises(FolderTakenError, match="is not empty"):
        write_class_folders(tmp_path, 1, 1, seed=0)
