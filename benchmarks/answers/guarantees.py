"""Whether guarantees hold, on splits of clips, and `tracks.agreement` on swapped sounds.

    python -m benchmarks.answers.guarantees run RUN DATASET
    python -m benchmarks.answers.guarantees clips DIR [--bundle weights/everyday] [--write FILE]
        [--distractors ...]

`run` takes the test clips of a trained run, which no limit was fitted to. `clips` takes labelled clips for a
bundle without a trained head; DIR is that of benchmarks.answers.real_clips. It writes what such a bundle
stores (guarantee.json), and prints its `agreement`.

Coverage: 100 times a tenth of the independent groups of clips (classes of unseen names, clips of seen ones)
is left out at random. Limits are made from the others and kept to on these. Sets hold the right name with the
frequency that the table shows; the size of a set is beside it. The last columns are of the limits that
the run or the bundle has stored, on all of these clips: what users get, unless it was fitted to these clips.

Agreement: every clip keeps its picture and gets the sound of a clip with another name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from benchmarks.answers.clip_measure import CannotMeasureError, Measured
from benchmarks.answers.real_clips import CAN_FAIL, add_ranking_options, rank_folder
from model_export.data.datasets import open_dataset
from model_export.data.gzsl_data import GzslData, Indices, Reals
from model_export.errors import RunError
from model_export.head.calibration import rank_calibrated
from model_export.head.conformal import LENGTHS, Case, cases, conformal_limits
from model_export.head.distances import StageRanked, rank_embedding
from model_export.head.metrics import Distances, auroc
from model_export.head.run_folder import Run
from model_export.head.stage_tensors import Clips, StageTensors
from model_export.head.track_agreement import factors, fit_score, others, track_cosines, with_both_tracks
from service.bundle.guarantees import Guarantees, Limits, limit_for, place_of
from service.bundle.head_specs import AgreementScore
from service.classification import CONTRADICTION
from service.embed.embedder import LabelEmbedder
from service.embed.embeddings import LabelEmbeddings
from service.encode.features import ClipFeatures
from service.head.head import cosines_of, distances_of
from service.head.similarity import SimilarityHead
from service.labels.label import Candidates
from service.media import Tracks
from service.registry import Bundle

LEVELS: Final = (0.8, 0.9, 0.95)
N_SPLITS: Final = 100
_ONE_IN: Final = 10
_TRACKS: Final[tuple[Tracks, ...]] = ("both", "visual", "audio")


@dataclass(frozen=True)
class Coverage:
    """What became of one guarantee.

    Attributes:
        case: Clips and lists.
        tracks: What the clips had.
        n_names: In each list.
        level: Of the guarantee.
        held: [N_SPLITS], how often the set held the right name, 0..1.
        size: [N_SPLITS], mean number of names in a set.
        stored_held: The same with the stored limit, on all clips; None: nothing is guaranteed.
        stored_size: Likewise.
    """

    case: Case
    tracks: Tracks
    n_names: int
    level: float
    held: Reals
    size: Reals
    stored_held: float | None
    stored_size: float | None


def coverages(
    case: Case, tracks: Tracks, lengths: Sequence[int], stored: Guarantees | None
) -> Iterator[Coverage]:
    """Split the groups of a case many times; and keep to the stored limits."""
    groups = case.groups()
    measured = [] if stored is None else stored.of(tracks, case.kind, case.among)
    for n_names in lengths:
        surprise = np.stack(list(case.surprises(n_names)), axis=1)
        right = surprise[:, :, 0]
        for level in LEVELS:
            held, size = np.zeros(N_SPLITS), np.zeros(N_SPLITS)
            for split in range(N_SPLITS):
                order = np.random.default_rng(split).permutation(len(groups))
                fitted, tested = (
                    [groups[i] for i in half]
                    for half in np.split(order, [len(groups) - max(1, len(groups) // _ONE_IN)])
                )
                limits = conformal_limits([right[rows].ravel() for rows in fitted])
                limit = limits[place_of(level)]
                held[split], size[split] = _kept(surprise, tested, np.inf if limit is None else limit)
            own = limit_for(measured, n_names, level)
            as_stored = (None, None) if own is None else _kept(surprise, groups, own)
            yield Coverage(case, tracks, n_names, level, held, size, *as_stored)


def _kept(surprise: Reals, groups: Sequence[Indices], limit: float) -> tuple[float, float]:
    """How often the right name is kept, and how many are.

    Args:
        surprise: [n_clips, n_lists, n_names], the right name first.
        groups: Rows of clips that count as one.
        limit: Up to which names are kept; the best one always is.
    """
    right, best = surprise[:, :, 0], surprise.min(axis=2)
    held = (right <= limit) | (right <= best)
    return _mean(groups, held), _mean(groups, np.maximum((surprise <= limit).sum(axis=2), 1))


def _mean(groups: Sequence[Indices], values: Reals | np.ndarray) -> float:
    """Mean over groups of the mean within each."""
    return float(np.mean([values[rows].mean() for rows in groups]))


def coverage_table(found: Sequence[Coverage]) -> list[str]:
    """In Markdown."""
    lines = [
        "| tracks | right name | among | names | groups | guaranteed | held, mean | sd | names kept | "
        "as stored: held | kept |",
        f"|{'---|' * 11}",
    ]
    lines += [
        f"| {one.tracks} | {one.case.kind} | {one.case.among} | {one.n_names} | {len(one.case.groups())} | "
        f"{one.level:.0%} | {one.held.mean():.1%} | {one.held.std(ddof=1):.1%} | {one.size.mean():.1f} | "
        + (
            "nothing | all |"
            if one.stored_held is None
            else f"{one.stored_held:.1%} | {one.stored_size:.1f} |"
        )
        for one in found
    ]
    return lines


@dataclass(frozen=True)
class Swapped:
    """Clips, and the same with other sounds.

    Attributes:
        visual: Similarity [n, c] of the pictures to the candidates.
        audio: Of the sounds.
        right: int64 [n], column of the right name.
        other: int64 [n], clip whose sound each gets.
        fused: Distances [n, c] with that sound.
        by_picture: Distances [n, c] of the pictures alone.
        by_sound: Distances [n, c] of the own sounds alone.
    """

    visual: Distances
    audio: Distances
    right: Indices
    other: Indices
    fused: Distances
    by_picture: Distances
    by_sound: Distances

    def lines(self, stored: AgreementScore, how: str) -> list[str]:
        """What was found, in Markdown.

        Args:
            stored: The numbers of the score.
            how: Where they are from.
        """
        temperatures = stored.visual_temperature, stored.audio_temperature
        own = self._score(self.audio, temperatures, stored)
        swapped = self._score(self.audio[self.other], temperatures, stored)
        theirs, first = self.right[self.other], self.fused.argmin(axis=1)
        n_picture = int((self.by_picture.argmin(axis=1) == self.right).sum())
        n_sound = int((self.by_sound.argmin(axis=1)[self.other] == theirs).sum())
        warned = [int((one < CONTRADICTION).sum()) for one in (own, swapped)]
        return [
            f"{len(self.right)} clips, {self.visual.shape[1]} names; as many with the sound of another. "
            f"Agreement {how}:",
            "",
            f"- AUROC of agreement: {auroc(-own, -swapped):.3f}",
            f"- a warning: {warned[0]} of the own, {warned[1]} of the swapped",
            f"- of the swapped, the picture's name first: fused {(first == self.right).sum()}, by the "
            f"picture alone {n_picture}",
            f"- the sound's name first: fused {(first == theirs).sum()}, by the sound alone {n_sound}",
            f"- one of both names first: fused {((first == self.right) | (first == theirs)).sum()}; by the "
            f"better track alone {max(n_picture, n_sound)}",
        ]

    def _score(self, audio: Distances, temperatures: tuple[float, float], stored: AgreementScore) -> Reals:
        found = (factors(self.visual, audio, temperatures) - stored.threshold) / stored.scale
        return np.asarray(1 / (1 + np.exp(-found)))


def of_run(run: Run, data: GzslData) -> list[str]:
    """Everything of a trained run, on its test clips."""
    stage = StageTensors.of(data, data.stage(2), torch.device("cpu"))
    found = list[Coverage]()
    for tracks in _TRACKS:
        if run.statistics.knows(tracks):
            clips = stage.complete() if tracks == "both" else stage.only(tracks)
            ranked = _ranked(run, clips, tracks)
            for case in cases(ranked, run.calibration_of(tracks)):
                found += coverages(case, tracks, [n for n in case.lengths if n in (10, 50)], run.guarantees)
    lines = coverage_table(found)
    if run.calibrations.agreement is not None:
        lines += ["", *_swapped_run(run, stage).lines(run.calibrations.agreement, "as stored")]
    return lines


def _ranked(run: Run, stage: StageTensors, tracks: Tracks) -> StageRanked:
    embedding = rank_embedding(run.network, run.config.head, run.statistics, stage)
    return rank_calibrated(embedding, run.statistics, stage, run.calibration_of(tracks))


def _swapped_run(run: Run, stage: StageTensors) -> Swapped:
    clips = with_both_tracks(stage)
    visual, audio, right = track_cosines(run.statistics, stage, clips)
    other = others(right)
    mixed = Clips(clips.visual, clips.audio[torch.from_numpy(other)], clips.class_index)

    def distances(clips: Clips, tracks: Tracks) -> Distances:
        of_all = StageTensors(
            stage.train, clips.only(tracks), clips.only(tracks), stage.texts, stage.seen, stage.unseen
        )
        ranked = _ranked(run, of_all, tracks)
        stacked = ranked.seen_clips.distances[:, ranked.candidates()]
        return stacked + run.calibration_of(tracks).beta * np.isin(ranked.candidates(), ranked.seen)

    return Swapped(
        visual,
        audio,
        right,
        other,
        distances(mixed, "both"),
        distances(clips, "visual"),
        distances(clips, "audio"),
    )


def of_clips(
    bundle: Bundle, measured: Measured, data: str = "labelled clips"
) -> tuple[Guarantees, AgreementScore, list[str]]:
    """What a bundle without a trained head may store, and whether it holds.

    Args:
        bundle: Which it is.
        measured: Its clips.
        data: What they are, in words.

    Raises:
        CannotMeasureError: A set of tracks has clips of less than two names.
    """
    for tracks in _TRACKS:
        rights = [
            right
            for one, right in zip(measured.encoded.features, measured.right, strict=True)
            if one.tracks in ("both", tracks)
        ]
        if len(set(rights)) < 2:
            raise CannotMeasureError(
                f"There are not two names with clips that have these tracks: {tracks}. Add some."
            )
    names = LabelEmbedder(2**30).embed(bundle, Candidates(measured.labels))
    limits, found = list[Limits](), list[Coverage]()
    for tracks in _TRACKS:
        for case in _cases(bundle, measured, names, tracks):
            limits += case.limits(tracks)
            found += coverages(
                case, tracks, [n for n in case.lengths if n in (10, 50, 500)], bundle.guarantees
            )
    swapped = _swapped_clips(bundle, measured, names)
    score = fit_score(swapped.visual, swapped.audio, swapped.right)
    lines = [*coverage_table(found), "", *swapped.lines(score, "fitted to them")]
    if bundle.head.agreement is not None:
        lines += ["", *swapped.lines(bundle.head.agreement, "as stored")]
    return Guarantees(data=data, limits=tuple(limits)), score, lines


def _cases(bundle: Bundle, measured: Measured, names: LabelEmbeddings, tracks: Tracks) -> Iterator[Case]:
    """Clips that have the tracks, among the clips' own names, and among longer lists of these and others."""
    rows = [i for i, one in enumerate(measured.encoded.features) if one.tracks in ("both", tracks)]
    clips, right = [measured.encoded.features[i].only(tracks) for i in rows], measured.right[rows]
    temperature = bundle.head.scoring(clips[0], names.embedded).temperature
    logits = -_distances(bundle, names, clips).astype(np.float64) / temperature
    own, everything = np.unique(measured.right), np.arange(len(measured.labels))
    lengths = [n for n in LENGTHS if n < len(own)]
    yield Case("unseen", "same", logits, right, own, own[:0], (*lengths, len(own)))
    longer = [n for n in (*LENGTHS, len(everything)) if len(own) < n <= len(everything)]
    yield Case("unseen", "same", logits, right, everything, own[:0], tuple(longer))


