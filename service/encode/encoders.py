"""The frozen encoders of a bundle: graphs of both tracks and of both texts, with their tokenizers."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from service.arrays import Array
from service.bundle.manifest import Manifest, TextTower
from service.encode.tokens import Tokens
from service.runtime.graph import Axes, Graph, Inputs
from service.runtime.providers import Runtime

First = TypeVar("First")
Second = TypeVar("Second")


class Encoder(Protocol):
    """What the encode step calls: a graph, or something that stands before one."""

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph, as onnxruntime names it."""

    def __call__(self, **inputs: NDArray[Any]) -> Array:
        """Run on named inputs [batch, ...]; returns float32 [batch, dim]. Thread-safe."""


@dataclass(frozen=True)
class Encoders:
    """The encoders of one bundle, read-only.

    Attributes:
        manifest: Facts of each encoder.
        visual: Image encoder: frames to features.
        audio: Audio encoder: windows of sound to features.
        text_visual: Text encoder beside the image encoder.
        text_audio: Text encoder beside the audio encoder; the same object as text_visual where both tracks
            share one, whose rows are then the outputs of `text_outputs` side by side.
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
    """Open the graphs and tokenizers of a bundle.

    Raises:
        BundleInvalidError: One of them is not what the manifest says.
        DeviceUnavailableError: The device asked for can't be used.
    """
    visual, audio = manifest.visual, manifest.audio
    size = visual.image_size_px
    frames: Inputs = {"frames": ("uint8", (size, size, 3))}
    waveform: Inputs = {"waveform": ("float", (audio.window_samples,))}
    text_visual = Graph(
        directory / visual.text.graph, Axes(_tokens(visual.text), text_outputs(manifest)), runtime
    )
    text_audio = text_visual
    if not manifest.shares_text:
        axes = Axes(_tokens(audio.text), {audio.text.output: audio.dim})
        text_audio = Graph(directory / audio.text.graph, axes, runtime)
    return Encoders(
        manifest=manifest,
        visual=Graph(directory / visual.graph, Axes(frames, {"features": visual.dim}), runtime),
        audio=Graph(directory / audio.graph, Axes(waveform, {"features": audio.dim}), runtime),
        text_visual=text_visual,
        text_audio=text_audio,
        tokens_visual=Tokens(directory, visual.text),
        tokens_audio=Tokens(directory, audio.text),
    )


def text_outputs(manifest: Manifest) -> dict[str, int]:
    """Outputs and dims of `text_visual`: its own, and where it is shared those of the whole text graph."""
    visual, audio, known = manifest.visual, manifest.audio, manifest.known_names
    outputs = {visual.text.output: visual.dim}
    if manifest.shares_text:
        outputs[audio.text.output] = audio.dim
    if known is not None:
        outputs[known.output] = 1
    return outputs


def both(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Run two encoders at once: a clip's picture and sound, or a name's text for both.

    The second runs in a thread beside this one and in the same context. Returns when both have ended; if both
    fail, the first one's error is raised.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="encode") as beside:
        other = beside.submit(contextvars.copy_context().run, second)
        return first(), other.result()


def _tokens(tower: TextTower) -> Inputs:
    return {"tokens": ("int64", (None if tower.dynamic_length else tower.context_length,))}
