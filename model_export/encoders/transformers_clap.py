"""CLAP in the format of the transformers library: a folder with config.json and the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

from model_export.encoders.spectrogram import LogMel
from model_export.encoders.state import load_all, read_state
from model_export.errors import EncoderError
from model_export.export.quiet import quiet
from service.bundle.manifest import Padding

PADDINGS: Final[dict[str, Padding]] = {"repeatpad": "repeat_whole", "repeat": "repeat", "pad": "zero"}
"""What transformers calls the ways to fill a window, and what the manifest does."""

_SETTINGS = "preprocessor_config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class TransformersSoundTower(nn.Module):
    """waveform float32 [batch, samples] to features [batch, dim], spectrogram inside."""

    def __init__(self, clap: Any, log_mel: LogMel) -> None:
        super().__init__()
        self.log_mel = log_mel
        self.model = clap.audio_model
        self.projection = clap.audio_projection

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode; transformers does not round to 16 bits, so neither does this."""
        pooled = self.model(input_features=self.log_mel(waveform)).pooler_output
        return normalize(self.projection(pooled), dim=-1)


class TransformersTextTower(nn.Module):
    """tokens int64 [batch, length] to features [batch, dim]; the padding is found by its id."""

    def __init__(self, clap: Any) -> None:
        super().__init__()
        self.model = clap.text_model
        self.projection = clap.text_projection

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode what is no padding."""
        mask = (tokens != self.model.config.pad_token_id).long()
        pooled = self.model(input_ids=tokens, attention_mask=mask).pooler_output
        return normalize(self.projection(pooled), dim=-1)


def load_transformers_clap(folder: Path) -> tuple[Any, LogMel, ClapFeatureExtractor]:
    """The model with its weights, its spectrogram, and the settings by which sound is read for it.

    Raises:
        EncoderError: no ClapModel, one with feature fusion, settings that the service has no counterpart of,
            files missing, or weights that do not fit.
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
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise EncoderError(f"{folder.name} has no {' or '.join(_WEIGHTS)}")
    load_all(model, read_state(weights), "ClapModel of its config.json", weights.name)
    return model.eval(), _log_mel(reader), reader


def _reader(folder: Path) -> ClapFeatureExtractor:
    """The feature reader that the folder describes; its defaults are not what LAION trained with."""
    try:
        reader = ClapFeatureExtractor(**json.loads((folder / _SETTINGS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise EncoderError(f"{folder.name} has no readable {_SETTINGS}; put it beside config.json") from error
    _refuse_other_settings(reader, folder.name)
    return reader


def _refuse_other_settings(reader: ClapFeatureExtractor, name: str) -> None:
    """Refuse what the service would read otherwise than transformers does."""
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
