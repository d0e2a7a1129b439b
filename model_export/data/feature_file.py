"""The project's own feature file: one safetensors file with a JSON description in its header.

Tensors:

    text_visual, text_audio                         float32 [n_classes, n_visual], [n_classes, n_audio]
    <split>.visual, <split>.audio                   float32 [n, n_visual], [n, n_audio]; zeros: no such track
    <split>.class_index                             int64 [n]
    for each split of train, val_seen, val_unseen, test_seen, test_unseen

Header: metadata["ahse_features"] is a `Description` as JSON. It names the encoders, so that features of
different encoders are never confused. Nothing in the file is code.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from model_export.data.gzsl_data import (
    SPLIT_NAMES,
    GzslData,
    SplitFeatures,
    SplitName,
    TextOrder,
    data_problems,
)
from model_export.data.whole_files import written_whole
from model_export.errors import DatasetError, Problem
from service.faults import list_faults

SUFFIX: Final = ".safetensors"
KEY: Final = "ahse_features"
Arrays = dict[str, np.ndarray[Any, Any]]
ClipNames = Mapping[SplitName, tuple[str, ...]]


class Description(BaseModel):
    """The contents of the header, for writing and for reading.

    Attributes:
        format_version: Of this format.
        name: Of the data set, for reports.
        simulated: Whether the clip features were made up.
        encoders: Which encoders made the features: the digest of a bundle, or the name of a published set.
        n_visual: Dimensions of the visual and the visual text features.
        n_audio: Dimensions of the audio and the audio text features.
        class_names: One per class, unique.
        clip_names: Of the clips of each split, in the order of the rows.
        text_order: How classes and texts were joined.
        law: Of made-up features, by what rule they were drawn; empty where unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    name: str
    simulated: bool
    encoders: str = Field(min_length=1)
    n_visual: int = Field(ge=1)
    n_audio: int = Field(ge=1)
    class_names: tuple[str, ...]
    clip_names: dict[SplitName, tuple[str, ...]]
    text_order: TextOrder = "by_name"
    law: str = ""


@dataclass(frozen=True)
class FeatureSet:
    """Contents of a feature file.

    Attributes:
        data: Features, names and splits; `data.encoders` is never empty.
        clip_names: Of the clips of each split, in the order of the rows.
    """

    data: GzslData
    clip_names: ClipNames


def numbered(data: GzslData) -> FeatureSet:
    """A data set whose clips have no names, with numbers in place of them."""
    names = {split: tuple(f"{split}_{i:06d}" for i in range(len(c))) for split, c in data.named_splits()}
    return FeatureSet(data, names)


def write_feature_file(path: Path, features: FeatureSet) -> None:
    """Write a feature file in one step, so that no reader sees half of it.

    Raises:
        DatasetError: The features can't be trained on, or the encoders that made them are not named.
    """
    data = features.data
    problems = [*data_problems(data), *_clip_name_problems(data, features.clip_names)]
    if not data.encoders:
        problems.append(Problem("encoders", "say which encoders made the features"))
    if problems:
        raise DatasetError(path, problems)
    description = Description(
        name=data.name,
        simulated=data.simulated,
        encoders=data.encoders,
        n_visual=data.n_visual,
        n_audio=data.n_audio,
        class_names=data.class_names,
        clip_names=dict(features.clip_names),
        text_order=data.text_order,
        law=data.law,
    )
    with written_whole(path) as partial:
        save_file(dict(_named_arrays(data)), partial, {KEY: description.model_dump_json()})


def read_feature_file(path: Path, *, encoders: str | None = None) -> FeatureSet:
    """Read a feature file.

    Args:
        path: Of the file.
        encoders: The encoders that must have made the features; None accepts any.

    Raises:
        DatasetError: With every problem found, each naming array and row.
    """
    description, arrays = _load(path)
    if encoders is not None and description.encoders != encoders:
        what = f"made by the encoders {description.encoders!r}, not by {encoders!r}; they do not go together"
        raise DatasetError(path, [Problem(path.name, what)])
    if problems := _array_problems(arrays):
        raise DatasetError(path, problems)
    data = GzslData(
        name=description.name,
        simulated=description.simulated,
        class_names=description.class_names,
        text_visual=arrays["text_visual"],
        text_audio=arrays["text_audio"],
        splits={split: _split(arrays, split) for split in SPLIT_NAMES},
        encoders=description.encoders,
        text_order=description.text_order,
        law=description.law,
    )
    problems = [*data_problems(data), *_clip_name_problems(data, description.clip_names)]
    if (data.n_visual, data.n_audio) != (description.n_visual, description.n_audio):
        problems.append(Problem("header", "dims differ from those of the arrays"))
    if problems:
        raise DatasetError(path, problems)
    return FeatureSet(data, description.clip_names)


def _load(path: Path) -> tuple[Description, Arrays]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        what = f"cannot be read, or is cut short or damaged: {error}"
        raise DatasetError(path, [Problem(path.name, what)]) from None
    if KEY not in metadata:
        raise DatasetError(path, [Problem(path.name, f"no feature file: its header has no {KEY}")])
    try:
        return Description.model_validate_json(metadata[KEY]), arrays
    except ValidationError as error:
        faults = list_faults(error.errors(), "the description")
        raise DatasetError(path, [Problem("header", fault) for fault in faults]) from None


def _array_problems(arrays: Arrays) -> list[Problem]:
    """Arrays that are missing, unknown, or of another type or number of axes than they should be."""
    expected = dict.fromkeys(("text_visual", "text_audio"), ("float32", 2))
    for split in SPLIT_NAMES:
        expected |= {f"{split}.visual": ("float32", 2), f"{split}.audio": ("float32", 2)}
        expected[f"{split}.class_index"] = ("int64", 1)
    problems = [Problem(name, "unknown array") for name in arrays.keys() - expected.keys()]
    for name, (dtype, ndim) in expected.items():
        if name not in arrays:
            problems.append(Problem(name, "missing"))
        elif (str(arrays[name].dtype), arrays[name].ndim) != (dtype, ndim):
            found = f"{arrays[name].dtype} with {arrays[name].ndim} axes"
            problems.append(Problem(name, f"{found}, expected {dtype} with {ndim}"))
    return problems


def _split(arrays: Arrays, split: SplitName) -> SplitFeatures:
    return SplitFeatures(*(arrays[f"{split}.{part}"] for part in ("visual", "audio", "class_index")))


def _named_arrays(data: GzslData) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    yield "text_visual", np.ascontiguousarray(data.text_visual)
    yield "text_audio", np.ascontiguousarray(data.text_audio)
    for split, clips in data.named_splits():
        for part in ("visual", "audio", "class_index"):
            yield f"{split}.{part}", np.ascontiguousarray(getattr(clips, part))


def _clip_name_problems(data: GzslData, names: ClipNames) -> list[Problem]:
    return [
        Problem("clip_names", f"{len(names.get(split, ()))} names for the {len(clips)} clips of {split}")
        for split, clips in data.named_splits()
        if len(names.get(split, ())) != len(clips)
    ]
