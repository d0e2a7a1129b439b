"""A run folder: every file that training writes and everything later reads.

What each file holds:

    config.json                the configuration, and which data it was trained on
    environment.json           versions, kind of machine, threads, git commit
    metrics.jsonl              one line per epoch
    cost.json                  seconds and memory of the training
    stage_1.safetensors        weights of the first stage's best epoch
    stage_1.checkpoint, stage_2.checkpoint   only while training: the state after the last epoch
    head.safetensors           the final weights
    statistics.safetensors     the stored standardisation statistics
    guarantee.json             what can be guaranteed of answers
    calibration.json           written last: a folder without it is not finished

Files are replaced in one step, so that a killed run leaves whole files: a checkpoint always holds the state
after some whole epoch.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model_export.data.gzsl_data import GzslData, TextOrder, Track
from model_export.data.whole_files import written_whole
from model_export.errors import RunError
from model_export.head.calibration import Calibration, Calibrations
from model_export.head.head_config import HeadConfig
from model_export.head.methods import make_network
from model_export.head.network import HeadNetwork
from model_export.head.standardisation import Statistics
from service.bundle.guarantees import GUARANTEE_FILE, Guarantees, load_guarantees
from service.errors import BundleInvalidError
from service.faults import describe_faults

StageNumber = Literal[1, 2]
STAGES: Final[tuple[StageNumber, ...]] = (1, 2)
Weights = dict[str, Tensor]
Record = dict[str, Any]
_RETIRED: Final = {"kl_direction": "text_to_av", "decode_standardised": False}
"""Settings of format 1 that are gone, and the only value that a run with them may have to be read."""


class DataIdentity(BaseModel):
    """Which data a run was trained on.

    Attributes:
        name: Of the data set.
        simulated: Whether its clip features were made up.
        n_visual: Dimensions of the visual features.
        n_audio: Dimensions of the audio features.
        seen_classes: Names of the classes that the final head was trained on.
        fingerprint: SHA-256 of everything in it.
        encoders: Which encoders made the features; empty where unknown.
        text_order: How classes and texts were joined.
        pool: Equal for runs that may be averaged (`GzslData.pool`); empty in folders of earlier versions,
            where the fingerprint stands for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    simulated: bool
    n_visual: int
    n_audio: int
    seen_classes: tuple[str, ...]
    fingerprint: str
    encoders: str = ""
    text_order: TextOrder = "by_name"
    pool: str = ""

    @property
    def key(self) -> tuple[str, bool, TextOrder, str]:
        """What must be equal for runs to be averaged and compared."""
        return self.name, self.simulated, self.text_order, self.pool or self.fingerprint

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
            text_order=data.text_order,
            pool=data.pool(),
        )


