"""Clips in other containers: the same coded streams, not a bit of them encoded anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import av

CONTAINERS: Final[Mapping[str, str]] = {
    "mp4": "mp4",
    "mov": "mov",
    "mkv": "matroska",
    "ts": "mpegts",
    "flv": "flv",
}
"""Endings, and how FFmpeg calls the containers."""


def remux(path: Path, folder: Path) -> dict[str, Path]:
    """Write the first picture and the first sound of a clip into every container that takes them.

    Args:
        path: The clip.
        folder: Where the files go.

    Returns:
        The files, by their endings.
    """
    written = {}
    for ending, name in CONTAINERS.items():
        out = folder / f"{path.stem}.{ending}"
        try:
            _copy(path, out, name)
        except (av.FFmpegError, ValueError):  # a codec that this container has no place for
            out.unlink(missing_ok=True)
        else:
            written[ending] = out
    return written


def _copy(path: Path, out: Path, container: str) -> None:
    with av.open(str(path)) as source, av.open(str(out), "w", format=container) as target:
        streams = [*source.streams.video[:1], *source.streams.audio[:1]]
        copies = {one.index: target.add_stream_from_template(one) for one in streams}
        for packet in source.demux(streams):
            if packet.dts is not None:  # the last one of each stream is empty
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
