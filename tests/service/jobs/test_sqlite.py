"""Jobs in a SQLite file: who can read it."""

from __future__ import annotations

import stat
from contextlib import closing
from pathlib import Path

from service.jobs.sqlite.store import SqliteJobStore
from tests.service.jobs.conftest import LIMITS


def test_nobody_else_can_read_clips_and_secrets(tmp_path: Path) -> None:
    """The file has mode 0600, and the folder 0700."""
    with closing(SqliteJobStore(tmp_path / "data", LIMITS)) as store:
        paths = [store.folder.path, tmp_path / "data" / "jobs.sqlite3"]
        modes = [stat.S_IMODE(path.stat().st_mode) for path in paths]
    assert modes == [0o700, 0o600]
