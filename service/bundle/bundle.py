"""A loaded bundle: the manifest, its graphs, tokenizers and statistics, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.bundle.directory import open_manifest, verify_files
from service.bundle.graph import Axes, Graph, Inputs, Runtime
from service.bundle.manifest import Manifest, TextTower
from service.bundle.statistics import Statistics, load_statistics
from service.bundle.tokens import Tokens


@dataclass(frozen=True)
class Bundle:
    """Everything that inference needs, read-only."""

    manifest: Manifest
    digest: str
    """hex sha256 that changes with any byte of any file."""
    visual: Graph
    audio: Graph
    text_visual: Graph
    text_audio: Graph
    head_av: Graph
    head_text: Graph
    tokens_visual: Tokens
    tokens_audio: Tokens
    statistics: Statistics

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
    visual, audio, head = manifest.visual, manifest.audio, manifest.head
    return Bundle(
        manifest=manifest,
        digest=digest,
        **_graphs(directory, manifest, runtime),
        tokens_visual=Tokens(directory, visual.text),
        tokens_audio=Tokens(directory, audio.text),
        statistics=load_statistics(
            directory / head.statistics, dim=head.dim, visual_dim=visual.dim, audio_dim=audio.dim
        ),
    )


def _graphs(directory: Path, manifest: Manifest, runtime: Runtime) -> dict[str, Any]:
    visual, audio, head = manifest.visual, manifest.audio, manifest.head
    size = visual.image_size_px
    frames: Inputs = {"frames": ("uint8", (size, size, 3))}
    waveform: Inputs = {"waveform": ("float", (audio.window_samples,))}
    features: Inputs = {"visual": ("float", (visual.dim,)), "audio": ("float", (audio.dim,))}
    wanted = {
        "visual": (visual.graph, Axes(frames, "features", visual.dim)),
        "audio": (audio.graph, Axes(waveform, "features", audio.dim)),
        "text_visual": (visual.text.graph, Axes(_tokens(visual.text), "features", visual.dim)),
        "text_audio": (audio.text.graph, Axes(_tokens(audio.text), "features", audio.dim)),
        "head_av": (head.av_graph, Axes(features, "theta", head.dim)),
        "head_text": (head.text_graph, Axes(features, "theta", head.dim)),
    }
    return {part: Graph(directory / file, axes, runtime) for part, (file, axes) in wanted.items()}


def _tokens(tower: TextTower) -> Inputs:
    return {"tokens": ("int64", (tower.context_length,))}
