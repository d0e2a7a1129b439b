"""The names that an answer must keep, so that the right one is among them about as often as was asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.bundle.guarantees import Guarantees, Kind, Limits, limit_for
from service.media import Tracks
from service.ranking import Ranking

_TRACKS: dict[Tracks, str] = {"both": "picture and sound", "visual": "picture only", "audio": "sound only"}
_TRAINED: dict[Kind, str] = {"seen": "trained on", "unseen": "not trained on"}


@dataclass(frozen=True)
class KeptNames:
    """The names that a guarantee keeps.

    Attributes:
        level: Of the guarantee, 0.5..0.99.
        kept: Indices of the names, best first; None: no name may be excluded.
        holds_for: Which clips and names it holds for, or why no name may be excluded; sentences.
    """

    level: float
    kept: NDArray[np.intp] | None
    holds_for: str


def keep_names(
    ranking: Ranking, seen: NDArray[np.bool_], tracks: Tracks, stored: Guarantees | None, level: float
) -> KeptNames:
    """The names within the limits that the bundle stores, and the best.

    A name of a kind, seen or unseen, for which nothing was measured is always kept. In a list of both kinds a
    limit is the laxer of those for such lists and for lists of one kind: how many of each there are is not
    known before.

    Args:
        ranking: All candidates, with the bundle's own beta.
        seen: bool [n], which of them the head was trained on.
        tracks: What the clip has.
        stored: None: the bundle has none.
        level: Of the guarantee.
    """
    if stored is None:
        return KeptNames(level, None, "nothing: it was not measured what can be guaranteed of this bundle.")
    kinds: dict[Kind, NDArray[np.bool_]] = {"seen": seen, "unseen": ~seen}
    there = [kind for kind, of_kind in kinds.items() if of_kind.any()]
    measured = {kind: _measured(stored, tracks, kind, is_mixed=len(there) > 1) for kind in there}
    limits = {kind: _limit(rows, len(seen), level) for kind, rows in measured.items()}
    reasons = {kind: _why(measured[kind][0], len(seen), level) for kind in there if limits[kind] is None}
    if len(reasons) == len(there):
        return KeptNames(level, None, f"nothing: {reasons[there[-1]]}.")
    of_names = np.full(len(seen), np.inf)
    for kind, limit in limits.items():
        of_names[kinds[kind]] = np.inf if limit is None else limit
    surprise = -np.log(np.maximum(ranking.score.astype(np.float64), np.finfo(np.float64).tiny))
    keep, order = surprise <= of_names, ranking.best()
    keep[order[0]] = True
    holds_for = _holds_for(stored, [measured[kind][0] for kind in there if kind not in reasons], tracks)
    for kind, reason in reasons.items():
        holds_for += f" Names of classes {_TRAINED[kind]} are all kept: {reason}."
    return KeptNames(level, order[keep[order]], holds_for)


def _measured(stored: Guarantees, tracks: Tracks, kind: Kind, *, is_mixed: bool) -> list[list[Limits]]:
    """The limits that count for names of a kind: first those of lists like this one."""
    alike = stored.of(tracks, kind, "mixed" if is_mixed else "same")
    return [alike, stored.of(tracks, kind, "same")] if is_mixed else [alike]


def _limit(measured: list[list[Limits]], n_names: int, level: float) -> float | None:
    """The laxest one, of which lists of one kind may have been shorter; None if the first says nothing."""
    alike, *others = (limit_for(rows, n_names, level) for rows in measured)
    return None if alike is None else max(alike, *(one for one in others if one is not None), 0.0)


def _why(measured: list[Limits], n_names: int, level: float) -> str:
    """Why nothing can be guaranteed."""
    if not measured:
        return "it was not measured what can be guaranteed of such clips and lists"
    if n_names > measured[-1].n_names:
        return f"it was measured for lists of at most {measured[-1].n_names} names"
    return f"{measured[0].n_groups} independent groups of clips are too few for {level:.0%}"


def _holds_for(stored: Guarantees, measured: list[list[Limits]], tracks: Tracks) -> str:
    rows = [one for of_kind in measured for one in of_kind]
    shortest, longest = min(one.n_names for one in rows), max(one.n_names for one in rows)
    clips = [
        f"{one.n_clips} of classes trained on"
        if one.kind == "seen"
        else f"{one.n_clips} of {one.n_groups} classes not trained on"
        for one in (of_kind[0] for of_kind in measured)
    ]
    return (
        f"clips with {_TRACKS[tracks]} whose right name is in the list, on average, as far as clips and "
        f"names are like those that it was measured on ({stored.data}: {' and '.join(clips)}), in lists of "
        f"{shortest} to {longest} names."
    )
