"""The part of the manifest about origin: sources, checks, measurements and licences of a bundle."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Precision = Literal["fp32", "fp16", "int8"]


class Record(BaseModel):
    """Base of all parts of the manifest: frozen, and strict about unknown fields, so that typos are found."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metric(Record):
    """One measured number, with the data that it was measured on."""

    name: str
    value: float
    data: str
    unit: Literal["percent", "ratio", "ms", "count"] = "percent"


class GraphCheck(Record):
    """How a graph was checked against the torch module, and after compression against its fp32 version."""

    precision: Precision = "fp32"
    difference: float = Field(
        ge=0, description="maximum absolute difference between the fp32 graph and torch"
    )
    tolerance: float = Field(gt=0, description="maximum difference allowed")
    cosine: float | None = Field(default=None, description="minimum cosine to the fp32 graph; null for fp32")
    cosine_floor: float | None = Field(default=None, description="minimum cosine allowed")


class Source(Record):
    """One file that the encoders were made from."""

    part: str = Field(description="part of the bundle that it belongs to, such as image encoder")
    repository: str | None = Field(default=None, description="`owner/name` on the hub; null: not from a hub")
    revision: str | None = Field(
        default=None,
        description="commit of the repository, or name and version of the package that holds the file",
    )
    file: str
    sha256: Sha256


class Provenance(Record):
    """Where the weights come from and how to reproduce them."""

    created: datetime
    command: str
    seed: int | None = None
    data: str
    versions: dict[str, str] = Field(default_factory=dict)
    sources: tuple[Source, ...] = Field(default=(), description="weights, settings and tokenizers")
    parity: dict[str, GraphCheck] = Field(default_factory=dict, description="keyed by the part of the bundle")


class Licence(Record):
    """The licence of one part of the bundle."""

    part: str
    licence: str
    source: str
