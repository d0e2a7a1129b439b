"""A frame becomes a square picture by the filter that the bundle asks for, as PIL computes it."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from service.decode.picture import Framer
from service.media import RESIZE_RULES, Resize

_PIL = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_OTHER = {"bicubic": "bilinear", "bilinear": "bicubic"}


def test_every_resize_has_a_rule_of_its_own() -> None:
    """No two are equal."""
    assert set(RESIZE_RULES) == set(get_args(Resize))
    assert len(set(RESIZE_RULES.values())) == len(RESIZE_RULES)


def _difference(found: NDArray[np.uint8], pixels: NDArray[np.uint8], size: int, filter_: str) -> float:
    """Mean absolute difference to PIL's scaling of the same RGB pixels."""
    expected = Image.fromarray(pixels).resize((size, size), _PIL[filter_])
    return float(np.abs(found.astype(np.float64) - np.asarray(expected)).mean())


@pytest.mark.parametrize("side", [40, 96, 600], ids=["larger", "smaller", "far_smaller"])
@pytest.mark.parametrize("resize", RESIZE_RULES)
def test_noise_is_scaled_as_in_pil(resize: Resize, side: int) -> None:
    """Noise reveals a filter that does not average all pixels when the picture shrinks."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    frame = VideoFrame.from_ndarray(pixels, format="rgb24")
    found = Framer(64, resize, 10**6).picture(frame, 1.0)
    filter_ = RESIZE_RULES[resize].filter
    assert _difference(found, pixels, 64, filter_) < 2
    assert _difference(found, pixels, 64, filter_) < _difference(found, pixels, 64, _OTHER[filter_]) / 2
