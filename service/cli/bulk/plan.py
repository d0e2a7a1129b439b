"""A plan: which clips, in which shards, and what is asked of them. Written once, then only read.

plan.json                   the question, the bundle, the number of clips and shards
manifest/00000.parquet      the clips of a shard: clip, size_bytes, modified, problem
results/00000.parquet       its results, once all of them are there (results.py)
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from service.cli.clip_files import ClipFile
from service.cli.parquet_support import parquet_modules, schema_of
from service.errors import InvalidOptionError
from service.faults import describe_faults
from service.labels.label import Label
from service.options import ClassifyOptions

PLAN_FILE = "plan.json"
MANIFEST, RESULTS = "manifest", "results"
_COLUMNS = {"clip": "string", "size_bytes": "int64", "modified": "string", "problem": "string"}


class PlannedLabel(BaseModel):
    """A candidate name, with its prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    prompts: tuple[str, ...] = ()


class Plan(BaseModel):
    """Contents of plan.json.

    Attributes:
        created: When it was made.
        bundle: Name and version of the bundle, for people.
        bundle_digest: Of the bundle; results of another one would not be comparable.
        labels: The candidates, those of a label set as they were then.
        label_set: Its name, if they are of one.
        options: How clips are ranked.
        schemes: Of clips by URL, such as s3; workers need the packages for them.
        n_clips: In all shards.
        n_shards: Numbered from 0.
        manifest_digest: Hex sha256 of the files of the manifest, one after the other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    created: datetime
    bundle: str
    bundle_digest: str
    labels: tuple[PlannedLabel, ...]
    label_set: str | None
    options: ClassifyOptions
    schemes: tuple[str, ...] = ()
    n_clips: int
    n_shards: int
    manifest_digest: str

    @property
    def candidates(self) -> tuple[Label, ...]:
        """The labels as what is ranked."""
        return tuple(Label(one.name, one.prompts) for one in self.labels)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a plan, and check that its manifest is the one that was written.

        Raises:
            InvalidOptionError: There is no plan, it is of another version, or its manifest was changed.
        """
        try:
            plan = cls.model_validate_json((folder / PLAN_FILE).read_bytes())
        except OSError:
            raise InvalidOptionError(
                f"{folder} holds no plan; make one: ahse bulk plan --out {folder}"
            ) from None
        except ValidationError as error:
            faults = describe_faults(error.errors(), "the plan")
            raise InvalidOptionError(f"{folder / PLAN_FILE} can't be used: {faults}") from None
        if _digest(folder, plan.n_shards) != plan.manifest_digest:
            raise InvalidOptionError(
                f"the manifest in {folder} is not the one that was planned; make another plan elsewhere"
            )
        return plan


def shard_name(shard: int) -> str:
    """The file of a shard, in the manifest and in the results."""
    return f"{shard:05}.parquet"


def write_plan(out: Path, clips: Sequence[ClipFile], shard_size: int, facts: dict[str, Any]) -> Plan:
    """Write a plan, whole or not at all.

    Args:
        out: Folder to make.
        clips: In the order of the results.
        shard_size: Maximum number of clips in a shard.
        facts: The rest of the plan.

    Raises:
        InvalidOptionError: The folder is there already.
    """
    if out.exists():
        raise InvalidOptionError(
            f"{out} is there already; choose another folder, or go on: ahse bulk run {out}"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for folder in (MANIFEST, RESULTS):
            (aside / folder).mkdir()
        shards = [clips[start : start + shard_size] for start in range(0, len(clips), shard_size)]
        for number, shard in enumerate(shards):
            _write_shard(_shard_file(aside, number), shard)
        plan = Plan(
            created=datetime.now(UTC).replace(microsecond=0),
            schemes=tuple(sorted({one.name.partition("://")[0] for one in clips if "://" in one.name})),
            n_clips=len(clips),
            n_shards=len(shards),
            manifest_digest=_digest(aside, len(shards)),
            **facts,
        )
        (aside / PLAN_FILE).write_text(plan.model_dump_json(indent=1) + "\n", encoding="utf-8")
        aside.chmod(0o755)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return plan


def read_shard(folder: Path, shard: int) -> Iterator[ClipFile]:
    """The clips of a shard, in order."""
    _, parquet = parquet_modules()
    for row in parquet.read_table(_shard_file(folder, shard)).to_pylist():
        name = row["clip"]
        path = Path() if "://" in name else Path(name)
        yield ClipFile(name, path, path, row["size_bytes"], row["modified"], row["problem"])


def size_of_shard(folder: Path, shard: int) -> tuple[int, int]:
    """How many clips a shard has, and their bytes together, one at least for each."""
    _, parquet = parquet_modules()
    sizes = parquet.read_table(_shard_file(folder, shard), columns=["size_bytes"])["size_bytes"]
    return len(sizes), sum(size or 1 for size in sizes.to_pylist())


def _shard_file(folder: Path, shard: int) -> Path:
    """Of the manifest; absolute, as `parquet_modules` asks for."""
    return (folder / MANIFEST / shard_name(shard)).absolute()


def _write_shard(path: Path, clips: Sequence[ClipFile]) -> None:
    pa, parquet = parquet_modules()
    rows = [
        {"clip": one.name, "size_bytes": one.size_bytes, "modified": one.modified, "problem": one.problem}
        for one in clips
    ]
    parquet.write_table(pa.Table.from_pylist(rows, schema_of(_COLUMNS)), path)


def _digest(folder: Path, n_shards: int) -> str:
    digest = hashlib.sha256()
    for shard in range(n_shards):
        try:
            digest.update(_shard_file(folder, shard).read_bytes())
        except OSError:
            return ""
    return digest.hexdigest()


def question_hash(plan: Plan) -> str:
    """The `question` of its records: equal for equal names, options and bundles."""
    asked = [plan.model_dump(mode="json", include={"labels", "options"}), plan.bundle_digest]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
