"""Timelines as files beside the clips, or in a folder of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.cli.clip_files import STDIN, ClipFile
from service.errors import InvalidOptionError

if TYPE_CHECKING:
    from service.client import Answer

_MAX_NAMED = 3


class Subtitles:
    """The files of all clips: `dog.srt` for `dog.mp4`, or `dog.mp4.srt` where there is a `dog.mov` too.

    Args:
        clips: Of this run.
        endings: Which of the forms are written.
        folder: Where; None: beside each clip.

    Raises:
        InvalidOptionError: Two clips would have the same file.
    """

    def __init__(self, clips: Sequence[ClipFile], endings: Mapping[str, bool], folder: Path | None) -> None:
        self._endings = [ending for ending, is_wanted in endings.items() if is_wanted]
        bases = {clip.name: _base(clip, folder) for clip in clips}
        sharing = Counter(base.with_suffix("") for base in bases.values())
        self._places = {
            name: base if sharing[base.with_suffix("")] > 1 else base.with_suffix("")
            for name, base in bases.items()
        }
        doubled = [place for place, n in Counter(self._places.values()).items() if n > 1]
        if self._endings and doubled:
            raise InvalidOptionError(f"two clips would have the same file {doubled[0]}{self._endings[0]}")

    def refuse_to_replace(self) -> None:
        """Check that no file is there already.

        Raises:
            InvalidOptionError: Some are; names a few.
        """
        there = [path for place in self._places.values() for path in self._files(place) if path.exists()]
        if there:
            named = ", ".join(str(path) for path in there[:_MAX_NAMED])
            rest = f" and {len(there) - _MAX_NAMED} more" if len(there) > _MAX_NAMED else ""
            raise InvalidOptionError(
                f"files are there already: {named}{rest}; replace them (--overwrite) or choose --out-dir"
            )

    def write(self, clip: ClipFile, answer: Answer) -> None:
        """Write the files of a clip. One without segments, such as an image, has none."""
        if not self._endings or answer.segments is None:
            return
        from service.api.timeline import TIMELINES

        for path in self._files(self._places[clip.name]):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(TIMELINES[path.suffix[1:]].write(answer), encoding="utf-8")

    def _files(self, place: Path) -> list[Path]:
        return [place.with_name(place.name + ending) for ending in self._endings]


def _base(clip: ClipFile, folder: Path | None) -> Path:
    if folder is not None:
        return folder / clip.below
    return clip.below if clip.name == STDIN else clip.path
