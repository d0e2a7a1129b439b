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


@pytest.mark.parametrize(("width", "height", "pixel_aspect"), [(368, 640, 8 / 9), (1080, 1920, 500 / 609)])
def test_an_upright_frame_of_odd_pixels_is_as_wide_as_is_asked_for(
    width: int, height: int, pixel_aspect: float
) -> None:
    """Its shorter side is no whole number of square pixels, which must not round to one fewer."""
    framer = Framer(224, "shorter_side_bicubic_center_crop", 10**7)
    assert framer.picture(VideoFrame(width, height, "yuv420p"), pixel_aspect).shape == (224, 224, 3)
