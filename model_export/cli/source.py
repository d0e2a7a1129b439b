"""Find out what a DATASET argument is and read it."""

from __future__ import annotations

from pathlib import Path

from model_export.data.errors import DatasetError, Problem
from model_export.data.features import GzslData
from model_export.data.published import read_published


def open_dataset(path: Path, *, legacy_text_order: bool = False) -> GzslData:
    """Read a folder in the published layout.

    Args:
        path: of the data set.
        legacy_text_order: published layout only: mix up the texts as the reference loader does.

    Raises:
        DatasetError: with everything that is wrong with it.
    """
    if path.is_dir():
        return read_published(path, legacy_text_order=legacy_text_order)
    raise DatasetError(path, [Problem(str(path), "no such folder")])
