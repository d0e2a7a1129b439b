"""The head's share of a bundle: a trained one, or similarity that needs no training."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch.nn.functional import normalize

from model_export.data.features import Track
from model_export.export.bundle import HeadParts
from model_export.export.graph import export_graph
from model_export.head.modules import head_av_module, head_text_module
from model_export.head.run import Run
from service.bundle.manifest import (
    AhseHead,
    AudioTower,
    Calibration,
    Calibrations,
    GraphCheck,
    SimilarityHead,
    VisualTower,
)
from service.bundle.similarity import not_fitted

HEAD_TOLERANCE = 1e-5
_STATISTICS_FILE = "statistics.safetensors"


def trained_head(run: Run) -> HeadParts:
    """The head of a training run, both halves as graphs."""
    facts = AhseHead(
        kind="ahse",
        dim=run.statistics.av_mean.shape[0],
        av_graph="head_av.onnx",
        text_graph="head_text.onnx",
        statistics=_STATISTICS_FILE,
        standardisation=run.config.head.standardisation,
        calibrations=Calibrations(
            both=_calibration(run, "both"),
            visual=_calibration(run, "visual"),
            audio=_calibration(run, "audio"),
        ),
    )
    return HeadParts(facts, run.config.data.seen_classes, partial(_write_trained, run))


def similarity_head(visual: VisualTower, audio: AudioTower) -> HeadParts:
    """No training and no statistics yet: names are ranked by cosine x logit scale, both tracks alike."""
    facts = SimilarityHead(
        kind="similarity",
        statistics=_STATISTICS_FILE,
        visual_share=0.5,
        n_clips=0,
    )
    statistics = not_fitted(visual.dim, visual.logit_scale, audio.dim, audio.logit_scale)

    def write(folder: Path) -> dict[str, GraphCheck]:
        statistics.save(folder / _STATISTICS_FILE)
        return {}

    return HeadParts(facts, (), write)


def _write_trained(run: Run, folder: Path) -> dict[str, GraphCheck]:
    data = run.config.data
    draw = torch.Generator().manual_seed(0)
    examples = {
        "visual": normalize(torch.randn(5, data.n_visual, generator=draw), dim=1),
        "audio": normalize(torch.randn(5, data.n_audio, generator=draw), dim=1),
    }
    run.statistics.save(folder / _STATISTICS_FILE)
    modules = {"head_av": head_av_module(run), "head_text": head_text_module(run)}
    return {
        name: export_graph(module, examples, "theta", folder / f"{name}.onnx", tolerance=HEAD_TOLERANCE)
        for name, module in modules.items()
    }


def _calibration(run: Run, track: Track) -> Calibration:
    chosen = run.calibration_of(track)
    return Calibration(**{name: getattr(chosen, name) for name in Calibration.model_fields})
