"""What was measured on labelled clips, as tables in Markdown and as JSON.

Sets of clips are small: counts stand in place of percentages, each with its interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from benchmarks.answers.clip_measure import Measured
from benchmarks.answers.ranked_lists import Answers, Flags, Floats

N_BINS: Final = 10
_TOPS: Final = ("top-1", "top-5")
# Of the standard normal distribution, two-sided 95 %.
_Z: Final = 1.959963984540054


@dataclass(frozen=True)
class Count:
    """How many clips were right.

    Attributes:
        n_right: Mean over the draws.
        n: Clips.
        low: Lower end of the 95 % interval of the share, 0..1.
        high: Its upper end.
    """

    n_right: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Reliability:
    """Whether scores and `unknown` mean what they say.

    Attributes:
        unknown_auroc: How often `unknown` is higher for a clip whose name is left out than for one whose name
            is there; None where the bundle has no measure of it.
        calibration_error: Expected calibration error of the score in first place, 0..1.
        mean_score: Of the names in first place.
        n_in_bin: Clips by that score, in N_BINS equal bins of 0..1; means over the draws.
        n_right_in_bin: Of these, the clips whose first name is right.
    """

    unknown_auroc: float | None
    calibration_error: float
    mean_score: float
    n_in_bin: tuple[float, ...]
    n_right_in_bin: tuple[float, ...]


def count(is_right: Flags) -> Count:
    """Count right answers, bool [n_clips, n_draws].

    The interval is that of so many clips: draws share them and make it no narrower.
    """
    n, n_draws = is_right.shape
    n_right = float(is_right.sum() / n_draws)
    return Count(n_right, n, *wilson(n_right, n))


def reliability(answers: Answers) -> Reliability:
    """Over all clips and draws together."""
    score, right = answers.score.ravel(), answers.is_first.ravel()
    place = np.minimum((score * N_BINS).astype(np.int64), N_BINS - 1)
    in_bin = np.bincount(place, minlength=N_BINS)
    right_in_bin, score_in_bin = (np.bincount(place, weights, N_BINS) for weights in (right, score))
    return Reliability(
        unknown_auroc=auroc(answers.unknown_left_out, answers.unknown),
        calibration_error=float(np.abs(right_in_bin - score_in_bin).sum() / len(score)),
        mean_score=float(score.mean()),
        n_in_bin=tuple((in_bin / answers.n_draws).tolist()),
        n_right_in_bin=tuple((right_in_bin / answers.n_draws).tolist()),
    )


def wilson(n_right: float, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share, 0..1 (Wilson, JASA 1927), which holds for small n too."""
    share, spread = n_right / n, _Z**2 / n
    half = np.sqrt(spread * share * (1 - share) + spread**2 / 4)
    low, high = ((share + spread / 2 + side * half) / (1 + spread) for side in (-1, 1))
    # With none or all right the ends are 0 and 1, but for rounding.
    return max(0.0, float(low)), min(1.0, float(high))


def auroc(higher: Floats, lower: Floats) -> float | None:
    """Share of the pairs in which the first is higher; equals count half. None if anything is NaN."""
    first, second = higher.ravel(), np.sort(lower.ravel())
    if np.isnan(first).any() or np.isnan(second).any():
        return None
    places = np.searchsorted(second, first, "left") + np.searchsorted(second, first, "right")
    return float(places.mean() / (2 * len(second)))


def report(measured: Measured, remarks: Sequence[str] = ()) -> list[str]:
    """Lines of Markdown: what was measured, the counts, and the reliability.

    Args:
        measured: The answers.
        remarks: What a reader of the figures must know of these clips.
    """
    return [*_head(measured, remarks), "", *_counts(measured), "", *_reliability(measured)]


def _head(measured: Measured, remarks: Sequence[str]) -> list[str]:
    manifest, encoded = measured.manifest, measured.encoded
    n_seen = sum(one.visual is not None for one in encoded.features)
    n_heard = sum(one.audio is not None for one in encoded.features)
    return [
        f"# {manifest.name} {manifest.version}: {len(encoded.clips)} clips of {measured.n_own} names",
        "",
        *([f"- notice of the bundle: {manifest.notice}"] if manifest.notice else []),
        *(f"- {remark}" for remark in remarks),
        f"- {n_seen} clips with picture and {n_heard} with sound; fused is by what a clip has",
        *(
            [f"- {encoded.n_stills} still pictures, wrapped into clips of one frame"]
            if encoded.n_stills
            else []
        ),
        *([f"- not counted, could not be used: {len(encoded.failed)}"] if encoded.failed else []),
        *(f"  - {line}" for line in encoded.failed),
        *_about_lists(measured),
    ]


