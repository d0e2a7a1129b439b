"""The limits of a service on this machine: decoding, each encoder graph and ranking, each alone at its best.

On a CPU nothing answers clips faster than these steps can be done one after the other with all processors.
With a GPU the processors decode meanwhile, and the slower of the two is the limit. One second of a step says
little on a machine whose pace changes, so each is measured again and again in a run, and the median counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.load import unique_labels
from benchmarks.names import TOP_K, made_up_clips, made_up_names
from benchmarks.throughput.points import BenchmarkDevice
from service.bundle.directory import read_manifest
from service.classifier import decode_spec, rank_names
from service.decode.pool import DecodePool
from service.encode.clip_features import window_starts
from service.encode.text import prompts_of
from service.labels.label import Label
from service.process import n_processors
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from service.settings import Settings

CLIP_GRAPHS = ("visual", "audio")
NAME_GRAPHS = ("text_visual", "text_audio")
"""run only for names that are not known; the second only where one graph does not serve both tracks."""

_CLIPS_AT_ONCE = {"cpu": (1, 2), "cuda": (4, 16, 64)}
_NAMES_PER_CLIP = 10
# Runs at once on a GPU: one is copied while the other runs.
_GPU_RUNS = 2
_SECONDS_EACH = 0.5


@dataclass(frozen=True)
class _Way:
    """How a graph is run.

    Attributes:
        clips_at_once: Whose rows go through it together.
        n_threads: Of one run on a CPU; as many runs at once as processors allow.
    """

    clips_at_once: int
    n_threads: int


class GraphLimits:
    """The graphs of a bundle, each in the way of running it that is found to be its best.

    Args:
        directory: Of the bundle.
        device: Where the graphs run.
        clip_s: Length of the clips.
        templates: Prompts of a name; none: the bundle's own.
    """

    def __init__(
        self, directory: Path, device: BenchmarkDevice, clip_s: float, templates: Sequence[str] = ()
    ) -> None:
        self._device = device
        self._clip_s = clip_s
        self._templates = templates
        n_threads = sorted({1, n_processors()}) if device == "cpu" else [1]
        self._bundles = {n: load_bundle(directory, Runtime(device=device, n_threads=n)) for n in n_threads}
        manifest = next(iter(self._bundles.values())).manifest
        self.graphs = (*CLIP_GRAPHS, *(NAME_GRAPHS[:1] if manifest.shares_text else NAME_GRAPHS))
        self._best = {graph: self._choose(graph) for graph in self.graphs}

    def measure(self) -> dict[str, float]:
        """Clips per second of each graph now, in its best way; of the names' graphs ten names are a clip."""
        return {graph: self._measure(graph, way) for graph, way in self._best.items()}

    def _choose(self, graph: str) -> _Way:
        ways = [_Way(n_clips, n) for n in self._bundles for n_clips in _CLIPS_AT_ONCE[self._device]]
        return max(ways, key=lambda way: self._measure(graph, way))

    def _measure(self, graph: str, way: _Way) -> float:
        n_runs = n_processors() // way.n_threads if self._device == "cpu" else _GPU_RUNS
        work = self._work(self._bundles[way.n_threads], graph, way.clips_at_once)
        return _rate(work, n_runs, _SECONDS_EACH) * way.clips_at_once

    def _work(self, bundle: Bundle, graph: str, n_clips: int) -> Callable[[], NDArray[np.float32]]:
        """One run on what so many clips bring: frames, windows of sound, or ten names with their prompts."""
        visual, audio, draw = bundle.manifest.visual, bundle.manifest.audio, np.random.default_rng(0)
        rows: dict[str, NDArray[Any]] = {}
        if graph == "visual":
            size = visual.image_size_px
            shape = (n_clips * visual.n_frames, size, size, 3)
            rows["frames"] = draw.integers(0, 256, shape, dtype=np.uint8)
        elif graph in NAME_GRAPHS:
            text = getattr(bundle.manifest, graph.removeprefix("text_")).text
            tokens = getattr(bundle.encoders, graph.replace("text", "tokens"))
            # Of such names as the cold requests bring: their length decides.
            names = unique_labels(_NAMES_PER_CLIP * n_clips)(40)
            rows["tokens"] = tokens(
                [p for name in names for p in prompts_of(Label(name), self._templates or text.templates)]
            )
        else:
            n_samples = round(min(self._clip_s, audio.max_s) * audio.sample_rate_hz)
            n_windows = len(window_starts(n_samples, audio.window_samples, audio.hop_samples))
            shape_of_sound = (n_clips * n_windows, audio.window_samples)
            rows["waveform"] = draw.normal(0, 0.1, shape_of_sound).astype(np.float32)
        encoder = getattr(bundle.encoders, graph)
        return lambda: encoder(**rows)


def decode_rate(directory: Path, clip: Path) -> float:
    """Clips decoded in a second, by as many processes as there are processors."""
    spec = decode_spec(read_manifest(directory))
    with DecodePool(Settings().decode_limits(), n_processors()) as pool:
        return _rate(lambda: pool.decode(clip, spec), n_processors(), 2 * _SECONDS_EACH)


def rank_rate(directory: Path, n_names: int) -> float:
    """Clips ranked in a second among names with made-up embeddings, by as many threads as processors."""
    bundle, draw = load_bundle(directory, Runtime(device="cpu")), np.random.default_rng(0)
    names = made_up_names(bundle, n_names, draw)
    (clip,) = made_up_clips(bundle, 1, draw)
    with threadpool_limits(1, user_api="blas"):  # as in the service
        return _rate(
            lambda: rank_names(bundle, clip, names, "auto").best(TOP_K), n_processors(), 2 * _SECONDS_EACH
        )


def together(
    graphs: Mapping[str, float],
    decoding: float,
    n_new_names: int,
    device: BenchmarkDevice,
    ranking: float = math.inf,
) -> float:
    """Clips per second of all steps: encoding shares the processors with decoding, or has a GPU.

    Args:
        graphs: Clips per second of each.
        decoding: Clips per second.
        n_new_names: Names that have to be encoded for each clip.
        device: Where the graphs run.
        ranking: Clips per second.
    """
    of_names = n_new_names / _NAMES_PER_CLIP
    encoding = sum((of_names if graph in NAME_GRAPHS else 1) / rate for graph, rate in graphs.items())
    rest = 1 / decoding + 1 / ranking
    return 1 / max(encoding, rest) if device == "cuda" else 1 / (encoding + rest)


def _rate(work: Callable[[], object], n_at_once: int, seconds: float) -> float:
    """Times the work is done in a second, by so many threads, each as often as it can."""

    def repeat(until: float) -> int:
        n = 0
        while time.perf_counter() < until:
            work()
            n += 1
        return n

    with ThreadPoolExecutor(n_at_once) as threads:
        list(threads.map(lambda _: work(), range(n_at_once)))
        started = time.perf_counter()
        n = sum(threads.map(repeat, [started + seconds] * n_at_once))
        return n / (time.perf_counter() - started)
