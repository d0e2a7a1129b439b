"""The best names of a clip; for many clips in one pass over the names, without a number for each name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.arrays import Array
from service.cancellation import raise_if_cancelled
from service.embed.embeddings import LabelEmbeddings
from service.encode.features import ClipFeatures
from service.head.agreement import Agreement, Overlap
from service.head.head import Cosines
from service.options import Beta
from service.ranking import LogSum, TrackScores, beta_of, lowest, unknown_of
from service.registry import Bundle

# Names in one step: what is made of them for each clip then stays in the caches of the processor.
_BLOCK = 16_384


@dataclass(frozen=True)
class BestNames:
    """The k best candidates of a clip.

    Attributes:
        index: int [k], places among the candidates, best first.
        distance: float32 [k], beta added for seen classes.
        score: float32 [k], probabilities among all candidates.
        visual: Cosines and scores of the picture alone, [k]; None when no picture was used.
        audio: The same of the sound.
        unknown: 0..1, how likely it is that none of the candidates fits; None where the head cannot tell.
        agreement: Whether both tracks say the same of all candidates; None where nothing tells.
    """

    index: NDArray[np.intp]
    distance: Array
    score: Array
    visual: TrackScores | None
    audio: TrackScores | None
    unknown: float | None
    agreement: Agreement | None


def best_of_each(
    bundle: Bundle, clips: Sequence[ClipFeatures], names: LabelEmbeddings, asked: Beta, k: int
) -> list[BestNames]:
    """The k best names of each of several clips, up to rounding as `rank_names` ranks each of them.

    Args:
        bundle: The models.
        clips: Of at least one track each.
        names: The candidates.
        asked: The beta that was asked for.
        k: How many, at most.

    Raises:
        WorkCancelled: The request was cancelled.
    """
    running = [_Running(bundle, clip, names, asked, k) for clip in clips]
    for start in range(0, len(names.labels), _BLOCK):
        raise_if_cancelled("rank")  # many segments and names take a second
        block = names.part(slice(start, start + _BLOCK))
        visual = _products([clip.visual for clip in clips], block.features.visual)
        audio = _products([clip.audio for clip in clips], block.features.audio)
        for one, of_picture, of_sound in zip(running, visual, audio, strict=True):
            one.add(start, Cosines(of_picture, of_sound), block)
    return [one.best() for one in running]


def _products(features: Sequence[Array | None], texts: Array) -> list[Array | None]:
    """Cosines of clips to names in one matrix product: [n] for each clip with a feature."""
    there = [one for one in features if one is not None]
    rows = iter(np.stack(there) @ texts.T if there else ())
    return [None if one is None else next(rows) for one in features]


class _Running:
    """What is kept of the names that a clip has met so far."""

    def __init__(
        self, bundle: Bundle, clip: ClipFeatures, names: LabelEmbeddings, asked: Beta, k: int
    ) -> None:
        self._head, self._clip, self._k = bundle.head, clip, k
        self._embedding = bundle.head.embed_clip(clip)
        self._scoring = bundle.head.scoring(clip, names.embedded)
        self._beta = np.float32(beta_of(asked, self._scoring.beta))
        self._scales = bundle.manifest.visual.logit_scale, bundle.manifest.audio.logit_scale
        self._nearest = math.inf
        self._sum, self._track_sums = LogSum(), (LogSum(), LogSum())
        self._overlap = Overlap(bundle.head.agreement)
        self._index = np.empty(0, np.intp)
        # Distance, cosine of the picture and of the sound; nan for a missing track.
        self._rows = np.empty((3, 0), np.float32)

    def add(self, start: int, cosines: Cosines, block: LabelEmbeddings) -> None:
        distance = self._head.distances(self._embedding, cosines, block.embedded)
        self._nearest = min(self._nearest, float(distance.min()))
        stacked = distance if self._beta == 0 else distance + self._beta * block.seen.astype(np.float32)
        self._sum.add(stacked * np.float32(-1 / self._scoring.temperature))
        tracks = cosines.visual, cosines.audio
        for cosine, scale, total in zip(tracks, self._scales, self._track_sums, strict=True):
            if cosine is not None:
                total.add(cosine * np.float32(scale))
        if self._head.agreement is not None:
            self._overlap.add(*self._head.track_similarities(self._clip, cosines, block.embedded))
        self._keep(start, stacked, tracks)

    def _keep(self, start: int, stacked: Array, tracks: tuple[Array | None, Array | None]) -> None:
        if len(self._index) == self._k:
            new = np.flatnonzero(stacked < self._rows[0, -1])
            if not len(new):
                return
        else:
            new = np.arange(len(stacked))
        new = new[lowest(stacked[new], self._k)]
        cosines = [np.full(len(new), np.nan, np.float32) if one is None else one[new] for one in tracks]
        rows = np.concatenate([self._rows, np.stack([stacked[new], *cosines])], axis=1)
        order = lowest(rows[0], self._k)
        self._index = np.concatenate([self._index, start + new])[order]
        self._rows = rows[:, order]

    def best(self) -> BestNames:
        distance, *cosines = self._rows
        visual, audio = (
            None if total.is_empty else TrackScores(cosine, total.probabilities(cosine * np.float32(scale)))
            for cosine, scale, total in zip(cosines, self._scales, self._track_sums, strict=True)
        )
        logits = distance * np.float32(-1 / self._scoring.temperature)
        unknown = self._scoring.unknown
        return BestNames(
            self._index,
            distance,
            self._sum.probabilities(logits),
            visual,
            audio,
            None if unknown is None else unknown_of(self._nearest, unknown),
            self._overlap.agreement(),
        )
