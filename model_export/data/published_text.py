"""Join each class of a published data set with its CLIP and CLAP text vectors.

The reference loader sorts the vectors by TEXT and then picks them by the rank of the CLASS name. The two
orders differ, so it trains 8 of 200 ActivityNet, 205 of 309 VGGSound and no UCF class on another class's
text. Here they are joined by name, unless the published behaviour is asked for.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from model_export.data.pickles import read_npy_dict
from model_export.errors import DatasetError, Problem
from service.arrays import Array

FEATURES: Final = "features/cls_features_non_averaged"
_COLUMNS: Final = ("clip_class_name", "manual", "original")  # the first that names all vectors is used

Table = Mapping[str, Any]


def read_class_text(
    root: Path,
    key: str,
    names_csv: str,
    classes: tuple[str, ...],
    problems: list[Problem],
    *,
    legacy_order: bool,
) -> tuple[Array, Array] | None:
    """CLIP [n_classes, n_visual] and CLAP [n_classes, n_audio] text vectors, in the order of `classes`.

    Returns:
        None where there was a problem, which is then added to `problems`.
    """
    names = read_text_names(root, names_csv, problems)
    found = []
    for prefix in ("", "wavcaps_"):
        shown = f"{FEATURES}/text/{prefix}word_embeddings_{key}_normed.npy"
        try:
            table = read_npy_dict(root / shown, shown)
        except DatasetError as error:
            problems += error.problems
            continue
        keys = legacy_keys(table) if legacy_order else keys_by_name(table, names, classes)
        found.append(_rows(shown, table, keys, classes, problems))
    if len(found) < 2 or found[0] is None or found[1] is None:
        return None
    return found[0], found[1]


def read_text_names(root: Path, names_csv: str, problems: list[Problem]) -> dict[str, dict[str, str]]:
    """The csv's columns by the name of the class: {class: {column: text}}."""
    shown = f"class-split/{names_csv}"
    try:
        with (root / shown).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(Problem(shown, f"cannot be read: {error}"))
        return {}
    if rows and not {"original", "manual"} <= rows[0].keys():
        problems.append(Problem(shown, "needs the columns original and manual"))
        return {}
    return {row["original"]: row for row in rows}


def keys_by_name(
    table: Table, names: Mapping[str, Mapping[str, str]], classes: tuple[str, ...]
) -> list[str | None]:
    """For each class the key of its own vector in `table`, None where it has none."""

    def keys(column: str) -> list[str | None]:
        texts = [names.get(name, {}).get(column) for name in classes]
        return [text if text in table else None for text in texts]

    return min((keys(column) for column in _COLUMNS), key=lambda found: found.count(None))


def legacy_keys(table: Table) -> list[str | None]:
    """The keys in the reference loader's order: sorted by text, picked by the rank of the class."""
    return [*sorted(table)]


def mixed_up(table: Table, names: Mapping[str, Mapping[str, str]], classes: tuple[str, ...]) -> list[str]:
    """Classes for which the reference loader picks another class's vector."""
    pairs = zip(classes, keys_by_name(table, names, classes), legacy_keys(table), strict=False)
    return [name for name, own, legacy in pairs if own != legacy]


def _rows(
    shown: str, table: Table, keys: list[str | None], classes: tuple[str, ...], problems: list[Problem]
) -> Array | None:
    if len(keys) < len(classes):
        problems.append(Problem(shown, f"{len(keys)} vectors for {len(classes)} classes"))
        return None
    chosen = list(zip(classes, keys, strict=False))
    found = [Problem(shown, f"no vector for class {name!r}") for name, key in chosen if key is None]
    vectors = {name: np.asarray(table[key]) for name, key in chosen if key is not None}
    size = next((vector.shape for vector in vectors.values()), ())
    for name, vector in vectors.items():
        if vector.dtype.kind != "f" or vector.ndim != 1 or vector.shape != size:
            found.append(Problem(shown, f"vector of class {name!r} is not a float array of shape {size}"))
        elif not np.isfinite(vector).all() or not vector.any():
            found.append(Problem(shown, f"vector of class {name!r} is NaN, infinite or zero"))
    problems += found
    return None if found else np.stack([vectors[name] for name in classes]).astype(np.float32)
