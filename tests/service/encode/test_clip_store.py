"""Features of clips on disk: bounded, shared by processes, and equal to the bit."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.api.answer import make_answer
from service.classification import Classification
from service.classifier import Classifier
from service.decode.clip_decoding import decode_clip
from service.embed.embedder import LabelEmbedder
from service.encode import clip_store
from service.encode.clip_record import from_record, to_record
from service.encode.clip_store import SqliteClipStore
from service.encode.features import ClipFeatures
from service.encode.known_clips import ClipKey, ClipStore, EncodedClip, KnownClips
from service.errors import StoreUnavailableError
from service.labels.label import Candidates, make_label
from service.media import Clip, DecodeLimits, DecodeSpec, OnSound, Segment, Track
from service.options import ClassifyOptions
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from tests.toy import CLASSES, write_scenes

LIMITS = DecodeLimits()
SPEC = DecodeSpec(n_frames=1, image_size_px=1, sample_rate_hz=1, max_audio_s=1)
ROOM = 10**6
OpenStore = Callable[..., SqliteClipStore]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same file as often as it is called, as several processes would."""
    with ExitStack() as stack:

        def opened(capacity: int = ROOM, limits: DecodeLimits = LIMITS) -> SqliteClipStore:
            return stack.enter_context(closing(SqliteClipStore(tmp_path / "clips.sqlite3", capacity, limits)))

        yield opened


def _encoded(seed: int = 0) -> EncodedClip:
    """A clip with all that one may have: a track without features, and segments with and without tracks."""
    random = np.random.default_rng(seed)
    used, silent = (
        Track(used=True, detail="h264 é"),
        Track(used=False, reason="silent", detail="silence"),
    )
    segments = (
        Segment(0.0, 1 / 3, None, random.random(4), (0, 16), used, used),
        Segment(1 / 3, 1.1, None, np.empty(0), None, used, silent),
    )
    clip = Clip(
        None,
        random.random(2),
        None,
        0.1 + 0.2,
        used,
        silent,
        warnings=("Parts of the picture are damaged.", "é"),
        n_frames_decoded=7,
        segments=segments,
        at_key_frames=True,
    )
    features = ClipFeatures(random.random(300, np.float32), None)
    both = ClipFeatures(random.random(300, np.float32), random.random(200, np.float32))
    return EncodedClip(clip, features, (both, ClipFeatures(None, None)), ((0.0, 1 / 3), (1 / 3, 2 / 3)))


def _key(name: str, spec: DecodeSpec = SPEC) -> ClipKey:
    return ClipKey(name, "bundle", spec)


def _assert_same(found: Any, expected: Any) -> None:
    """Every field, of every value in it: arrays to the bit, and all of the same type."""
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape, found.tobytes()) == (
            expected.dtype,
            expected.shape,
            expected.tobytes(),
        )
    elif is_dataclass(expected):
        for field in fields(expected):
            _assert_same(getattr(found, field.name), getattr(expected, field.name))
    elif isinstance(expected, tuple):
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            _assert_same(ours, theirs)
    else:
        assert found == expected


def test_a_record_holds_every_field_of_a_clip() -> None:
    """Whatever fields a clip may get."""
    found = from_record(to_record(_encoded()))
    _assert_same(found, _encoded())
    assert found.features.visual is not None
    assert found.features.visual.flags.aligned


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_record_that_has_changed_is_refused(place: int) -> None:
    """In its checksum, its facts or its features; so is one that was cut off."""
    record = bytearray(to_record(_encoded()))
    record[place] ^= 1
    for damaged in (bytes(record), to_record(_encoded())[:-4], b""):
        with pytest.raises(ValueError, match="damaged"):
            from_record(damaged)


def test_clips_outlive_the_process(open_store: OpenStore) -> None:
    """And are there for another one at once."""
    first, beside = open_store(), open_store()
    first.put(_key("a"), _encoded(1))
    _assert_same(beside.get(_key("a")), _encoded(1))
    first.close()
    _assert_same(open_store().get(_key("a")), _encoded(1))
    assert open_store().get(_key("b")) is None


