"""What is known of containers and decoders by FFmpeg's names: which are allowed, and what each can do.

And why a file of another format is rejected.
"""

from typing import BinaryIO

from service.errors import MediaError, NotMediaError, TruncatedMediaError

_CONTAINERS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "flv", "mpegts", "mpeg", "asf",
    "mxf", "dv", "ivf", "ogg", "gif", "apng", "yuv4mpegpipe", "wav", "w64", "aiff", "caf", "au", "mp3",
    "flac", "wv", "aac", "ac3", "eac3", "amr", "amrnb", "amrwb",
    # One stream without a container: H.26x, MPEG-1 and 2, MPEG-4, AV1.
    "h263", "h264", "hevc", "vvc", "mpegvideo", "m4v", "obu",
    # One image. Those of another kind, `image2`, take the name of a file for the pattern of many.
    "png_pipe", "jpeg_pipe", "webp_pipe",
)  # fmt: skip
_MP4, _MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
# One image, even if more follow in the file; AVIF and HEIF, which are in `mov`, are told by their brand.
IMAGE_CONTAINERS = frozenset(("png_pipe", "jpeg_pipe", "webp_pipe"))
# A still image if it has a single frame.
ANIMATION_CONTAINERS = frozenset(("apng", "gif"))
# These may begin in the middle of anything.
BEGIN_ANYWHERE = frozenset(("mpegts", "mpeg", "h264", "hevc", "vvc", "mpegvideo", "m4v"))
# In these, recordings may follow each other, each with a clock of its own. What is so much later, in seconds,
# than any packet is due is of another one; less is a gap. As `ffmpeg` has it (-dts_delta_threshold), but for
# FLV, whose times are right where a stream just pauses.
MAY_JUMP = {"mpegts": 10.0, "mpeg": 10.0, "flv": 600.0}
# In these, packets have times. Those of others are made up of sizes and rates, often wrongly.
STORE_TIMES = frozenset((_MP4, _MATROSKA, "mpegts", "mpeg", "flv", "asf", "ogg"))
# These tell decoders in a header what others may tell them anywhere.
HAVE_HEADERS = frozenset((_MP4, _MATROSKA))

VIDEO_DECODERS = frozenset((
    "h264", "hevc", "vvc", "libdav1d", "av1", "libvpx-vp9", "vp8", "vp9", "vp6", "vp6f",
    "mpeg1video", "mpeg2video", "mpegvideo", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "h263",
    "h263p", "flv", "theora", "wmv1", "wmv2", "wmv3", "vc1", "mjpeg", "prores", "dnxhd", "dvvideo",
    "ffv1", "huffyuv", "ffvhuff", "utvideo", "cinepak", "indeo3", "indeo4", "indeo5", "svq1", "svq3",
    "qtrle", "rawvideo", "gif", "cfhd", "png", "apng", "webp", "jpeg2000", "magicyuv", "v210", "r210",
))  # fmt: skip

AUDIO_DECODERS = frozenset((
    "aac", "aac_latm", "mp1float", "mp2float", "mp2", "mp3float", "mp3", "mp3on4float", "opus", "libopus",
    "vorbis", "flac", "alac", "ac3", "eac3", "dca", "amrnb", "amrwb", "libopencore_amrnb",
    "libopencore_amrwb", "wmav1", "wmav2", "wmapro", "nellymoser", "speex", "gsm", "gsm_ms",
    "qdm2", "mace6", "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le",
    "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_alaw", "pcm_mulaw",
    "pcm_bluray", "pcm_dvd", "adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "adpcm_swf", "adpcm_yamaha",
    "g726", "g726le", "g722", "wavpack", "dvaudio",
))  # fmt: skip

# Decoders of images, in which transparency is meant to be seen.
SHOW_TRANSPARENCY = frozenset(("apng", "png", "webp"))
# Decoders that keep nothing from one group of pictures to the next, but for the encoder. A palette, for
# example, may come once only.
FORGET_GROUPS = frozenset(("h264", "hevc", "libdav1d", "av1", "libvpx-vp9", "vp9"))
# Decoders that can skip frames that no other frame refers to without changing any other frame.
CAN_SKIP = frozenset(("h264", "mpeg2video"))
# Decoders that work around the faults of the encoder that made a clip, which it may name in the first packet.
KNOW_ENCODERS = frozenset(("h264", "mpeg4"))
# Decoders of colours from a palette, which comes with the packet where it changes.
HAVE_PALETTES = frozenset(("cinepak", "qtrle", "rawvideo"))

# To learn what a header may not tell, FFmpeg decodes the first frame of each stream when it opens a file, and
# throws it away: of H.264 at 1080p 30 ms, as much as four frames later on. An MP4 file tells all that is
# needed of these (its word is taken for the size), and its sound and other codecs are cheap.
_TOLD_BY_MP4 = frozenset(("h264", "hevc"))

