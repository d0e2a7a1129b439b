"""The names that an answer must keep, so that the right one is among them as often as was promised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.bundle.guarantees import Among, Guarantees, Kind, Limits, Tracks, limit_for
from service.ranking import Ranking

_TRACKS: dict[Tracks, str] = {"both": "picture and sound", "visual": "picture only", "audio": "sound only"}


@dataclass(frozen=True)
class Guarantee:
    """A promise about one answer.

    Attributes:
        level: How often it holds at least, 0.5..0.99.
        kept: Indices of the names, one of which is right, best first; None: no name may be excluded.
        holds_for: Which clips and names it holds for, or why no name may be excluded; a sentence.
    """

    level: float
    kept: NDArray[np.intp] | None
    holds_for: str


def guarantee(
    ranking: Ranking, seen: NDArray[np.bool_], tracks: Tracks, stored: Guarantees | None, level: float
) -> Guarantee:
    """The smallest set of names that keeps the promise, by the limits that the bundle stores.

    A name of a kind, seen or unseen, for which nothing can be promised is always kept, and so is the best.

    Args:
        ranking: All candidates, with the bundle's own beta.
        seen: bool [n], which of them the head was trained on.
        tracks: What the clip has.
        stored: None: the bundle has none.
        level: Of the promise.
    """
    if stored is None:
        return Guarantee(level, None, "nothing: nobody has measured yet what this bundle can promise.")
    n_names, n_seen = len(seen), int(np.count_nonzero(seen))
    among: Among = "mixed" if 0 < n_seen < n_names else "same"
    kinds: dict[Kind, NDArray[np.bool_]] = {"seen": seen, "unseen": ~seen}
    measured = {kind: stored.of(tracks, kind, among) for kind, of_kind in kinds.items() if of_kind.any()}
    limits = np.full(n_names, np.inf)
    for kind, rows in measured.items():
        limit = limit_for(rows, n_names, level)
        limits[kinds[kind]] = np.inf if limit is None else limit
    if np.isinf(limits).all():
        return Guarantee(level, None, _why_nothing(measured, n_names, tracks, level))
    surprise = -np.log(np.maximum(ranking.score.astype(np.float64), np.finfo(np.float64).tiny))
    keep = surprise <= limits
    order = ranking.best()
    keep[order[0]] = True
    return Guarantee(level, order[keep[order]], _holds_for(stored, measured, tracks))


def _why_nothing(measured: dict[Kind, list[Limits]], n_names: int, tracks: Tracks, level: float) -> str:
    rows = [one for kind in measured.values() for one in kind]
    longest = max((one.n_names for one in rows), default=0)
    if not rows:
        return f"nothing: what can be promised for clips with {_TRACKS[tracks]} was not measured."
    if n_names > longest:
        return f"nothing: what can be promised was measured for lists of at most {longest} names."
    n_groups = min(one.n_groups for one in rows)
    return f"nothing: {n_groups} independent groups of clips are too few to promise {level:.0%}."


def _holds_for(stored: Guarantees, measured: dict[Kind, list[Limits]], tracks: Tracks) -> str:
    rows = [one for kind in measured.values() for one in kind]
    shortest, longest = min(one.n_names for one in rows), max(one.n_names for one in rows)
    clips = []
    if seen := measured.get("seen"):
        clips.append(f"{seen[0].n_clips} of classes that the head was trained on")
    if new := measured.get("unseen"):
        clips.append(f"{new[0].n_clips} of {new[0].n_groups} classes new to the bundle")
    return (
        f"clips with {_TRACKS[tracks]} whose right name is in the list, as far as clips and names are like "
        f"those that it was measured on ({stored.data}: {' and '.join(clips)}), in lists of {shortest} to "
        f"{longest} names."
    )
