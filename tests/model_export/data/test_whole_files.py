"""Files appear whole, and may be read by whom the umask lets read them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model_export.data.feature_file import write_feature_file
from model_export.data.invented import invent
from model_export.head.run_folder import save_tensors, write_atomically


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """The group may read, nobody may write but the owner."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_new_files_have_the_rights_that_the_umask_gives(tmp_path: Path) -> None:
    """Also those of safetensors, and after an attempt that left a partial file of its owner only."""
    (tmp_path / "b.partial").touch(mode=0o600)
    write_feature_file(tmp_path / "a.safetensors", invent(seed=0, n_clips=3))
    save_tensors(tmp_path / "b", {"x": torch.zeros(2)})
    write_atomically(tmp_path / "c", "text")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("a.safetensors", "b", "c"), 0o640)
