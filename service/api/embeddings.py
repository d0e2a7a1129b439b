"""Texts and clips as vectors of one space: what is asked, in OpenAI's shape, and the work on it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field

from service import option_texts as texts
from service.api.bodies import check_form
from service.api.context import Context
from service.api.forms import clip_parts, without_null
from service.api.intake.body import Fields
from service.api.question import begin_to_embed
from service.api.schemas import Received, Wire
from service.arrays import Array
from service.classifier import name_vectors, vector_width
from service.errors import InvalidOptionError
from service.labels.label import MAX_NAME_CHARACTERS, Candidates, Label, make_label
from service.options import ClassifyOptions, documented_text

# Of one request. A vector of the everyday bundle takes 40 KB as text.
MAX_INPUTS = 1000


def _as_form(schema: dict[str, Any]) -> None:
    """Describe the form as it is sent, which null can't be, with its clips."""
    for field in schema["properties"].values():
        without_null(field)
    schema["properties"] = {**clip_parts("Each has its own vector."), **schema["properties"]}
    schema["oneOf"] = [{"required": [one]} for one in ("file", "files", "url")]


class EmbeddingOptions(Received):
    """How clips and texts are embedded."""

    model: str = Field(description="name of a loaded bundle", examples=["everyday"])
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="numbers, or base64 of float32 in little-endian order"
    )
    dimensions: int | None = Field(
        default=None,
        ge=1,
        description="only the number that the bundle's vectors have; they can't be shortened",
    )
    user: str | None = Field(default=None, description="not used")


class EmbeddedClip(Received):
    """A clip among the inputs, which OpenAI's own interface does not have."""

    file: str = Field(
        description="the clip in base64, or as a data: URL", json_schema_extra={"contentEncoding": "base64"}
    )


EmbeddedText = Annotated[str, documented_text(MAX_NAME_CHARACTERS)]


class EmbeddingsBody(EmbeddingOptions):
    """Texts and clips to embed."""

    input: (
        EmbeddedText | EmbeddedClip | Annotated[list[EmbeddedText | EmbeddedClip], Field(fail_fast=True)]
    ) = Field(
        description="names, and clips",
        examples=[["a barking dog", "a cat"]],
        json_schema_extra={"minItems": 1, "maxItems": MAX_INPUTS},
    )


class EmbeddingsForm(EmbeddingOptions):
    """One clip to embed, or several."""

    model_config = ConfigDict(title="Clips to embed", json_schema_extra=_as_form)

    url: str | None = Field(
        default=None, description=texts.URL.description, json_schema_extra={"format": "uri"}
    )


class EmbeddingItem(Wire):
    """The vector of one input."""

    object: Literal["embedding"] = "embedding"
    index: int = Field(ge=0, description="place among the inputs")
    embedding: list[float] | str


class Usage(Wire):
    """What was encoded."""

    prompt_tokens: int = Field(description="tokens of the texts, each once, without the bundle's templates")
    total_tokens: int

    @classmethod
    def of(cls, n_tokens: int) -> Usage:
        """Of so many tokens: answers have none."""
        return cls(prompt_tokens=n_tokens, total_tokens=n_tokens)


class EmbeddingList(Wire):
    """Vectors, in the shape of OpenAI's embeddings."""

    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str
    usage: Usage


def read_embedding_options(fields: Fields) -> EmbeddingsForm:
    """The fields of a request whose clips came as a form, or as the body itself.

    Raises:
        InvalidOptionError: A field given twice.
        InvalidRequestError: Unknown fields, or values that are not acceptable.
    """
    values: dict[str, str] = {}
    for name, value in fields:
        if name in values:
            raise InvalidOptionError(f"The field {name[:80]} was sent more than once.")
        values[name] = value
    return check_form(values, EmbeddingsForm)


class EmbeddingWork:
    """Embeds the inputs of one request. Texts are names: put into the bundle's templates, and cached.

    Args:
        context: The parts of the service.
        options: How.
        inputs: Texts, and files of clips.

    Raises:
        UnknownBundleError: No bundle has the name of the model.
        InvalidOptionError: Its vectors have other dimensions.
        InvalidLabelError, TooMuchTextError: A text is not acceptable as a name, or all are too long.
    """

    def __init__(self, context: Context, options: EmbeddingOptions, inputs: Sequence[str | Path]) -> None:
        self._context = context
        self._options = options
        self._bundle = context.registry.get(options.model)
        width = vector_width(self._bundle)
        if options.dimensions not in (None, width):
            raise InvalidOptionError(
                f"dimensions must be {width}, or be left out: vectors of this bundle can't be shortened."
            )
        self._inputs = [one if isinstance(one, Path) else make_label(one) for one in inputs]
        self._texts = [one for one in inputs if isinstance(one, str)]
        labels = tuple(dict.fromkeys(one for one in self._inputs if isinstance(one, Label)))
        self._clip_options = ClassifyOptions(frames=context.settings.frames)
        self._labels = labels
        self._names = begin_to_embed(context, self._bundle, Candidates(labels), self._clip_options)

    async def run(self) -> str:
        """JSON of the answer.

        Raises:
            AhseError: A clip can't be used, or the service can't do it now.
            ClientDisconnect: Nobody waits for the answer.
        """
        context, vectors = self._context, dict[Label | Path, Array]()
        while not self._names.is_known:
            await context.encode_some(self._names)
        if self._labels:
            rows = await context.work_on_names(self._name_vectors)
            vectors |= zip(self._labels, rows, strict=True)
        for clip in self._inputs:
            if isinstance(clip, Path):
                vectors[clip] = await context.work_on_clip(
                    context.classifier.clip_vector, clip, self._bundle, self._clip_options
                )
        return await context.work_on_names(self._answer, [vectors[one] for one in self._inputs])

    def _name_vectors(self) -> Array:
        return name_vectors(self._bundle, self._names.finish())

    def _answer(self, vectors: Sequence[Array]) -> str:
        """JSON, written vector by vector: all as numbers of Python would take several times the memory."""
        usage = Usage.of(self._bundle.encoders.tokens_visual.count(self._texts) if self._texts else 0)
        write = _as_base64 if self._options.encoding_format == "base64" else _as_numbers
        data = ",".join(
            f'{{"object":"embedding","index":{index},"embedding":{write(vector)}}}'
            for index, vector in enumerate(vectors)
        )
        end = EmbeddingList(data=[], model=self._bundle.name, usage=usage).model_dump_json()
        return end.replace('"data":[]', f'"data":[{data}]', 1)


def _as_base64(vector: Array) -> str:
    return f'"{base64.b64encode(vector.astype("<f4").tobytes()).decode()}"'


def _as_numbers(vector: Array) -> str:
    """The shortest numbers that are read as the same float32."""
    return f"[{','.join(map(str, vector.astype(np.float32)))}]"
