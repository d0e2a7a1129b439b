"""The head's part of a bundle: a trained one, or similarity that needs no training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch.nn.functional import normalize

from model_export.data.gzsl_data import SINGLE_TRACKS, Track
from model_export.errors import RunError
from model_export.export.bundle_parts import HeadParts
from model_export.export.graph_export import export_graph
from model_export.head.cost import Cost
from model_export.head.network import HeadAv, HeadText
from model_export.head.run_folder import Run
from service.bundle.guarantees import GUARANTEE_FILE, Guarantees
from service.bundle.head_specs import (
    AgreementScore,
    AhseSpec,
    Calibration,
    Calibrations,
    SimilarityScores,
    SimilaritySpec,
)
from service.bundle.provenance import GraphCheck

HEAD_TOLERANCE = 1e-5
STATISTICS_FILE: Final = "statistics.safetensors"


@dataclass(frozen=True)
class Fitted:
    """What was fitted to labelled clips for a head without training.

    Attributes:
        visual_share: Weight of the picture for clips with both tracks, 0 to 1.
        scores: How similarity becomes probabilities; None: by the encoders' logit scales.
        agreement: What tells whether both tracks show the same; None: nothing does.
        guarantees: What can be guaranteed of answers; None: nothing was measured.
    """

    visual_share: float = 0.5
    scores: SimilarityScores | None = None
    agreement: AgreementScore | None = None
    guarantees: Guarantees | None = None


NOT_FITTED: Final = Fitted()


def trained_head(run: Run, *, ungated: bool = False) -> HeadParts:
    """The head of a training run, both halves as graphs.

    Args:
        run: A finished run.
        ungated: Export a head that counts although nothing shows that it does no harm, to compare methods.

    Raises:
        RunError: A bundle can't rank as the run's method does, or would claim more than its certificate.
    """
    if run.network.not_served:
        raise RunError(f"{run.path} can't be exported: {run.network.not_served}")
    if not ungated:
        _check_claims(run)
    facts = AhseSpec(
        kind="ahse",
        dim=run.statistics.av_mean.shape[0],
        parts=run.network.n_parts,
        av_graph="head_av.onnx",
        text_graph="head_text.onnx",
        statistics=STATISTICS_FILE,
        standardisation=run.config.head.standardisation,
        calibrations=Calibrations(
            both=_calibration(run, "both"),
            visual=_calibration(run, "visual"),
            audio=_calibration(run, "audio"),
        ),
        agreement=run.calibrations.agreement,
        guarantee=None if run.guarantees is None else GUARANTEE_FILE,
    )
    return HeadParts(facts, run.config.data.seen_classes, partial(_write_trained, run))


def _check_claims(run: Run) -> None:
    """A head counts only where its certificate says that it brings something."""
    for track in ("both", *SINGLE_TRACKS):
        stored = run.calibration_of(track)
        certificate = stored.certificate
        if stored.raw_weight == 1 or (certificate is not None and certificate.is_open):
            continue
        told = certificate.in_words if certificate else "it was not measured"
        raise RunError(
            f"{run.path}: its head would count, and nothing shows that it does no harm ({told}); train it "
            "with --set raw_fusion=true and raw_weight=validated, which leaves it out then, or export it as "
            "it is with --ungated, to compare methods"
        )


def similarity_head(fitted: Fitted = NOT_FITTED) -> HeadParts:
    """A head without training and statistics: names are ranked by cosine x logit scale."""
    stored = fitted.guarantees
    facts = SimilaritySpec(
        kind="similarity",
        visual_share=fitted.visual_share,
        n_clips=0,
        scores=fitted.scores,
        agreement=fitted.agreement,
        guarantee=None if stored is None else GUARANTEE_FILE,
    )

    def write(folder: Path) -> dict[str, GraphCheck]:
        if stored is not None:
            write_guarantees(folder, stored)
        return {}

    return HeadParts(facts, (), write)


def write_guarantees(folder: Path, guarantees: Guarantees) -> None:
    """Write what can be guaranteed into the folder of a bundle."""
    (folder / GUARANTEE_FILE).write_text(guarantees.model_dump_json() + "\n", encoding="utf-8")


def _write_trained(run: Run, folder: Path) -> dict[str, GraphCheck]:
    data = run.config.data
    draw = torch.Generator().manual_seed(0)
    examples = {
        "visual": normalize(torch.randn(5, data.n_visual, generator=draw), dim=1),
        "audio": normalize(torch.randn(5, data.n_audio, generator=draw), dim=1),
    }
    run.statistics.save(folder / STATISTICS_FILE)
    if run.guarantees is not None:
        write_guarantees(folder, run.guarantees)
    modules = {"head_av": HeadAv(run.network).eval(), "head_text": HeadText(run.network).eval()}
    return {
        name: export_graph(module, examples, ["theta"], folder / f"{name}.onnx", tolerance=HEAD_TOLERANCE)
        for name, module in modules.items()
    }


def _calibration(run: Run, track: Track) -> Calibration:
    chosen, cost = run.calibration_of(track), Cost.load(run.path)
    found = Calibration(**{name: getattr(chosen, name) for name in Calibration.model_fields})
    if found.certificate is None or cost is None:
        return found
    dated = found.certificate.model_copy(update={"measured": cost.finished})
    return found.model_copy(update={"certificate": dated})
