"""A loaded bundle: the manifest, its graphs, tokenizers and statistics, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.bundle.directory import digest, read_manifest, verify_files
from service.bundle.graph import Axes, Graph, Runtime
from service.bundle.manifest import Manifest
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
    manifest = read_manifest(directory)
    verify_files(directory, manifest)
    visual, audio, head = manifest.visual, manifest.audio, manifest.head
    return Bundle(
        manifest=manifest,
        digest=digest(directory),
        **_graphs(directory, manifest, runtime),
        tokens_visual=Tokens(directory, visual.text),
        tokens_audio=Tokens(directory, audio.text),
        statistics=load_statistics(
            directory / head.statistics, dim=head.dim, visual_dim=visual.dim, audio_dim=audio.dim
        ),
    )


def window_samples(manifest: Manifest) -> int:
    """Samples in one audio window, the audio graph's input length."""
    return round(manifest.audio.window_s * manifest.audio.sample_rate_hz)


def _graphs(directory: Path, manifest: Manifest, runtime: Runtime) -> dict[str, Any]:
    visual, audio, head = manifest.visual, manifest.audio, manifest.head
    size = visual.image_size_px
    features = {"visual": ("float", (visual.dim,)), "audio": ("float", (audio.dim,))}
    wanted: dict[str, tuple[str, dict[str, tuple[str, tuple[int, ...]]], str, int]] = {
        "visual": (visual.graph, {"frames": ("uint8", (size, size, 3))}, "features", visual.dim),
        "audio": (audio.graph, {"waveform": ("float", (window_samples(manifest),))}, "features", audio.dim),
        "text_visual": (visual.text.graph, _token_input(visual.text.context_length), "features", visual.dim),
        "text_audio": (audio.text.graph, _token_input(audio.text.context_length), "features", audio.dim),
        "head_av": (head.av_graph, features, "theta", head.dim),
        "head_text": (head.text_graph, features, "theta", head.dim),
    }
    return {
        part: Graph(directory / file, Axes(inputs, output, dim), runtime)
        for part, (file, inputs, output, dim) in wanted.items()
    }


def _token_input(context_length: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {"tokens": ("int64", (context_length,))}