def _distances(bundle: Bundle, names: LabelEmbeddings, clips: Sequence[ClipFeatures]) -> Distances:
    """Of clips to all names, [n, n_names]."""
    return np.stack([distances_of(bundle.head, one, names.features, names.embedded) for one in clips])


def _swapped_clips(bundle: Bundle, measured: Measured, names: LabelEmbeddings) -> Swapped:
    """Clips with both tracks, among their own names."""
    rows = [i for i, one in enumerate(measured.encoded.features) if one.tracks == "both"]
    clips = [measured.encoded.features[i] for i in rows]
    own = np.unique(measured.right[rows])
    right = np.searchsorted(own, measured.right[rows])
    other = others(right)
    alone = [
        bundle.head.track_similarities(one, cosines_of(one, names.features), names.embedded) for one in clips
    ]
    mixed = [ClipFeatures(one.visual, clips[i].audio) for one, i in zip(clips, other, strict=True)]

    return Swapped(
        np.stack([visual[own] for visual, _ in alone if visual is not None]),
        np.stack([audio[own] for _, audio in alone if audio is not None]),
        right,
        other,
        _distances(bundle, names, mixed)[:, own],
        _distances(bundle, names, [one.only("visual") for one in clips])[:, own],
        _distances(bundle, names, [one.only("audio") for one in clips])[:, own],
    )


