"""What manifest.json says of a head: the trained AHSE head, or similarity without one."""

from __future__ import annotations

import math
from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from service.bundle.provenance import FileName, Record

Standardisation = Literal["none", "per_dimension", "per_sample", "stored_then_sample"]


class Certificate(Record):
    """What a trained head brings over the ranking of the frozen encoders.

    Measured on validation clips by the head of the first stage: weights and beta were chosen on clips of
    other classes than those that they were measured on, for both rankings alike; the epoch was chosen on all
    of them. The interval is of resampled classes.
    """

    is_open: bool = Field(description="whether the head takes part in the ranking: only if `low` is above 0")
    gain: float | None = Field(
        description="HM with the head less HM without it, per cent; null: too few classes to measure it on"
    )
    low: float | None = Field(description="lower end of the 95 % interval of the gain")
    high: float | None = Field(description="upper end")
    frozen_harmonic_mean: float | None = Field(description="HM without the head, on the same clips, per cent")
    n_seen_classes: int
    n_unseen_classes: int
    n_clips: int = Field(description="validation clips")
    text_p: float = Field(
        description="how likely texts dealt at random would fit the clips as well; above 0.05 they may be "
        "in the wrong order"
    )
    data: str = Field(description="whose validation clips these are")
    measured: date | None = Field(default=None, description="day of the training")

    @model_validator(mode="after")
    def _is_open_where_it_says(self) -> Self:
        if self.is_open != (self.low is not None and self.low > 0):
            raise ValueError("is_open must say whether low is above 0")
        return self

    @property
    def in_words(self) -> str:
        """One sentence for people."""
        day = f", {self.measured.isoformat()}" if self.measured else ""
        classes = f"{self.n_seen_classes} seen and {self.n_unseen_classes} unseen classes"
        on = f"{self.n_clips} {self.data}, {classes}{day}"
        if self.gain is None:
            return f"too few classes to say what the head brings ({on})"
        says = "the head brings" if self.is_open else "the head brings nothing certain:"
        found = f"{self.gain:+.1f} HM [{self.low:+.1f}, {self.high:+.1f}] on {self.frozen_harmonic_mean:.1f}"
        return f"{says} {found} ({on})"


class Calibration(Record):
    """How distances become a ranking and probabilities. All values were fitted on validation clips."""

    raw_weight: float = Field(
        ge=0, le=1, description="weight of the distance of the raw features; 0 ranks by the embedding alone"
    )
    visual_share: float = Field(ge=0, le=1, description="weight of the visual track in the raw distance")
    beta: float = Field(ge=0, description="calibrated stacking: added to the distance of seen classes")
    temperature: float = Field(gt=0, description="score = softmax(-distance / temperature)")
    unknown_threshold: float = Field(
        description="distance of the nearest label, without beta, at which `unknown` is one half"
    )
    unknown_scale: float = Field(
        gt=0, description="unknown = sigmoid((nearest - unknown_threshold) / unknown_scale)"
    )

    certificate: Certificate | None = Field(
        default=None, description="what the head brings for clips with these tracks; null: not measured"
    )

    @property
    def tells_unknown(self) -> bool:
        """Whether `unknown` carries information: it is below 0.2 at a distance of 0, the smallest possible.

        With a scale far above all distances it would be about 0.5 for every clip.
        """
        # sigmoid(-t / s) < 0.2  <=>  t / s > ln(0.8 / 0.2)
        return self.unknown_threshold / self.unknown_scale > math.log(4)


class Calibrations(Record):
    """A calibration for clips with both tracks, and one for clips with each track alone."""

    both: Calibration
    visual: Calibration
    audio: Calibration


class AgreementScore(Record):
    """How alike what picture and sound say must be. All values were fitted on labelled clips.

    With p and q the probabilities of n names by each track alone, n x the sum of p q is how much likelier it
    is that both tracks show the same one of these names than that each shows any.
    """

    visual_temperature: float = Field(
        gt=0, description="p = softmax(similarity of the picture / visual_temperature)"
    )
    audio_temperature: float = Field(
        gt=0, description="q = softmax(similarity of the sound / audio_temperature)"
    )
    threshold: float = Field(description="ln(n sum p q) at which agreement is one half")
    scale: float = Field(gt=0, description="agreement = sigmoid((ln(n sum p q) - threshold) / scale)")


class _HeadSpec(Record):
    """What every head may store besides."""

    agreement: AgreementScore | None = Field(
        default=None, description="null: nothing tells whether picture and sound agree"
    )
    guarantee: FileName | None = Field(
        default=None, description="file of what can be guaranteed (guarantees.py); null: nothing was measured"
    )


class AhseSpec(_HeadSpec):
    """The trained fusion head.

    Graphs: `visual` float32 [batch, visual.dim], `audio` float32 [batch, audio.dim] -> `theta` float32
    [batch, dim], before standardisation. The statistics file holds the means and standard deviations
    of Eq. 1.
    """

    kind: Literal["ahse"]
    dim: int = Field(ge=1)
    parts: int = Field(
        default=1,
        ge=1,
        description="distances are the sum of those of so many equally wide parts of the embeddings",
    )
    av_graph: FileName
    text_graph: FileName
    statistics: FileName
    standardisation: Standardisation
    calibrations: Calibrations

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        if self.dim % self.parts:
            raise ValueError(f"dim {self.dim} can't be cut into {self.parts} equal parts")
        return self


class SimilarityScore(Record):
    """How standardised similarity becomes probabilities. All values were fitted on labelled clips."""

    temperature: float = Field(gt=0, description="score = softmax(similarity / temperature)")
    unknown_threshold: float = Field(
        description="similarity of the nearest label at which `unknown` is one half, for a single label"
    )
    unknown_slope: float = Field(
        ge=0, description="increase of the threshold for each e-fold of the number of labels n"
    )
    unknown_scale: float = Field(
        gt=0,
        description="unknown = sigmoid((unknown_threshold + unknown_slope ln n - nearest) / unknown_scale)",
    )


class SimilarityScores(Record):
    """A fit for clips with both tracks, and one for clips with each track alone."""

    both: SimilarityScore
    visual: SimilarityScore
    audio: SimilarityScore


class SimilaritySpec(_HeadSpec):
    """No trained head: labels are ranked by their standardised similarity to each track.

    The statistics file holds the mean and covariance of the features of each track over unlabelled clips.
    Without it similarity is the cosine times the logit scale of the encoder.
    """

    kind: Literal["similarity"]
    statistics: FileName | None = None
    visual_share: float = Field(
        ge=0, le=1, description="weight of the visual track for clips with both tracks"
    )
    n_clips: int = Field(
        ge=0, description="number of clips behind the statistics; 0: similarity is not standardised"
    )
    scores: SimilarityScores | None = Field(
        default=None,
        description="null: scores follow from the logit scales of the encoders, and there is no `unknown`",
    )
