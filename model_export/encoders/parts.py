"""An image encoder and a sound encoder as the encoders' share of a bundle: four graphs and two tokenizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from model_export.encoders.examples import frame_batches, token_batches, waveform_batches
from model_export.encoders.lean import lean
from model_export.encoders.loaded import ImageEncoder, SoundEncoder, TextEncoder
from model_export.export.bundle import EncoderParts
from model_export.export.graph import OPSET, export_graph
from model_export.export.precision import WORTHWHILE_SHARE, PrecisionError, reduce_precision
from service.bundle.manifest import AudioTower, GraphCheck, Precision, TextTower, VisualTower

TOWERS: Final = ("visual", "text_visual", "audio", "text_audio")
VISUAL_TEMPLATES = ("a photo of a {}.", "a photo of {}.", "a video of a {}.", "a video of a person {}.")
AUDIO_TEMPLATES = ("This is a sound of {}.",)

# Largest difference to torch in a feature of unit length; 2e-7 is usual, a mixed-up batch shows from 4e-5 on.
TOLERANCE = 2e-5
# Sound after this is not used: an hour-long clip would take minutes.
MAX_AUDIO_S = 600.0


@dataclass(frozen=True)
class ExportOptions:
    """How graphs are written.

    Attributes:
        n_frames: Pictures of a clip.
        precision: Of some of TOWERS; the export stops where it is too far from fp32.
        preferred: Of the others; fp32 takes its place where it is too far from that, or hardly smaller.
        opset: Of ONNX.
        progress: Told what was done, a line at a time.
    """

    n_frames: int = 8
    precision: Mapping[str, Precision] = field(default_factory=dict)
    preferred: Precision = "fp32"
    opset: int = OPSET
    progress: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class _Tower:
    """A graph to be written: its module, its input, and what it is compared on, the first batch traced."""

    module: nn.Module
    input: str
    batches: Sequence[Tensor]
    max_length: int | None = None


def encoder_parts(image: ImageEncoder, sound: SoundEncoder, options: ExportOptions) -> EncoderParts:
    """Both encoders as the bundle's writer wants them; graphs are made and compared when it writes."""

    def write(folder: Path) -> dict[str, GraphCheck]:
        image.text.tokenizer.save(str(folder / "tokenizer_visual.json"))
        sound.text.tokenizer.save(str(folder / "tokenizer_audio.json"))
        towers = {
            "visual": _Tower(image.module, "frames", frame_batches(image)),
            "text_visual": _text_tower(image.text),
            "audio": _Tower(sound.module, "waveform", waveform_batches(sound)),
            "text_audio": _text_tower(sound.text),
        }
        return {name: _write(name, tower, folder, options) for name, tower in towers.items()}

    return EncoderParts(
        visual=VisualTower(
            graph="visual.onnx",
            dim=image.dim,
            image_size_px=image.size_px,
            resize=image.resize,
            n_frames=options.n_frames,
            sampling="uniform",
            logit_scale=image.logit_scale,
            text=_text_facts(image.text, "visual", VISUAL_TEMPLATES),
        ),
        audio=AudioTower(
            graph="audio.onnx",
            dim=sound.dim,
            sample_rate_hz=sound.sample_rate_hz,
            window_s=sound.window_s,
            hop_s=sound.window_s,
            max_s=MAX_AUDIO_S,
            padding="repeat",
            logit_scale=sound.logit_scale,
            text=_text_facts(sound.text, "audio", AUDIO_TEMPLATES),
        ),
        write=write,
        licences=(image.licence, sound.licence),
        sources=(*image.sources, *sound.sources),
    )


def _write(name: str, tower: _Tower, folder: Path, options: ExportOptions) -> GraphCheck:
    path = folder / f"{name}.onnx"
    first, *further = tower.batches
    check = export_graph(
        lean(tower.module),
        {tower.input: first},
        "features",
        path,
        tolerance=TOLERANCE,
        original=tower.module,
        further=further,
        max_length=tower.max_length,
        opset=options.opset,
    )
    batches = [{tower.input: batch.numpy()} for batch in tower.batches]
    precision = options.precision.get(name, options.preferred)
    largest_share = math.inf if name in options.precision else WORTHWHILE_SHARE
    try:
        check = reduce_precision(path, precision, check, batches, largest_share)
    except PrecisionError as error:
        if name in options.precision:
            raise PrecisionError(f"{error.message} Keep it in fp32: --precision {name}=fp32") from error
        options.progress(f"{error.message} It is kept in fp32.")
    smaller = "" if check.cosine is None else f", cosine {check.cosine:.5f} to fp32"
    options.progress(
        f"{path.name}: {check.precision}, {path.stat().st_size / 1e6:.0f} MB, "
        f"largest difference to torch {check.difference:.1e}{smaller}"
    )
    return check


def _text_tower(text: TextEncoder) -> _Tower:
    return _Tower(
        text.module, "tokens", token_batches(text), text.context_length if text.dynamic_length else None
    )


def _text_facts(text: TextEncoder, side: str, templates: tuple[str, ...]) -> TextTower:
    return TextTower(
        graph=f"text_{side}.onnx",
        tokenizer=f"tokenizer_{side}.json",
        vocabulary_size=text.tokenizer.get_vocab_size(),
        context_length=text.context_length,
        dynamic_length=text.dynamic_length,
        pad_id=text.pad_id,
        templates=templates,
    )
