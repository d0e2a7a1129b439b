"""An image and an audio encoder as parts of a bundle: graphs compared with torch, and tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from model_export.encoders.encoder_types import AudioEncoder, ImageEncoder, TextEncoder
from model_export.encoders.example_inputs import frame_batches, token_batches, waveform_batches
from model_export.encoders.lean_modules import lean
from model_export.errors import EncoderError, PrecisionError
from model_export.export.bundle_parts import EncoderParts
from model_export.export.graph_export import OPSET, export_graph
from model_export.export.reduced_precision import COSINE_FLOOR, reduce_precision
from service.bundle.manifest import AudioEncoderSpec, ImageEncoderSpec, KnownNames, TextEncoderSpec
from service.bundle.provenance import GraphCheck, Precision

TOWERS: Final = ("visual", "text_visual", "audio", "text_audio")
NEARNESS: Final = "nearness"
"""Output of a shared text graph: cosine to the nearest name that the encoders were trained with."""
_SHARED_OUTPUTS: Final = ("visual", "audio", NEARNESS)

# Largest difference to torch in a feature of unit length; 2e-7 is usual, a mixed-up batch shows from 4e-5 on.
TOLERANCE = 2e-5
# Of longer sound, windows spread over it are used, this much in all: an hour of sound would take minutes.
MAX_AUDIO_S = 600.0


@dataclass(frozen=True)
class ExportOptions:
    """How graphs are written.

    Attributes:
        n_frames: Frames of a clip.
        precision: Precision of some of TOWERS; the export stops where it is too far from fp32.
        preferred: Precision of the others; a graph stays in fp32 where it is too far from that.
        typical: Inputs like those of real use, by the graph's name: a smaller precision is fitted to them and
            compared with fp32 on them, instead of on noise and the project's own clips.
        cosine_floor: Smallest cosine of a smaller precision to fp32 that passes.
        opset: ONNX opset.
        progress: Called with a line for each graph.
        tolerance: Largest difference between graph and torch that passes.
        max_audio_s: Most seconds of a clip's sound that are used; of longer sound, windows spread over it.
    """

    n_frames: int = 8
    precision: Mapping[str, Precision] = field(default_factory=dict)
    preferred: Precision = "fp32"
    typical: Mapping[str, Tensor] = field(default_factory=dict)
    cosine_floor: float = COSINE_FLOOR
    opset: int = OPSET
    progress: Callable[[str], None] = lambda _: None
    tolerance: float = TOLERANCE
    max_audio_s: float = MAX_AUDIO_S


@dataclass(frozen=True)
class _Tower:
    """A graph to write: module, input, and batches to compare it on, the first of which is traced."""

    module: nn.Module
    input: str
    batches: Sequence[Tensor]
    max_length: int | None = None
    outputs: tuple[str, ...] = ("features",)


def encoder_parts(
    image: ImageEncoder, audio: AudioEncoder, options: ExportOptions, known: KnownNames | None = None
) -> EncoderParts:
    """Both encoders as parts of a bundle; graphs are made and compared when the bundle is written.

    A text encoder, or a tokenizer, that is the same object for both is written once.

    Args:
        image: The image encoder.
        audio: The audio encoder.
        options: How graphs are written.
        known: When names get a warning; the shared text encoder must give their nearness to known names.

    Raises:
        EncoderError: A module gives other tensors than `dim` says; or typical inputs are given for a graph
            that does not exist, or `known` without a text encoder that gives nearness.
    """
    is_shared = image.text is audio.text
    text_outputs = _checked_outputs(image, audio)
    tokenizers = _tokenizer_files(image.text, audio.text)
    names = ("visual", "audio", "text") if is_shared else TOWERS
    if unknown := options.typical.keys() - set(names):
        raise EncoderError(
            f"typical inputs are given for {sorted(unknown)}; the graphs are {', '.join(names)}"
        )
    if known is not None and (not is_shared or text_outputs != _SHARED_OUTPUTS):
        raise EncoderError("known names take one text encoder for both tracks that gives nearness too")

    def write(folder: Path) -> dict[str, GraphCheck]:
        towers = {
            "visual": _Tower(image.module, "frames", frame_batches(image)),
            "audio": _Tower(audio.module, "waveform", waveform_batches(audio)),
        }
        for side, text in {"visual": image.text, "audio": audio.text}.items():
            name = "text" if is_shared else f"text_{side}"
            text.tokenizer.save(str(folder / tokenizers[side]))
            if name not in towers:
                towers[name] = _text_tower(text, text_outputs)
        return {name: _write(name, tower, folder, options) for name, tower in towers.items()}

    return EncoderParts(
        visual=ImageEncoderSpec(
            graph="visual.onnx",
            dim=image.dim,
            image_size_px=image.size_px,
            resize=image.resize,
            n_frames=options.n_frames,
            sampling="uniform",
            logit_scale=image.logit_scale,
            text=_text_facts(image.text, "visual", tokenizers["visual"], is_shared=is_shared),
        ),
        audio=AudioEncoderSpec(
            graph="audio.onnx",
            dim=audio.dim,
            sample_rate_hz=audio.sample_rate_hz,
            window_s=audio.window_s,
            hop_s=audio.window_s,
            max_s=options.max_audio_s,
            padding=audio.padding,
            logit_scale=audio.logit_scale,
            text=_text_facts(audio.text, "audio", tokenizers["audio"], is_shared=is_shared),
        ),
        write=write,
        licences=tuple(
            dict.fromkeys(
                one
                for one in (image.licence, audio.licence, image.text.licence, audio.text.licence)
                if one is not None
            )
        ),
        known_names=known,
        sources=(*image.sources, *audio.sources),
    )


def _write(name: str, tower: _Tower, folder: Path, options: ExportOptions) -> GraphCheck:
    path = folder / f"{name}.onnx"
    first, *further = tower.batches
    check = export_graph(
        lean(tower.module),
        {tower.input: first},
        tower.outputs,
        path,
        tolerance=options.tolerance,
        original=tower.module,
        further=further,
        max_length=tower.max_length,
        opset=options.opset,
    )
    is_typical = name in options.typical
    compared = [options.typical[name]] if is_typical else tower.batches
    batches = [{tower.input: batch.numpy()} for batch in compared]
    try:
        precision = options.precision.get(name, options.preferred)
        check = reduce_precision(
            path, precision, check, batches, options.cosine_floor, are_typical=is_typical
        )
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


def _text_tower(text: TextEncoder, outputs: tuple[str, ...]) -> _Tower:
    max_length = text.context_length if text.dynamic_length else None
    return _Tower(text.module, "tokens", token_batches(text), max_length, outputs)


def _checked_outputs(image: ImageEncoder, audio: AudioEncoder) -> tuple[str, ...]:
    """Names of what the text encoders give, once every module has given what its encoder says.

    Raises:
        EncoderError: A module gives other tensors: no service could open the bundle.
    """
    n_samples = round(audio.window_s * audio.sample_rate_hz)
    frames = torch.zeros(1, image.size_px, image.size_px, 3, dtype=torch.uint8)
    _check_widths("the image encoder", image.module, frames, (image.dim,))
    _check_widths("the audio encoder", audio.module, torch.zeros(1, n_samples), (audio.dim,))
    if image.text is not audio.text:
        for track, text, dim in (("visual", image.text, image.dim), ("audio", audio.text, audio.dim)):
            rows = token_batches(text)[1][:1]
            _check_widths(f"the text encoder of the {track} track", text.module, rows, (dim,))
        return ("features",)
    both, rows = (image.dim, audio.dim), token_batches(image.text)[1][:1]
    n_given = _check_widths("the text encoder of both tracks", image.text.module, rows, both, (*both, 1))
    return _SHARED_OUTPUTS[:n_given]


def _check_widths(what: str, module: nn.Module, rows: Tensor, *allowed: tuple[int, ...]) -> int:
    """Run a module on one row, compare its tensors with the widths that are allowed, and count them."""
    with torch.no_grad():
        given = module.eval()(rows)
    found = [tuple(getattr(one, "shape", ())) for one in ([given] if isinstance(given, Tensor) else given)]
    if found not in [[(1, width) for width in widths] for widths in allowed]:
        wanted = " or ".join(" and ".join(f"[1, {width}]" for width in widths) for widths in allowed)
        got = " and ".join(str(list(shape)) for shape in found)
        raise EncoderError(
            f"{what} gives {got} for one row where {wanted} is needed: correct `dim` or the module"
        )
    return len(found)


def _tokenizer_files(visual: TextEncoder, audio: TextEncoder) -> dict[str, str]:
    """The file of each track's tokenizer."""
    if visual.tokenizer is audio.tokenizer:
        return dict.fromkeys(("visual", "audio"), "tokenizer.json")
    return {track: f"tokenizer_{track}.json" for track in ("visual", "audio")}


def _text_facts(text: TextEncoder, side: str, tokenizer: str, *, is_shared: bool) -> TextEncoderSpec:
    return TextEncoderSpec(
        graph="text.onnx" if is_shared else f"text_{side}.onnx",
        output=side if is_shared else "features",
        tokenizer=tokenizer,
        vocabulary_size=text.tokenizer.get_vocab_size(),
        context_length=text.context_length,
        dynamic_length=text.dynamic_length,
        pad_id=text.pad_id,
        templates=text.templates,
    )
