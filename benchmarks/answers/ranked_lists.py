"""Rank encoded clips among lists of names of many lengths.

Clips and names are encoded once. Distances of a clip to names don't depend on each other, so they are worked
out once too, and each list takes its share of them; scores and `unknown` are those of the list. The ranking
itself is the service's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from service.embed.embeddings import LabelEmbeddings
from service.encode.features import ClipFeatures
from service.head.head import distances_of
from service.media import Tracks
from service.ranking import Ranking, rank
from service.registry import Bundle

Track = Literal["picture", "sound", "fused"]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

_TRACKS_OF: Final[dict[Track, Tracks]] = {"picture": "visual", "sound": "audio", "fused": "both"}
TRACKS: Final[tuple[Track, ...]] = get_args(Track)
N_DRAWS: Final = 20
_TOP: Final = 5


@dataclass(frozen=True)
class NameLists:
    """Lists of one length, for every clip one in each draw.

    Attributes:
        n_names: Names in each list.
        draws: int64 [n_clips, n_names] each, rising indices of names; the clip's own name is among them.
    """

    n_names: int
    draws: tuple[Indices, ...]


@dataclass(frozen=True)
class Answers:
    """What the clips that have a track were answered, with lists of one length.

    Attributes:
        n_names: Names in each list.
        predicted: int64 [n_clips, n_draws], index of the name in first place.
        is_first: bool [n_clips, n_draws], whether that is the right one.
        is_among_best: bool [n_clips, n_draws], whether the right one is among the first five.
        score: float64 [n_clips, n_draws], of the name in first place, 0..1.
        unknown: float64 [n_clips, n_draws], 0..1; NaN where the bundle has no measure of it.
        unknown_left_out: The same when the right name is left out of the list.
    """

    n_names: int
    predicted: Indices
    is_first: Flags
    is_among_best: Flags
    score: Floats
    unknown: Floats
    unknown_left_out: Floats

    @property
    def n_clips(self) -> int:
        """Clips that have the track."""
        return len(self.is_first)

    @property
    def n_draws(self) -> int:
        """Lists of this length that each clip was ranked among."""
        return int(self.is_first.shape[1])


def draw_lists(right: Indices, own: Indices, others: Indices, lengths: Sequence[int]) -> list[NameLists]:
    """Lists of some lengths from the clips' own names and distractors.

    A list as long as there are own names has just these. A longer one is filled with distractors and is the
    same for all clips; a shorter one has the clip's name and some of the other own names. Where there is a
    choice it is made N_DRAWS times, with fixed seeds.

    Args:
        right: int64 [n_clips], the name of each clip.
        own: int64, names of any clip.
        others: int64, distractors.
        lengths: Those below 2, or with too few names for them, are left out.

    Returns:
        By rising length.
    """
    wanted = sorted({n for n in lengths if 2 <= n <= len(own) + len(others)})
    return [NameLists(n, _draws(right, own, others, n)) for n in wanted]


def _draws(right: Indices, own: Indices, others: Indices, n: int) -> tuple[Indices, ...]:
    n_draws = 1 if n in (len(own), len(own) + len(others)) else N_DRAWS
    return tuple(_draw(right, own, others, n, np.random.default_rng([n, draw])) for draw in range(n_draws))


def _draw(right: Indices, own: Indices, others: Indices, n: int, random: np.random.Generator) -> Indices:
    if n >= len(own):
        filled = np.concatenate([own, random.choice(others, n - len(own), replace=False)])
        return np.tile(np.sort(filled), (len(right), 1))
    rows = [np.append(random.choice(own[own != name], n - 1, replace=False), name) for name in right]
    return np.sort(np.stack(rows), axis=1)


def answer(
    bundle: Bundle,
    names: LabelEmbeddings,
    features: Sequence[ClipFeatures],
    right: Indices,
    lists: Sequence[NameLists],
    track: Track,
) -> list[Answers]:
    """Rank every clip that has a track among its lists.

    Args:
        bundle: Whose head ranks.
        names: All names of all lists.
        features: Of the clips.
        right: int64 [n_clips], the name of each.
        lists: From `draw_lists`.
        track: What to rank by; `fused` is by all that the clip has, as it is served.

    Returns:
        One for each of the lists.
    """
    kept = [one.only(_TRACKS_OF[track]) for one in features]
    rankings = {clip: _ranking(bundle, names, one) for clip, one in enumerate(kept) if not one.is_empty}
    return [_answers(rankings, right, one) for one in lists]


def similarities(
    bundle: Bundle, names: LabelEmbeddings, features: Sequence[ClipFeatures], track: Track
) -> dict[int, Floats]:
    """Similarity of each clip that has a track to all names, float64 [n_names], as the head ranks by it."""
    kept = {clip: one.only(_TRACKS_OF[track]) for clip, one in enumerate(features)}
    return {
        clip: -distances_of(bundle.head, one, names.features, names.embedded).astype(np.float64)
        for clip, one in kept.items()
        if not one.is_empty
    }


def _ranking(bundle: Bundle, names: LabelEmbeddings, clip: ClipFeatures) -> Callable[[Indices], Ranking]:
    """What ranks any of the names for a clip, as `rank_names` does."""
    ranker = bundle.head
    distance = distances_of(ranker, clip, names.features, names.embedded)

    def among(chosen: Indices) -> Ranking:
        scoring = ranker.scoring(clip, _rows(names.embedded, chosen))
        return rank(distance[chosen], names.seen[chosen], scoring, scoring.beta)

    return among


def _rows(embedded: Any, chosen: Indices) -> Any:
    """What the head keeps of some of the names, from its dataclass of arrays [n, ...] of all."""
    return replace(embedded, **{one.name: getattr(embedded, one.name)[chosen] for one in fields(embedded)})


def _answers(rankings: dict[int, Callable[[Indices], Ranking]], right: Indices, lists: NameLists) -> Answers:
    shape = len(rankings), len(lists.draws)
    predicted = np.zeros(shape, np.int64)
    is_first, is_among_best = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    score, unknown, left_out = (np.full(shape, np.nan) for _ in range(3))
    for row, (clip, among) in enumerate(rankings.items()):
        for draw, chosen in enumerate(names[clip] for names in lists.draws):
            at = row, draw
            ranking, without = among(chosen), among(chosen[chosen != right[clip]])
            best = chosen[ranking.best(_TOP)]
            predicted[at], is_first[at], is_among_best[at] = (
                best[0],
                best[0] == right[clip],
                right[clip] in best,
            )
            score[at] = ranking.score.max()
            if ranking.unknown is not None and without.unknown is not None:
                unknown[at], left_out[at] = ranking.unknown, without.unknown
    return Answers(lists.n_names, predicted, is_first, is_among_best, score, unknown, left_out)
