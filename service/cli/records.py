"""A record for each clip, an answer or a failure; and its rows in a table.

A record is one JSON object: the file with its size and time, what was asked (`question`), and the answer of
POST /v1/classify, or `error` with code and message. In CSV and Parquet it is a row for each prediction, of
the whole clip (without `start_s`) and of each segment, or one row with the error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.cli.clip_files import ClipFile

if TYPE_CHECKING:
    from service.client import Answer

Record = Mapping[str, Any]
Row = Mapping[str, Any]
# What every record has, and every row.
KEYS = ("file", "size_bytes", "modified", "question")
# Columns of CSV and Parquet, and the types of the latter.
COLUMNS = {
    "file": "string",
    "size_bytes": "int64",
    "modified": "string",
    "question": "string",
    "error": "string",
    "message": "string",
    "start_s": "float64",
    "end_s": "float64",
    "rank": "int64",
    "label": "string",
    "score": "float64",
    "distance": "float64",
    "seen": "bool",
    "visual_score": "float64",
    "audio_score": "float64",
    "unknown": "float64",
    "agreement": "float64",
    "guaranteed": "bool",
    "duration_s": "float64",
    "bundle": "string",
    "bundle_version": "string",
}


@dataclass(frozen=True)
class Failure:
    """Why a clip has no answer.

    Attributes:
        code: Of the error.
        message: What is wrong and what to do.
    """

    code: str
    message: str


def make_record(clip: ClipFile, question: str, outcome: Answer | Failure) -> Record:
    """The record of a clip.

    Args:
        clip: The file.
        question: What was asked: equal for equal names, options and bundles.
        outcome: What came of it.
    """
    about = {
        "file": clip.name,
        "size_bytes": clip.size_bytes,
        "modified": clip.modified,
        "question": question,
    }
    if isinstance(outcome, Failure):
        return {**about, "error": {"code": outcome.code, "message": outcome.message}}
    return {**about, **{name: value for name, value in outcome.document.items() if name != "id"}}


def rows_of(record: Record) -> Iterator[Row]:
    """The rows of a record, with the columns that have a value."""
    about = {name: record[name] for name in KEYS}
    if "error" in record:
        yield {**about, "error": record["error"]["code"], "message": record["error"]["message"]}
        return
    about |= {name: record[name] for name in ("duration_s", "bundle", "bundle_version")}
    for part in (record, *(record["segments"] or ())):
        span = {name: part.get(name) for name in ("start_s", "end_s")} | {"unknown": part["unknown"]}
        span |= {"agreement": (part["tracks"].get("agreement") or {}).get("score")}
        kept_names = (part.get("guarantee") or {}).get("labels")
        for one in part["predictions"]:
            named = {name: one[name] for name in ("rank", "label", "score", "distance", "seen")}
            alone = {
                f"{track}_score": None if one[track] is None else one[track]["score"]
                for track in ("visual", "audio")
            }
            kept = {} if kept_names is None else {"guaranteed": one["label"] in kept_names}
            yield {**about, **span, **named, **alone, **kept}
        if not part["predictions"]:
            yield {**about, **span}
