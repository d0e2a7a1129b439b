"""What an evaluation says: plain values that go to JSON and to tables."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from model_export.data.features import Track
from model_export.head.calibration import Calibration

Ranking = Literal["embedding", "fused", "raw"]


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Accuracy(_Report):
    """The benchmark's four figures, mean per class, 0..100.

    Attributes:
        seen: S, candidates being seen and unseen classes.
        unseen: U, likewise.
        harmonic_mean: HM = 2 S U / (S + U).
        zsl: unseen clips among unseen classes.
    """

    seen: float
    unseen: float
    harmonic_mean: float
    zsl: float


class ClassRow(_Report):
    """One class of the per-class table.

    Attributes:
        name: of the class.
        seen: whether it was trained on.
        n_clips: test clips of it.
        accuracy: 0..100, candidates being seen and unseen classes.
    """

    name: str
    seen: bool
    n_clips: int
    accuracy: float


class Confusion(_Report):
    """A frequent mistake."""

    actual: str
    predicted: str
    n_clips: int


class BetaCurveRow(_Report):
    """S, U and HM at one beta."""

    beta: float
    seen: float
    unseen: float
    harmonic_mean: float


class Hubness(_Report):
    """Skewness of the 10-occurrences of the class prototypes over all test clips.

    Attributes:
        theta: of the embeddings before standardisation.
        z: of the standardised embeddings.
        ranking: of the distances that clips are ranked by.
        occurrences: 10-occurrence of each candidate class by the ranking's distances.
    """

    theta: float
    z: float
    ranking: float
    occurrences: tuple[int, ...]


class ReliabilityBin(_Report):
    """Top predictions of about the same confidence.

    Attributes:
        n_clips: how many.
        confidence: their mean, 0..1.
        accuracy: share that is right, 0..1.
    """

    n_clips: int
    confidence: float
    accuracy: float


class Evaluation(_Report):
    """Everything that is measured of one run.

    Attributes:
        data: name of the data set.
        simulated: whether its clip features were made up.
        ranking: what clips were ranked by.
        track: tracks that the clips were given with.
        seed: of the run.
        accuracy: with beta.
        uncalibrated: the same with beta 0.
        calibration: what was chosen on validation and used here.
        classes: per-class table, seen classes first.
        confusions: most frequent first.
        beta_curve: for drawing; the beta that was used comes from validation, not from here.
        hubness: before and after standardisation.
        calibration_error: expected calibration error of the top prediction over all test clips, 0..1.
        reliability: what that error is made of.
        mean_confidence: of the top prediction, 0..1.
        unknown_auroc: unknown score of unseen-class clips against seen-class clips, the labels being the
            seen classes, 0..1.
        unknown_auroc_own: unknown score of each clip without its own class among all labels against with it.
    """

    data: str
    simulated: bool
    ranking: Ranking
    track: Track
    seed: int
    accuracy: Accuracy
    uncalibrated: Accuracy
    calibration: Calibration
    classes: tuple[ClassRow, ...]
    confusions: tuple[Confusion, ...]
    beta_curve: tuple[BetaCurveRow, ...]
    hubness: Hubness
    calibration_error: float
    reliability: tuple[ReliabilityBin, ...]
    mean_confidence: float
    unknown_auroc: float
    unknown_auroc_own: float
