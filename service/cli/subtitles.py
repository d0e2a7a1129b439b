"""Timelines as files beside the clips, or in a folder of their own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from service.cli.clip_files import STDIN, ClipFile
from service.cli.command_app import named_in_errors
from service.errors import InvalidOptionError

if TYPE_CHECKING:
    from service.cli.record_files import RecordFile
    from service.client import Answer

_MAX_NAMED = 3


class Subtitles:
    """The files of all clips: `dog.srt` for `dog.mp4`, or `dog.mp4.srt` where there is a `dog.mov` too.

    Args:
        clips: Of this run.
        endings: Which of the forms are written.
        folder: Where; None: beside each clip.
        overwrite: Replace files that are there already.

    Raises:
        InvalidOptionError: Two clips would have the same file.
    """

    def __init__(
        self,
        clips: Sequence[ClipFile],
        endings: Mapping[str, bool],
        folder: Path | None,
        *,
        overwrite: bool,
    ) -> None:
        self._overwrite = overwrite
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

    def refuse_to_replace(self, but: Set[str] = frozenset()) -> None:
        """Check that no file is there already, unless they may be replaced.

        Args:
            but: Names of clips whose files may be there.

        Raises:
            InvalidOptionError: Some are; names a few.
        """
        names = [name for name in self._places if name not in but]
        there = [path for name in names for path in self._files(name) if _exists(path)]
        if there and not self._overwrite:
            named = ", ".join(str(path) for path in there[:_MAX_NAMED])
            rest = f" and {len(there) - _MAX_NAMED} more" if len(there) > _MAX_NAMED else ""
            raise InvalidOptionError(
                f"files are there already: {named}{rest}; replace them (--overwrite) or choose --out-dir"
            )

    def complete(self, old: RecordFile) -> None:
        """Write the files that are missing of answers in a file of records that is resumed.

        Files of clips that are answered may be there.

        Raises:
            InvalidOptionError: Files of other clips are there, or the answers to write can't be read.
        """
        self.refuse_to_replace(old.answered)
        written = old.done & old.segmented
        if lacking := {name for name in written if not all(map(_exists, self._files(name)))}:
            for name, answer in old.stored(lacking):
                self.write(name, answer)

    def write(self, name: str, answer: Answer) -> None:
        """Write the files of a clip; those that are there stay, unless they may be replaced.

        Those of standard input were of what came before. A clip without segments, such as an image, has none.

        Args:
            name: Of the clip.
            answer: What its files show.
        """
        if not self._endings or answer.segments is None:
            return
        from service.api.timeline import TIMELINES

        for path in self._files(name):
            if _exists(path) and not self._overwrite and name != STDIN:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with named_in_errors(path):
                path.write_text(TIMELINES[path.suffix[1:]].write(answer), encoding="utf-8")

    def _files(self, name: str) -> list[Path]:
        place = self._places[name]
        return [place.with_name(place.name + ending) for ending in self._endings]


def _exists(path: Path) -> bool:
    """Unlike Path.exists, this answers also where a folder may not be entered."""
    return os.path.exists(path)  # noqa: PTH110


def _base(clip: ClipFile, folder: Path | None) -> Path:
    if folder is not None:
        return folder / clip.below
    return clip.below if clip.name == STDIN else clip.path
