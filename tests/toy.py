"""A bundle and clips small enough to know every answer: three colours and three tones.

The picture's feature is its mean colour, the sound's feature its power at three frequencies, and a name's
features are the sums of its words' vectors. The head puts both features side by side. So the right ranking
can be worked out by hand, and no training is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from service.bundle.directory import write_bundle
from service.bundle.guarantees import Guarantees
from service.bundle.head_specs import (
    AgreementScore,
    AhseSpec,
    Calibration,
    Calibrations,
    SimilaritySpec,
    Standardisation,
)
from service.bundle.manifest import AudioEncoderSpec, ImageEncoderSpec, KnownNames, Manifest, TextEncoderSpec
from service.bundle.provenance import Licence, Provenance
from service.head.statistics import AhseStatistics, SimilarityStatistics

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}
TONES_HZ = {"low": 300.0, "middle": 1000.0, "high": 3000.0}
CLASSES = [f"{colour} with a {tone} tone" for colour in COLOURS for tone in TONES_HZ]
SIZE_PX, RATE_HZ, WINDOW_S, CONTEXT = 16, 16_000, 0.5, 12
LOGIT_SCALE = 10.0
TEMPLATE = "a clip of {}"
# How near names with such words are to what the shared text graph knows; all others are at 0.
NEARNESS = {**dict.fromkeys((*COLOURS, *TONES_HZ), 0.9), "filler0": 0.5}
KNOWN_NAMES = KnownNames(output="nearness", threshold=0.4, alphabets=("LATIN",))
NOTICE = "Knows three colours and three tones."
CALIBRATION = {
    "raw_weight": 0.0,
    "visual_share": 0.5,
    "beta": 0.0,
    "temperature": 0.2,
    "unknown_threshold": 0.7,
    "unknown_scale": 0.1,
}


def write_toy_bundle(
    directory: Path,
    *,
    name: str = "toy",
    seen: Sequence[str] = (),
    standardisation: Standardisation = "none",
    version: str = "1",
    head: Literal["ahse", "similarity"] | SimilaritySpec = "ahse",
    middle: bool = False,
    shared: bool = False,
    notice: str | None = None,
    agreement: AgreementScore | None = None,
    guarantees: Guarantees | None = None,
    **calibration: float,
) -> Path:
    """Write the toy bundle.

    Args:
        directory: where to.
        name: of the bundle.
        seen: classes that the head was trained on.
        standardisation: of the head `ahse`.
        version: of the bundle.
        head: a kind, or a head without a network as the manifest has it.
        middle: look at one frame only.
        shared: one text graph for both tracks, which also tells how near names are to NEARNESS.
        notice: what everybody who reads an answer must know.
        agreement: when both tracks agree.
        guarantees: what can be promised of answers.
        calibration: in place of some of CALIBRATION.
    """
    stored = _similarity_head() if head == "similarity" else head

    def fill(aside: Path) -> None:
        onnx.save(_visual(), aside / "visual.onnx")
        onnx.save(_audio(), aside / "audio.onnx")
        for file, graph in _texts(shared=shared).items():
            onnx.save(graph, aside / file)
        _tokenizer().save(str(aside / "tokenizer.json"))
        if guarantees is not None:
            (aside / "guarantee.json").write_text(guarantees.model_dump_json())
        if isinstance(stored, SimilaritySpec):
            if stored.statistics is not None:
                not_fitted(3, LOGIT_SCALE, 3, LOGIT_SCALE).save(aside / stored.statistics)
            return
        onnx.save(_head(), aside / "head_av.onnx")
        onnx.save(_head(), aside / "head_text.onnx")
        _statistics().save(aside / "statistics.safetensors")

    def manifest(files: dict[str, str]) -> Manifest:
        ours = stored if isinstance(stored, SimilaritySpec) else _ahse_head(standardisation, calibration)
        file = None if guarantees is None else "guarantee.json"
        ours = ours.model_copy(update={"agreement": agreement, "guarantee": file})
        whole = _manifest(files, name, version, tuple(seen), ours, middle=middle, shared=shared)
        return whole.model_copy(update={"notice": notice})

    write_bundle(directory, fill, manifest)
    return directory


def write_clip(
    path: Path,
    colour: str | None,
    tone: str | None,
    *,
    seconds: float = 1.0,
    container: str = "mp4",
) -> Path:
    """Write a clip of one colour and one tone, H.264 + AAC; None leaves the track out."""
    return write_scenes(
        path, [colour] if colour else [], [tone] if tone else [], seconds=seconds, container=container
    )


def write_scenes(
    path: Path,
    colours: Sequence[str],
    tones: Sequence[str | None],
    *,
    seconds: float = 1.0,
    container: str = "mp4",
) -> Path:
    """Write a clip of some colours and some tones after each other, each for so long.

    No colours or no tones leave the track out; a tone None is digital silence.
    """
    with av.open(str(path), "w", format=container) as out:
        picture = out.add_stream("libx264", rate=10) if colours else None
        sound = out.add_stream("aac", rate=RATE_HZ, layout="mono") if tones else None
        if picture is not None:
            _write_picture(out, picture, [COLOURS[colour] for colour in colours], seconds)
        if sound is not None:
            _write_sound(out, sound, [_wave(tone, seconds) for tone in tones])
    return path


def _write_picture(
    out: av.container.OutputContainer,
    stream: av.VideoStream,
    colours: Sequence[tuple[int, int, int]],
    seconds: float,
) -> None:
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for rgb in colours:
        picture = np.broadcast_to(np.array(rgb, np.uint8), (48, 64, 3)).copy()
        for _ in range(round(10 * seconds)):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    out.mux(stream.encode())


def _wave(tone: str | None, seconds: float) -> NDArray[np.float32]:
    time_s = np.arange(round(RATE_HZ * seconds)) / RATE_HZ
    level = 0.0 if tone is None else 0.5
    return (level * np.sin(2 * np.pi * TONES_HZ[tone or "low"] * time_s)).astype(np.float32)


def _write_sound(
    out: av.container.OutputContainer, stream: av.AudioStream, waves: Sequence[NDArray[np.float32]]
) -> None:
    wave = np.concatenate(waves)
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


def _manifest(
    files: dict[str, str],
    name: str,
    version: str,
    seen: tuple[str, ...],
    head: AhseSpec | SimilaritySpec,
    *,
    middle: bool,
    shared: bool,
) -> Manifest:
    return Manifest(
        format_version=1,
        name=name,
        version=version,
        description="Three colours and three tones, for tests.",
        requires_service="0.1.0",
        visual=ImageEncoderSpec(
            graph="visual.onnx",
            dim=3,
            image_size_px=SIZE_PX,
            resize="shorter_side_bicubic_center_crop",
            n_frames=1 if middle else 4,
            sampling="middle" if middle else "uniform",
            logit_scale=LOGIT_SCALE,
            text=_text_tower("visual", shared=shared),
        ),
        audio=AudioEncoderSpec(
            graph="audio.onnx",
            dim=3,
            sample_rate_hz=RATE_HZ,
            window_s=WINDOW_S,
            hop_s=WINDOW_S,
            max_s=60.0,
            padding="repeat",
            logit_scale=LOGIT_SCALE,
            text=_text_tower("audio", shared=shared),
        ),
        known_names=KNOWN_NAMES if shared else None,
        head=head,
        seen_classes=seen,
        unseen_classes=tuple(name for name in CLASSES if name not in seen),
        provenance=Provenance(
            created=datetime(2026, 1, 1, tzinfo=UTC), command="tests/toy.py", data="none: worked out by hand"
        ),
        licences=(Licence(part="all", licence="Apache-2.0", source="this repository"),),
        files=files,
    )


def _ahse_head(standardisation: Standardisation, calibration: dict[str, float]) -> AhseSpec:
    stored = Calibration(**(CALIBRATION | calibration))
    return AhseSpec(
        kind="ahse",
        dim=6,
        av_graph="head_av.onnx",
        text_graph="head_text.onnx",
        statistics="statistics.safetensors",
        standardisation=standardisation,
        calibrations=Calibrations(both=stored, visual=stored, audio=stored),
    )


def _similarity_head() -> SimilaritySpec:
    return SimilaritySpec(
        kind="similarity",
        statistics="statistics.safetensors",
        visual_share=0.5,
        n_clips=0,
    )


def _text_tower(track: str, *, shared: bool) -> TextEncoderSpec:
    return TextEncoderSpec(
        graph="text.onnx" if shared else f"text_{track}.onnx",
        output=track if shared else "features",
        tokenizer="tokenizer.json",
        vocabulary_size=len(_vocabulary()),
        context_length=CONTEXT,
        pad_id=0,
        templates=(TEMPLATE,),
    )


def _vocabulary() -> dict[str, int]:
    words = ["[PAD]", "[UNK]", *COLOURS, *TONES_HZ, *(f"filler{i}" for i in range(100))]
    return {word: index for index, word in enumerate(words)}


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel(_vocabulary(), unk_token="[UNK]"))  # noqa: S106  (a token, no password)
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def _statistics() -> AhseStatistics:
    ones, zeros = np.ones(6, np.float32), np.zeros(6, np.float32)
    third = np.full(3, 1 / np.sqrt(3), np.float32)
    return AhseStatistics(zeros, ones, zeros, ones, third, third, third, third, third, third)


def _visual() -> onnx.ModelProto:
    return _model(
        {"frames": (TensorProto.UINT8, [SIZE_PX, SIZE_PX, 3])},
        {"features": 3},
        {"axes": np.array([1, 2])},
        [
            helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["raw"], keepdims=0),
            *_unit_length("raw", "features"),
        ],
    )


def _audio() -> onnx.ModelProto:
    n_samples = round(WINDOW_S * RATE_HZ)
    phase = 2 * np.pi * np.outer(np.arange(n_samples) / RATE_HZ, list(TONES_HZ.values()))
    return _model(
        {"waveform": (TensorProto.FLOAT, [n_samples])},
        {"features": 3},
        {"cosine": np.cos(phase).astype(np.float32), "sine": np.sin(phase).astype(np.float32)},
        [
            helper.make_node("MatMul", ["waveform", "cosine"], ["real"]),
            helper.make_node("MatMul", ["waveform", "sine"], ["imaginary"]),
            helper.make_node("Mul", ["real", "real"], ["real2"]),
            helper.make_node("Mul", ["imaginary", "imaginary"], ["imaginary2"]),
            helper.make_node("Add", ["real2", "imaginary2"], ["raw"]),
            *_unit_length("raw", "features"),
        ],
    )


def _texts(*, shared: bool) -> dict[str, onnx.ModelProto]:
    """Text graphs by file: one for each track, or one for both."""
    words = {"visual": list(COLOURS), "audio": list(TONES_HZ)}
    if not shared:
        return {f"text_{track}.onnx": _text({"features": own}) for track, own in words.items()}
    known = np.array([[NEARNESS.get(word, 0.0)] for word in _vocabulary()], np.float32)
    return {"text.onnx": _text(words, known)}


def _text(words: Mapping[str, list[str]], known: NDArray[np.float32] | None = None) -> onnx.ModelProto:
    """An output for each list of words, and `nearness`: the nearest word's, where it is given."""
    vocabulary, nodes = _vocabulary(), []
    constants: dict[str, NDArray[np.generic]] = {"axes": np.array([1])}
    for output, own in words.items():
        table = np.zeros((len(vocabulary), 3), np.float32)
        for axis, word in enumerate(own):
            table[vocabulary[word], axis] = 1
        constants[f"{output}_table"] = table
        nodes += [
            helper.make_node("Gather", [f"{output}_table", "tokens"], [f"{output}_rows"]),
            helper.make_node("ReduceSum", [f"{output}_rows", "axes"], [f"{output}_raw"], keepdims=0),
            *_unit_length(f"{output}_raw", output),
        ]
    outputs = dict.fromkeys(words, 3)
    if known is not None:
        constants["known"], outputs[KNOWN_NAMES.output] = known, 1
        nodes += [
            helper.make_node("Gather", ["known", "tokens"], ["of_words"]),
            helper.make_node("ReduceMax", ["of_words", "axes"], [KNOWN_NAMES.output], keepdims=0),
        ]
    return _model({"tokens": (TensorProto.INT64, [CONTEXT])}, outputs, constants, nodes)


