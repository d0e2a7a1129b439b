"""What manifest.json says: every fact of a model that the service uses.

The same definition writes the manifest (model_export) and reads it (service). Dims, rates, sizes and
templates come from here only; nothing about a model is taken from the environment or from code.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from service.bundle.provenance import Licence, Metric, Provenance, Record, Sha256
from service.media import Resize

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Template = Annotated[str, StringConstraints(min_length=2, max_length=500, pattern=r"\{\}")]
Standardisation = Literal["none", "per_dimension", "per_sample", "stored_then_sample"]
Padding = Literal["repeat_whole", "repeat", "zero"]


class TextTower(Record):
    """One text encoder. Graph: `tokens` int64 [batch, length] -> `output` float32 [batch, dim].

    Both towers may name the same graph with an output for each: then it is stored and run once.
    """

    graph: FileName
    output: str = Field(default="features", min_length=1, description="the graph's output for this tower")
    tokenizer: FileName = Field(description="file of the `tokenizers` library")
    vocabulary_size: int = Field(ge=100, description="an emptied tokenizer shows as a smaller one")
    context_length: int = Field(ge=4, le=4096, description="tokens a text is cut to, and padded to")
    dynamic_length: bool = Field(
        default=False,
        description="the graph takes shorter rows too: a batch is padded to its longest",
    )
    pad_id: int = Field(ge=0)
    templates: tuple[Template, ...] = Field(min_length=1, description="`{}` stands for the name")

    @model_validator(mode="after")
    def _pad_is_a_token(self) -> Self:
        if self.pad_id >= self.vocabulary_size:
            raise ValueError("pad_id is not in the vocabulary")
        return self


class VisualTower(Record):
    """The image encoder. Graph: `frames` uint8 [batch, size, size, 3] RGB -> `features` float32 [batch, dim].

    Normalisation is inside the graph; features have unit length.
    """

    graph: FileName
    dim: int = Field(ge=1)
    image_size_px: int = Field(ge=8, le=4096)
    resize: Resize
    n_frames: int = Field(ge=1, le=1024)
    sampling: Literal["uniform", "middle"] = Field(
        description="uniform: at the midpoints of n_frames equal intervals; middle: the one in the middle"
    )
    logit_scale: float = Field(gt=0, description="factor on cosine similarity to its own text, as in CLIP")
    text: TextTower

    @model_validator(mode="after")
    def _there_is_one_middle(self) -> Self:
        if self.sampling == "middle" and self.n_frames != 1:
            raise ValueError("sampling middle goes with n_frames 1")
        return self


class AudioTower(Record):
    """The audio encoder. Graph: `waveform` float32 [batch, window] -> `features` float32 [batch, dim].

    The waveform is mono, -1..1, at sample_rate_hz; the spectrogram is inside the graph; features have
    unit length.
    """

    graph: FileName
    dim: int = Field(ge=1)
    sample_rate_hz: int = Field(ge=4000, le=192_000)
    window_s: float = Field(gt=0, le=60)
    hop_s: float = Field(gt=0, le=60)
    max_s: float = Field(gt=0, description="sound after this many seconds is not used")
    padding: Padding = Field(
        description="what fills the window of sound shorter than it. repeat_whole: the sound as often as it "
        "fits as a whole, then zeros (laion_clap's repeatpad); repeat: the sound over and over, the last "
        "time cut off; zero: zeros after the sound"
    )
    logit_scale: float = Field(gt=0, description="factor on cosine similarity to its own text, as in CLAP")
    text: TextTower

    @property
    def window_samples(self) -> int:
        """Samples in one window, the graph's input length."""
        return round(self.window_s * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        """Samples from one window's start to the next."""
        return round(self.hop_s * self.sample_rate_hz)

    @model_validator(mode="after")
    def _windows_cover_the_clip(self) -> Self:
        if not 1 <= self.hop_samples <= self.window_samples:
            raise ValueError("hop_s must be at least one sample and at most window_s")
        return self


class Calibration(Record):
    """How distances become a ranking and probabilities; every value was chosen on validation clips."""

    raw_weight: float = Field(
        ge=0, le=1, description="share of the raw features' distance; 0 ranks by the embedding alone"
    )
    visual_share: float = Field(ge=0, le=1, description="share of the picture in the raw distance")
    beta: float = Field(ge=0, description="calibrated stacking: added to the distance of seen classes")
    temperature: float = Field(gt=0, description="score = softmax(-distance / temperature)")
    unknown_threshold: float = Field(
        description="distance of the nearest name, without beta, at which none fitting is as likely"
    )
    unknown_scale: float = Field(
        gt=0, description="unknown = sigmoid((nearest - unknown_threshold) / unknown_scale)"
    )

    @property
    def tells_unknown(self) -> bool:
        """Whether `unknown` depends on the clip: a distance of 0, the least possible, brings it below 0.2.

        With a scale far above all distances it would be about 0.5 for every clip, which tells nothing.
        """
        return self.unknown_threshold / self.unknown_scale > math.log(4)


class Calibrations(Record):
    """One calibration for clips with both tracks, one for each track alone."""

    both: Calibration
    visual: Calibration
    audio: Calibration


class AhseSpec(Record):
    """The trained fusion head.

    Graphs: `visual` float32 [batch, visual.dim], `audio` float32 [batch, audio.dim] -> `theta` float32
    [batch, dim], before standardisation. The statistics file holds what Eq. 1 needs.
    """

    kind: Literal["ahse"]
    dim: int = Field(ge=1)
    av_graph: FileName
    text_graph: FileName
    statistics: FileName
    standardisation: Standardisation
    calibrations: Calibrations


class SimilarityScore(Record):
    """How standardised similarity becomes probabilities; fitted on labelled clips."""

    temperature: float = Field(gt=0, description="score = softmax(similarity / temperature)")
    unknown_threshold: float = Field(
        description="similarity of the nearest of one name at which none fitting is as likely"
    )
    unknown_slope: float = Field(
        ge=0, description="what each e-fold of the number of names adds to the threshold"
    )
    unknown_scale: float = Field(
        gt=0,
        description="unknown = sigmoid((unknown_threshold + unknown_slope ln n - nearest) / unknown_scale)",
    )


class SimilarityScores(Record):
    """One for clips with both tracks, one for each track alone."""

    both: SimilarityScore
    visual: SimilarityScore
    audio: SimilarityScore


class SimilaritySpec(Record):
    """No trained head: names are ranked by the standardised similarity of each track to its own text.

    The statistics file holds mean and covariance of each track's features over unlabelled clips. Without one
    similarity is the cosine times the encoder's logit scale.
    """

    kind: Literal["similarity"]
    statistics: FileName | None = None
    visual_share: float = Field(ge=0, le=1, description="share of the picture for clips with both tracks")
    n_clips: int = Field(ge=0, description="clips the statistics are of; 0: similarity is not standardised")
    scores: SimilarityScores | None = Field(
        default=None,
        description="null: scores as sharp as the encoders' own logit scales, and no measure of unknown",
    )


class KnownNames(Record):
    """How near a name is to those that the encoders were trained with, so that a far one can be warned of."""

    output: str = Field(
        min_length=1, description="output of the shared text graph: cosine to the nearest, float32 [batch, 1]"
    )
    threshold: float = Field(gt=-1, lt=1, description="names below it get a warning")
    alphabets: tuple[str, ...] = Field(
        default=(),
        description="first words of the Unicode names of letters that the text encoder was trained with, "
        "such as LATIN; names with other letters get the warning too. Empty: any letters",
    )


class Manifest(Record):
    """The whole of manifest.json."""

    format_version: Literal[1]
    name: Name
    version: str = Field(min_length=1, max_length=40)
    description: str
    notice: str | None = Field(
        default=None,
        max_length=500,
        description="what readers of an answer must know; stands in each",
    )
    requires_service: str = Field(pattern=r"^\d+\.\d+\.\d+$", description="oldest service that can run it")
    visual: VisualTower
    audio: AudioTower
    known_names: KnownNames | None = Field(default=None, description="null: nothing is known of that")
    head: AhseSpec | SimilaritySpec = Field(discriminator="kind")
    seen_classes: tuple[str, ...]
    unseen_classes: tuple[str, ...] = Field(description="classes the metrics call unseen; never trained on")
    metrics: tuple[Metric, ...] = ()
    provenance: Provenance
    licences: tuple[Licence, ...]
    files: dict[FileName, Sha256] = Field(description="sha256 of every other file of the directory")

    @property
    def shares_text(self) -> bool:
        """Whether one text graph serves both tracks."""
        return self.visual.text.graph == self.audio.text.graph

    @model_validator(mode="after")
    def _one_text_graph_has_one_input(self) -> Self:
        visual, audio = self.visual.text, self.audio.text
        if not self.shares_text:
            if self.known_names is not None:
                raise ValueError("known_names goes with one text graph for both tracks")
            return self
        nearness = () if self.known_names is None else (self.known_names.output,)
        outputs = (visual.output, audio.output, *nearness)
        if visual.model_copy(update={"output": audio.output}) != audio or len(set(outputs)) < len(outputs):
            raise ValueError("towers that share a text graph must differ in its output and in nothing else")
        return self

    def named_files(self) -> set[str]:
        """All files that the manifest's parts point to."""
        head = self.head
        return {
            *self.encoder_files(),
            *((head.av_graph, head.text_graph) if isinstance(head, AhseSpec) else ()),
            *(() if head.statistics is None else (head.statistics,)),
        }

    def encoder_files(self) -> list[str]:
        """The files that the encoders are made of: graphs and tokenizers, each once, sorted."""
        towers = (self.visual, self.audio)
        return sorted({file for t in towers for file in (t.graph, t.text.graph, t.text.tokenizer)})

    def encoders_digest(self) -> str:
        """Hex sha256 of the encoders alone: both towers as the manifest has them, and their files.

        Equal for bundles that differ in nothing but the head, so that one's features fit the other.
        """
        # Without defaults: a setting that a later version adds does not rename today's encoders.
        towers = {
            part: getattr(self, part).model_dump(mode="json", exclude_defaults=True)
            for part in ("visual", "audio")
        }
        files = {name: self.files[name] for name in self.encoder_files()}
        return hashlib.sha256(json.dumps([towers, files], sort_keys=True).encode()).hexdigest()
