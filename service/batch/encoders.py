"""Encoders for serving: each runs the rows of all requests in batches, behind a queue of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from service.batch.batched import Batched, Observer, RowCost, its_length, one_each
from service.batch.padded import padded
from service.encode.encoders import Encoder, Encoders
from service.process import n_processors
from service.runtime.providers import CPU


@dataclass(frozen=True)
class Budgets:
    """What one run of an encoder may hold, and how many run at once; 0 takes what suits the device."""

    frames: int = 0
    windows: int = 0
    tokens: int = 0
    """of all names' prompts in the run together, padding included."""
    n_runs: int = 0
    n_threads: int = 1
    """of one run on a CPU; 0 for one for each processor."""


# On a CPU a run has one thread by default, so that none waits for another one's part. A few rows keep
# it busy, more leave its caches. A GPU wants many, and a second batch that is put together while one runs.
_CPU = Budgets(frames=8, windows=2, tokens=5_000)
_GPU = Budgets(frames=128, windows=64, tokens=20_000, n_runs=2)


def batched(encoders: Encoders, budgets: Budgets, observer: Observer) -> Encoders:
    """The encoders of one bundle, each behind a queue of its own."""
    on_cpu = encoders.visual.provider == CPU
    usual = _CPU if on_cpu else _GPU
    frames, windows = budgets.frames or usual.frames, budgets.windows or usual.windows
    tokens = budgets.tokens or usual.tokens
    n_runs = budgets.n_runs or usual.n_runs or max(1, n_processors() // (budgets.n_threads or n_processors()))
    helpers = ThreadPoolExecutor(n_runs, thread_name_prefix="helper") if on_cpu and n_runs > 1 else None
    inner = encoders if on_cpu else padded(encoders, frames=frames, windows=windows, tokens=tokens)

    def queued(name: str, encoder: Encoder, budget: int, row_cost: RowCost) -> Batched:
        return Batched(
            encoder,
            name,
            budget=budget,
            n_runs=n_runs,
            row_cost=row_cost,
            observer=observer,
            helpers=helpers,
        )

    text_visual = queued("text_visual", inner.text_visual, tokens, its_length)
    return replace(
        inner,
        visual=queued("visual", inner.visual, frames, one_each),
        audio=queued("audio", inner.audio, windows, one_each),
        text_visual=text_visual,
        text_audio=text_visual
        if encoders.manifest.shares_text
        else queued("text_audio", inner.text_audio, tokens, its_length),
    )
