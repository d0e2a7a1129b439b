"""Files that are written in one step, so that no reader sees half of one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, which takes its place afterwards, with the rights of any new file.

    These are noted before: safetensors makes files that only their owner may read, whatever the umask.
    """
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    partial.touch()
    mode = stat.S_IMODE(partial.stat().st_mode)
    yield partial
    partial.chmod(mode)
    os.replace(partial, path)  # noqa: PTH105 - Path.replace is the same call with an older name
