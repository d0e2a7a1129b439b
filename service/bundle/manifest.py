"""The schema of manifest.json, which holds every fact about a model that the service uses.

model_export writes manifests with this schema and the service reads them with it. Dims, rates, sizes and
templates come from here only; no fact about a model is taken from the environment or from code.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from service.bundle.head_specs import AhseSpec, SimilaritySpec
from service.bundle.provenance import FileName, Licence, Metric, Provenance, Record, Sha256
from service.media import Resize

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
CARD_FILE = "MODEL_CARD.md"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Template = Annotated[str, StringConstraints(min_length=2, max_length=500, pattern=r"\{\}")]
Padding = Literal["repeat_whole", "repeat", "zero"]


class TextEncoderSpec(Record):
    """One text encoder. Graph: `tokens` int64 [batch, length] -> `output` float32 [batch, dim].

    Both text encoders may name the same graph, with an output each: it is then stored and run once.
    """

    graph: FileName
    output: str = Field(
        default="features", min_length=1, description="the output of the graph for this encoder"
    )
    tokenizer: FileName = Field(description="file of the `tokenizers` library")
    vocabulary_size: int = Field(
        ge=100, description="must agree with the tokenizer; reveals a truncated file"
    )
    context_length: int = Field(
        ge=4, le=4096, description="number of tokens that a text is truncated and padded to"
    )
    dynamic_length: bool = Field(
        default=False,
        description="whether the graph takes shorter rows too: then a batch is padded to its longest text",
    )
    pad_id: int = Field(ge=0)
    templates: tuple[Template, ...] = Field(min_length=1, description="`{}` stands for the name")

    @model_validator(mode="after")
    def _check_pad_id(self) -> Self:
        if self.pad_id >= self.vocabulary_size:
            raise ValueError("pad_id is not in the vocabulary")
        return self


class ImageEncoderSpec(Record):
    """The image encoder. Graph: `frames` uint8 [batch, size, size, 3] RGB -> `features` float32 [batch, dim].

    Normalisation is inside the graph; features have unit length.
    """

    graph: FileName
    dim: int = Field(ge=1)
    image_size_px: int = Field(ge=8, le=4096)
    resize: Resize
    n_frames: int = Field(ge=1, le=1024)
    sampling: Literal["uniform", "middle"] = Field(
        description="uniform: frames at the midpoints of n_frames equal intervals; middle: at half time"
    )
    logit_scale: float = Field(
        gt=0, description="factor on the cosine similarity to texts of its own text encoder, as in CLIP"
    )
    text: TextEncoderSpec

    @model_validator(mode="after")
    def _check_sampling(self) -> Self:
        if self.sampling == "middle" and self.n_frames != 1:
            raise ValueError("sampling middle requires n_frames 1")
        return self


class AudioEncoderSpec(Record):
    """The audio encoder. Graph: `waveform` float32 [batch, window] -> `features` float32 [batch, dim].

    The waveform is mono, -1..1, at sample_rate_hz; the spectrogram is inside the graph; features have
    unit length.
    """

    graph: FileName
    dim: int = Field(ge=1)
    sample_rate_hz: int = Field(ge=4000, le=192_000)
    window_s: float = Field(gt=0, le=60)
    hop_s: float = Field(gt=0, le=60)
    max_s: float = Field(gt=0, description="most audio used of a clip; of more, windows are")
    padding: Padding = Field(
        description="how audio shorter than a window fills it. repeat_whole: whole repetitions, then zeros "
        "(repeatpad in laion_clap); repeat: repetitions, the last one truncated; zero: zeros after the audio"
    )
    logit_scale: float = Field(
        gt=0, description="factor on the cosine similarity to texts of its own text encoder, as in CLAP"
    )
    text: TextEncoderSpec

    @property
    def window_samples(self) -> int:
        """Samples per window, the input length of the graph."""
        return round(self.window_s * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        """Samples from the start of one window to the start of the next."""
        return round(self.hop_s * self.sample_rate_hz)

    @model_validator(mode="after")
    def _check_hop(self) -> Self:
        if not 1 <= self.hop_samples <= self.window_samples:
            raise ValueError("hop_s must be at least one sample and at most window_s")
        return self


class KnownNames(Record):
    """How near a label is to the names that the encoders were trained with; far labels get a warning."""

    output: str = Field(
        min_length=1,
        description="output of the shared text graph: cosine to the nearest such name, float32 [batch, 1]",
    )
    threshold: float = Field(gt=-1, lt=1, description="labels with a smaller cosine get a warning")
    alphabets: tuple[str, ...] = Field(
        default=(),
        description="alphabets that the text encoder was trained with: the first word of the Unicode names "
        "of their letters, such as LATIN; labels with other letters get the warning too. Empty: any letters",
    )


class Manifest(Record):
    """The content of manifest.json."""

    format_version: Literal[1]
    name: Name
    version: str = Field(min_length=1, max_length=40)
    description: str
    notice: str | None = Field(
        default=None,
        max_length=500,
        description="what readers of a result must know; part of every response",
    )
    requires_service: str = Field(pattern=r"^\d+\.\d+\.\d+$", description="minimum version of the service")
    visual: ImageEncoderSpec
    audio: AudioEncoderSpec
    known_names: KnownNames | None = Field(default=None, description="null: the bundle can't tell")
    head: AhseSpec | SimilaritySpec = Field(discriminator="kind")
    seen_classes: tuple[str, ...]
    unseen_classes: tuple[str, ...] = Field(
        description="classes that the metrics count as unseen; never trained on"
    )
    metrics: tuple[Metric, ...] = ()
    provenance: Provenance
    licences: tuple[Licence, ...]
    files: dict[FileName, Sha256] = Field(description="sha256 of every other file in the directory")

    @property
    def shares_text(self) -> bool:
        """Whether one text graph serves both tracks."""
        return self.visual.text.graph == self.audio.text.graph

    @model_validator(mode="after")
    def _check_shared_text(self) -> Self:
        visual, audio = self.visual.text, self.audio.text
        if not self.shares_text:
            if self.known_names is not None:
                raise ValueError("known_names requires one text graph for both tracks")
            return self
        nearness = () if self.known_names is None else (self.known_names.output,)
        outputs = (visual.output, audio.output, *nearness)
        if visual.model_copy(update={"output": audio.output}) != audio or len(set(outputs)) < len(outputs):
            raise ValueError(
                "text encoders that share a graph must differ in their output and in nothing else"
            )
        return self

    def named_files(self) -> set[str]:
        """All files that parts of the manifest refer to."""
        head = self.head
        return {
            *self.encoder_files(),
            *((head.av_graph, head.text_graph) if isinstance(head, AhseSpec) else ()),
            *(file for file in (head.statistics, head.guarantee) if file is not None),
        }

    def encoder_files(self) -> list[str]:
        """Graphs and tokenizers of the encoders, each once, sorted."""
        specs = (self.visual, self.audio)
        return sorted({file for s in specs for file in (s.graph, s.text.graph, s.text.tokenizer)})

    def encoders_digest(self) -> str:
        """Hex sha256 of the encoders alone: their entries in the manifest, and their files.

        Bundles that differ only in the head have the same digest, so that they can share cached features.
        """
        # Without defaults, so that a field added in a later version does not change the digest.
        specs = {
            part: getattr(self, part).model_dump(mode="json", exclude_defaults=True)
            for part in ("visual", "audio")
        }
        files = {name: self.files[name] for name in self.encoder_files()}
        return hashlib.sha256(json.dumps([specs, files], sort_keys=True).encode()).hexdigest()
