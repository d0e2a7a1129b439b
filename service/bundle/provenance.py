"""Where a bundle comes from: its sources, how it was checked and measured, and its licences."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Precision = Literal["fp32", "fp16", "int8"]


class Record(BaseModel):
    """A frozen part of the manifest; an unknown field is an error, so a typing slip cannot pass."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metric(Record):
    """One measured number with the data it was measured on."""

    name: str
    value: float
    data: str
    unit: Literal["percent", "ratio", "ms", "count"] = "percent"


class GraphCheck(Record):
    """How a graph was checked against its torch original, and against itself before it was made smaller."""

    precision: Precision = "fp32"
    difference: float = Field(ge=0, description="largest absolute difference of the fp32 graph to torch")
    tolerance: float = Field(gt=0, description="largest that would have passed")
    cosine: float | None = Field(default=None, description="smallest cosine to the fp32 graph; null for fp32")
    cosine_floor: float | None = Field(default=None, description="smallest that would have passed")


class Source(Record):
    """One file that the encoders were made of."""

    part: str = Field(description="what it is of: image encoder, audio tokenizer, ...")
    repository: str | None = Field(default=None, description="`owner/name` on the hub; null: from no hub")
    revision: str | None = Field(
        default=None,
        description="the repository's commit, or the package with its version that the file is from",
    )
    file: str
    sha256: Sha256


class Provenance(Record):
    """Where the weights come from and how to make them again."""

    created: datetime
    command: str
    seed: int | None = None
    data: str
    versions: dict[str, str] = Field(default_factory=dict)
    sources: tuple[Source, ...] = Field(default=(), description="weights, settings and tokenizers")
    parity: dict[str, GraphCheck] = Field(default_factory=dict, description="by the part of the bundle")


class Licence(Record):
    """The licence of one part of the bundle."""

    part: str
    licence: str
    source: str
