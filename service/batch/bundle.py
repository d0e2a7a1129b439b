"""A bundle for serving: its encoders run the rows of all requests in batches."""

from __future__ import annotations

from dataclasses import dataclass, replace

from service.batch.batched import Batched, Observer, RowCost, its_length, one_each
from service.bundle.bundle import Bundle
from service.bundle.graph import Encoder


@dataclass(frozen=True)
class Budgets:
    """What one run of an encoder may hold, and how many run at once; 0 takes what suits the device."""

    frames: int = 0
    windows: int = 0
    tokens: int = 0
    """of all names' prompts in the run together, padding included."""
    n_runs: int = 0


# On a CPU a few rows keep the cores busy; more of them only wait for each other. A GPU wants many, and a
# second batch that is put together, and copied, while the first one runs.
_CPU = Budgets(frames=16, windows=16, tokens=5_000, n_runs=1)
_GPU = Budgets(frames=128, windows=64, tokens=20_000, n_runs=2)


def batched(bundle: Bundle, budgets: Budgets, observer: Observer) -> Bundle:
    """The bundle with each encoder behind a queue of its own. Its head stays as it is: it takes one row."""
    usual = _CPU if bundle.visual.provider == "CPUExecutionProvider" else _GPU
    tokens = budgets.tokens or usual.tokens

    def queued(name: str, encoder: Encoder, budget: int, row_cost: RowCost) -> Batched:
        n_runs = budgets.n_runs or usual.n_runs
        return Batched(encoder, name, budget=budget, n_runs=n_runs, row_cost=row_cost, observer=observer)

    return replace(
        bundle,
        visual=queued("visual", bundle.visual, budgets.frames or usual.frames, one_each),
        audio=queued("audio", bundle.audio, budgets.windows or usual.windows, one_each),
        text_visual=queued("text_visual", bundle.text_visual, tokens, its_length),
        text_audio=queued("text_audio", bundle.text_audio, tokens, its_length),
    )
