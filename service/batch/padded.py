"""A GPU sees a few shapes only, each of them run before the first request: rows are padded up to them."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle.manifest import TextTower
from service.encode.encoders import Encoder, Encoders
from service.errors import DeviceUnavailableError

Rows = NDArray[Any]


class Padded:
    """Called as the encoder itself is, and gives what it gives, a row for each row.

    A new shape costs a GPU far more than the rows that fill a known one up: convolutions are tuned for it,
    and memory is taken that is never given back.

    Args:
        encoder: takes one input [n, ...], each row encoded for itself.
        sizes: batch sizes that it is to see, ascending; more rows than the last go through it in turns.
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
        turns = range(0, len(rows), self._sizes[-1])
        return np.concatenate([self._run(name, rows[start : start + self._sizes[-1]]) for start in turns])

    def _run(self, name: str, rows: Rows) -> NDArray[np.float32]:
        size = next(size for size in self._sizes if size >= len(rows))
        filled = np.zeros((size, *rows.shape[1:]), rows.dtype)
        filled[: len(rows)] = rows
        return self._encoder(**{name: filled})[: len(rows)]

    def warm_up(self, **inputs: Rows) -> None:
        """Run every size on copies of a row [1, ...].

        Raises:
            DeviceUnavailableError: one of them can't be run.
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


def batch_sizes(most: int) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12, 16 ... up to and with `most`: at most a third of a batch is padding."""
    steps = {size for k in range(most.bit_length()) for size in (2**k, 3 * 2**k) if size < most}
    return (*sorted(steps), most)


def padded(encoders: Encoders, *, frames: int, windows: int, tokens: int) -> Encoders:
    """Encoders that run on a GPU, all of their shapes warm.

    Args:
        encoders: as loaded.
        frames: most in one run.
        windows: most in one run.
        tokens: most in one run, padding included.
    """
    visual, audio = encoders.manifest.visual, encoders.manifest.audio
    size = visual.image_size_px
    pictures = Padded(encoders.visual, batch_sizes(frames))
    pictures.warm_up(frames=np.zeros((1, size, size, 3), np.uint8))
    sounds = Padded(encoders.audio, batch_sizes(windows))
    sounds.warm_up(waveform=np.zeros((1, audio.window_samples), np.float32))
    text_visual = _names(encoders.text_visual, visual.text, tokens)
    return replace(
        encoders,
        visual=pictures,
        audio=sounds,
        text_visual=text_visual,
        text_audio=text_visual
        if encoders.manifest.shares_text
        else _names(encoders.text_audio, audio.text, tokens),
        tokens_visual=encoders.tokens_visual.in_lengths(_lengths(visual.text)),
        tokens_audio=encoders.tokens_audio.in_lengths(_lengths(audio.text)),
    )


def _names(encoder: Encoder, tower: TextTower, tokens: int) -> Padded:
    names = Padded(encoder, batch_sizes(max(1, tokens // tower.context_length)))
    for length in _lengths(tower):
        names.warm_up(tokens=np.full((1, length), tower.pad_id, np.int64))
    return names


def _lengths(tower: TextTower) -> tuple[int, ...]:
    """Lengths of text that the encoder is to see: 8, 16 ... and the longest, or that one only."""
    shorter = (8 * 2**k for k in count()) if tower.dynamic_length else ()
    return (*takewhile(lambda length: length < tower.context_length, shorter), tower.context_length)
