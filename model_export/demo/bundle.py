"""The demo world's encoders as a bundle's parts, and as a bundle of their own."""

from __future__ import annotations

from pathlib import Path

from model_export.demo.encoders.towers import example_inputs
from model_export.demo.encoders.trained import TOKENIZER_FILE, TinyEncoders
from model_export.demo.world import AUDIO_TEMPLATES, VISUAL_TEMPLATES
from model_export.export.bundle import BundleFacts, EncoderParts, export_bundle
from model_export.export.graph import export_graph
from model_export.export.heads import similarity_head
from service.bundle.manifest import AudioTower, TextTower, VisualTower
from service.bundle.provenance import GraphCheck, Licence

# Of features of unit length. Silence is the worst: its spectrogram is nothing but the rounding of a mean.
TOWER_TOLERANCE = 5e-5

N_FRAMES = 8
MAX_AUDIO_S = 30.0

_LICENCE = Licence(
    part="all weights and example clips",
    licence="Apache-2.0",
    source="made by `ahse demo build`, no outside data",
)


def write_encoders(encoders: TinyEncoders, out: Path, seed: int) -> None:
    """Write the towers as a bundle without a trained head: what the head's features are made with."""
    parts = encoder_parts(encoders)
    facts = BundleFacts(
        name="demo-encoders",
        version="1.0.0",
        description="The demo world's encoders, without a trained head.",
        unseen_classes=(),
        metrics=(),
        command=f"ahse demo build --seed {seed}",
        seed=seed,
        data="procedurally made clips of the demo world",
        card="# The demo world's encoders\n\nThe trained head stands in the demo bundle.\n",
    )
    export_bundle(out, parts, similarity_head(), facts)


def encoder_parts(encoders: TinyEncoders) -> EncoderParts:
    """The tiny towers as the exporter wants them."""
    config = encoders.config

    def write(folder: Path) -> dict[str, GraphCheck]:
        encoders.tokenizer.save(str(folder / TOKENIZER_FILE))
        towers = {
            "visual": encoders.visual,
            "audio": encoders.audio,
            "text_visual": encoders.text_visual,
            "text_audio": encoders.text_audio,
        }
        return {
            name: export_graph(
                towers[name],
                {input_name: rows},
                ["features"],
                folder / f"{name}.onnx",
                tolerance=TOWER_TOLERANCE,
            )
            for name, (input_name, rows) in example_inputs(config, 3).items()
        }

    return EncoderParts(
        visual=VisualTower(
            graph="visual.onnx",
            dim=config.dim,
            image_size_px=config.image_size_px,
            resize="shorter_side_bicubic_center_crop",
            n_frames=N_FRAMES,
            sampling="uniform",
            logit_scale=encoders.logit_scale_visual,
            text=_text_tower(encoders, "text_visual.onnx", VISUAL_TEMPLATES),
        ),
        audio=AudioTower(
            graph="audio.onnx",
            dim=config.dim,
            sample_rate_hz=config.sample_rate_hz,
            window_s=config.window_s,
            hop_s=config.window_s,
            max_s=MAX_AUDIO_S,
            padding="repeat",
            logit_scale=encoders.logit_scale_audio,
            text=_text_tower(encoders, "text_audio.onnx", AUDIO_TEMPLATES),
        ),
        write=write,
        licences=(_LICENCE,),
    )


def _text_tower(encoders: TinyEncoders, graph: str, templates: tuple[str, ...]) -> TextTower:
    return TextTower(
        graph=graph,
        tokenizer=TOKENIZER_FILE,
        vocabulary_size=encoders.tokenizer.get_vocab_size(),
        context_length=encoders.config.context_length,
        pad_id=0,
        templates=templates,
    )
