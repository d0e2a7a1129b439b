"""Our frames beside those of the original packages, on clips made here and on real ones.

docs/encoders.md says how they differ; these tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from service.decode import decode_clip
from service.media import RESIZE_RULES, DecodeLimits, DecodeSpec, Resize
from tests.service.decode.clips import Recipe, make

SHARED = Path(__file__).parents[4] / "shared" / "media" / "clips"
EXAMPLES = Path(__file__).parents[3] / "examples"
REAL = [
    SHARED / "ffwasm_video-1s.mp4",
    SHARED / "mdn_frog.webm",
    pytest.param(SHARED / "imageio_cockatoo.mp4", marks=pytest.mark.slow),
    SHARED / "decord_flipping_a_pancake.mkv",
    EXAMPLES / "heart-with-a-chime.mp4",
]
SPEC = DecodeSpec(4, 224, 48_000, 1.0)


def _at_full_size(path: Path, times_s: NDArray[np.float64]) -> list[Image.Image]:
    """The frames at those times through PyAV and PIL."""
    with av.open(str(path)) as source:
        frames: Any = {frame.time: frame.to_image() for frame in source.decode(video=0)}  # type: ignore[no-untyped-call]
    first = min(frames)
    return [frames[min(frames, key=lambda stamp: abs(stamp - first - time_s))] for time_s in times_s]


def _original(resize: Resize) -> Callable[[Image.Image], Image.Image]:
    """What open_clip does to a picture before it is a tensor."""
    shape, interpolation = RESIZE_RULES[resize]
    mode: Any = {"shorter_side": "shortest", "squash": "squash"}[shape]
    wanted = PreprocessCfg(size=224, interpolation=interpolation, resize_mode=mode)
    steps = image_transform_v2(wanted, is_train=False).transforms[:-2]  # the last two: tensor, mean
    return lambda picture: reduce(lambda made, step: step(made), steps, picture)


def _differences(path: Path) -> dict[Resize, float]:
    """Mean absolute difference in levels of 255, for each way in which frames become square."""
    pictures = _at_full_size(path, decode_clip(path, SPEC, DecodeLimits()).frame_times_s)
    differences: dict[Resize, float] = {}
    for resize in RESIZE_RULES:
        clip = decode_clip(path, replace(SPEC, resize=resize), DecodeLimits())
        theirs = np.stack([np.asarray(_original(resize)(picture), np.int16) for picture in pictures])
        assert clip.frames is not None
        differences[resize] = float(np.abs(clip.frames - theirs).mean())
    return differences


def test_frames_of_a_generated_clip(tmp_path: Path) -> None:
    """Less than two levels of 255 on average."""
    assert max(_differences(make(Recipe(), tmp_path)).values()) < 2


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_frames_of_real_clips(path: Path) -> None:
    """We scale in YUV and convert exactly; PyAV converts coarsely, and PIL scales in RGB."""
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    assert max(_differences(path).values()) < 2
