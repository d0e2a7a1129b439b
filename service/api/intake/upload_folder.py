"""The folder of this process for uploads: what a killed process left behind is removed at the next start."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from service.api.guard.byte_budget import ByteBudget, ByteShare
from service.errors import UploadUnavailableError

_PREFIX = "ahse-uploads-"
_LOCK = "lock"


@dataclass(frozen=True)
class PrivateFolder:
    """The folder of one upload.

    Attributes:
        path: The folder.
        share: Counts what is written into it: each writer tells how much that is so far.
    """

    path: Path
    share: ByteShare


class UploadFolder:
    """A folder with a locked file in it. The system releases the lock when the process ends, however it ends.

    So a folder whose lock can be taken belongs to nobody, also where processes of several containers share a
    parent folder, in which process ids would say nothing.

    Args:
        parent: Where to make it; None takes the system's temporary directory.
        max_bytes: Maximum size of all uploads in it together.

    Raises:
        UploadUnavailableError: It can't be made.
    """

    def __init__(self, parent: Path | None, max_bytes: int) -> None:
        self._budget = ByteBudget(max_bytes)
        where = Path(tempfile.gettempdir()) if parent is None else parent
        try:
            _remove_abandoned(where)
            # Under another name until the lock is held, so that no process takes it for abandoned.
            made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=where))
            self._lock = os.open(made / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self.path = made.rename(where / made.name.removeprefix("."))
        except OSError as error:
            raise UploadUnavailableError(
                "uploads can't be put on disk; check that AHSE_UPLOAD_DIR exists and is writable"
            ) from error

    @contextmanager
    def private(self) -> Iterator[PrivateFolder]:
        """A new folder for one upload, deleted with all in it at the end.

        Raises:
            UploadUnavailableError: It can't be made.
        """
        try:
            folder = tempfile.TemporaryDirectory(dir=self.path)
        except OSError as error:
            raise UploadUnavailableError("The upload could not be put on disk; try again later.") from error
        with folder as name, self._budget.share() as share:
            yield PrivateFolder(Path(name), share)

    @contextmanager
    def share(self) -> Iterator[ByteShare]:
        """Count bytes that are written elsewhere, but have to fit in beside the uploads."""
        with self._budget.share() as share:
            yield share

    def set_stored(self, n_bytes: int) -> None:
        """Say how many bytes are taken by what this process does not count itself."""
        self._budget.n_stored = n_bytes

    def n_bytes_of_others(self) -> int:
        """Bytes of uploads that other processes receive into folders beside this one."""
        folders = (folder for folder in self.path.parent.glob(f"{_PREFIX}*") if folder != self.path)
        return sum(map(_n_bytes_below, folders))

    def check(self) -> None:
        """Write a byte where uploads go.

        Raises:
            UploadUnavailableError: It can't be written: the folder is gone, or the disk is full.
        """
        try:
            with self.private() as private:
                (private.path / "check").write_bytes(b"x")
        except OSError as error:
            raise UploadUnavailableError("uploads can't be put on disk now") from error

    def close(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _n_bytes_below(folder: Path) -> int:
    """Bytes of all files; what vanishes meanwhile is left out."""
    n_bytes = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                n_bytes += Path(where, name).stat().st_size
    return n_bytes


def _remove_abandoned(where: Path) -> None:
    """Delete folders of processes that are gone; those of other users can't be opened, and stay."""
    for folder in where.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its owner lives
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
