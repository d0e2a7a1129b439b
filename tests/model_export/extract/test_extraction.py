"""Many clips to features: as serving makes them, whatever fails on the way, and each only once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model_export.errors import DatasetError
from model_export.extract.extraction import Extracted, Journal, extract_clips, file_key
from model_export.extract.listing import Listing, list_clips
from service.classifier import decode_spec
from service.decode import decode_clip
from service.encode.clip_features import encode_clip
from service.encode.encoders import Encoders
from service.encode.features import ClipFeatures
from service.media import Clip, DecodeLimits, DecodeSpec
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from tests.toy import write_clip


class Decoding:
    """Decodes in this process, counts, and stops when it is told to."""

    def __init__(self, stops_at: int | None = None) -> None:
        self.paths: list[Path] = []
        self._stops_at = stops_at

    def decode(self, path: Path, spec: DecodeSpec) -> Clip:
        """As the pool does."""
        if len(self.paths) == self._stops_at:
            raise KeyboardInterrupt
        self.paths.append(path)
        return decode_clip(path, spec, DecodeLimits())


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    """The toy bundle."""
    return load_bundle(toy_bundle, Runtime(device="cpu", n_threads=1))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four clips of two classes; two of them have one track."""
    root = tmp_path / "clips"
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
    write_clip(root / "a" / "1.mp4", "red", "low", seconds=0.6)
    write_clip(root / "a" / "2.mp4", "red", None, seconds=0.6)
    write_clip(root / "b" / "3.mp4", None, "high", seconds=0.6)
    write_clip(root / "b" / "4.mp4", "blue", "high", seconds=0.6)
    return root


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty one."""
    with Journal(tmp_path / "journal", "toy") as opened:
        yield opened


def extract(listing: Listing, bundle: Bundle, decoder: Decoding, journal: Journal) -> Extracted:
    """With one decoder, so that the order is known."""
    return extract_clips(listing, bundle, decoder.decode, journal, 1, lambda *_: None)


def test_extracted_features_are_those_of_serving(bundle: Bundle, root: Path, journal: Journal) -> None:
    """A missing track is missing."""
    found = extract(list_clips(root), bundle, Decoding(), journal)
    assert [clip.name for clip in found.clips] == ["a/1.mp4", "a/2.mp4", "b/3.mp4", "b/4.mp4"]
    for clip, features in zip(found.clips, found.features, strict=True):
        served = encode_clip(
            bundle.encoders, decode_clip(clip.path, decode_spec(bundle.manifest), DecodeLimits())
        )
        for mine, theirs in ((features.visual, served.visual), (features.audio, served.audio)):
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                np.testing.assert_array_equal(mine, theirs)
    assert found.features[1].audio is None
    assert found.features[2].visual is None


def test_a_stopped_extraction_continues_without_repeating_work(
    bundle: Bundle, root: Path, journal: Journal, tmp_path: Path
) -> None:
    """Interrupted at the third clip, it decodes the other two later, and the result is the same."""
    listing, first, second = list_clips(root), Decoding(stops_at=2), Decoding()
    with pytest.raises(KeyboardInterrupt):
        extract(listing, bundle, first, journal)
    found = extract(listing, bundle, second, journal)
    assert [path.name for path in first.paths + second.paths] == ["1.mp4", "2.mp4", "3.mp4", "4.mp4"]
    assert found.n_resumed == 2
    with Journal(tmp_path / "other", "toy") as fresh:
        whole = extract(listing, bundle, Decoding(), fresh)
    assert whole.clips == found.clips
    for one, other in zip(whole.features, found.features, strict=True):
        np.testing.assert_array_equal(one.visual, other.visual)
        np.testing.assert_array_equal(one.audio, other.audio)


def test_a_failed_clip_is_reported_and_the_others_are_extracted(
    bundle: Bundle, root: Path, journal: Journal
) -> None:
    """Cut short, empty, or a clip by its name only; what never was a clip is counted."""
    whole = (root / "a" / "1.mp4").read_bytes()
    (root / "a" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "a" / "empty.mp4").touch()
    (root / "b" / "words.mp4").write_text("no clip at all, whatever its name says")
    (root / "b" / "words.flac").write_text("neither this, which not every table of types knows")
    (root / "b" / "words.txt").write_text("no clip at all, and none that is called so")
    (root / "b" / "words.ts").write_text("nor this, a program in TypeScript")
    found = extract(list_clips(root), bundle, Decoding(), journal)
    assert {failed.clip.name: failed.code for failed in found.failed} == {
        "a/cut.mp4": "truncated_media",
        "a/empty.mp4": "empty_file",
        "b/words.flac": "not_media",
        "b/words.mp4": "not_media",
    }
    assert all(failed.message for failed in found.failed)
    assert found.n_ignored == 2
    assert len(found.clips) == 4


def test_a_name_that_is_not_utf_8_is_a_name(bundle: Bundle, root: Path, journal: Journal) -> None:
    """The journal knows the clip again, and a feature file can have its name."""
    (root / "a" / "1.mp4").rename(root / "a" / os.fsdecode(b"\xe9.mp4"))
    listing = list_clips(root)
    for n_resumed in (0, 4):
        found = extract(listing, bundle, Decoding(), journal)
        assert found.n_resumed == n_resumed
    assert [clip.name for clip in found.clips][:2] == ["a/2.mp4", r"a/\xe9.mp4"]
    "".join(clip.name for clip in found.clips).encode("utf-8")


def test_a_file_that_a_csv_names_is_never_skipped(bundle: Bundle, root: Path, journal: Journal) -> None:
    """Missing, a folder, no media, or a path that no file can have: each is told, and ends nothing."""
    (root / "words.txt").write_text("no clip at all, but somebody calls it one")
    long = "x" * 300 + ".mp4"
    names = ("a", "words.txt", "none.mp4", "words.txt/1.mp4", "nul\0.mp4", long)
    (root / "clips.csv").write_text("\n".join(["path,label", "a/1.mp4,a", *(f"{name},b" for name in names)]))
    found = extract(list_clips(root / "clips.csv"), bundle, Decoding(), journal)
    assert {failed.clip.name: failed.code for failed in found.failed} == {
        **dict.fromkeys(names, "no_file"),
        "words.txt": "not_media",
        long: "clip_unavailable",
    }
    assert "File name too long" in found.failed[-1].message
    assert [clip.name for clip in found.clips] == ["a/1.mp4"]
    assert found.n_ignored == 0


def test_a_file_that_changes_while_it_is_decoded_is_decoded_again_later(
    bundle: Bundle, root: Path, journal: Journal
) -> None:
    """Its features are not those of the file that is there afterwards; one that is gone ends nothing."""

    class Changing(Decoding):
        def decode(self, path: Path, spec: DecodeSpec) -> Clip:
            clip = super().decode(path, spec)
            if path.name == "1.mp4":
                path.write_bytes((root / "b" / "4.mp4").read_bytes())
            if path.name == "2.mp4":
                path.unlink()
            return clip

    first = extract(list_clips(root), bundle, Changing(), journal)
    assert [clip.name for clip in first.clips] == ["a/1.mp4", "a/2.mp4", "b/3.mp4", "b/4.mp4"]
    again = extract(list_clips(root), bundle, decoder := Decoding(), journal)
    assert [path.name for path in decoder.paths] == ["1.mp4"]
    np.testing.assert_array_equal(again.features[0].visual, again.features[-1].visual)


def test_a_clip_with_features_that_are_not_finite_fails(
    bundle: Bundle, root: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would spoil the whole data set."""
    from model_export.extract import extraction

    def broken(encoders: Encoders, clip: Clip) -> object:
        features = encode_clip(encoders, clip)
        if features.visual is not None:
            features.visual[0] = np.nan
        return features

    monkeypatch.setattr(extraction, "encode_clip", broken)
    found = extract(list_clips(root), bundle, Decoding(), journal)
    assert [failed.code for failed in found.failed] == ["not_finite"] * 3
    assert [clip.name for clip in found.clips] == ["b/3.mp4"]


