"""The answer for a clip: its candidates ranked, and what a user must know about that in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from service.best import BestNames
from service.embed.embeddings import LabelEmbeddings
from service.encode.known_clips import EncodedClip
from service.guarantee import KeptNames
from service.head.agreement import Agreement
from service.media import Clip
from service.ranking import Ranking, TrackScores
from service.registry import Bundle

CONTRADICTION = 0.1
"""Agreement below this is a warning."""
# Names that a warning lists.
_MAX_FAR_NAMES = 5


@dataclass(frozen=True)
class Ranked:
    """The candidates ranked for a clip.

    Attributes:
        ranking: By both tracks, or the one that is there.
        visual: What the picture alone says; None when no picture was used.
        audio: What the sound alone says; None when no sound was used.
        agreement: Whether both say the same; None with one track or one name, and where nothing tells.
        beta: What was added to the distances of seen classes.
    """

    ranking: Ranking
    visual: TrackScores | None
    audio: TrackScores | None
    agreement: Agreement | None
    beta: float

    def best(self, k: int | None = None) -> BestNames:
        """The k best of them, or all."""
        index, ranking = self.ranking.best(k), self.ranking

        def of_track(scores: TrackScores | None) -> TrackScores | None:
            return None if scores is None else TrackScores(scores.similarity[index], scores.score[index])

        return BestNames(
            index,
            ranking.distance[index],
            ranking.score[index],
            of_track(self.visual),
            of_track(self.audio),
            ranking.unknown,
            self.agreement,
        )


@dataclass(frozen=True)
class Classification:
    """The answer for one clip.

    Attributes:
        bundle: The models that were used.
        encoded: The clip, with its features.
        clip_sha256: Hex digest of its file.
        is_known: Its features were kept from an earlier question, and nothing was decoded.
        names: The candidates.
        whole: Their ranking for the whole clip.
        segments: The best names of each segment of the clip; None for one with neither picture nor sound.
        guarantee: The names that it keeps of the whole clip; None: none was asked for.
        timings_ms: Wall time of each step, in the order of the flow.
    """

    bundle: Bundle
    encoded: EncodedClip
    clip_sha256: str
    is_known: bool
    names: LabelEmbeddings
    whole: Ranked
    segments: tuple[BestNames | None, ...]
    guarantee: KeptNames | None
    timings_ms: dict[str, float]

    @property
    def clip(self) -> Clip:
        """What was decoded; its arrays may be gone."""
        return self.encoded.clip

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the user: tracks that are missing or disagree, repairs, and names far from all."""
        return (*self._tracks(), *self._contradiction(), *self.clip.warnings, *self._far_names())

    def _tracks(self) -> Iterator[str]:
        visual, audio = self.whole.visual, self.whole.audio
        if visual is None:
            yield f"Ranked by the sound alone; no picture was used: {self.clip.visual.detail}."
        if audio is None:
            yield f"Ranked by the picture alone; no sound was used: {self.clip.audio.detail}."
        if (visual is None) != (audio is None):
            yield from self._disagreement("sound" if visual is None else "picture", visual or audio)

    def _disagreement(self, track: str, alone: TrackScores | None) -> Iterator[str]:
        """Of one track a head may make another order than the encoders' plain similarity."""
        first = int(self.whole.ranking.best(1)[0])
        if alone is not None and alone.score[first] < alone.score.max():
            name = self.names.labels[int(np.argmax(alone.score))].name
            yield (
                f"By the plain similarity of the {track}, which the scores of that track are of, {name!r} "
                "would come first; the ranking is by the bundle's head, which weighs names differently."
            )

    def _contradiction(self) -> Iterator[str]:
        """Of two tracks that show different things."""
        found = self.whole.agreement
        if found is not None and found.score < CONTRADICTION:
            picture, sound = (self.names.labels[i].name for i in (found.visual_first, found.audio_first))
            surer = "picture" if found.surer == "visual" else "sound"
            yield (
                f"Picture and sound seem to show different things: {picture!r} comes first by the picture "
                f"alone, {sound!r} by the sound alone; the {surer} is surer."
            )

    def _far_names(self) -> Iterator[str]:
        known, nearness = self.bundle.manifest.known_names, self.names.features.nearness
        far = np.flatnonzero(nearness < known.threshold) if known is not None and nearness is not None else ()
        if len(far):
            named = ", ".join(repr(self.names.labels[index].name) for index in far[:_MAX_FAR_NAMES])
            rest = f" and {len(far) - _MAX_FAR_NAMES} more" if len(far) > _MAX_FAR_NAMES else ""
            yield (
                f"Far from every name that the bundle's encoders know, so their scores mean little: {named}"
                f"{rest}."
            )
