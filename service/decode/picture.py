"""Convert a decoded frame to a square, upright RGB picture."""

from typing import cast

import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from service.errors import ClipTooLargeError
from service.media import RESIZE_RULES, Resize

_FILTERS = {"bicubic": Interpolation.BICUBIC, "bilinear": Interpolation.BILINEAR}
# Full chroma resolution, and the same result on every processor.
_EXACT = (
    Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
# A pixel aspect ratio outside this range is a damaged header, not an anamorphic clip.
_PLAUSIBLE_PIXEL_ASPECT = (0.25, 4.0)

_OPAQUE = 255


class Framer:
    """Converts the frames of one stream to square, upright pictures.

    Args:
        size_px: Side length of the pictures.
        resize: How a frame is turned into a square.
        on_white: Whether the frames are images with transparent parts, under which white is shown, as FFmpeg
            itself does in GIF. Otherwise transparency is ignored, which is black in most videos.
        max_pixels: Maximum number of pixels of a scaled frame before it is cropped.
    """

    def __init__(self, size_px: int, resize: Resize, max_pixels: int, *, on_white: bool = False) -> None:
        self._size_px = size_px
        rule = RESIZE_RULES[resize]
        self._squash = rule.shape == "squash"
        self._filter = _FILTERS[rule.filter] | _EXACT
        self._max_pixels = max_pixels
        self._on_white = on_white
        self._reformatter = VideoReformatter()

    def picture(self, frame: VideoFrame, pixel_aspect: float) -> npt.NDArray[np.uint8]:
        """Scale, crop and rotate one frame.

        Args:
            frame: The frame.
            pixel_aspect: Width of its pixels divided by their height.

        Returns:
            uint8 [size_px, size_px, 3], RGB.

        Raises:
            ClipTooLargeError: The frame is so long and thin that scaling it would need too much memory.
        """
        width, height = self._scaled_size(frame, pixel_aspect)
        if width * height > self._max_pixels:
            raise ClipTooLargeError("The frames are far too long and thin. Crop the clip and send it again.")
        scaled = self._reformatter.reformat(
            _on_white(frame) if self._on_white else frame,
            width,
            height,
            "rgb24",
            interpolation=self._filter,
            dst_color_range="JPEG",
            threads=1,
        )
        top, left = round((height - self._size_px) / 2), round((width - self._size_px) / 2)
        pixels = np.asarray(scaled.to_ndarray(), dtype=np.uint8)
        square = pixels[top : top + self._size_px, left : left + self._size_px]
        return np.ascontiguousarray(_upright(square, _display_matrix(frame)))

    def _scaled_size(self, frame: VideoFrame, pixel_aspect: float) -> tuple[int, int]:
        """Width and height to scale to, before rotation."""
        if self._squash:
            return self._size_px, self._size_px
        low, high = _PLAUSIBLE_PIXEL_ASPECT
        wide = pixel_aspect if low <= pixel_aspect <= high else 1.0
        width, height = frame.width * wide, float(frame.height)
        # The shorter side is not computed: a quotient of rounded numbers may be a pixel less.
        if width < height:
            return self._size_px, int(self._size_px * height / width)
        return int(self._size_px * width / height), self._size_px


def _on_white(frame: VideoFrame) -> VideoFrame:
    """Lay a frame with transparent parts on white."""
    rgba = np.asarray(frame.to_ndarray(format="rgba"), dtype=np.uint8)
    if rgba[..., 3].min() == _OPAQUE:
        return frame
    rgb = np.empty((frame.height, frame.width, 3), dtype=np.uint8)
    for source, target in zip(rgba, rgb, strict=True):  # by rows, since products need more than 8 bits
        shade = (_OPAQUE - source[:, :3].astype(np.uint16)) * source[:, 3:]
        target[:] = _OPAQUE - (shade + _OPAQUE // 2) // _OPAQUE
    return VideoFrame.from_ndarray(rgb, "rgb24")


# Of so many quarter turns against the clock.
_QUARTER_TURNS = np.array(
    [[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]], dtype=np.int32
)


def _display_matrix(frame: VideoFrame) -> npt.NDArray[np.int32]:
    """The linear part of the display matrix: int32 [2, 2], the rows are the images of the x and y axes."""
    try:
        side_data = cast("SideDataContainer", frame.side_data)
        data = np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), dtype="<i4")
    except KeyError:
        return np.eye(2, dtype=np.int32)
    except ValueError:
        # Beside it is side data that PyAV (18) has no name for, such as Exif of a photo. Then it tells
        # quarter turns alone: a mirrored photo, which hardly any camera takes, is turned as if it were not.
        turned: npt.NDArray[np.int32] = _QUARTER_TURNS[round(frame.rotation / 90) % 4]
        return turned
    return data.reshape(3, 3)[:2, :2].astype(np.int32)


def _upright(square: npt.NDArray[np.uint8], matrix: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Apply a display matrix, rounded to quarter turns and reflections, to a square picture."""
    (xx, xy), (yx, yy) = matrix.tolist()
    # Larger diagonal: the axes stay and may be reversed. Else they are swapped first, so x is reversed if the
    # image of y points backwards along x, and vice versa.
    if abs(xx) + abs(yy) >= abs(xy) + abs(yx):
        flip_x, flip_y = xx < 0, yy < 0
    else:
        square = square.transpose(1, 0, 2)
        flip_x, flip_y = yx < 0, xy < 0
    return square[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
