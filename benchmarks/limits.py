"""The limits of a service on this machine: decoding alone, and each encoder graph alone at its best.

On a CPU nothing answers clips faster than these steps can be done one after the other with all processors.
With a GPU the processors decode meanwhile, and the slower of the two is the limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.load import unique_labels
from service.bundle.directory import read_manifest
from service.classifier import decode_spec
from service.decode.pool import DecodePool
from service.process import n_processors
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from service.settings import Settings

CLIP_GRAPHS = ("visual", "audio")
NAME_GRAPHS = ("text_visual", "text_audio")
"""run only for names that are not known."""
BenchmarkDevice = Literal["cpu", "cuda"]

_CLIPS_AT_ONCE = {"cpu": (1, 2, 4), "cuda": (4, 16, 64)}
_NAMES_PER_CLIP = 10
# Runs at once on a GPU: one is copied while the other runs.
_GPU_RUNS = 2
_SECONDS_EACH = 1.5


@dataclass(frozen=True)
class GraphLimit:
    """The best that one graph does with all processors."""

    clips_per_s: float
    clips_at_once: int
    """whose rows went through it together."""
    n_threads: int
    """of one run on a CPU; as many runs at once as processors allow."""


def graph_limits(directory: Path, device: BenchmarkDevice) -> dict[str, GraphLimit]:
    """Of each encoder, on what a clip brings: its frames, a window of sound, ten names with a prompt each."""
    n_cores = n_processors()
    found: dict[str, list[GraphLimit]] = {name: [] for name in (*CLIP_GRAPHS, *NAME_GRAPHS)}
    for n_threads in sorted({1, n_cores}) if device == "cpu" else [1]:
        bundle = load_bundle(directory, Runtime(device=device, n_threads=n_threads))
        n_runs = n_cores // n_threads if device == "cpu" else _GPU_RUNS
        for graph, limits in found.items():
            for n_clips in _CLIPS_AT_ONCE[device]:
                rate = _rate(_work(bundle, graph, n_clips), n_runs) * n_clips
                limits.append(GraphLimit(rate, n_clips, n_threads))
    return {graph: max(limits, key=lambda one: one.clips_per_s) for graph, limits in found.items()}


def decode_rate(directory: Path, clip: Path, n_clips: int) -> float:
    """Clips decoded in a second, by as many processes as there are processors."""
    settings = Settings()
    spec = decode_spec(read_manifest(directory))
    n_workers = n_processors()
    with DecodePool(settings.decode_limits(), n_workers) as pool, ThreadPoolExecutor(n_workers) as threads:
        list(threads.map(lambda _: pool.decode(clip, spec), range(2 * n_workers)))
        started = time.perf_counter()
        list(threads.map(lambda _: pool.decode(clip, spec), range(n_clips)))
        return n_clips / (time.perf_counter() - started)


def together(encoding: Sequence[float], decoding: float, device: BenchmarkDevice) -> float:
    """Clips per second of all steps: encoding shares the processors with decoding, or has a GPU."""
    encoded = 1 / sum(1 / rate for rate in encoding)
    return min(encoded, decoding) if device == "cuda" else 1 / (1 / encoded + 1 / decoding)


def _work(bundle: Bundle, graph: str, n_clips: int) -> Callable[[], NDArray[np.float32]]:
    visual, audio, draw = bundle.manifest.visual, bundle.manifest.audio, np.random.default_rng(0)
    rows: dict[str, NDArray[Any]] = {}
    if graph == "visual":
        size = visual.image_size_px
        shape = (n_clips * visual.n_frames, size, size, 3)
        rows["frames"] = draw.integers(0, 256, shape, dtype=np.uint8)
    elif graph in NAME_GRAPHS:
        tokens = getattr(bundle.encoders, graph.replace("text", "tokens"))
        # Of such names as the cold requests bring: their length decides.
        names = unique_labels(_NAMES_PER_CLIP * n_clips)(40)
        rows["tokens"] = tokens([f"a video of a {name}." for name in names])
    else:
        rows["waveform"] = draw.normal(0, 0.1, (n_clips, audio.window_samples)).astype(np.float32)
    encoder = getattr(bundle.encoders, graph)
    return lambda: encoder(**rows)


def _rate(work: Callable[[], object], n_at_once: int) -> float:
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
        n = sum(threads.map(repeat, [started + _SECONDS_EACH] * n_at_once))
        return n / (time.perf_counter() - started)