def _head() -> onnx.ModelProto:
    nodes = [helper.make_node("Concat", ["visual", "audio"], ["theta"], axis=1)]
    inputs = {"visual": (TensorProto.FLOAT, [3]), "audio": (TensorProto.FLOAT, [3])}
    return _model(inputs, {"theta": 6}, {}, nodes)


def _unit_length(raw: str, output: str) -> list[onnx.NodeProto]:
    """Nodes that scale rows; `last` and `tiny` are in every graph."""
    return [
        helper.make_node("ReduceL2", [raw, "last"], [f"{output}_norm"], keepdims=1),
        helper.make_node("Add", [f"{output}_norm", "tiny"], [f"{output}_safe"]),
        helper.make_node("Div", [raw, f"{output}_safe"], [output]),
    ]


def _model(
    inputs: Mapping[str, tuple[int, list[int]]],
    outputs: Mapping[str, int],
    constants: dict[str, NDArray[np.generic]],
    nodes: list[onnx.NodeProto],
) -> onnx.ModelProto:
    constants = {**constants, "last": np.array([-1]), "tiny": np.array(1e-9, np.float32)}
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info(n, kind, ["batch", *shape]) for n, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", dim]) for n, dim in outputs.items()],
        [numpy_helper.from_array(value, n) for n, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def not_fitted(
    visual_dim: int, visual_scale: float, audio_dim: int, audio_scale: float
) -> SimilarityStatistics:
    """Statistics of no clips: standardised similarity is then cosine x logit scale, as CLIP and CLAP rank.

    Args:
        visual_dim: of the visual features.
        visual_scale: the image encoder's logit scale.
        audio_dim: of the audio features.
        audio_scale: the audio encoder's logit scale.
    """
    return SimilarityStatistics(
        visual_mean=np.zeros(visual_dim, np.float32),
        visual_covariance=np.eye(visual_dim, dtype=np.float32) / np.float32(visual_scale**2),
        audio_mean=np.zeros(audio_dim, np.float32),
        audio_covariance=np.eye(audio_dim, dtype=np.float32) / np.float32(audio_scale**2),
    )
