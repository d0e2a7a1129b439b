"""Small media in many containers, damaged by seeded mutations, and what decoding each of them ends in."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.decode.pool import DecodePool
from service.errors import MediaError
from service.media import DecodeSpec
from tests.attack.damage import mutate
from tests.service.decode.clips import Recipe, make, write_sound

SPEC = DecodeSpec(n_frames=4, image_size_px=32, sample_rate_hz=16_000, max_audio_s=10.0, segment_s=0.25)

_FRAMES = range(8)
RECIPES = tuple(
    Recipe(ticks=_FRAMES, width=64, height=48, gop=4, audio_s=0.4, **recipe)
    for recipe in (
        {"name": "h264.mp4", "audio": "aac"},
        {"name": "faststart.mp4", "audio": "aac", "container_options": {"movflags": "faststart"}},
        {
            "name": "fragments.mp4",
            "audio": "aac",
            "container_options": {"movflags": "frag_keyframe+empty_moov"},
        },
        {
            "name": "turned.mov",
            "codec": "mjpeg",
            "pix_fmt": "yuvj420p",
            "audio": "pcm_s16le",
            "rotation": (90, True),
        },
        {"name": "vp8.webm", "codec": "libvpx"},
        {"name": "vp9.mkv", "codec": "libvpx-vp9", "audio": "flac"},
        {"name": "mpeg2.ts", "codec": "mpeg2video", "audio": "mp2"},
        {"name": "mpeg4.avi", "codec": "mpeg4", "audio": "libmp3lame"},
        {"name": "flash.flv", "codec": "flv", "audio": "libmp3lame"},
        {"name": "windows.asf", "codec": "wmv2", "audio": "libmp3lame"},
        {"name": "pictures.gif", "codec": "gif", "pix_fmt": "rgb8"},
        {"name": "sound.wav", "codec": None, "audio": "pcm_s16le"},
        {"name": "sound.flac", "codec": None, "audio": "flac"},
        {"name": "sound.mp3", "codec": None, "audio": "libmp3lame"},
        {"name": "sound.caf", "codec": None, "audio": "alac"},
        {"name": "sound.aac", "codec": None, "audio": "aac"},
    )
)


def write_media(folder: Path) -> list[bytes]:
    """Small files that can be decoded: one of each recipe, and Ogg with Opus, which has a rate of its own."""
    wave = 0.3 * np.sin(np.arange(19_200) / 17)[None]
    opus = write_sound(folder / "opus.ogg", wave, "libopus", layout="mono", rate_hz=48_000)
    return [*(make(recipe, folder).read_bytes() for recipe in RECIPES), opus.read_bytes()]


@dataclass(frozen=True)
class Outcome:
    """What decoding one mutation ended in.

    Attributes:
        number: Of the mutation.
        ended_in: `clip`, or the code of the MediaError.
        seconds: Wall time.
        fault: What must not happen, in words; None if all is well.
    """

    number: int
    ended_in: str
    seconds: float
    fault: str | None = None


def decode_all(
    pool: DecodePool, media: Sequence[bytes], seed: int, numbers: Iterable[int], folder: Path
) -> Iterator[Outcome]:
    """Decode mutations in all processes of a pool, in order of their numbers.

    Args:
        pool: Where to decode.
        media: Files to damage.
        seed: Of the mutations.
        numbers: Of the mutations.
        folder: Where they are put while they are decoded.
    """

    def decode(number: int) -> Outcome:
        path = folder / str(number)
        path.write_bytes(mutate(media, seed, number))
        started = time.perf_counter()
        ended_in, fault = _decode(pool, path)
        path.unlink()
        return Outcome(number, ended_in, time.perf_counter() - started, fault)

    with ThreadPoolExecutor(pool.n_workers) as threads:
        yield from threads.map(decode, numbers)


def _decode(pool: DecodePool, path: Path) -> tuple[str, str | None]:
    try:
        pool.decode(path, SPEC)
    except MediaError as error:
        # The process answers an exception that it did not foresee with its traceback, as the cause.
        foreseen = not isinstance(error.__cause__, RuntimeError)
        return error.code, None if foreseen else str(error.__cause__)
    except Exception as error:  # noqa: BLE001  (to be reported with the number of its mutation)
        return type(error).__name__, repr(error)
    return "clip", None
