"""Fixtures of the decode tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.media import DecodeLimits, DecodeSpec
from tests.service.decode.clips import Recipe, make

Make = Callable[..., Path]


@pytest.fixture
def make_clip(tmp_path: Path) -> Make:
    """Encodes a clip; the arguments are those of `Recipe`."""
    return lambda **changes: make(Recipe(**changes), tmp_path)


@pytest.fixture
def spec() -> DecodeSpec:
    """What a small model wants."""
    return DecodeSpec(n_frames=8, image_size_px=32, sample_rate_hz=16_000, max_audio_s=10.0)


@pytest.fixture
def limits() -> DecodeLimits:
    """Limits that no clip of these tests comes near to."""
    return DecodeLimits(max_duration_s=60.0)
