"""How long each encoder graph of some bundles takes, beside the first bundle's.

    python -m benchmarks.encoders BUNDLE... [--threads 2] [--rounds 5]

For comparing precisions of the same encoders: one clip's frames (the bundle's n_frames), one window of sound,
one short name (8 tokens) and a batch of 16 names. The bundles take turns in every round, so that a noisy
machine disturbs them alike; the smallest time of all rounds counts. Weights make no difference to times, so
random ones will do.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle.manifest import TextEncoderSpec
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime

_NAME_TOKENS = 8
_NAMES = 16


def main() -> None:
    """Print a table in Markdown."""
    options = _options()
    runtime = Runtime(device="cpu", n_threads=options.threads)
    bundles = [load_bundle(path, runtime) for path in options.bundles]
    works = [_works(bundle) for bundle in bundles]
    best: list[dict[str, float]] = [dict.fromkeys(work, float("inf")) for work in works]
    for _ in range(options.rounds):
        for times, work in zip(best, works, strict=True):
            for name, run in work.items():
                start = time.perf_counter()
                run()
                times[name] = min(times[name], (time.perf_counter() - start) * 1000)
    lines = [f"{options.threads} threads, {os.cpu_count()} cores, {sys.platform}", ""]
    lines += ["| bundle | what | file, MB | ms | times as fast as the first |", "|---|---|---|---|---|"]
    for path, bundle, times in zip(options.bundles, bundles, best, strict=True):
        lines += [_row(path.name, bundle, name, ms, best[0][name]) for name, ms in times.items()]
    sys.stdout.write("\n".join(lines) + "\n")


def _works(bundle: Bundle) -> dict[str, Callable[[], NDArray[Any]]]:
    visual, audio = bundle.manifest.visual, bundle.manifest.audio
    draw, size = np.random.default_rng(0), visual.image_size_px
    frames = draw.integers(0, 256, (visual.n_frames, size, size, 3), dtype=np.uint8)
    window = draw.normal(0, 0.1, (1, audio.window_samples)).astype(np.float32)
    return {
        f"visual, {visual.n_frames} frames": partial(bundle.encoders.visual, frames=frames),
        f"audio, {audio.window_s:g} s": partial(bundle.encoders.audio, waveform=window),
        "text_visual, 1 name": partial(bundle.encoders.text_visual, tokens=_tokens(visual.text, 1)),
        f"text_visual, {_NAMES} names": partial(
            bundle.encoders.text_visual, tokens=_tokens(visual.text, _NAMES)
        ),
        "text_audio, 1 name": partial(bundle.encoders.text_audio, tokens=_tokens(audio.text, 1)),
        f"text_audio, {_NAMES} names": partial(
            bundle.encoders.text_audio, tokens=_tokens(audio.text, _NAMES)
        ),
    }


def _tokens(tower: TextEncoderSpec, n: int) -> NDArray[np.int64]:
    """Rows of any tokens but padding, as long as short names are where the graph takes short rows."""
    length = _NAME_TOKENS if tower.dynamic_length else tower.context_length
    return np.full((n, length), (tower.pad_id + 1) % tower.vocabulary_size, np.int64)


def _row(directory: str, bundle: Bundle, name: str, ms: float, first_ms: float) -> str:
    graph = getattr(bundle, name.partition(",")[0])
    megabytes = graph.path.stat().st_size / 1e6
    return f"| {directory} | {name} | {megabytes:.0f} | {ms:.1f} | {first_ms / ms:.2f} |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