def test_extraction_progress_counts_every_file(bundle: Bundle, root: Path, journal: Journal) -> None:
    """Failed ones too, and those that were known."""
    (root / "a" / "empty.mp4").touch()
    told: list[tuple[int, int]] = []
    for _ in range(2):
        extract_clips(list_clips(root), bundle, Decoding().decode, journal, 2, lambda *n: told.append(n))
    assert told == [(n, 5) for n in (0, 1, 2, 3, 4, 5)] + [(4, 5), (5, 5)]


FEATURES = ClipFeatures(np.array([1, -0.5, 1e-30], np.float32), None)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip of ten bytes."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"0123456789")
    return path


def test_a_journal_gives_features_back_bit_for_bit(tmp_path: Path, clip: Path) -> None:
    """A missing track stays missing."""
    with Journal(tmp_path / "j", "abc") as journal:
        assert journal.get(file_key(clip)) is None
        journal.put(file_key(clip), FEATURES)
    with Journal(tmp_path / "j", "abc") as journal:
        found = journal.get(file_key(clip))
    assert found is not None
    assert found.audio is None
    assert found.visual is not None
    np.testing.assert_array_equal(found.visual, FEATURES.visual)


def test_a_journal_does_not_know_other_encoders_or_changed_files(tmp_path: Path, clip: Path) -> None:
    """Size and time of change count, and so do the encoders."""
    with Journal(tmp_path / "j", "abc") as journal:
        journal.put(file_key(clip), FEATURES)
    with Journal(tmp_path / "j", "xyz") as journal:
        assert journal.get(file_key(clip)) is None
    with Journal(tmp_path / "j", "abc") as journal:
        assert journal.get(file_key(clip)) is not None
        os.utime(clip, ns=(1, 1))
        assert journal.get(file_key(clip)) is None
        journal.put(file_key(clip), FEATURES)
        clip.write_bytes(b"longer than before")
        os.utime(clip, ns=(1, 1))
        assert journal.get(file_key(clip)) is None


def test_a_removed_journal_leaves_nothing(tmp_path: Path, clip: Path) -> None:
    """Neither the file nor SQLite's own beside it."""
    journal = Journal(tmp_path / "j", "abc")
    journal.put(file_key(clip), FEATURES)
    journal.remove()
    assert list(tmp_path.iterdir()) == [clip]


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    """And left as it is."""
    (tmp_path / "j").write_text("my notes " * 1000)
    with pytest.raises(DatasetError, match="to start again, remove it"):
        Journal(tmp_path / "j", "abc")
    assert (tmp_path / "j").read_text().startswith("my notes")


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path, clip: Path) -> None:
    """Missing, or full: removing the journal would not help, and what is in it stays."""
    gone = tmp_path / "gone"
    with pytest.raises(DatasetError, match=f"can't be written in {gone}: unable to open") as caught:
        Journal(gone / "j", "abc")
    assert "remove it" not in str(caught.value)
    journal = Journal(tmp_path / "j", "abc")
    journal._run("PRAGMA max_page_count = 1")
    with pytest.raises(DatasetError, match=f"can't be written in {tmp_path}: .* is full; .* --out") as caught:
        journal.put(file_key(clip), ClipFeatures(np.zeros(5000, np.float32), None))
    assert "remove it" not in str(caught.value)
