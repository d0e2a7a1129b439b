"""Any pair of encoders as a bundle: what the function given to `ahse export custom` returns."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from model_export.encoders.loaded import ImageEncoder, SoundEncoder
from model_export.errors import EncoderError
from model_export.export.precision import COSINE_FLOOR
from service.bundle.manifest import KnownNames, SimilarityScores
from service.bundle.provenance import Metric, Precision


@dataclass(frozen=True)
class CustomBundle:
    """A pair of encoders, ranked by similarity, and what the manifest says of them.

    Attributes:
        image: The image encoder and its text encoder.
        sound: The sound encoder and its text encoder, which may be the same object: then it is stored and run
            once, and its module gives a tensor for each track.
        description: One sentence for people.
        data: What the weights were trained on.
        card: Text of MODEL_CARD.md.
        version: Of the bundle.
        n_frames: Pictures of a clip.
        precision: Preferred for each graph; fp32 takes its place where it is too far from that.
        typical: Inputs like those that a graph will meet (`visual`, `audio`, `text`): smaller precisions are
            compared with fp32 on them.
        cosine_floor: Smallest cosine to fp32 that passes; lower where changed decisions were counted.
        visual_share: Of the picture, for clips with both tracks.
        scores: How similarity becomes probabilities; None: as sharp as the encoders' logit scales.
        known: When names get a warning, where the shared text encoder tells how near they are to known ones.
        notice: What everybody who reads an answer must know.
        metrics: What was measured of it.
        texts: Further text files, such as licences, by name.
        created: When it was made; None for now. A date of its own makes the same bytes each time.
    """

    image: ImageEncoder
    sound: SoundEncoder
    description: str
    data: str
    card: str
    version: str = "1"
    n_frames: int = 8
    precision: Precision = "fp32"
    typical: Mapping[str, Tensor] = field(default_factory=dict)
    cosine_floor: float = COSINE_FLOOR
    visual_share: float = 0.5
    scores: SimilarityScores | None = None
    known: KnownNames | None = None
    notice: str | None = None
    metrics: tuple[Metric, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None


Builder = Callable[[Path], CustomBundle]


def load_builder(name: str) -> Builder:
    """The function MODULE:FUNCTION. It is given a folder to work in and returns a CustomBundle.

    Raises:
        EncoderError: there is no such module or function.
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
