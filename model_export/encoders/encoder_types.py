"""Image, audio and text encoders ready for export, and how a bundle of them is described to people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import Tokenizer
from torch import nn

from model_export.hub.fetch import ModelFile
from service.bundle.manifest import Padding
from service.bundle.provenance import Licence, Source
from service.media import Resize


@dataclass(frozen=True)
class TextEncoder:
    """Encodes texts: `module` takes tokens int64 [batch, length], gives unit features float32 [batch, dim].

    One that both encoders share gives features for each track, visual first, and may give a third tensor
    [batch, 1]: the largest cosine of the text to a name that the encoders were trained with.

    Attributes:
        module: Of torch, in eval mode.
        tokenizer: Its ids are the rows of the module's embedding.
        context_length: Tokens a text is cut to.
        dynamic_length: Whether shorter rows give the same features as rows padded to the context length.
        pad_id: What short rows are filled with.
        templates: Prompts of a name, `{}` stands for it.
        licence: Of its weights, where they are not those of the image or audio encoder.
    """

    module: nn.Module
    tokenizer: Tokenizer
    context_length: int
    dynamic_length: bool
    pad_id: int
    templates: tuple[str, ...]
    licence: Licence | None = None


@dataclass(frozen=True)
class ImageEncoder:
    """Encodes pictures: `module` takes frames uint8 [batch, size, size, 3], gives unit features [batch, dim].

    Attributes:
        module: Of torch, in eval mode.
        text: The text encoder of the same space.
        dim: Of the space.
        size_px: Side of the square pictures.
        resize: How a picture becomes square.
        logit_scale: Factor on cosines.
        licence: Of the weights.
        sources: Files of weights and tokenizer.
        stand_in_tokenizer: The tokenizer is a made-up one, for random weights only.
    """

    module: nn.Module
    text: TextEncoder
    dim: int
    size_px: int
    resize: Resize
    logit_scale: float
    licence: Licence
    sources: tuple[Source, ...] = ()
    stand_in_tokenizer: bool = False


@dataclass(frozen=True)
class AudioEncoder:
    """Encodes sound: `module` takes waveform float32 [batch, samples], gives unit features [batch, dim].

    Attributes:
        module: Of torch, in eval mode.
        text: The text encoder of the same space.
        dim: Of the space.
        sample_rate_hz: Of the waveform.
        window_s: Seconds in the waveform.
        padding: What fills the waveform of shorter sound, as the model was trained.
        logit_scale: Factor on cosines.
        licence: Of the weights.
        stand_in_tokenizer: The tokenizer is a made-up one, for random weights only.
        sources: Files of weights and tokenizer.
    """

    module: nn.Module
    text: TextEncoder
    dim: int
    sample_rate_hz: int
    window_s: float
    padding: Padding
    logit_scale: float
    licence: Licence
    stand_in_tokenizer: bool = False
    sources: tuple[Source, ...] = ()


def sources(part: str, files: Iterable[ModelFile]) -> tuple[Source, ...]:
    """The files that a part was made of, for the manifest."""
    return tuple(
        Source(part=part, repository=file.repo, revision=file.commit, file=file.path.name, sha256=file.sha256)
        for file in files
    )


def describe(
    image_name: str, audio_name: str, image: ImageEncoder, audio: AudioEncoder, *, random: bool
) -> str:
    """One sentence for the manifest."""
    made_up = [one for one, has in (("image", image), ("CLAP", audio)) if has.stand_in_tokenizer]
    stand_in = f", and it has stand-in tokenizers ({', '.join(made_up)})" if made_up else ""
    warning = f" RANDOM weights: its answers mean nothing{stand_in}." if random else ""
    return f"{image_name} and {audio_name}, ranked by similarity, no head trained.{warning}"


def model_card(
    description: str,
    image: ImageEncoder,
    audio: AudioEncoder,
    command: str,
) -> str:
    """Text of MODEL_CARD.md.

    Args:
        description: One sentence.
        image: The image encoder.
        audio: The audio encoder.
        command: The command that makes the bundle again.
    """
    licences = "\n".join(
        f"| {one.part} | {one.licence} | {one.source} |" for one in (image.licence, audio.licence)
    )
    return f"""# {description}

Frozen encoders as bundled by `{command}`, without a trained head: labels are ranked by the similarity of each
track to its own text. `ahse calibrate` fits statistics to your clips; `ahse train` trains a head.

| part | input | features |
|---|---|---|
| image | {image.size_px} px square frames | {image.dim} |
| audio | {audio.window_s:g} s windows at {audio.sample_rate_hz} Hz | {audio.dim} |

Every graph was compared with its torch original; manifest.json has the precisions and the differences.

| weights | licence | source |
|---|---|---|
{licences}

Both models were trained on pictures, sounds and captions from the internet, including their biases and gaps.
Measure the bundle on clips of your own before you rely on it.
"""
