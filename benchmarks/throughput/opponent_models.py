"""The models of the straightforward service: torch modules with random weights, or the graphs of a bundle.

The torch models are those that `ahse export clip-clap --random-weights` exports, with the same weights, so
that its answers can be compared with the service's. The graphs of a bundle run as anybody would run them: one
session each with all threads, all that is asked at once in one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from model_export.encoders.audio_encoder import AudioChoice, load_audio_encoder
from model_export.encoders.encoder_types import TextEncoder
from model_export.encoders.image_encoder import ImageChoice, load_image_encoder
from service.bundle.directory import read_manifest
from service.bundle.manifest import TextEncoderSpec
from service.runtime.graph import onnxruntime

NAMES_AT_ONCE = 256

Features = tuple[Tensor, Tensor]
"""of names [n, dim], as pictures see them and as sound hears them."""


class Models(Protocol):
    """What the service needs of its models. Features are of unit length.

    Attributes:
        size_px: Side of the square pictures.
        rate_hz: Of the sound.
        window_s: Seconds of sound that are encoded at once.
    """

    size_px: int
    rate_hz: int
    window_s: float

    def see(self, frames: NDArray[np.uint8]) -> Tensor:
        """Pictures [n, size, size, 3] to features [n, dim]."""

    def hear(self, windows: NDArray[np.float32]) -> Tensor:
        """Windows of sound [n, samples] to features [n, dim]."""

    def read(self, names: Sequence[str], templates: Sequence[str]) -> Features:
        """Features of names, in one run.

        Args:
            names: The names.
            templates: Prompts for both; none: the models' own.
        """


def read_names(models: Models, names: Sequence[str], templates: Sequence[str]) -> Features:
    """Features of names, so many at once that there is memory for however many there are."""
    parts = (names[start : start + NAMES_AT_ONCE] for start in range(0, len(names), NAMES_AT_ONCE))
    visual, audio = zip(*(models.read(part, templates) for part in parts), strict=True)
    return torch.cat(visual), torch.cat(audio)


class TorchModels:
    """ViT-B/32 and HTSAT-tiny with random weights; half precision is left to autocast.

    Args:
        clap_tokenizer: Tokenizer of the audio model's texts, of the bundle that is compared.
        device: Of torch.
    """

    def __init__(self, clap_tokenizer: Path, device: str) -> None:
        self._device = device
        self._image = load_image_encoder(ImageChoice(), 0)
        self._audio = load_audio_encoder(AudioChoice(tokenizer=clap_tokenizer), 0)
        self.size_px, self.rate_hz = self._image.size_px, self._audio.sample_rate_hz
        self.window_s = self._audio.window_s
        for part in (self._image, self._image.text, self._audio, self._audio.text):
            part.module.to(device)

    def see(self, frames: NDArray[np.uint8]) -> Tensor:
        """See `Models`."""
        features: Tensor = self._image.module(torch.from_numpy(frames).to(self._device))
        return features

    def hear(self, windows: NDArray[np.float32]) -> Tensor:
        """See `Models`."""
        features: Tensor = self._audio.module(torch.from_numpy(windows).to(self._device))
        return features

    def read(self, names: Sequence[str], templates: Sequence[str]) -> Features:
        """See `Models`; CLIP's texts are padded to the context length, CLAP's to the longest of them."""
        seen, heard = (
            _mean_of_prompts(
                part.module(self._tokens(part, _prompts(names, templates or part.templates), full=full)),
                len(names),
            )
            for part, full in ((self._image.text, True), (self._audio.text, False))
        )
        return seen, heard

    def _tokens(self, text: TextEncoder, prompts: list[str], *, full: bool) -> Tensor:
        rows = [encoding.ids[: text.context_length] for encoding in text.tokenizer.encode_batch(prompts)]
        length = text.context_length if full else max(map(len, rows))
        return torch.tensor([row + [text.pad_id] * (length - len(row)) for row in rows], device=self._device)


class GraphModels:
    """The graphs of a bundle, without its head.

    Args:
        directory: Of the bundle.
        n_threads: Of each run.
    """

    def __init__(self, directory: Path, n_threads: int) -> None:
        ort, manifest = onnxruntime(), read_manifest(directory)
        options = ort.SessionOptions()
        options.intra_op_num_threads = n_threads
        visual, audio = self._specs = manifest.visual, manifest.audio
        self._sessions = {
            graph: ort.InferenceSession(str(directory / graph), options, providers=["CPUExecutionProvider"])
            for graph in {visual.graph, audio.graph, visual.text.graph, audio.text.graph}
        }
        self._tokenizers = [_tokenizer(directory, spec.text) for spec in self._specs]
        self.size_px, self.rate_hz = visual.image_size_px, audio.sample_rate_hz
        self.window_s = audio.window_s

    def see(self, frames: NDArray[np.uint8]) -> Tensor:
        """See `Models`."""
        return torch.from_numpy(self._sessions[self._specs[0].graph].run(None, {"frames": frames})[0])

    def hear(self, windows: NDArray[np.float32]) -> Tensor:
        """See `Models`."""
        return torch.from_numpy(self._sessions[self._specs[1].graph].run(None, {"waveform": windows})[0])

    def read(self, names: Sequence[str], templates: Sequence[str]) -> Features:
        """See `Models`; a graph that serves both runs once."""
        visual, audio = (spec.text for spec in self._specs)
        if visual.graph == audio.graph:
            both = [visual.output, audio.output]
            seen, heard = self._run(visual, self._tokenizers[0], names, templates, both)
        else:
            (seen,), (heard,) = (
                self._run(text, tokenizer, names, templates, [text.output])
                for text, tokenizer in zip((visual, audio), self._tokenizers, strict=True)
            )
        return seen, heard

    def _run(
        self,
        text: TextEncoderSpec,
        tokenizer: Tokenizer,
        names: Sequence[str],
        templates: Sequence[str],
        outputs: list[str],
    ) -> list[Tensor]:
        encodings = tokenizer.encode_batch(_prompts(names, templates or text.templates))
        tokens = np.array([encoding.ids for encoding in encodings], np.int64)
        rows = self._sessions[text.graph].run(outputs, {"tokens": tokens})
        return [_mean_of_prompts(torch.from_numpy(one), len(names)) for one in rows]


def _tokenizer(directory: Path, text: TextEncoderSpec) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(directory / text.tokenizer))
    tokenizer.enable_padding(length=None if text.dynamic_length else text.context_length, pad_id=text.pad_id)
    tokenizer.enable_truncation(max_length=text.context_length)
    return tokenizer


def _prompts(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    return [template.replace("{}", name) for name in names for template in templates]


def _mean_of_prompts(rows: Tensor, n_names: int) -> Tensor:
    """Features of prompts [n_names * n_templates, dim] to those of names [n_names, dim]."""
    return unit(rows.reshape(n_names, -1, rows.shape[-1]).mean(1))


def unit(features: Tensor) -> Tensor:
    """Features scaled to unit length."""
    scaled: Tensor = features / features.norm(dim=-1, keepdim=True)
    return scaled
