"""Clips in folders, as a user's own would lie there."""

from pathlib import Path

import pytest

from demo_world.clip_folders import FolderTakenError, record_dataset, write_class_folders, write_dataset
from demo_world.world import ClipCounts, World
from model_export.extract.listing import list_clips
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


def test_the_heads_own_clips_come_with_a_list_that_extraction_takes(tmp_path: Path) -> None:
    """Every clip is there, under the name of its class and in its split."""
    world = World(counts=ClipCounts(train=0, val_seen=0, val_unseen=0, test_seen=0, test_unseen=1))
    listing = list_clips(write_dataset(tmp_path / "all", 0, lambda _: None, world))
    named = {spec.name for spec in world.classes if spec.split == "test_unseen"}
    assert {clip.label for clip in listing.clips} == named
    assert {clip.split for clip in listing.clips} == {"test_unseen"}
    assert all(clip.path.stat().st_size > 1000 for clip in listing.clips)
    with pytest.raises(FolderTakenError):
        write_dataset(tmp_path / "all", 0, lambda _: None, world)


def test_recording_goes_on_with_the_clips_that_are_missing(tmp_path: Path) -> None:
    """Whole clips are kept, one that was cut off is recorded again, to the same bytes."""
    world = World(counts=ClipCounts(train=0, val_seen=0, val_unseen=0, test_seen=0, test_unseen=1))
    list_clips(record_dataset(tmp_path, 0, lambda _: None, world))
    kept, lost = sorted(tmp_path.rglob("*.mp4"))[:2]
    whole = lost.read_bytes()
    lost.rename(lost.with_suffix(".partial"))
    kept.write_bytes(b"not recorded again")
    told: list[str] = []
    record_dataset(tmp_path, 0, told.append, world)
    assert told == ["recorded clips: 1 of 1"]
    assert lost.read_bytes() == whole
    assert kept.read_bytes() == b"not recorded again"
    assert not list(tmp_path.rglob("*.partial"))