HEAD_BYTES = 64
JPEG_START = b"\xff\xd8\xff"
_IMAGE_STARTS = (b"\x89PNG", JPEG_START)
# BMP, TIFF, icons, Photoshop, JPEG XL (bare and in a container), JPEG 2000, and drawings.
_OTHER_IMAGE_STARTS = (
    *(b"BM", b"II*\0", b"MM\0*", b"\0\0\1\0", b"8BPS", b"\xff\x0a"),
    *(b"\0\0\0\x0cJXL ", b"\0\0\0\x0cjP  ", b"<svg"),
)
# In the flags of a WebP file: https://developers.google.com/speed/webp/docs/riff_container
_WEBP_ANIMATION = 0x02
_HEIF_BRANDS = (b"avif", b"heic", b"heix", b"mif1")
_LIST_STARTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0", b"[playlist]")
# Starts of pages of Ogg: four letters, the version and the flags.
_ORDINARY_PAGE, _FIRST_PAGE = b"OggS\0\0", b"OggS\0\2"
_BLOCK_BYTES = 1 << 20
# More than the number of top-level boxes before the index in any real file.
_MAX_BOXES = 64


def open_options(head: bytes) -> dict[str, str]:
    """What FFmpeg may do when it opens a file, by how the file starts."""
    decoders = (VIDEO_DECODERS | AUDIO_DECODERS) - (_TOLD_BY_MP4 if is_mp4(head) else frozenset())
    return {
        "format_whitelist": ",".join(_CONTAINERS),
        "codec_whitelist": ",".join(sorted(decoders)),
        # That of an open file (container._open): no name in a file can make FFmpeg open another one.
        "protocol_whitelist": "fd",
    }


def explain_unreadable(file: BinaryIO, size_bytes: int) -> MediaError:
    """The error for a file that FFmpeg can't open, chosen by its first bytes.

    Args:
        file: The file, at its start.
        size_bytes: Size of the file.
    """
    head = file.read(HEAD_BYTES)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    is_image = _is_webp(head) or is_heif(head) or head.startswith(_IMAGE_STARTS)
    if is_image and b"acTL" not in head:  # with this chunk a PNG is animated
        return NotMediaError("This image is damaged, or cut short. Send it again, whole.")
    if head.startswith(_OTHER_IMAGE_STARTS) or (text.startswith(b"<?xml") and b"<svg" in head):
        return NotMediaError(f"This image is of a kind that can't be read. {_KINDS_OF_IMAGES}")
    if text.startswith(_LIST_STARTS):
        return NotMediaError(
            "This is a playlist or a description that points to media. Send the clip itself."
        )
    if is_mp4(head) and not _has_index(file, size_bytes):
        return TruncatedMediaError(
            "The clip ends before its index: the file was cut short. Send it again, whole."
        )
    return NotMediaError(
        "This is not a clip that can be read, or it is damaged. "
        "Send MP4, MOV, WebM, MKV, AVI, MPEG, MXF, GIF, PNG, JPEG, WebP, AVIF, WAV, MP3, FLAC, Ogg or AAC."
    )


def is_heif(head: bytes) -> bool:
    """Whether a file starts like an AVIF or HEIF image, which FFmpeg opens as an MP4 clip."""
    return is_mp4(head) and head[8:12] in _HEIF_BRANDS


def is_mp4(head: bytes) -> bool:
    """Whether a file starts like MP4, or what is derived from it."""
    return head[4:8] == b"ftyp"


def is_animated_webp(head: bytes) -> bool:
    """Whether a file starts like an animation that FFmpeg (8.1) opens but reads no frame of."""
    flags = int.from_bytes(head[20:21]) if _is_webp(head) and head[12:16] == b"VP8X" else 0
    return bool(flags & _WEBP_ANIMATION)


def animated_webp() -> NotMediaError:
    """The error for an animated WebP."""
    return NotMediaError(
        "This is an animated WebP, which can't be read. Send the animation as MP4, WebM, GIF or animated PNG."
    )


def tiled_image() -> NotMediaError:
    """The error for a HEIF image in tiles, as many phones store them: FFmpeg does not join them."""
    return NotMediaError(
        f"This HEIC or AVIF image is stored in tiles, which can't be read. {_KINDS_OF_IMAGES}"
    )


_KINDS_OF_IMAGES = "Send it as JPEG, PNG, WebP or AVIF."


def _is_webp(head: bytes) -> bool:
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


def _has_index(file: BinaryIO, size_bytes: int) -> bool:
    """Whether an MP4 file has a `moov` box, found by walking over the top-level boxes."""
    position = 0
    for _ in range(_MAX_BOXES):
        # Before it is sought: a length of 64 bits may lead further than any file can be.
        if position >= size_bytes:
            return False
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            return False
        if header[4:8] == b"moov":
            return True
        length = int.from_bytes(header[:4])
        if length == 1 and len(header) == 16:
            length = int.from_bytes(header[8:16])
        if length < 8:
            return False
        position += length
    return False


def is_chained_ogg(file: BinaryIO) -> bool:
    """Whether a file is Ogg with several recordings in a row, such as of a radio station.

    They are recognised by a first page of a stream (flags 2, RFC 3533) after an ordinary one (flags 0).

    Args:
        file: The file, whose position is moved. It may be larger than the memory of this process.
    """
    file.seek(0)
    if file.read(4) != b"OggS":
        return False
    file.seek(0)
    content, sought = b"", _ORDINARY_PAGE
    while block := file.read(_BLOCK_BYTES):
        # A page may begin in one block and go on in the next.
        content = content[1 - len(sought) :] + block
        if sought == _ORDINARY_PAGE and (at := content.find(sought)) >= 0:
            content, sought = content[at:], _FIRST_PAGE
        if sought == _FIRST_PAGE and sought in content:
            return True
    return False
