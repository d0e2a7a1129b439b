"""The files of jobs on disk: a folder for each job, with its clips under neutral names."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Set
from pathlib import Path
from uuid import uuid4

from service.errors import StoreUnavailableError
from service.process import sync

_OWNER_ONLY = 0o700


class JobFolder:
    """Folders of jobs below one directory.

    Args:
        path: The directory, which is made if there is none.

    Raises:
        StoreUnavailableError: It can't be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        try:
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(_OWNER_ONLY)
        except OSError as error:
            raise StoreUnavailableError(
                "the folder of jobs can't be made; check that the data directory is writable"
            ) from error

    def clip(self, job_id: str, index: int) -> Path:
        """The file of a clip."""
        return self.path / job_id / str(index)

    def take(self, clips: Path, job_id: str) -> None:
        """Move a folder of clips in as that of a job, for good: its files must have been synced.

        Raises:
            OSError: It can't be moved for good; nothing of it is there then.
        """
        try:
            clips.rename(self.path / job_id)
            sync(self.path)
        except OSError:
            self.remove(job_id)
            raise

    def remove_clip(self, job_id: str, index: int) -> None:
        """Delete the file of a clip, if there is one; what can't be deleted now goes with its job."""
        with contextlib.suppress(OSError):
            self.clip(job_id, index).unlink()

    def remove(self, job_id: str) -> None:
        """Delete the folder of a job, if there is one."""
        shutil.rmtree(self.path / job_id, ignore_errors=True)

    def sweep(self, wanted: Set[tuple[str, int]]) -> None:
        """Delete what a process that was killed left behind, as far as that can be deleted now.

        Args:
            wanted: Job and index of all clips that are still needed. The folder of their job stays, though it
                may be empty: a clip may be on its way into it.
        """
        jobs, clips = {job for job, _ in wanted}, {(job, str(index)) for job, index in wanted}
        for job in self.path.glob("job_*"):
            with contextlib.suppress(OSError):  # another process may delete the same, and it may not be empty
                for clip in job.iterdir():
                    if (job.name, clip.name) not in clips:
                        clip.unlink(missing_ok=True)
                if job.name not in jobs:
                    job.rmdir()

    def identity(self) -> str:
        """What tells this directory from those of other replicas; made once, and kept in it.

        Raises:
            StoreUnavailableError: It can't be made.
        """
        path, own = self.path / "replica", self.path / f"replica-{uuid4().hex}"
        try:
            own.write_text(uuid4().hex)
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(own)  # whole, or not at all, and once
            own.unlink()
            return path.read_text()
        except OSError as error:
            raise StoreUnavailableError(
                "the folder of jobs can't be used; check that the data directory is writable"
            ) from error

    def lead(self, take_up: Callable[[], object]) -> bool:
        """Lock the directory for this process; whether it has it. The system unlocks it at the process's end.

        Args:
            take_up: Run once, when it is locked; if it raises, the directory is unlocked and the next try
                begins anew.

        Raises:
            StoreUnavailableError: There can't be a lock.
        """
        if self._lock is not None:
            return True
        self._lock = self._locked()
        if self._lock is None:
            return False
        try:
            take_up()
        except BaseException:
            self.close()
            raise
        return True

    def _locked(self) -> int | None:
        """The file that holds the lock; None: another process has it."""
        try:
            file = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise StoreUnavailableError(
                "the folder of jobs can't be locked; check that the data directory is writable"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return None
        return file

    def close(self) -> None:
        """Unlock the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def n_bytes_of(path: Path) -> int:
    """Size of a file; 0: there is none."""
    return path.stat().st_size if path.exists() else 0
