"""Find out what a DATASET argument is and read it."""

from __future__ import annotations

from pathlib import Path

from model_export.data.feature_file import SUFFIX, read_feature_file
from model_export.data.features import GzslData
from model_export.data.published import read_published
from model_export.errors import DatasetError, Problem


def open_dataset(path: Path, *, legacy_text_order: bool = False) -> GzslData:
    """Read a folder in the published layout, or a feature file.

    Args:
        path: of the data set.
        legacy_text_order: published layout only: mix up the texts as the reference loader does.

    Raises:
        DatasetError: with everything that is wrong with it.
    """
    if path.is_dir():
        return read_published(path, legacy_text_order=legacy_text_order)
    if legacy_text_order:
        raise DatasetError(path, [Problem(str(path), "only the published layout has a legacy text order")])
    if not path.exists():
        raise DatasetError(path, [Problem(str(path), "no such file or folder")])
    if path.suffix == SUFFIX:
        return read_feature_file(path).data
    what = f"not a data set: neither a folder in the published layout nor a {SUFFIX} file"
    raise DatasetError(path, [Problem(str(path), what)])
