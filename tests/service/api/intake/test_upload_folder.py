"""Where uploads wait: nothing stays there for ever, and nobody's upload is deleted by another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service.api.intake.upload_folder import UploadFolder
from service.errors import UploadUnavailableError

_CODE = """
import sys
from pathlib import Path
from service.api.intake.upload_folder import UploadFolder
folder = UploadFolder(Path(sys.argv[1]), 10**6)
with folder.private() as private:
    (private.path / "clip").write_bytes(b"x")
    print(folder.path.name, flush=True)
    sys.stdin.read()
"""


def test_uploads_of_a_killed_process_are_removed_at_the_next_start(tmp_path: Path) -> None:
    """While it lives they stay, whoever else starts; other files of the folder are not touched."""
    (tmp_path / "ahse-uploads-not-ours").write_bytes(b"x")
    with subprocess.Popen(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", _CODE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        folder = tmp_path / owner.stdout.readline().strip()
        with UploadFolder(tmp_path, 10**6):
            assert len(list(folder.glob("*/clip"))) == 1
        owner.kill()
        owner.wait()
    assert folder.is_dir()
    with UploadFolder(tmp_path, 10**6) as own:
        assert {path.name for path in tmp_path.iterdir()} == {own.path.name, "ahse-uploads-not-ours"}
    assert [path.name for path in tmp_path.iterdir()] == ["ahse-uploads-not-ours"]


def test_each_upload_has_a_folder_that_ends_with_it(tmp_path: Path) -> None:
    """Also after an error."""

    def fail(private: Path) -> None:
        (private / "clip").write_bytes(b"x")
        raise ValueError("on purpose")

    with UploadFolder(tmp_path, 10**6) as folder:
        with pytest.raises(ValueError, match="on purpose"), folder.private() as private:
            fail(private.path)
        assert [path.name for path in folder.path.iterdir()] == ["lock"]


def test_uploads_of_others_beside_it_can_be_counted(tmp_path: Path) -> None:
    """Those of other workers of a service, whose disk is the same."""
    with UploadFolder(tmp_path, 10**6) as own, UploadFolder(tmp_path, 10**6) as other:
        with own.private() as private:
            (private.path / "clip").write_bytes(bytes(1000))
            assert (own.n_bytes_of_others(), other.n_bytes_of_others()) == (0, 1000)
        assert other.n_bytes_of_others() == 0


def test_a_folder_that_is_gone_is_an_error_of_the_service(tmp_path: Path) -> None:
    """Not of the clip."""
    with pytest.raises(UploadUnavailableError, match="AHSE_UPLOAD_DIR"):
        UploadFolder(tmp_path / "none", 10**6)
    with UploadFolder(tmp_path, 10**6) as folder:
        (folder.path / "lock").unlink()
        folder.path.rmdir()
        with pytest.raises(UploadUnavailableError, match="try again later"), folder.private():
            pass