def test_what_features_depend_on_is_part_of_the_key(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle, all of what was decoded, the limits, and the version of the service and of FFmpeg."""
    store, key = open_store(), _key("a")
    store.put(key, _encoded())
    specs = [replace(SPEC, n_frames=2), replace(SPEC, segment_s=1.0), replace(SPEC, frames="key")]
    for other in (key._replace(encoders_digest="other"), *(_key("a", spec) for spec in specs)):
        assert store.get(other) is None
    assert open_store(limits=replace(LIMITS, max_decoded_pixels=1)).get(key) is None
    for name, changed in (("__version__", "0"), ("version", lambda _: "0")):
        with monkeypatch.context() as patch:
            patch.setattr(clip_store, name, changed)
            assert open_store().get(key) is None
    assert open_store().get(key) is not None


def test_the_file_stays_small_and_the_clip_that_was_used_longest_ago_goes(
    open_store: OpenStore, tmp_path: Path
) -> None:
    """Also by another process; its -wal is little more than a write."""
    capacity = 100_000
    stores = [open_store(capacity), open_store(capacity)]
    for number in range(200):
        stores[number % 2].put(_key(str(number)), _encoded())
        assert stores[1 - number % 2].get(_key("0")) is not None
    kept = [number for number in range(200) if stores[0].get(_key(str(number))) is not None]
    assert kept == [0, *range(200 - len(kept) + 1, 200)]
    assert 10 < len(kept) < 30
    stores[0].close()
    stores[1].close()
    assert (tmp_path / "clips.sqlite3").stat().st_size <= capacity + 8192


def test_a_clip_that_is_larger_than_the_file_may_be_is_not_kept(open_store: OpenStore) -> None:
    """Nothing else has to go for it."""
    store = open_store(50_000)
    store.put(_key("a"), _encoded())
    many = replace(_encoded(), segments=(_encoded().features,) * 50)
    store.put(_key("b"), many)
    assert store.get(_key("b")) is None
    assert store.get(_key("a")) is not None


def test_a_lower_capacity_is_reached_step_by_step(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no request waits until thousands of clips are gone."""
    store = open_store()
    for number in range(30):
        store.put(_key(str(number)), _encoded())
    store.close()
    monkeypatch.setattr(clip_store, "_MAX_REMOVED", 10)
    smaller = open_store(40_000)
    kept = []
    for number in range(30, 33):
        smaller.put(_key(str(number)), _encoded())
        kept.append([one for one in range(33) if smaller.get(_key(str(one))) is not None])
    assert [found[0] for found in kept[:2]] == [10, 20]
    assert kept[2][-1] == 32


def test_many_at_once_from_several_threads(open_store: OpenStore) -> None:
    """Two processes, writers beside readers, and every clip twice."""
    stores = [open_store(), open_store()]

    def work(number: int) -> bool:
        key = _key(str(number // 2))
        stores[number % 2].put(key, _encoded(number // 2))
        return stores[1 - number % 2].get(key) is not None

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(80)))


@pytest.mark.parametrize("content", [b"not a database " * 1000, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_a_damaged_file_is_set_aside_and_begun_anew(
    open_store: OpenStore, tmp_path: Path, content: bytes
) -> None:
    """It is no reason not to start."""
    (tmp_path / "clips.sqlite3").write_bytes(content)
    store = open_store()
    store.put(_key("a"), _encoded())
    _assert_same(store.get(_key("a")), _encoded())
    assert (tmp_path / "clips.sqlite3.damaged").read_bytes() == content


class Broken:
    """A store on a disk that fails."""

    def get(self, key: ClipKey) -> EncodedClip | None:
        """Fail."""
        raise StoreUnavailableError(f"{key}")

    def put(self, key: ClipKey, encoded: EncodedClip) -> None:
        """Fail."""
        raise StoreUnavailableError(f"{key} {encoded}")

    def close(self) -> None:
        """Nothing."""


class Counted:
    """Decodes here, and counts."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, path: Path, spec: DecodeSpec, on_sound: OnSound) -> Clip:
        """Decode."""
        self.n += 1
        return decode_clip(path, spec, LIMITS, on_sound)


def _ask(
    bundle: Bundle, decode: Counted, store: ClipStore | None, clip: Path, options: ClassifyOptions
) -> Classification:
    """As the first question of a process."""
    classifier = Classifier(decode, LabelEmbedder(ROOM), KnownClips(ROOM, store))
    names = classifier.embed(bundle, Candidates(tuple(map(make_label, CLASSES))), options).finish()
    return classifier.classify(clip, bundle, names, options)


def _answer(found: Classification) -> dict[str, Any]:
    answer = make_answer(found, request_id="", label_set=None, top_k=None, timings_ms={})
    return answer.model_dump(mode="json")


@pytest.mark.parametrize("options", [ClassifyOptions(), ClassifyOptions(segment_s=1.0)], ids=["", "segments"])
@pytest.mark.parametrize(
    ("colours", "tones"),
    [
        (["red", "blue"], ["low", "high"]),
        (["red", "blue"], [None, "high"]),
        (["red", "blue"], [None, None]),
        (["red", "blue"], []),
        ([], ["low", None, "high"]),
        (["red"], ["low", "high"]),
    ],
    ids=["both", "silent first", "silent", "no sound", "no picture", "short picture"],
)
def test_answers_from_disk_are_those_of_decoding(
    toy_bundle: Path,
    tmp_path: Path,
    open_store: OpenStore,
    colours: list[str],
    tones: list[str | None],
    options: ClassifyOptions,
) -> None:
    """To the byte, but for the times."""
    bundle, decode = load_bundle(toy_bundle, Runtime(device="cpu")), Counted()
    clip = write_scenes(tmp_path / "clip.mp4", colours, tones, seconds=2.0)
    fresh = _ask(bundle, decode, open_store(), clip, options)
    again = _ask(bundle, decode, open_store(), clip, options)
    assert (decode.n, fresh.is_known, again.is_known) == (1, False, True)
    assert json.dumps(_answer(again)) == json.dumps(_answer(fresh))
    _assert_same(again.encoded, fresh.encoded.without_arrays())
    assert again.whole.ranking.distance.tobytes() == fresh.whole.ranking.distance.tobytes()


def test_a_disk_that_fails_costs_no_answer(toy_bundle: Path, clips: dict[str, Path]) -> None:
    """The clip is decoded; and known in memory all the same."""
    bundle, decode = load_bundle(toy_bundle, Runtime(device="cpu")), Counted()
    found = _ask(bundle, decode, Broken(), clips["red low"], ClassifyOptions())
    assert found.whole.best(1).index.tolist() == [CLASSES.index("red with a low tone")]
    known = KnownClips(ROOM, Broken())
    known.keep(_key("a"), _encoded())
    assert known.get(_key("a")) is not None


def test_a_file_that_is_damaged_inside_costs_no_answer(
    toy_bundle: Path, clips: dict[str, Path], open_store: OpenStore, tmp_path: Path
) -> None:
    """Which opening it does not show: the clip is decoded each time."""
    bundle, decode = load_bundle(toy_bundle, Runtime(device="cpu")), Counted()
    store, path = open_store(), tmp_path / "clips.sqlite3"
    _ask(bundle, decode, store, clips["red low"], ClassifyOptions())
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(np.random.default_rng(0).bytes(size - 4096))
    for n in (2, 3):
        found = _ask(bundle, decode, open_store(), clips["red low"], ClassifyOptions())
        assert (decode.n, found.is_known) == (n, False)


def test_a_disk_that_is_full_can_still_be_read(open_store: OpenStore, tmp_path: Path) -> None:
    """The use of a clip can't be noted then."""
    store = open_store()
    store.put(_key("a"), _encoded())
    with closing(sqlite3.connect(tmp_path / "clips.sqlite3", isolation_level=None)) as other:
        other.execute("CREATE TRIGGER full BEFORE UPDATE ON clips BEGIN SELECT RAISE(FAIL, 'full'); END")
    assert store.get(_key("a")) is not None