class RunConfig(BaseModel):
    """Contents of config.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    head: HeadConfig
    data: DataIdentity

    @model_validator(mode="before")
    @classmethod
    def _without_retired_settings(cls, values: Any) -> Any:
        """Read runs from before some settings were removed, as long as they had the value that is left."""
        if not isinstance(values, dict) or not isinstance(values.get("head"), dict):
            return values
        head = dict(values["head"])
        for name, only in _RETIRED.items():
            if head.pop(name, only) != only:
                raise ValueError(f"{name} = {values['head'][name]} is no longer supported, only {only}")
        return values | {"head": head}


@dataclass(frozen=True)
class Run:
    """A finished run, ready to be evaluated or exported.

    Attributes:
        path: Of the run folder.
        config: What was trained, on what.
        network: With the final weights, in evaluation mode.
        statistics: Stored standardisation statistics of the final weights.
        calibrations: Chosen on validation with the first stage's weights.
        guarantees: What can be guaranteed of its answers; None in folders of earlier versions.
    """

    path: Path
    config: RunConfig
    network: HeadNetwork
    statistics: Statistics
    calibrations: Calibrations
    guarantees: Guarantees | None = None

    @property
    def calibration(self) -> Calibration:
        """The calibration of the configuration's ranking, for clips with both tracks."""
        return self.calibrations.fused if self.config.head.raw_fusion else self.calibrations.embedding

    def calibration_of(self, track: Track) -> Calibration:
        """The calibration of the configuration's ranking, for clips with these tracks."""
        alone = None if track == "both" else getattr(self.calibrations, track)
        return alone or self.calibration

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open a finished run folder.

        Raises:
            RunError: It is not finished, or a file of it is damaged or of another version.
        """
        if not is_finished(path):
            raise RunError(f"{path} holds no finished run; train with the same arguments to continue it")
        try:
            config = read_config(path)
            calibrations = Calibrations.model_validate_json(
                (path / "calibration.json").read_text(encoding="utf-8")
            )
            with torch.device("meta"):  # neither allocates nor draws random weights
                dims = (config.data.n_visual, config.data.n_audio)
                network = make_network(config.head, *dims, len(config.data.seen_classes))
            network.load_state_dict(load_file(path / "head.safetensors"), assign=True)
            statistics = Statistics.load(path / "statistics.safetensors")
            file = path / GUARANTEE_FILE
            guarantees = load_guarantees(file) if file.is_file() else None
        except ValidationError as error:
            faults = describe_faults(error.errors(), "calibration.json")
            raise RunError(f"{path} is damaged: {faults}") from None
        except (OSError, SafetensorError, RuntimeError, TypeError, BundleInvalidError) as error:
            raise RunError(f"{path} is damaged: {error}") from error
        return cls(path, config, network.eval(), statistics, calibrations, guarantees)


def read_config(path: Path) -> RunConfig:
    """Read config.json of a run folder.

    Raises:
        OSError: There is none.
        RunError: It is damaged, or has settings that this version does not know.
    """
    try:
        return RunConfig.model_validate_json((path / "config.json").read_text(encoding="utf-8"))
    except ValidationError as error:
        faults = describe_faults(error.errors(), "the document")
        raise RunError(f"{path / 'config.json'} can't be used: {faults}") from None


def is_finished(path: Path) -> bool:
    """Whether training in this folder is complete."""
    return (path / "calibration.json").is_file()


def open_run_folder(out: Path, config: RunConfig, device: torch.device) -> None:
    """Make the run folder, or check that it holds the same run.

    Raises:
        RunError: It holds something else.
    """
    path = out / "config.json"
    if not path.exists():
        if out.exists() and any(not p.name.endswith(".partial") for p in out.iterdir()):
            raise RunError(f"{out} is not empty and holds no run; choose another folder")
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(path, config.model_dump_json(indent=2))
    elif not _is_same_run(read_config(out), config):
        raise RunError(f"{out} holds a run of other settings or other data; choose another folder")
    if not is_finished(out):
        write_atomically(out / "environment.json", json.dumps(environment(device), indent=2))


def _is_same_run(one: RunConfig, other: RunConfig) -> bool:
    """Whether settings and data are the same; the rest of the identity follows from the data."""
    return one.head == other.head and one.data.fingerprint == other.data.fingerprint


def environment(device: torch.device) -> dict[str, str | int | None]:
    """What results may depend on besides the configuration."""
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
    """The commit that this code was checked out from; None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    return found.stdout.strip() or None


def write_atomically(path: Path, text: str) -> None:
    """Write a text file in one step, so that no reader sees half of it."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def save_tensors(path: Path, tensors: Weights, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file in one step, so that no reader sees half of it."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_whole(path) as partial:
        save_file(plain, partial, metadata)


def checkpoint_path(out: Path, number: StageNumber) -> Path:
    """File of a stage's state while it trains."""
    return out / f"stage_{number}.checkpoint"


def write_metrics(out: Path, number: StageNumber, history: list[Record]) -> None:
    """Rewrite metrics.jsonl: the first stage's epochs, then the second's."""
    path = out / "metrics.jsonl"
    old = path.read_text(encoding="utf-8").splitlines() if number == 2 and path.exists() else []
    first = [line for line in old if json.loads(line)["stage"] == 1]
    write_atomically(path, "\n".join(first + [json.dumps(record) for record in history]) + "\n")


def remove_checkpoints(out: Path) -> None:
    """Remove what only an unfinished run needs."""
    for number in STAGES:
        checkpoint_path(out, number).unlink(missing_ok=True)
