"""Everything that is measured of a run, kept in its folder: what reports are made from.

What `measure` adds to a run folder:

    evaluation.json            by the embedding, fused and raw; with both tracks and with each alone
    test_sample.safetensors    embeddings of some unseen test clips and their class names, for drawing
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from model_export.data.gzsl_data import SINGLE_TRACKS, GzslData, Indices, Track
from model_export.errors import RunError
from model_export.head.evaluation import Evaluation, RankedBy, evaluate
from model_export.head.run_folder import Run, RunConfig, read_config, save_tensors, write_atomically
from model_export.head.stage_tensors import StageTensors
from model_export.head.standardisation import standardise
from service.arrays import Array
from service.faults import describe_faults

EVALUATION: Final = "evaluation.json"
SAMPLE: Final = "test_sample.safetensors"
N_SAMPLE_CLASSES: Final = 10
N_SAMPLE_CLIPS: Final = 30  # of each class
RANKINGS: Final[tuple[RankedBy, ...]] = ("embedding", "fused", "raw")


class Measurements(BaseModel):
    """Contents of evaluation.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True)
class Sample:
    """Standardised embeddings of test clips of some unseen classes, for drawing.

    Attributes:
        z: float32 [n, 64].
        class_index: int64 [n], row in `prototypes`.
        prototypes: float32 [n_classes, 64].
        names: Of the classes.
    """

    z: Array
    class_index: Indices
    prototypes: Array
    names: tuple[str, ...]


@dataclass(frozen=True)
class MeasuredRun:
    """A run with its measurements.

    Attributes:
        path: Of the run folder.
        config: What was trained, on what.
        evaluations: All that were made.
        sample: For drawing.
    """

    path: Path
    config: RunConfig
    evaluations: tuple[Evaluation, ...]
    sample: Sample

    def of(self, ranking: RankedBy, track: Track = "both") -> Evaluation:
        """The evaluation by a ranking; single tracks were measured for the run's own ranking only.

        For `both` that of all test clips, where it can't be measured.
        """
        tracks = ("both", "any") if track == "both" else (track,)
        return next(e for e in self.evaluations if e.ranking == ranking and e.track in tracks)

    def has(self, ranking: RankedBy, track: Track = "both") -> bool:
        """Whether it was measured: not with tracks that no test clips of seen or of unseen classes have."""
        return any((e.ranking, e.track) == (ranking, track) for e in self.evaluations)

    @property
    def own_ranking(self) -> RankedBy:
        """The ranking that the configuration names."""
        return "fused" if self.config.head.raw_fusion else "embedding"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `measure` wrote.

        Raises:
            RunError: The run was not evaluated yet, or a file is damaged.
        """
        try:
            config = read_config(path)
            text = (path / EVALUATION).read_text(encoding="utf-8")
            evaluations = Measurements.model_validate_json(text).evaluations
            return cls(path, config, evaluations, _load_sample(path))
        except FileNotFoundError as error:
            raise RunError(
                f"{path} was not evaluated: no {Path(error.filename).name}; run ahse evaluate"
            ) from None
        except ValidationError as error:  # before ValueError, which it is a kind of
            faults = describe_faults(error.errors(), "the document")
            raise RunError(f"{path} holds a damaged evaluation: {faults}") from None
        except (SafetensorError, KeyError, OSError, ValueError) as error:
            raise RunError(f"{path} holds a damaged evaluation: {error}") from None


def measure(run: Run, data: GzslData) -> MeasuredRun:
    """Evaluate a run by every ranking and track, and keep the results in its folder.

    Raises:
        RunError: The data is not what the run was trained on.
    """
    evaluations = [evaluate(run, data, ranking=ranking) for ranking in RANKINGS]
    test = (data.splits["test_seen"], data.splits["test_unseen"])
    evaluations += [
        evaluate(run, data, track=track)
        for track in SINGLE_TRACKS
        if all(getattr(clips, track).any() for clips in test)
    ]
    _save_sample(run, data)
    measurements = Measurements(evaluations=tuple(evaluations))
    write_atomically(run.path / EVALUATION, measurements.model_dump_json(indent=1) + "\n")
    return MeasuredRun.load(run.path)


@torch.no_grad()
def _save_sample(run: Run, data: GzslData) -> None:
    stage, mode = StageTensors.of(data, data.stage(2), torch.device("cpu")), run.config.head.standardisation
    step = max(1, len(stage.unseen) // N_SAMPLE_CLASSES)
    classes = stage.unseen[::step][:N_SAMPLE_CLASSES].contiguous()
    clips, texts = stage.eval_unseen, stage.texts.of_classes(classes)
    rows = torch.cat([torch.nonzero(clips.class_index == c)[:N_SAMPLE_CLIPS, 0] for c in classes])
    filled = run.statistics.fill(clips.visual[rows], clips.audio[rows])
    tensors = {
        "z": standardise(mode, run.network.embed_av(*filled), run.statistics.av),
        "class_index": torch.searchsorted(classes, clips.class_index[rows]),
        "prototypes": standardise(
            mode, run.network.embed_text(texts.visual, texts.audio), run.statistics.text
        ),
    }
    names = json.dumps([data.class_names[c] for c in classes.tolist()])
    save_tensors(
        run.path / SAMPLE, tensors | {"names": torch.tensor(list(names.encode()), dtype=torch.uint8)}
    )


def _load_sample(path: Path) -> Sample:
    tensors = {name: tensor.numpy() for name, tensor in load_file(path / SAMPLE).items()}
    names = TypeAdapter(tuple[str, ...]).validate_json(tensors["names"].astype(np.uint8).tobytes())
    return Sample(tensors["z"], tensors["class_index"], tensors["prototypes"], names)
