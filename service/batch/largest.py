"""The largest batches of a GPU, run once before the first request: whether it has the memory for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle.manifest import TextEncoderSpec
from service.encode.encoders import Encoder, Encoders
from service.errors import DeviceUnavailableError


def run_largest(encoders: Encoders, *, frames: int, windows: int, tokens: int) -> None:
    """Run each encoder of a bundle once on a batch as large as it will get.

    So a GPU that is too small for it is found now, and not by a request. Two such batches at once may take up
    to twice the memory. Batches are not padded to sizes that have run before, which brought nothing
    (docs/performance.md).

    Args:
        encoders: The encoders as loaded, on a GPU.
        frames: Maximum number of frames in one run.
        windows: Maximum number of audio windows in one run.
        tokens: Maximum number of tokens in one run, padding included.

    Raises:
        DeviceUnavailableError: The GPU lacks the memory.
    """
    visual, audio = encoders.manifest.visual, encoders.manifest.audio
    size = visual.image_size_px
    _run(encoders.visual, "frames", np.zeros((frames, size, size, 3), np.uint8))
    _run(encoders.audio, "waveform", np.zeros((windows, audio.window_samples), np.float32))
    _run(encoders.text_visual, "tokens", _texts(visual.text, tokens))
    if not encoders.manifest.shares_text:
        _run(encoders.text_audio, "tokens", _texts(audio.text, tokens))


def _texts(spec: TextEncoderSpec, tokens: int) -> NDArray[np.int64]:
    n_rows = max(1, tokens // spec.context_length)
    return np.full((n_rows, spec.context_length), spec.pad_id, np.int64)


def _run(encoder: Encoder, name: str, rows: NDArray[Any]) -> None:
    try:
        encoder(**{name: rows})
    except Exception as error:
        raise DeviceUnavailableError(
            f"the device can't run batches of {len(rows)} {name}; it may lack memory: lower "
            "AHSE_BATCH_FRAMES, AHSE_BATCH_WINDOWS or AHSE_BATCH_TOKENS, or raise AHSE_GPU_MEMORY_BYTES"
        ) from error