def _about_lists(measured: Measured) -> list[str]:
    n_others, source = len(measured.labels) - measured.n_own, measured.distractors.source
    lines = [f"- distractors: {f'{n_others:,} names, {source}' if n_others else source}"]
    if n_others:
        lines.append(
            "- longer lists are filled with distractors; one that fits too counts as wrong all the same"
        )
    n_draws = max(one.n_draws for one in measured.answers["fused"])
    if n_draws > 1:
        lines.append(f"- figures with a decimal are means over {n_draws} draws of the list, with fixed seeds")
    return lines


def _counts(measured: Measured) -> list[str]:
    shown = {track: answers for track, answers in measured.answers.items() if answers[0].n_clips}
    columns = [f"{track} {top}, of {answers[0].n_clips}" for track, answers in shown.items() for top in _TOPS]
    rows = [
        [
            _length(measured, one),
            *(_count(answers[index], top) for answers in shown.values() for top in _TOPS),
        ]
        for index, one in enumerate(measured.answers["fused"])
    ]
    return [
        "Clips whose right name comes first, or among the first five, and the 95 % interval (Wilson):",
        "",
        *_table(["names in the list", *columns], rows),
    ]


def _count(answers: Answers, top: str) -> str:
    found = count(answers.is_first if top == "top-1" else answers.is_among_best)
    return f"{_number(found.n_right, answers)} ({100 * found.low:.0f}-{100 * found.high:.0f} %)"


def _length(measured: Measured, answers: Answers) -> str:
    return f"{answers.n_names:,}{' (own)' if answers.n_names == measured.n_own else ''}"


def _number(value: float, answers: Answers) -> str:
    return f"{value:.0f}" if answers.n_draws == 1 else f"{value:.1f}"


def _reliability(measured: Measured) -> list[str]:
    width = 100 // N_BINS
    bins = [f"{low}-{low + width} %" for low in range(0, 100, width)]
    return [
        "Fused: AUROC of `unknown` between the clips with the right name left out of the list and in it; "
        "expected calibration error of the score in first place; right answers by that score:",
        "",
        *_table(
            ["names in the list", "AUROC", "calibration error", "mean score", *bins],
            [[_length(measured, one), *_reliability_cells(one)] for one in measured.answers["fused"]],
        ),
    ]


def _reliability_cells(answers: Answers) -> list[str]:
    found = reliability(answers)
    return [
        "no `unknown`" if found.unknown_auroc is None else f"{found.unknown_auroc:.3f}",
        f"{100 * found.calibration_error:.1f} %",
        f"{100 * found.mean_score:.1f} %",
        *(
            f"{_number(right, answers)} of {_number(n, answers)}" if n else ""
            for right, n in zip(found.n_right_in_bin, found.n_in_bin, strict=True)
        ),
    ]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def clip_lines(measured: Measured) -> list[str]:
    """A table of the clips: its label and what came first, by all that it has and among the own names."""
    rows = [
        [clip["file"], clip["label"], clip["first"], "right" if clip["right"] else "wrong"]
        for clip in _clips(measured)
    ]
    return [
        f"Fused, the {measured.n_own} own names:",
        "",
        *_table(["file", "label", "first", "is"], rows),
    ]


def _clips(measured: Measured) -> list[dict[str, Any]]:
    return [
        {
            "file": clip.name,
            "label": clip.label,
            "first": measured.labels[answers.predicted[index, 0]].name,
            "right": bool(answers.is_first[index, 0]),
        }
        for answers in measured.answers["fused"]
        if answers.n_names == measured.n_own
        for index, clip in enumerate(measured.encoded.clips)
    ]


def figures(measured: Measured, remarks: Sequence[str] = ()) -> dict[str, Any]:
    """The report and what came first for each clip, as JSON has it."""
    manifest, n_lists = measured.manifest, len(measured.answers["fused"])
    return {
        "bundle": {"name": manifest.name, "version": manifest.version, "notice": manifest.notice},
        "remarks": list(remarks),
        "n_clips": len(measured.encoded.clips),
        "failed": list(measured.encoded.failed),
        "n_own_names": measured.n_own,
        "n_distractors": len(measured.labels) - measured.n_own,
        "distractors": measured.distractors.source,
        "lists": [_list_figures(measured, index) for index in range(n_lists)],
        "clips": _clips(measured),
    }


def _list_figures(measured: Measured, index: int) -> dict[str, Any]:
    of_list = {track: answers[index] for track, answers in measured.answers.items()}
    fused = of_list["fused"]
    return {
        "n_names": fused.n_names,
        "n_draws": fused.n_draws,
        **{
            track: {"top_1": asdict(count(one.is_first)), "top_5": asdict(count(one.is_among_best))}
            for track, one in of_list.items()
            if one.n_clips
        },
        "reliability": asdict(reliability(fused)),
    }
