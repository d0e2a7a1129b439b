"""Encoders and a trained head to one bundle."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from model_export.data.features import Track
from model_export.export.graph import export_graph
from model_export.head.modules import head_av_module, head_text_module
from model_export.head.run import Run
from service import __version__
from service.bundle.directory import write_bundle
from service.bundle.manifest import (
    FORMAT_VERSION,
    AhseHead,
    AudioTower,
    Calibration,
    GraphCheck,
    Licence,
    Manifest,
    Metric,
    Provenance,
    VisualTower,
)

HEAD_TOLERANCE = 1e-5
_VERSIONED = ("torch", "onnx", "onnxruntime", "tokenizers", "numpy")


@dataclass(frozen=True)
class EncoderParts:
    """The encoders' share of a bundle.

    Attributes:
        visual: The manifest's part on the image encoder and its text encoder.
        audio: Likewise for the sound encoder.
        write: Writes graphs and tokenizers into a directory; returns how each graph was checked, by its part.
        licences: Of the weights.
    """

    visual: VisualTower
    audio: AudioTower
    write: Callable[[Path], dict[str, GraphCheck]]
    licences: tuple[Licence, ...]


@dataclass(frozen=True)
class BundleFacts:
    """What the manifest says beside the models.

    Attributes:
        name: By which requests choose the bundle.
        version: Of the weights.
        description: One sentence.
        unseen_classes: Classes that the metrics call unseen.
        metrics: Measured numbers.
        command: That makes the bundle again.
        seed: Of everything random in it.
        data: What the weights were trained on.
        card: Text of MODEL_CARD.md.
    """

    name: str
    version: str
    description: str
    unseen_classes: tuple[str, ...]
    metrics: tuple[Metric, ...]
    command: str
    seed: int
    data: str
    card: str


def export_bundle(directory: Path, encoders: EncoderParts, run: Run, facts: BundleFacts) -> None:
    """Write a bundle, all graphs checked against torch; nothing stands in the directory if a check fails.

    Raises:
        ParityError: a graph does not compute what torch computes.
    """
    parity: dict[str, GraphCheck] = {}

    def fill(aside: Path) -> None:
        parity.update(encoders.write(aside))
        parity.update(_write_head(run, aside))
        (aside / "MODEL_CARD.md").write_text(facts.card, encoding="utf-8")

    write_bundle(directory, fill, lambda files: _manifest(encoders, run, facts, parity, files))


def _write_head(run: Run, folder: Path) -> dict[str, GraphCheck]:
    data = run.config.data
    draw = torch.Generator().manual_seed(0)
    examples = {
        "visual": torch.nn.functional.normalize(torch.randn(5, data.n_visual, generator=draw), dim=1),
        "audio": torch.nn.functional.normalize(torch.randn(5, data.n_audio, generator=draw), dim=1),
    }
    run.statistics.save(folder / "statistics.safetensors")
    modules = {"head_av": head_av_module(run), "head_text": head_text_module(run)}
    return {
        name: export_graph(module, examples, "theta", folder / f"{name}.onnx", tolerance=HEAD_TOLERANCE)
        for name, module in modules.items()
    }


def _manifest(
    encoders: EncoderParts, run: Run, facts: BundleFacts, parity: dict[str, GraphCheck], files: dict[str, str]
) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name=facts.name,
        version=facts.version,
        description=facts.description,
        requires_service=__version__,
        visual=encoders.visual,
        audio=encoders.audio,
        head=_head(run),
        seen_classes=run.config.data.seen_classes,
        unseen_classes=facts.unseen_classes,
        metrics=facts.metrics,
        provenance=Provenance(
            created=datetime.now(UTC).replace(microsecond=0),
            command=facts.command,
            seed=facts.seed,
            data=facts.data,
            versions={name: importlib.metadata.version(name) for name in _VERSIONED},
            parity=parity,
        ),
        licences=encoders.licences,
        files=files,
    )


def _calibration(run: Run, track: Track) -> Calibration:
    chosen = run.calibration_of(track)
    return Calibration(**{name: getattr(chosen, name) for name in Calibration.model_fields})


def _head(run: Run) -> AhseHead:
    tracks: tuple[Track, ...] = ("both", "visual", "audio")
    return AhseHead.model_validate(
        {
            "kind": "ahse",
            "dim": run.statistics.av_mean.shape[0],
            "av_graph": "head_av.onnx",
            "text_graph": "head_text.onnx",
            "statistics": "statistics.safetensors",
            "standardisation": run.config.head.standardisation,
            "calibrations": {track: _calibration(run, track) for track in tracks},
        }
    )
