"""How alike what picture and sound say is for clips whose sound is theirs, and for others."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from model_export.data.gzsl_data import Indices, Reals
from model_export.head.calibration import fit_temperature, fit_unknown
from model_export.head.distances import raw_cosines
from model_export.head.metrics import Distances
from model_export.head.stage_tensors import Clips, StageTensors
from model_export.head.standardisation import Statistics
from service.bundle.head_specs import AgreementScore
from service.head.agreement import log_factor

MIN_CLIPS = 20


def fit_agreement(statistics: Statistics, stage: StageTensors) -> AgreementScore | None:
    """Fit the score to the validation clips that have both tracks.

    Returns:
        None where too few have.
    """
    visual, audio, target = track_cosines(statistics, stage, with_both_tracks(stage))
    if len(target) < MIN_CLIPS or len(np.unique(target)) == 1:
        return None
    return fit_score(visual, audio, target)


def with_both_tracks(stage: StageTensors) -> Clips:
    """The clips that a stage is measured on, of seen classes and then of unseen ones, if they have both."""
    parts = (stage.eval_seen, stage.eval_unseen)
    rows = torch.cat([one.have("both") for one in parts])
    names = ("visual", "audio", "class_index")
    return Clips(*(torch.cat([getattr(one, name) for one in parts])[rows] for name in names))


def track_cosines(
    statistics: Statistics, stage: StageTensors, clips: Clips
) -> tuple[Distances, Distances, Indices]:
    """Cosines of each track of clips to all candidates [n, c] each, and the right columns [n]."""
    s, ids = statistics, torch.cat([stage.seen, stage.unseen])
    visual = raw_cosines(clips.visual, stage.texts.visual[ids], s.visual_mean, s.text_visual_mean)
    audio = raw_cosines(clips.audio, stage.texts.audio[ids], s.audio_mean, s.text_audio_mean)
    column = (clips.class_index[:, None] == ids[None, :]).int().argmax(dim=1)
    return visual.cpu().numpy(), audio.cpu().numpy(), column.cpu().numpy()


def fit_score(visual: Distances, audio: Distances, target: Indices) -> AgreementScore:
    """The score that tells clips from clips with the sound of another class.

    Args:
        visual: Similarity [n, c] of each picture to the candidates.
        audio: Of each sound.
        target: int64 [n], column of the right one; of at least two kinds.
    """
    temperatures = fit_temperature(-visual, target), fit_temperature(-audio, target)
    own = factors(visual, audio, temperatures)
    swapped = factors(visual, audio[others(target)], temperatures)
    # `fit_unknown` takes distances, which are small where nothing is wrong.
    fitted = fit_unknown(-own, -swapped)
    return AgreementScore(
        visual_temperature=temperatures[0],
        audio_temperature=temperatures[1],
        threshold=-fitted.threshold,
        scale=fitted.scale,
    )


def factors(visual: Distances, audio: Distances, temperatures: tuple[float, float]) -> Reals:
    """ln(n sum(p q)) of each clip, as the service has it: [n]."""
    p, q = (
        F.softmax(torch.from_numpy(similarity).double() / t, dim=1)
        for similarity, t in zip((visual, audio), temperatures, strict=True)
    )
    overlaps = (p * q).sum(dim=1).tolist()
    return np.array([log_factor(overlap, visual.shape[1]) for overlap in overlaps])


def others(target: Indices) -> Indices:
    """For each clip one of another class, drawn at random."""
    random = np.random.default_rng(0)
    rows = random.integers(len(target), size=len(target))
    while (same := target[rows] == target).any():
        rows[same] = random.integers(len(target), size=int(same.sum()))
    return rows
