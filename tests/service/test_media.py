"""The values of the decode step refuse what makes no sense."""

from typing import Any

import pytest

from service.media import DecodeSpec

GOOD: dict[str, Any] = {"n_frames": 8, "image_size_px": 224, "sample_rate_hz": 48_000, "max_audio_s": 60.0}


@pytest.mark.parametrize(
    "change",
    [
        {"n_frames": 0},
        {"image_size_px": 0},
        {"sample_rate_hz": 0},
        {"max_audio_s": 0.0},
        {"sampling": "random"},
        {"resize": "stretch"},
        {"frames": "some"},
        {"segment_s": 0.0},
        {"sampling": "middle"},
    ],
    ids=str,
)
def test_an_impossible_decode_specification_is_refused(change: dict[str, Any]) -> None:
    """Each field is checked; `middle` requires exactly one frame."""
    assert DecodeSpec(**GOOD)
    with pytest.raises(ValueError, match=next(iter(change))):
        DecodeSpec(**(GOOD | change))
