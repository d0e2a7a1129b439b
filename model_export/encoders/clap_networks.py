"""CLAP networks of laion_clap and of transformers, built without what the packages load by themselves."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from torch import Tensor, nn
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaConfig, RobertaModel

from model_export.encoders.encoder_modules import LogMel
from model_export.encoders.weights_file import load_all, read_state
from model_export.errors import EncoderError
from model_export.export.quiet_libraries import quiet
from service.bundle.manifest import Padding

ROBERTA_BASE = RobertaConfig(
    vocab_size=50265,
    max_position_embeddings=514,
    type_vocab_size=1,
    layer_norm_eps=1e-5,
    pad_token_id=1,
    bos_token_id=0,
    eos_token_id=2,
)
"""What `roberta-base` is on the hub, where laion_clap would fetch it with its weights."""


def build_clap(name: str, roberta: RobertaConfig = ROBERTA_BASE) -> tuple[nn.Module, dict[str, Any]]:
    """A CLAP network of laion_clap with fresh weights, and the audio part of its configuration.

    Args:
        name: A configuration of laion_clap with an HTSAT audio branch: HTSAT-tiny, HTSAT-base.
        roberta: Configuration of the text branch.

    Raises:
        EncoderError: There is no such configuration.
    """
    folder = _package() / "clap_module" / "model_configs"
    names = sorted(file.stem for file in folder.glob("HTSAT-*.json"))
    if name not in names:
        raise EncoderError(
            f"laion_clap has no audio encoder {name!r} that can be exported; it has {', '.join(names)}"
        )
    config = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    config["text_cfg"]["model_type"] = "roberta"
    with quiet():
        module = _clap_module()
        # The constructor asks the hub for roberta-base, weights and all, which the checkpoint replaces.
        with patch.object(module, "RobertaModel", _FromConfig(roberta)):
            network: nn.Module = module.CLAP(**config)
    return network.eval(), config["audio_cfg"]


class _FromConfig:
    """Stands where laion_clap calls RobertaModel.from_pretrained."""

    def __init__(self, config: RobertaConfig) -> None:
        self._config = config

    def from_pretrained(self, _: str) -> RobertaModel:
        return RobertaModel(self._config)


def _package() -> Path:
    """Where laion_clap is installed, found without importing it: its __init__ loads three tokenizers."""
    spec = importlib.util.find_spec("laion_clap")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'laion_clap'", name="laion_clap")
    return Path(spec.submodule_search_locations[0])


def _clap_module() -> Any:
    """The inner package of laion_clap, which does nothing on import; laion_clap also puts it on sys.path."""
    folder = str(_package())
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.import_module("clap_module.htsat").window_reverse = _window_reverse  # type: ignore[attr-defined]
    return importlib.import_module("clap_module.model")


def _window_reverse(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    """Put windows [n, size, size, channels] together again to [batch, height, width, channels].

    laion_clap's own function computes the batch size as a float and rounds it, which the exporter takes for a
    constant: the graph would mix up the clips of any batch of another size than the traced one.
    """
    rows, columns = height // size, width // size
    tiles = windows.view(-1, rows, columns, size, size, windows.shape[-1])
    return tiles.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, windows.shape[-1])


PADDINGS: Final[dict[str, Padding]] = {"repeatpad": "repeat_whole", "repeat": "repeat", "pad": "zero"}
"""Ways to fill a window: transformers' names and the manifest's."""

_SETTINGS = "preprocessor_config.json"


def load_transformers_clap(folder: Path, weights: Path) -> tuple[Any, LogMel, ClapFeatureExtractor]:
    """A ClapModel with its weights, its spectrogram, and the settings of its feature extractor.

    Args:
        folder: With config.json and the settings.
        weights: The verified file; a folder may hold others, which nobody has compared with a hash.

    Raises:
        EncoderError: The folder holds no ClapModel or one with feature fusion, a setting that the service
            does not support, or weights that do not fit; or a file is missing.
    """
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"{folder.name} has no readable config.json: it is no folder of transformers"
        ) from error
    if described.get("model_type") != "clap":
        raise EncoderError(
            f"{folder.name} is a {described.get('model_type')!r} of transformers, not a 'clap'"
        )
    if described.get("audio_config", {}).get("enable_fusion"):
        raise EncoderError(f"{folder.name} fuses features of long clips; choose an unfused CLAP")
    reader = _reader(folder)
    with quiet():
        model: Any = ClapModel(ClapConfig.from_dict(described))
    load_all(model, read_state(weights), "ClapModel of its config.json", weights.name)
    return model.eval(), _log_mel(reader), reader


def _reader(folder: Path) -> ClapFeatureExtractor:
    """The feature extractor that the folder describes; its defaults are not what LAION trained with."""
    try:
        reader = ClapFeatureExtractor(**json.loads((folder / _SETTINGS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise EncoderError(f"{folder.name} has no readable {_SETTINGS}; put it beside config.json") from error
    _refuse_other_settings(reader, folder.name)
    return reader


def _refuse_other_settings(reader: ClapFeatureExtractor, name: str) -> None:
    """Refuse settings for which the service would prepare sound in another way than transformers."""
    if reader.truncation != "rand_trunc":
        raise EncoderError(
            f"{name} reads long sound with truncation {reader.truncation!r}, by its {_SETTINGS} or by "
            "default; only rand_trunc can be exported. fusion is for models that fuse four spectrograms of a "
            'sound: choose an unfused CLAP. If this one is unfused, set "truncation": "rand_trunc" in its '
            f"{_SETTINGS}."
        )
    if str(reader.padding) not in PADDINGS:
        raise EncoderError(
            f"{name} fills up short sound with padding {reader.padding!r}, which is none of "
            f"{', '.join(PADDINGS)}. Set the one that it was trained with in its {_SETTINGS}."
        )


def _log_mel(reader: ClapFeatureExtractor) -> LogMel:
    return LogMel(
        sample_rate_hz=reader.sampling_rate,
        n_fft=reader.fft_window_size,
        hop=reader.hop_length,
        n_mels=reader.feature_size,
        f_min=reader.frequency_min,
        f_max=reader.frequency_max,
    )
