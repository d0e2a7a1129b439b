"""A run folder: what a training run writes and everything later reads.

What each file holds:

    config.json                the configuration, and which data it was trained on
    environment.json           versions, machine kind, threads, git commit
    metrics.jsonl              one line per epoch
    stage_1.safetensors        weights of the first stage's best epoch
    stage_1.checkpoint, stage_2.checkpoint   only while training: the state after the last epoch
    head.safetensors           the final weights
    statistics.safetensors     the stored standardisation statistics
    calibration.json           written last: a folder without it is not finished
"""

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from model_export.data.features import GzslData, Track
from model_export.errors import RunError
from model_export.head.calibration import Calibration
from model_export.head.config import HeadConfig
from model_export.head.network import HeadNetwork
from model_export.head.statistics import Statistics


class DataIdentity(BaseModel):
    """Which data a run was trained on.

    Attributes:
        name: of the data set.
        simulated: whether its clip features were made up.
        n_visual: dimensions of the visual features.
        n_audio: dimensions of the audio features.
        seen_classes: names of the classes that the final head was trained on.
        fingerprint: SHA-256 of everything in it.
        encoders: which encoders made the features; empty where nobody said.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    simulated: bool
    n_visual: int
    n_audio: int
    seen_classes: tuple[str, ...]
    fingerprint: str
    encoders: str = ""

    @classmethod
    def of(cls, data: GzslData) -> Self:
        """Identify a data set."""
        seen = tuple(data.class_names[i] for i in data.stage(2).seen)
        return cls(
            name=data.name,
            simulated=data.simulated,
            n_visual=data.n_visual,
            n_audio=data.n_audio,
            seen_classes=seen,
            fingerprint=data.fingerprint(),
            encoders=data.encoders,
        )


class RunConfig(BaseModel):
    """Contents of config.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    head: HeadConfig
    data: DataIdentity


class Calibrations(BaseModel):
    """Contents of calibration.json.

    Attributes:
        embedding: for ranking by the embedding alone.
        fused: for ranking by the embedding and the raw features.
        raw: for ranking by the raw features alone, which needs no training.
        visual: for clips that have only a picture, ranked as the configuration says; None: as with both.
        audio: for clips that have only sound, likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding: Calibration
    fused: Calibration
    raw: Calibration
    visual: Calibration | None = None
    audio: Calibration | None = None


@dataclass(frozen=True)
class Run:
    """A finished run, ready to be evaluated or exported.

    Attributes:
        path: of the run folder.
        config: what was trained, on what.
        network: with the final weights, in evaluation mode.
        statistics: stored standardisation statistics of the final weights.
        calibrations: chosen on validation with the first stage's weights.
    """

    path: Path
    config: RunConfig
    network: HeadNetwork
    statistics: Statistics
    calibrations: Calibrations

    @property
    def calibration(self) -> Calibration:
        """The calibration that the configuration asks for, of clips with both tracks."""
        return self.calibrations.fused if self.config.head.raw_fusion else self.calibrations.embedding

    def calibration_of(self, track: Track) -> Calibration:
        """The calibration that the configuration asks for, of clips with these tracks."""
        alone = None if track == "both" else getattr(self.calibrations, track)
        return alone or self.calibration

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open a finished run folder.

        Raises:
            RunError: it is not finished, or a file of it is damaged.
        """
        if not is_finished(path):
            raise RunError(f"{path} holds no finished run; train with the same arguments to go on with it")
        try:
            config = RunConfig.model_validate_json((path / "config.json").read_text(encoding="utf-8"))
            calibrations = Calibrations.model_validate_json(
                (path / "calibration.json").read_text(encoding="utf-8")
            )
            with torch.device("meta"):  # neither allocates nor draws random weights
                network = HeadNetwork(config.head, config.data.n_visual, config.data.n_audio)
            network.load_state_dict(load_file(path / "head.safetensors"), assign=True)
            statistics = Statistics.load(path / "statistics.safetensors")
        except (OSError, ValidationError, SafetensorError, RuntimeError, TypeError) as error:
            raise RunError(f"{path} is damaged: {error}") from error
        return cls(path, config, network.eval(), statistics, calibrations)


def is_finished(path: Path) -> bool:
    """Whether training of this folder came to its end."""
    return (path / "calibration.json").is_file()


def environment(device: torch.device) -> dict[str, str | int | None]:
    """What a number may depend on beside the configuration."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": f"{sys.platform} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "n_threads": torch.get_num_threads(),
        "git_commit": git_commit(),
    }


def git_commit() -> str | None:
    """The commit that this code was checked out from, if it was."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    return found.stdout.strip() or None
