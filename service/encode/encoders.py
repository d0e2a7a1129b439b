"""The frozen encoders of a bundle: image, audio and text encoders with their tokenizers."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.arrays import Array
from service.bundle.manifest import Manifest, TextEncoderSpec
from service.encode.tokens import Tokens
from service.runtime.graph import Axes, Graph, Inputs
from service.runtime.providers import CPU, Runtime

First = TypeVar("First")
Second = TypeVar("Second")


class Encoder(Protocol):
    """An encoder as the encode step calls it: a graph, or a wrapper that pads or batches the rows for one."""

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph, as onnxruntime names it."""

    def __call__(self, **inputs: NDArray[Any]) -> Array:
        """Run on named inputs [batch, ...]; returns float32 [batch, dim]. Thread-safe."""


class EvenRows:
    """An encoder that sees an even number of rows, so that a row has the same features beside any others.

    onnxruntime computes products with stored 8-bit weights (MatMulNBits) two rows at a time, and a last one
    alone, which rounds in another way: the next product takes it in 8 bits, and after all layers the last
    text of an odd batch was off by up to 0.02 (onnxruntime 1.32, AVX-512 VNNI). Text graphs of the
    everyday bundle and of older exports have such products.

    Args:
        encoder: The encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @property
    def provider(self) -> str:
        """The execution provider of the encoder."""
        return self._encoder.provider

    def __call__(self, **inputs: NDArray[Any]) -> Array:
        """Run on the rows, the last one twice if their number is odd."""
        n_rows = len(next(iter(inputs.values())))
        if n_rows % 2 == 0:
            return self._encoder(**inputs)
        even = {name: np.concatenate([rows, rows[-1:]]) for name, rows in inputs.items()}
        return self._encoder(**even)[:n_rows]


@dataclass(frozen=True)
class Encoders:
    """The encoders of one bundle, read-only.

    Attributes:
        manifest: Facts about each encoder.
        visual: Image encoder: frames to features.
        audio: Audio encoder: windows of audio to features.
        text_visual: Text encoder that shares a feature space with the image encoder.
        text_audio: Text encoder that shares a feature space with the audio encoder. The same object as
            text_visual where one graph serves both; each row then has the outputs of `text_outputs`,
            concatenated.
        tokens_visual: Tokenizer of text_visual.
        tokens_audio: Tokenizer of text_audio.
    """

    manifest: Manifest
    visual: Encoder
    audio: Encoder
    text_visual: Encoder
    text_audio: Encoder
    tokens_visual: Tokens
    tokens_audio: Tokens


def load_encoders(directory: Path, manifest: Manifest, runtime: Runtime) -> Encoders:
    """Load the graphs and tokenizers of a bundle.

    Raises:
        BundleInvalidError: One of them does not agree with the manifest.
        DeviceUnavailableError: The configured device can't be used.
    """
    visual, audio = manifest.visual, manifest.audio
    size = visual.image_size_px
    frames: Inputs = {"frames": ("uint8", (size, size, 3))}
    waveform: Inputs = {"waveform": ("float", (audio.window_samples,))}
    axes = Axes(_tokens(visual.text), text_outputs(manifest))
    text_visual = _text_encoder(Graph(directory / visual.text.graph, axes, runtime))
    text_audio = text_visual
    if not manifest.shares_text:
        axes = Axes(_tokens(audio.text), {audio.text.output: audio.dim})
        text_audio = _text_encoder(Graph(directory / audio.text.graph, axes, runtime))
    return Encoders(
        manifest=manifest,
        visual=Graph(directory / visual.graph, Axes(frames, {"features": visual.dim}), runtime),
        audio=Graph(directory / audio.graph, Axes(waveform, {"features": audio.dim}), runtime),
        text_visual=text_visual,
        text_audio=text_audio,
        tokens_visual=Tokens(directory, visual.text),
        tokens_audio=Tokens(directory, audio.text),
    )


def _text_encoder(graph: Graph) -> Encoder:
    return EvenRows(graph) if graph.provider == CPU else graph


def text_outputs(manifest: Manifest) -> dict[str, int]:
    """Outputs of `text_visual` and their dims, in order: its own, and where it is shared also all others."""
    visual, audio, known = manifest.visual, manifest.audio, manifest.known_names
    outputs = {visual.text.output: visual.dim}
    if manifest.shares_text:
        outputs[audio.text.output] = audio.dim
    if known is not None:
        outputs[known.output] = 1
    return outputs


def run_in_parallel(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Run two functions at once: the encoders of both tracks of a clip, or both text encoders.

    The second runs in another thread, in a copy of this context, so that it can be cancelled too. Returns
    when both have ended, since neither may outlive the request; if both fail, the error of the first is
    raised.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="encode") as beside:
        other = beside.submit(contextvars.copy_context().run, second)
        return first(), other.result()


def _tokens(spec: TextEncoderSpec) -> Inputs:
    return {"tokens": ("int64", (None if spec.dynamic_length else spec.context_length,))}
