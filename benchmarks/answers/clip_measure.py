"""Encode labelled clips once, and rank them among their own names and distractors."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.error import FFmpegError

from benchmarks.answers.ranked_lists import TRACKS, Answers, Indices, NameLists, Track, answer, draw_lists
from model_export.extract.listing import ListedClip
from service.bundle.manifest import Manifest
from service.classifier import decode_spec
from service.decode import decode_clip
from service.embed.embedder import LabelEmbedder
from service.encode.clip_features import encode_clip
from service.encode.features import ClipFeatures
from service.errors import LabelError, MediaError
from service.labels.label import Candidates, Label, label_key, make_label
from service.media import DecodeLimits
from service.registry import Bundle

_STILL_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class CannotMeasureError(Exception):
    """What was given can't be measured; says why and what to do."""


@dataclass(frozen=True)
class Distractors:
    """Names besides those of the clips.

    Attributes:
        names: As they were given; duplicates and own names may be among them.
        source: What they are, for the report.
        all_at_once: Whether the longest list has all of them.
    """

    names: tuple[str, ...]
    source: str
    all_at_once: bool


@dataclass(frozen=True)
class Encoded:
    """The clips that could be used, and those that could not.

    Attributes:
        clips: Those that could.
        features: Of each of them.
        failed: For each of the others, which it is and why.
    """

    clips: tuple[ListedClip, ...]
    features: tuple[ClipFeatures, ...]
    failed: tuple[str, ...]

    @property
    def n_stills(self) -> int:
        """How many of the clips are still pictures."""
        return sum(is_still(clip.path) for clip in self.clips)


@dataclass(frozen=True)
class Measured:
    """Everything that a report says.

    Attributes:
        manifest: Of the bundle.
        encoded: The clips.
        labels: All names, in alphabetical order: equals in a ranking keep it, and own names must not gain.
        right: int64 [n_clips], index of each clip's name.
        n_own: How many names the clips have.
        distractors: Where the other names come from.
        lists: Of each length, rising.
        answers: By track, one for each length of lists.
    """

    manifest: Manifest
    encoded: Encoded
    labels: tuple[Label, ...]
    right: Indices
    n_own: int
    distractors: Distractors
    lists: tuple[NameLists, ...]
    answers: dict[Track, list[Answers]]


def measure(
    bundle: Bundle, clips: Sequence[ListedClip], distractors: Distractors, lengths: Sequence[int]
) -> Measured:
    """Encode the clips, and rank each among the own names and among lists of the given lengths.

    Raises:
        CannotMeasureError: no clip could be used, there are not two names, or a distractor is no name.
    """
    encoded = _encode_all(bundle, clips)
    own = {label_key(clip.label): make_label(clip.label) for clip in encoded.clips}
    every = dict(own)
    for key, label in _keyed(distractors.names):
        every.setdefault(key, label)
    if len(every) < 2:
        raise CannotMeasureError("There is one name only. Label clips of at least two kinds.")
    place = {key: index for index, key in enumerate(sorted(every))}
    labels = tuple(every[key] for key in place)
    right = np.array([place[label_key(clip.label)] for clip in encoded.clips])
    others = np.setdiff1d(np.arange(len(every)), right)
    longest = [len(every)] if distractors.all_at_once else []
    lists = draw_lists(right, np.unique(right), others, [len(own), *lengths, *longest])
    names = LabelEmbedder(2**30).embed(bundle, Candidates(labels))
    return Measured(
        manifest=bundle.manifest,
        encoded=encoded,
        labels=labels,
        right=right,
        n_own=len(own),
        distractors=distractors,
        lists=tuple(lists),
        answers={track: answer(bundle, names, encoded.features, right, lists, track) for track in TRACKS},
    )


def _keyed(names: Sequence[str]) -> Iterator[tuple[str, Label]]:
    """Names with what makes two of them the same; blank ones are passed over."""
    for name in names:
        if name.strip():
            try:
                yield label_key(name), make_label(name)
            except LabelError as error:
                raise CannotMeasureError(f"A distractor can't be used: {error.message}.") from None


def _encode_all(bundle: Bundle, clips: Sequence[ListedClip]) -> Encoded:
    kept, features, failed = [], [], []
    for clip in clips:
        try:
            features.append(_encode(bundle, clip.path))
            kept.append(clip)
        except (MediaError, CannotMeasureError) as error:
            failed.append(f"{clip.name}: {error}")
    if not kept:
        raise CannotMeasureError("\n".join(["No clip could be used:", *failed]))
    return Encoded(tuple(kept), tuple(features), tuple(failed))


def _encode(bundle: Bundle, path: Path) -> ClipFeatures:
    """Features of a clip exactly as serving makes them."""
    spec, limits = decode_spec(bundle.manifest), DecodeLimits()
    if is_still(path):
        with tempfile.TemporaryDirectory() as folder:
            clip = decode_clip(_wrap(path, Path(folder) / "still.mkv"), spec, limits)
    else:
        clip = decode_clip(path, spec, limits)
    features = encode_clip(bundle.encoders, clip)
    if any(not np.isfinite(one).all() for one in (features.visual, features.audio) if one is not None):
        raise CannotMeasureError("The encoders gave numbers that are not finite.")
    return features


def is_still(path: Path) -> bool:
    """Whether a file is a still picture by its name's ending; the service takes clips only."""
    return path.suffix.lower() in _STILL_SUFFIXES


def _wrap(picture: Path, out: Path) -> Path:
    """Write a clip of one frame that has a picture's pixels, without loss."""
    try:
        # Opened here: FFmpeg takes a name with a % in it for a sequence of pictures.
        with picture.open("rb") as file, av.open(file, "r") as source:
            frame = next(source.decode(video=0)).reformat(format="bgr0")
    except (FFmpegError, StopIteration, IndexError):
        raise CannotMeasureError("This is not a picture that can be read, or it is damaged.") from None
    with av.open(str(out), "w") as clip:
        stream = clip.add_stream("ffv1", rate=1)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "bgr0"
        frame.pts = 0
        clip.mux(stream.encode(frame))
        clip.mux(stream.encode())
    return out
