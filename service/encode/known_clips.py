"""Features of clips by their content, so that another question about a clip costs no decoding."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import structlog
from cachetools import LRUCache

from service.encode.features import ClipFeatures
from service.errors import StoreUnavailableError
from service.media import Clip, DecodeSpec

# What a clip, a segment and a window of sound take besides features and texts: numbers and objects.
_CLIP_BYTES, _SEGMENT_BYTES, _WINDOW_BYTES = 3_500, 1_150, 160

_log = structlog.get_logger(__name__)


class ClipKey(NamedTuple):
    """All that the features of a clip depend on.

    Attributes:
        sha256: Hex digest of the file.
        encoders_digest: Of the bundle's encoders (`Manifest.encoders_digest`).
        spec: What was decoded of the clip.
    """

    sha256: str
    encoders_digest: str
    spec: DecodeSpec


@dataclass(frozen=True)
class EncodedClip:
    """A clip that was encoded.

    Attributes:
        clip: What was decoded; frames and waveforms may be gone.
        features: Of the whole clip.
        segments: Of each of its segments.
        windows_s: Start and end of each window of sound that the features are of, in seconds.
    """

    clip: Clip
    features: ClipFeatures
    segments: tuple[ClipFeatures, ...] = ()
    windows_s: tuple[tuple[float, float], ...] = ()

    def without_arrays(self) -> EncodedClip:
        """Without frames and waveforms, which are a thousand times as large as the rest."""
        segments = tuple(replace(segment, frames=None) for segment in self.clip.segments)
        clip = replace(self.clip, frames=None, waveform=None, full_waveform=None, segments=segments)
        return replace(self, clip=clip)

    @property
    def n_bytes(self) -> int:
        """Memory of one without arrays, about."""
        features = (self.features, *self.segments)
        tracks = (track for one in features for track in (one.visual, one.audio) if track is not None)
        clip = self.clip
        texts = (*clip.warnings, clip.visual.detail, clip.audio.detail)
        n_facts = _CLIP_BYTES + _SEGMENT_BYTES * len(self.segments) + clip.frame_times_s.nbytes
        n_facts += _WINDOW_BYTES * len(self.windows_s)
        return n_facts + sum(map(len, texts)) + sum(track.nbytes for track in tracks)


class ClipStore(Protocol):
    """Keeps clips outside the process. It may forget.

    Every method is thread-safe, and raises StoreUnavailableError when it can't answer.
    """

    def get(self, key: ClipKey) -> EncodedClip | None:
        """What is kept of a clip."""

    def put(self, key: ClipKey, encoded: EncodedClip) -> None:
        """Keep a clip, in place of those that were used longest ago."""

    def close(self) -> None:
        """Release what the store holds."""


class KnownClips:
    """The clips that were asked for last, as many as there is room for. Thread-safe.

    Args:
        n_bytes: Memory for them; 0: none are kept there.
        store: Where clips outlive this process; None for nowhere.
    """

    def __init__(self, n_bytes: int, store: ClipStore | None = None) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._kept: LRUCache[ClipKey, EncodedClip] = LRUCache(n_bytes, getsizeof=lambda one: one.n_bytes)

    def get(self, key: ClipKey) -> EncodedClip | None:
        """What is known of a clip."""
        with self._lock:
            known = self._kept.get(key)
        if known is None and (known := self._recall(key)) is not None:
            self._hold(key, known)
        return known

    def keep(self, key: ClipKey, encoded: EncodedClip) -> None:
        """Keep a clip, in place of those that were asked for longest ago."""
        bare = encoded.without_arrays()
        self._hold(key, bare)
        try:
            if self._store is not None:
                self._store.put(key, bare)
        except StoreUnavailableError:  # that is a convenience: a full disk must not cost the answer
            _log.warning("clip_not_kept")

    def _hold(self, key: ClipKey, bare: EncodedClip) -> None:
        """Keep a clip in memory."""
        if bare.n_bytes <= self._kept.maxsize:
            with self._lock:
                self._kept[key] = bare

    def _recall(self, key: ClipKey) -> EncodedClip | None:
        try:
            return None if self._store is None else self._store.get(key)
        except StoreUnavailableError:
            _log.warning("clip_not_read")
            return None
