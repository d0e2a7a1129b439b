"""Padding of batches for a GPU to a few shapes, all of them run before the first request."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle.manifest import TextEncoderSpec
from service.encode.encoders import Encoder, Encoders
from service.errors import DeviceUnavailableError

Rows = NDArray[Any]


class Padded:
    """Wraps an encoder so that it only runs batches of given sizes. Same signature, same results.

    On a GPU a new shape costs far more than padding to a known one: algorithms are selected for it, and
    memory is allocated that is never freed.

    Args:
        encoder: Takes one input [n, ...] and encodes each row independently.
        sizes: Batch sizes, ascending. More rows than the last are split into several runs.
    """

    def __init__(self, encoder: Encoder, sizes: tuple[int, ...]) -> None:
        self._encoder = encoder
        self._sizes = sizes

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph, as onnxruntime names it."""
        return self._encoder.provider

    def __call__(self, **inputs: Rows) -> NDArray[np.float32]:
        """Encode rows [n, ...], n >= 1, given under the input's name; returns float32 [n, dim]."""
        ((name, rows),) = inputs.items()
        starts = range(0, len(rows), self._sizes[-1])
        return np.concatenate([self._run(name, rows[start : start + self._sizes[-1]]) for start in starts])

    def _run(self, name: str, rows: Rows) -> NDArray[np.float32]:
        size = next(size for size in self._sizes if size >= len(rows))
        filled = np.zeros((size, *rows.shape[1:]), rows.dtype)
        filled[: len(rows)] = rows
        return self._encoder(**{name: filled})[: len(rows)]

    def warm_up(self, **inputs: Rows) -> None:
        """Run every size on copies of a row [1, ...].

        Raises:
            DeviceUnavailableError: One of them can't be run.
        """
        ((name, row),) = inputs.items()
        try:
            for size in self._sizes:
                self._encoder(**{name: np.repeat(row, size, axis=0)})
        except Exception as error:
            raise DeviceUnavailableError(
                f"the device can't run batches of {self._sizes[-1]} {name}; it may lack memory: lower "
                "AHSE_BATCH_FRAMES, AHSE_BATCH_WINDOWS or AHSE_BATCH_TOKENS, or raise AHSE_GPU_MEMORY_BYTES"
            ) from error


def batch_sizes(largest: int) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12, 16 ... `largest`: few sizes, and less than a third of a batch is padding."""
    steps = {size for k in range(largest.bit_length()) for size in (2**k, 3 * 2**k) if size < largest}
    return (*sorted(steps), largest)


def padded(encoders: Encoders, *, frames: int, windows: int, tokens: int) -> Encoders:
    """Wrap the encoders of a bundle for a GPU and run all of their shapes once.

    Args:
        encoders: The encoders as loaded.
        frames: Maximum number of frames in one run.
        windows: Maximum number of audio windows in one run.
        tokens: Maximum number of tokens in one run, padding included.

    Raises:
        DeviceUnavailableError: The GPU lacks the memory for the largest batches.
    """
    visual, audio = encoders.manifest.visual, encoders.manifest.audio
    size = visual.image_size_px
    image_encoder = Padded(encoders.visual, batch_sizes(frames))
    image_encoder.warm_up(frames=np.zeros((1, size, size, 3), np.uint8))
    audio_encoder = Padded(encoders.audio, batch_sizes(windows))
    audio_encoder.warm_up(waveform=np.zeros((1, audio.window_samples), np.float32))
    text_visual = _padded_text(encoders.text_visual, visual.text, tokens)
    return replace(
        encoders,
        visual=image_encoder,
        audio=audio_encoder,
        text_visual=text_visual,
        text_audio=text_visual
        if encoders.manifest.shares_text
        else _padded_text(encoders.text_audio, audio.text, tokens),
        tokens_visual=encoders.tokens_visual.padded_to(_lengths(visual.text)),
        tokens_audio=encoders.tokens_audio.padded_to(_lengths(audio.text)),
    )


def _padded_text(encoder: Encoder, spec: TextEncoderSpec, tokens: int) -> Padded:
    text_encoder = Padded(encoder, batch_sizes(max(1, tokens // spec.context_length)))
    for length in _lengths(spec):
        text_encoder.warm_up(tokens=np.full((1, length), spec.pad_id, np.int64))
    return text_encoder


def _lengths(spec: TextEncoderSpec) -> tuple[int, ...]:
    """Text lengths that the encoder runs: 8, 16 ... context length, or only the latter where it is fixed."""
    shorter = (8 * 2**k for k in count()) if spec.dynamic_length else ()
    return (*takewhile(lambda length: length < spec.context_length, shorter), spec.context_length)
