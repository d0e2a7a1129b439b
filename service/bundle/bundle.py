"""A loaded bundle: the manifest, its graphs, tokenizers and statistics, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.bundle.directory import open_manifest, verify_files
from service.bundle.graph import Axes, Encoder, Graph, Inputs
from service.bundle.heads import LoadedAhse, LoadedSimilarity, load_head
from service.bundle.manifest import Manifest, TextTower
from service.bundle.providers import Runtime
from service.bundle.tokens import Tokens


@dataclass(frozen=True)
class Bundle:
    """Everything that inference needs, read-only."""

    manifest: Manifest
    digest: str
    """hex sha256 that changes with any byte of any file."""
    visual: Encoder
    audio: Encoder
    text_visual: Encoder
    text_audio: Encoder
    """the same as text_visual where both tracks share one: its rows are the outputs of `text_outputs`."""
    tokens_visual: Tokens
    tokens_audio: Tokens
    head: LoadedAhse | LoadedSimilarity

    @property
    def name(self) -> str:
        """The name by which requests choose the bundle."""
        return self.manifest.name


def load_bundle(directory: Path, runtime: Runtime) -> Bundle:
    """Read, verify and open a bundle.

    Raises:
        BundleInvalidError: a file is missing, changed, or is not what the manifest says.
        DeviceUnavailableError: the device asked for can't be used.
    """
    manifest, digest = open_manifest(directory)
    verify_files(directory, manifest)
    return Bundle(
        manifest=manifest,
        digest=digest,
        **_graphs(directory, manifest, runtime),
        tokens_visual=Tokens(directory, manifest.visual.text),
        tokens_audio=Tokens(directory, manifest.audio.text),
        # So small that a way to a GPU and back would take longer than its work.
        head=load_head(directory, manifest, replace(runtime, device="cpu")),
    )


def _graphs(directory: Path, manifest: Manifest, runtime: Runtime) -> dict[str, Any]:
    visual, audio = manifest.visual, manifest.audio
    size = visual.image_size_px
    frames: Inputs = {"frames": ("uint8", (size, size, 3))}
    waveform: Inputs = {"waveform": ("float", (audio.window_samples,))}
    wanted = {
        "visual": (visual.graph, Axes(frames, {"features": visual.dim})),
        "audio": (audio.graph, Axes(waveform, {"features": audio.dim})),
        "text_visual": (visual.text.graph, Axes(_tokens(visual.text), text_outputs(manifest))),
    }
    if not manifest.shares_text:
        wanted["text_audio"] = audio.text.graph, Axes(_tokens(audio.text), {audio.text.output: audio.dim})
    graphs = {part: Graph(directory / file, axes, runtime) for part, (file, axes) in wanted.items()}
    return {"text_audio": graphs["text_visual"], **graphs}


def text_outputs(manifest: Manifest) -> dict[str, int]:
    """Outputs and dims of `text_visual`: its own, and where it is shared those of the whole text graph."""
    visual, audio, known = manifest.visual, manifest.audio, manifest.known_names
    outputs = {visual.text.output: visual.dim}
    if manifest.shares_text:
        outputs[audio.text.output] = audio.dim
    if known is not None:
        outputs[known.output] = 1
    return outputs


def _tokens(tower: TextTower) -> Inputs:
    return {"tokens": ("int64", (None if tower.dynamic_length else tower.context_length,))}