def main() -> None:
    """Print what was found."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    what = parser.add_subparsers(dest="what", required=True)
    trained = what.add_parser("run", help="of a trained run")
    trained.add_argument("run", type=Path)
    trained.add_argument("dataset", type=Path)
    labelled = what.add_parser("clips", help="of a bundle without a trained head, by labelled clips")
    labelled.add_argument("folder", type=Path, metavar="DIR")
    labelled.add_argument("--write", type=Path, metavar="FILE", help="what the bundle may store")
    labelled.add_argument("--data", default="labelled clips", metavar="TEXT", help="what they are, for users")
    add_ranking_options(labelled)
    options = parser.parse_args()
    try:
        if options.what == "run":
            lines = of_run(Run.load(options.run), open_dataset(options.dataset))
        else:
            bundle, measured = rank_folder(options.folder, options)
            if not isinstance(bundle.head, SimilarityHead):
                parser.exit(
                    2, "The bundle has a trained head: `ahse train` measures what can be guaranteed of it.\n"
                )
            guarantees, score, lines = of_clips(bundle, measured, options.data)
            lines += ["", score.model_dump_json()]
            if options.write is not None:
                options.write.write_text(guarantees.model_dump_json() + "\n", encoding="utf-8")
    except (*CAN_FAIL, RunError) as error:
        parser.exit(2, f"{error}\n")
    sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
