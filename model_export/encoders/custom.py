"""Any pair of encoders as a bundle: what `ahse export custom` is given, and how it is written."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from model_export.encoders.encoder_graphs import MAX_AUDIO_S, TOLERANCE, ExportOptions, encoder_parts
from model_export.encoders.encoder_types import AudioEncoder, ImageEncoder
from model_export.errors import EncoderError
from model_export.export.bundle_parts import BundleFacts, export_bundle
from model_export.export.head_parts import NOT_FITTED, Fitted, similarity_head
from model_export.export.reduced_precision import COSINE_FLOOR
from service.bundle.manifest import KnownNames
from service.bundle.provenance import Metric, Precision


@dataclass(frozen=True)
class CustomBundle:
    """A pair of encoders, ranked by similarity, and what the manifest says of them.

    Attributes:
        image: The image encoder and its text encoder.
        audio: The audio encoder and its text encoder. Where both text encoders are the same object, it is
            stored and run once, and its module gives a tensor for each track.
        description: One sentence for people.
        data: What the weights were trained on.
        card: Text of MODEL_CARD.md.
        version: Version of the bundle.
        n_frames: Frames of a clip.
        precision: Preferred for each graph; a graph stays in fp32 where it is too far from that.
        typical: Inputs like those of real use (`visual`, `audio`, `text`): smaller precisions are compared
            with fp32 on them.
        cosine_floor: Smallest cosine to fp32 that passes; lower where changed decisions were counted.
        fitted: What was fitted to labelled clips.
        known: When names get a warning, where the shared text encoder gives their nearness to known names.
        notice: What everybody who reads an answer must know.
        metrics: What was measured of the bundle.
        texts: Further text files, such as licences, by name.
        created: When it was made; None for now. A fixed date makes the same bytes each time.
        seed: Seed of everything random in the weights, if anything is.
        max_audio_s: Most seconds of a clip's sound that are used; of longer sound, windows spread over it.
        tolerance: Largest difference between graph and torch that passes, in a feature of unit length.
    """

    image: ImageEncoder
    audio: AudioEncoder
    description: str
    data: str
    card: str
    version: str = "1"
    n_frames: int = 8
    precision: Precision = "fp32"
    typical: Mapping[str, Tensor] = field(default_factory=dict)
    cosine_floor: float = COSINE_FLOOR
    fitted: Fitted = NOT_FITTED
    known: KnownNames | None = None
    notice: str | None = None
    metrics: tuple[Metric, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None
    seed: int | None = None
    max_audio_s: float = MAX_AUDIO_S
    tolerance: float = TOLERANCE


Builder = Callable[[Path], CustomBundle]


def load_builder(name: str) -> Builder:
    """The function MODULE:FUNCTION, which takes a folder to work in and returns a CustomBundle.

    Raises:
        EncoderError: There is no such module or function.
    """
    module_name, _, function_name = name.partition(":")
    try:
        module: Any = importlib.import_module(module_name)
        function: Builder = getattr(module, function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise EncoderError(
            f"{name!r} can't be imported ({error}); give MODULE:FUNCTION, and put the module's folder into "
            "PYTHONPATH"
        ) from error
    return function


def write_custom(
    out: Path, built: CustomBundle, name: str, command: str, progress: Callable[[str], None]
) -> None:
    """Write a pair of encoders as a bundle without a trained head; every graph is compared with torch.

    Args:
        out: Directory of the new bundle.
        built: The encoders and what the manifest says of them.
        name: Name by which requests choose the bundle.
        command: Command that makes the bundle again, for the manifest.
        progress: Called with one line for each graph.

    Raises:
        EncoderError: The values contradict each other, such as inputs for a graph that does not exist.
        ParityError: A graph does not compute what torch computes.
    """
    options = ExportOptions(
        built.n_frames,
        preferred=built.precision,
        typical=built.typical,
        cosine_floor=built.cosine_floor,
        progress=progress,
        tolerance=built.tolerance,
        max_audio_s=built.max_audio_s,
    )
    facts = BundleFacts(
        name=name,
        version=built.version,
        description=built.description,
        notice=built.notice,
        unseen_classes=(),
        metrics=built.metrics,
        command=command,
        seed=built.seed,
        data=built.data,
        card=built.card,
        created=built.created,
    )
    parts = encoder_parts(built.image, built.audio, options, built.known)
    head = similarity_head(built.fitted)
    export_bundle(out, replace(parts, texts=built.texts), head, facts)
