"""Decode and encode many clips, several at once; a clip that fails is noted and passed over."""

from __future__ import annotations

import mimetypes
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from model_export.extract.journal import Journal
from model_export.extract.listing import ListedClip, Listing
from service.classifier import Decode, decode_spec
from service.encode.clip import encode_clip
from service.encode.features import ClipFeatures
from service.errors import MediaError, NotMediaError
from service.media import Clip, DecodeSpec
from service.registry import Bundle

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FailedClip:
    """A clip that can't be used.

    Attributes:
        clip: which.
        code: stable name of the kind of fault.
        message: what is wrong, for people.
    """

    clip: ListedClip
    code: str
    message: str


@dataclass(frozen=True)
class Extracted:
    """What came out.

    Attributes:
        clips: those that can be used, in the order of the listing.
        features: of each of them.
        failed: the others.
        n_ignored: files that are no media and that nobody called so.
        n_resumed: clips that an earlier attempt had done.
    """

    clips: tuple[ListedClip, ...]
    features: tuple[ClipFeatures, ...]
    failed: tuple[FailedClip, ...]
    n_ignored: int
    n_resumed: int


def extract_clips(
    listing: Listing, bundle: Bundle, decode: Decode, journal: Journal, n_decoders: int, progress: Progress
) -> Extracted:
    """Features of every clip that can be used, exactly as serving makes them.

    Args:
        listing: the clips.
        bundle: whose encoders are used; they run in this thread.
        decode: Decodes clips, several at once.
        journal: knows what is done already, and keeps the rest as soon as it is done.
        n_decoders: how many clips are decoded at once while the encoders run.
        progress: told after each clip how many are done, and of how many.
    """
    known = _known(listing, journal)
    n_known, failed = len(known), []
    progress(n_known, len(listing.clips))
    missing = [clip for clip in listing.clips if clip.name not in known]
    decoded = _decode_ahead(missing, decode, decode_spec(bundle.manifest), n_decoders)
    for n_done, (clip, one) in enumerate(decoded, n_known + 1):
        outcome = one if isinstance(one, FailedClip) else _encode(bundle, clip, one)
        if isinstance(outcome, FailedClip):
            failed.append(outcome)
        else:
            journal.put(clip, outcome)
            known[clip.name] = outcome
        progress(n_done, len(listing.clips))
    named = [one for one in failed if not (listing.from_folder and _is_no_media(one))]
    clips = tuple(clip for clip in listing.clips if clip.name in known)
    return Extracted(
        clips=clips,
        features=tuple(known[clip.name] for clip in clips),
        failed=tuple(named),
        n_ignored=listing.n_ignored + len(failed) - len(named),
        n_resumed=n_known,
    )


def _known(listing: Listing, journal: Journal) -> dict[str, ClipFeatures]:
    """By the clip's name, what an earlier attempt found out."""
    kept = ((clip.name, journal.get(clip)) for clip in listing.clips if clip.path.is_file())
    return {name: features for name, features in kept if features is not None}


def _decode_ahead(
    clips: Sequence[ListedClip], decode: Decode, spec: DecodeSpec, n_decoders: int
) -> Iterator[tuple[ListedClip, Clip | FailedClip]]:
    """Decode in threads, a few clips ahead of whoever takes them, in order; a decoded clip is large."""
    with ThreadPoolExecutor(n_decoders) as threads:
        ahead: deque[tuple[ListedClip, Future[Clip | FailedClip]]] = deque()
        try:
            for clip in clips:
                ahead.append((clip, threads.submit(_decode, decode, clip, spec)))
                if len(ahead) > 2 * n_decoders:
                    yield _result(*ahead.popleft())
            while ahead:
                yield _result(*ahead.popleft())
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _result(clip: ListedClip, decoded: Future[Clip | FailedClip]) -> tuple[ListedClip, Clip | FailedClip]:
    return clip, decoded.result()


def _decode(decode: Decode, clip: ListedClip, spec: DecodeSpec) -> Clip | FailedClip:
    if not clip.path.is_file():
        return FailedClip(clip, "no_file", "There is no such file.")
    try:
        return decode(clip.path, spec)
    except MediaError as error:
        return FailedClip(clip, error.code, error.message)


def _encode(bundle: Bundle, clip: ListedClip, decoded: Clip) -> ClipFeatures | FailedClip:
    features = encode_clip(bundle.encoders, decoded)
    tracks = (features.visual, features.audio)
    if all(track is None or np.isfinite(track).all() for track in tracks):
        return features
    return FailedClip(clip, "not_finite", "The encoders gave numbers that are not finite.")


def _is_no_media(failed: FailedClip) -> bool:
    """Whether a file neither is a clip nor says so by its name's ending."""
    # An own instance: the module's functions also read lists that differ from machine to machine.
    kind, _ = mimetypes.MimeTypes().guess_type(failed.clip.name)
    return failed.code == NotMediaError.code and not (kind or "").startswith(("video/", "audio/"))
