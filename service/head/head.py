"""What every head does, and the similarity that all of them start from.

A new head is one class that satisfies `Head`, its spec in bundle/head_specs.py and in the union of the
manifest, a line in `_load_head` (registry.py) and in `ahse bundle inspect` (cli/bundle.py), and what writes
it (model_export/export/head_parts.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from service.arrays import Array
from service.bundle.head_specs import AgreementScore
from service.encode.features import ClipFeatures, TextFeatures
from service.ranking import Scoring

Embedding = TypeVar("Embedding")
Names = TypeVar("Names")


@dataclass(frozen=True)
class Cosines:
    """Cosine similarity of each track to its own text, as CLIP and CLAP compare them."""

    visual: Array | None
    """float32 [n], -1..1; None when no picture was used."""
    audio: Array | None
    """float32 [n], -1..1; None when no sound was used."""


def cosines_of(clip: ClipFeatures, texts: TextFeatures) -> Cosines:
    """Similarity of a clip to n names: the one pass over the text features of all names."""
    return Cosines(
        None if clip.visual is None else texts.visual @ clip.visual,
        None if clip.audio is None else texts.audio @ clip.audio,
    )


def distances_of(head: Head[Any, Names], clip: ClipFeatures, texts: TextFeatures, names: Names) -> Array:
    """Distance of a clip to n names by a head, from its features alone: float32 [n]."""
    return head.distances(head.embed_clip(clip), cosines_of(clip, texts), names)


class Head(Protocol[Embedding, Names]):
    """From features to distances. `Embedding` is what it makes of a clip, `Names` what it keeps of n names.

    `Names` is a dataclass of arrays whose first axis counts names. Each row depends on its name and on stored
    numbers only, so adding a name never moves another, and rows are cached one by one.
    """

    def embed_names(self, texts: TextFeatures) -> Names:
        """All that can be known of names without a clip."""

    def empty_names(self, n: int) -> Names:
        """Room for n names, not filled, in the memory layout that `distances` reads fastest."""

    def embed_clip(self, clip: ClipFeatures) -> Embedding:
        """Fuse the tracks of a clip, and standardise."""

    def distances(self, clip: Embedding, cosines: Cosines, names: Names) -> Array:
        """Distance of a clip to each of n names: float32 [n], smaller is better."""

    def track_similarities(
        self, clip: ClipFeatures, cosines: Cosines, names: Names
    ) -> tuple[Array | None, Array | None]:
        """Similarity of the picture, and of the sound, to each of n names: float32 [n]; None: no such track.

        On the scale that the stored temperatures of `AgreementScore` were fitted to.
        """

    def name_vectors(self, texts: TextFeatures, names: Names) -> Array:
        """Names as vectors of one space with clips, for a vector database: float32 [n, width].

        The dot product of a clip with names orders them as `distances` does, or nearly: each head says how.
        """

    def clip_vector(self, clip: ClipFeatures, dims: tuple[int, int]) -> Array:
        """A clip as a vector of the same space: float32 [width].

        Args:
            clip: Features of at least one track.
            dims: Of the features of both tracks.
        """

    def vector_width(self, dims: tuple[int, int]) -> int:
        """The width of both, for features of these dims."""

    @property
    def agreement(self) -> AgreementScore | None:
        """How alike what both tracks say must be; None: nothing tells."""

    def scoring(self, clip: ClipFeatures, names: Names) -> Scoring:
        """How distances of clips with these tracks to these names become probabilities."""
