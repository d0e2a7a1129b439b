"""Our frames beside those of the original packages, on clips made here and on real ones.

docs/encoders.md says how they differ; these tests hold it to that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2

from service.decode import decode_clip
from service.media import DecodeLimits, DecodeSpec
from tests.service.decode.clips import Recipe, make

SHARED = Path(__file__).parents[4] / "shared" / "media" / "clips"
EXAMPLES = Path(__file__).parents[3] / "examples"
REAL = [
    SHARED / "ffwasm_video-1s.mp4",
    SHARED / "mdn_frog.webm",
    SHARED / "imageio_cockatoo.mp4",
    SHARED / "decord_flipping_a_pancake.mkv",
    EXAMPLES / "heart-with-a-chime.mp4",
]


def _theirs(path: Path, times_s: NDArray[np.float64]) -> NDArray[np.int16]:
    """The same frames at full size through PyAV and PIL, resized and cropped by open_clip's transform."""
    resize_and_crop = image_transform_v2(PreprocessCfg(size=224), is_train=False).transforms[:2]
    with av.open(str(path)) as source:
        frames: Any = {frame.time: frame.to_image() for frame in source.decode(video=0)}  # type: ignore[no-untyped-call]
    first = min(frames)
    pictures = [frames[min(frames, key=lambda stamp: abs(stamp - first - time_s))] for time_s in times_s]
    for step in resize_and_crop:
        pictures = [step(picture) for picture in pictures]
    return np.stack([np.asarray(picture, np.int16) for picture in pictures])


def _difference(path: Path) -> float:
    """Mean absolute difference in levels of 255."""
    clip = decode_clip(path, DecodeSpec(4, 224, 16_000, 1.0), DecodeLimits())
    assert clip.frames is not None
    return float(np.abs(clip.frames - _theirs(path, clip.frame_times_s)).mean())


def test_frames_of_a_generated_clip(tmp_path: Path) -> None:
    """Less than two levels of 255 on average."""
    assert _difference(make(Recipe(), tmp_path)) < 2


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_frames_of_real_clips(path: Path) -> None:
    """We scale in YUV and convert exactly; PyAV converts coarsely, and PIL scales in RGB."""
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    assert _difference(path) < 2
