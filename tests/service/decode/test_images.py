"""Still images are clips of one frame: what is read, how it is turned, what is refused and how."""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from service.decode import DecodePool, decode_clip
from service.errors import ClipTooLargeError, EmptyFileError, MediaError, NotMediaError, NoTracksError
from service.media import DecodeLimits, DecodeSpec
from tests.service.decode.clips import picture
from tests.service.decode.test_formats import chunk, png

ORIENTATION = 0x0112


def drawn() -> Image.Image:
    """A picture in which each quarter has another colour."""
    return Image.fromarray(picture(0, 96, 64))


def written(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    """A file of an image."""
    out = io.BytesIO()
    (image or drawn()).save(out, kind, **options)
    return out.getvalue()


def small(image: Image.Image) -> np.ndarray[Any, Any]:
    """The middle square of an image as a model gets it, 32 x 32."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.convert("RGB").crop((left, top, left + side, top + side))
    return np.asarray(square.resize((32, 32), Image.Resampling.BICUBIC), dtype=float)


IMAGES = {
    "png": written("PNG"),
    "png of a palette": written("PNG", drawn().convert("P", palette=Image.Palette.ADAPTIVE)),
    "jpeg": written("JPEG", quality=95),
    "progressive jpeg": written("JPEG", quality=95, progressive=True),
    "jpeg of ink": written("JPEG", drawn().convert("CMYK"), quality=95),
    "webp": written("WEBP", quality=95),
    "lossless webp": written("WEBP", lossless=True),
    "avif": written("AVIF", quality=95),
    "gif of one frame": written("GIF"),
    "apng of one frame": png([drawn().convert("RGBA").tobytes()], 96, 64, animated=True),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    """Processes in the sandbox."""
    with DecodePool(DecodeLimits(), n_workers=1) as pool:
        pool.start()
        yield pool


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_a_clip_of_one_frame(
    name: str, tmp_path: Path, spec: DecodeSpec, pool: DecodePool
) -> None:
    """In the sandbox too: all pictures are the same, and there is no time, no sound and no segment."""
    path = tmp_path / "image"
    path.write_bytes(IMAGES[name])
    clip = pool.decode(path, replace(spec, segment_s=1.0))
    assert clip.frames is not None
    assert clip.frames.shape == (8, 32, 32, 3)
    assert (clip.frames == clip.frames[0]).all()
    assert np.abs(clip.frames[0] - small(drawn())).mean() < 8
    assert (clip.duration_s, clip.segments, clip.waveform, clip.n_frames_decoded) == (0.0, (), None, 1)
    assert clip.visual.used
    assert clip.visual.detail.endswith("96x64, a still image")
    assert (clip.audio.used, clip.audio.detail) == (False, "a still image has no sound")
    assert clip.warnings == ("A still image has no segments.",)
    assert pool.decode(path, spec).warnings == ()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photos_are_upright(
    kind: str, orientation: int, tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """As Pillow turns them by their Exif."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / "photo"
    path.write_bytes(written(kind, exif=exif, quality=95))
    frames = decode_clip(path, spec, limits).frames
    assert frames is not None
    upright = ImageOps.exif_transpose(Image.open(path))
    assert upright is not None
    assert np.abs(frames[0] - small(upright)).mean() < 8


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparent_parts_are_white(
    kind: str, tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Whatever colour is stored under them."""
    image = drawn().convert("RGBA")
    image.putalpha(0)
    path = tmp_path / "image"
    path.write_bytes(written(kind, image, lossless=True, exact=True))
    frames = decode_clip(path, spec, limits).frames
    assert frames is not None
    np.testing.assert_array_equal(frames, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_of_several_images_in_a_file_the_first_counts(
    kind: str, tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Photos of phones have a gain map, a depth map or a short clip behind them."""
    path = tmp_path / "photo"
    grey = written(kind, Image.new("RGB", (96, 64), (128, 128, 128)))
    path.write_bytes(written(kind, quality=95) + grey + b"\0\0\0\x18ftypmp42" + bytes(300))
    clip = decode_clip(path, spec, limits)
    assert clip.frames is not None
    assert np.abs(clip.frames[0] - small(drawn())).mean() < 8
    assert clip.n_frames_decoded == 1


@pytest.mark.parametrize("name", ["png", "jpeg", "lossless webp", "avif"])
def test_a_damaged_image_gives_a_picture_or_a_typed_error(
    name: str, tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Cut anywhere."""
    path, content = tmp_path / "image", IMAGES[name]
    for size in range(4, len(content), len(content) // 9):
        path.write_bytes(content[:size])
        with contextlib.suppress(MediaError):
            assert decode_clip(path, spec, limits).visual.used


def _webp_start(flags: int) -> bytes:
    """The start of an extended WebP file."""
    head = b"WEBPVP8X" + struct.pack("<I", 10) + bytes([flags]) + bytes(9)
    return b"RIFF" + struct.pack("<I", len(head)) + head + bytes(100)


def _without_primary(content: bytes) -> bytes:
    """An AVIF file whose primary item is none of its images, as where that is made of tiles."""
    at = content.index(b"pitm") + 8
    return content[:at] + b"\0\x63" + content[at + 2 :]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (written("TIFF"), "kind that can't be read.*JPEG, PNG, WebP or AVIF"),
        (written("TIFF", save_all=True, append_images=[drawn()]), "kind that can't be read"),
        (written("BMP"), "kind that can't be read"),
        (written("ICO"), "kind that can't be read"),
        (written("JPEG2000"), "kind that can't be read"),
        (b"8BPS\0\1" + bytes(100), "kind that can't be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/passwd'/></svg>", "kind that can't be"),
        (b"<?xml version='1.0'?>\n<svg><image href='clip'/></svg>", "kind that can't be read"),
        (written("WEBP", save_all=True, append_images=[Image.new("RGB", (96, 64))]), "animated WebP.*MP4"),
        (_webp_start(2), "animated WebP"),
        (_without_primary(written("AVIF")), "stored in tiles"),
    ],
)
def test_other_images_are_refused_with_what_to_send(
    content: bytes, said: str, tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Images of several pages, drawings that point to files, icons, tiles."""
    path = tmp_path / "clip"
    path.write_bytes(content)
    with pytest.raises(NotMediaError, match=said):
        decode_clip(path, spec, limits)


def test_tiles_are_not_called_too_many_streams(
    tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Each is a stream, and the photo of a phone has 48. Here its transparency is a second one."""
    path = tmp_path / "photo.heic"
    path.write_bytes(_without_primary(written("AVIF", Image.new("RGBA", (96, 64), (255, 0, 0, 100)))))
    with pytest.raises(NotMediaError, match="stored in tiles"):
        decode_clip(path, spec, replace(limits, max_streams=1))


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"\xff\xd8\xff\xe0" + bytes(100),
        b"RIFF\x10\0\0\0WEBPVP8 " + bytes(100),
        _webp_start(0),
        _webp_start(2)[:20],
    ],
)
def test_the_start_of_an_image_alone_is_told_from_other_files(
    content: bytes, tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """The message speaks of an image, not of a clip."""
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(NoTracksError, match="The image could not be decoded"):
        decode_clip(path, spec, limits)


def test_a_damaged_animated_png_is_not_called_a_still_image(
    tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """It is told by its chunk `acTL`."""
    path = tmp_path / "image"
    path.write_bytes(png([bytes(64 * 64 * 4)] * 2, 64, 64, animated=True)[:60])
    with pytest.raises((NotMediaError, NoTracksError)) as caught:
        decode_clip(path, spec, limits)
    assert "still" not in caught.value.message


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "avif"])
def test_the_limit_on_pixels_holds_for_images(
    name: str, tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """The message names it."""
    path = tmp_path / "image"
    path.write_bytes(IMAGES[name])
    with pytest.raises((ClipTooLargeError, NoTracksError), match=str(96 * 64 - 1)):
        decode_clip(path, spec, replace(limits, max_frame_pixels=96 * 64 - 1))
    # FFmpeg allocates rows of multiples of 64 pixels.
    assert decode_clip(path, spec, replace(limits, max_frame_pixels=128 * 64)).visual.used


def test_a_small_file_with_a_huge_image_is_refused(
    tmp_path: Path, spec: DecodeSpec, pool: DecodePool
) -> None:
    """Its 81 million pixels would take 243 MB."""
    rows = zlib.compress(bytes((9000 * 3 + 1) * 9000), 1)
    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    path = tmp_path / "image"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    with pytest.raises(MediaError, match="pixels"):
        pool.decode(path, spec)


def test_a_name_like_a_pattern_opens_no_other_file(
    tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """FFmpeg's other reader of images takes `%d` in a name for a number, and reads the next ones too."""
    for number in range(3):
        (tmp_path / f"image{number}.png").write_bytes(IMAGES["png"])
    path = tmp_path / "image%d.png"
    path.write_bytes(b"")
    with pytest.raises(EmptyFileError):
        decode_clip(path, spec, limits)
    path.write_bytes(IMAGES["png"])
    assert decode_clip(path, spec, limits).n_frames_decoded == 1
