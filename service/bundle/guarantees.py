"""guarantee.json: which names an answer must keep so that the right one is among them often enough.

Split conformal prediction (Vovk et al. 2005; Papadopoulos et al., ECML 2002) with the surprise -ln(score) of
the right name as measure, which makes the smallest sets (Sadinle et al., JASA 2019). Clips of one class are
alike, and one clip is ranked among several lists, so that what counts is how many independent groups there
are; the quantile is that of hierarchical conformal prediction (Lee et al. 2023): each of K groups weighs
1 / (K + 1), shared out over its members, and the rest lies at infinity. Limits for seen and for unseen names
are separate (Mondrian), so the guarantee holds for each kind by itself.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from service.bundle.provenance import Record
from service.errors import BundleInvalidError
from service.faults import describe_faults
from service.media import Tracks

Kind = Literal["seen", "unseen"]
Among = Literal["same", "mixed"]

GUARANTEE_FILE: Final = "guarantee.json"
MIN_PERCENT: Final = 50
MAX_PERCENT: Final = 99


def place_of(level: float) -> int:
    """Where the limit for a level, 0.5..0.99, stands in `Limits.surprise`: at the next whole per cent."""
    return math.ceil(100 * level - 1e-9) - MIN_PERCENT


class Limits(Record):
    """How surprising a name may be to be kept, for lists of one length."""

    tracks: Tracks = Field(description="what the clips had")
    kind: Kind = Field(description="whether the head was trained on the right name's class")
    among: Among = Field(description="same: among names of its kind only; mixed: among both kinds")
    n_names: int = Field(ge=2, description="in each list, the right one included")
    n_groups: int = Field(ge=1, description="independent ones: classes of unseen names, clips of seen ones")
    n_clips: int = Field(ge=1)
    surprise: tuple[float | None, ...] = Field(
        description="-ln(score) up to which names are kept, for guarantees of 50, 51, ... 99 per cent; null: "
        "the groups are too few for that"
    )

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if len(self.surprise) != MAX_PERCENT - MIN_PERCENT + 1:
            raise ValueError(f"surprise needs a value for each per cent from {MIN_PERCENT} to {MAX_PERCENT}")
        values = [math.inf if one is None else one for one in self.surprise]
        if values != sorted(values):
            raise ValueError("surprise must not fall: a higher guarantee keeps more names")
        return self

    def at(self, level: float) -> float | None:
        """The limit for a guarantee of at least this level, 0.5..0.99."""
        return self.surprise[place_of(level)]


class Guarantees(Record):
    """The content of guarantee.json."""

    data: str = Field(description="whose clips the limits were measured on")
    limits: tuple[Limits, ...]

    def of(self, tracks: Tracks, kind: Kind, among: Among) -> list[Limits]:
        """Those of one kind, by rising length of lists."""
        found = [one for one in self.limits if (one.tracks, one.kind, one.among) == (tracks, kind, among)]
        return sorted(found, key=lambda one: one.n_names)


def limit_for(measured: list[Limits], n_names: int, level: float) -> float | None:
    """How surprising a name may be in a list of that length.

    A name that is added to a list can only make the right one more surprising. So the laxest limit counts of
    all lengths up to the shortest that is not shorter, also where lists of other lengths had other names.

    Args:
        measured: By rising length.
        n_names: In the list.
        level: Of the guarantee.

    Returns:
        None where nothing was measured for it: then no name may be excluded.
    """
    if not measured or n_names > measured[-1].n_names:
        return None
    longest = next(one.n_names for one in measured if one.n_names >= n_names)
    found = [one.at(level) for one in measured if one.n_names <= longest]
    return None if None in found else max(one for one in found if one is not None)


def load_guarantees(path: Path) -> Guarantees:
    """Read the file.

    Raises:
        BundleInvalidError: It is not what it should be.
    """
    try:
        return Guarantees.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BundleInvalidError(f"{path.name}: {describe_faults(error.errors(), 'the document')}") from None
