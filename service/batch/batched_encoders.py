"""Encoders for serving: each has a queue of its own and batches the rows of all requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

from service.batch.batched import Batched, Observer, RowCost, length_cost, unit_cost
from service.batch.largest import run_largest
from service.batch.turns import Turns
from service.encode.encoders import Encoder, Encoders
from service.process import n_processors
from service.runtime.providers import CPU


@dataclass(frozen=True)
class Budgets:
    """Maximum size of one run of an encoder, and number of parallel runs; 0 selects a default for the device.

    Attributes:
        frames: Maximum number of frames in one run.
        windows: Maximum number of audio windows in one run.
        tokens: Maximum number of tokens of all prompts in one run, padding included.
        n_runs: Runs at once: on a CPU of all encoders of all bundles together, on a GPU of each encoder.
        n_threads: Threads of one run on a CPU; 0 for one per processor.
        n_processors: What all runs may keep busy on a CPU; 0 for all there are.
    """

    frames: int = 0
    windows: int = 0
    tokens: int = 0
    n_runs: int = 0
    n_threads: int = 1
    n_processors: int = 0


# On a CPU a run has one thread by default, since threads of one run wait for each other at every layer. A few
# rows keep it busy; more would no longer fit its caches, and others wait for their turn meanwhile. A GPU
# needs many rows, and a second batch that is assembled while the first one runs.
_CPU = Budgets(frames=4, windows=1, tokens=500)
_GPU = Budgets(frames=128, windows=64, tokens=20_000, n_runs=2)


class Batching:
    """Puts the encoders of bundles behind queues; on a CPU the encoders of all bundles take turns.

    One for a process, since its processors are what they share.

    Args:
        budgets: Sizes of batches.
        observer: Receives the figures of all queues.
    """

    def __init__(self, budgets: Budgets, observer: Observer) -> None:
        self._budgets = budgets
        self._observer = observer
        n_own = budgets.n_processors or n_processors()
        self._n_on_cpu = n = budgets.n_runs or max(1, n_own // (budgets.n_threads or n_own))
        self._turns = Turns(n)
        self._helpers = ThreadPoolExecutor(n, thread_name_prefix="helper") if n > 1 else None

    def wrap(self, encoders: Encoders) -> Encoders:
        """Put each encoder of a bundle behind a queue of its own.

        Raises:
            DeviceUnavailableError: A GPU lacks the memory for the largest batches.
        """
        on_cpu = encoders.visual.provider == CPU
        budgets, default = self._budgets, _CPU if on_cpu else _GPU
        frames, windows = budgets.frames or default.frames, budgets.windows or default.windows
        tokens = budgets.tokens or default.tokens
        turn = partial(self._turns.turn, object()) if on_cpu else nullcontext
        if not on_cpu:
            run_largest(encoders, frames=frames, windows=windows, tokens=tokens)
            encoders = replace(
                encoders,
                tokens_visual=encoders.tokens_visual.in_large_batches(),
                tokens_audio=encoders.tokens_audio.in_large_batches(),
            )

        def queued(name: str, encoder: Encoder, budget: int, row_cost: RowCost) -> Batched:
            return Batched(
                encoder,
                name,
                budget=budget,
                n_runs=self._n_on_cpu if on_cpu else budgets.n_runs or default.n_runs,
                row_cost=row_cost,
                observer=self._observer,
                helpers=self._helpers if on_cpu else None,
                turn=turn,
            )

        text_visual = queued("text_visual", encoders.text_visual, tokens, length_cost)
        return replace(
            encoders,
            visual=queued("visual", encoders.visual, frames, unit_cost),
            audio=queued("audio", encoders.audio, windows, unit_cost),
            text_visual=text_visual,
            text_audio=text_visual
            if encoders.manifest.shares_text
            else queued("text_audio", encoders.text_audio, tokens, length_cost),
        )
