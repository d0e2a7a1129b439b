"""`ahse export clip-clap`: a real CLIP and a real CLAP as one bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast, get_args

import typer

from model_export.cli.shared_options import BundleName, check_new_bundle, command_of
from model_export.errors import EncoderError

if TYPE_CHECKING:
    from model_export.encoders.audio_encoder import AudioChoice
    from model_export.encoders.image_encoder import ImageChoice
    from service.bundle.provenance import Precision

_N_FRAMES: Final = 8
_OPSET: Final = 20
_FASTEST: Final[dict[str, Precision]] = {"cpu": "int8", "cuda": "fp16"}


def export_clip_clap(
    out: Annotated[Path, typer.Option(help="Directory of the new bundle; must not exist.")],
    image_model: Annotated[str, typer.Option(help="open_clip's name of the model.")] = "ViT-B-32",
    image_pretrained: Annotated[
        str | None, typer.Option(help="open_clip's tag of the weights; default: its first for the model.")
    ] = None,
    image_checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Weights in a file instead; where the model's tags differ in activation or preprocessing, "
            "with the tag that they are of in --image-pretrained.",
            metavar="FILE",
        ),
    ] = None,
    image_tokenizer: Annotated[
        Path | None,
        typer.Option(help="Tokenizer in a folder, for models with one of the hub.", metavar="FOLDER"),
    ] = None,
    image_revision: Annotated[
        str | None,
        typer.Option(help="Commit, tag or branch of the image weights' repository; default: as pinned."),
    ] = None,
    audio_pretrained: Annotated[
        str,
        typer.Option(help="LAION's name of a CLAP checkpoint, or a hub repository in transformers' format."),
    ] = "630k-audioset",
    audio_model: Annotated[
        str | None, typer.Option(help="HTSAT-tiny or HTSAT-base; default: as the checkpoint's name has it.")
    ] = None,
    audio_checkpoint: Annotated[
        Path | None,
        typer.Option(help="Weights in a file, or a folder of transformers, instead.", metavar="PATH"),
    ] = None,
    audio_revision: Annotated[
        str | None,
        typer.Option(help="Commit, tag or branch of the audio weights' repository; default: as pinned."),
    ] = None,
    clap_tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json of roberta-base instead of the hub's.", metavar="FILE")
    ] = None,
    pins: Annotated[
        Path | None,
        typer.Option(
            help="A bundle: take exactly the files that it was made of, by commit and SHA-256.",
            metavar="BUNDLE",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(help="Where the bundle will run: cpu prefers int8, cuda fp16, if close enough to fp32."),
    ] = "cpu",
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="fp32, fp16 or int8 and no other; of one graph: audio=fp32. May be repeated.",
            metavar="[GRAPH=]P",
        ),
    ] = None,
    n_frames: Annotated[int, typer.Option(min=1, max=1024, help="Frames of a clip.")] = _N_FRAMES,
    opset: Annotated[int, typer.Option(min=1, help="ONNX opset.")] = _OPSET,
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights", help="Random weights in the same architectures; nothing is downloaded."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the random weights.")] = 0,
    name: BundleName = None,
) -> None:
    """Write a bundle of a CLIP and a CLAP that ranks by similarity, every graph checked against torch."""
    from model_export.encoders.audio_encoder import AudioChoice, load_audio_encoder
    from model_export.encoders.encoder_graphs import ExportOptions, encoder_parts
    from model_export.encoders.encoder_types import describe, model_card
    from model_export.encoders.image_encoder import ImageChoice, load_image_encoder
    from model_export.export.bundle_parts import BundleFacts, export_bundle
    from model_export.export.head_parts import similarity_head
    from model_export.hub.hub_requests import Hub
    from model_export.hub.pins import pins_of

    check_new_bundle(out, name := name or out.resolve().name)
    options = ExportOptions(
        n_frames,
        precisions(precision or []),
        preferred(device),
        opset=opset,
        progress=lambda line: typer.echo(line, err=True),
    )
    image_choice = ImageChoice(
        image_model, image_pretrained, image_checkpoint, image_tokenizer, image_revision
    )
    audio_choice = AudioChoice(
        audio_pretrained, audio_model, audio_checkpoint, clap_tokenizer, audio_revision
    )
    _check_files(image_checkpoint, image_tokenizer, audio_checkpoint, clap_tokenizer, pins)
    if random_weights and (pins or image_revision or audio_revision):
        raise EncoderError("--random-weights have no version: leave out --pins and the revisions")
    if random_weights and (image_checkpoint or audio_checkpoint):
        raise EncoderError(
            "--random-weights are in no file: leave out --image-checkpoint, --audio-checkpoint"
        )
    random_seed = seed if random_weights else None
    hub = Hub(pins=pins_of(pins)) if pins else Hub()
    image = load_image_encoder(image_choice, random_seed, hub)
    audio = load_audio_encoder(audio_choice, random_seed, hub)
    audio_name = audio_choice.architecture if random_weights else audio_pretrained
    if audio_checkpoint is not None and not random_weights:
        audio_name = audio_checkpoint.name
    description = describe(
        f"open_clip {image_model}", f"CLAP {audio_name}", image, audio, random=random_weights
    )
    command = command_of(
        ["ahse", "export", "clip-clap"],
        {
            **_choice_options(image_choice, audio_choice),
            "--pins": pins and pins.resolve().name,
            "--device": None if device == "cpu" else device,
            "--precision": precision,
            "--n-frames": None if n_frames == _N_FRAMES else n_frames,
            "--opset": None if opset == _OPSET else opset,
            "--random-weights": random_weights,
            "--seed": random_seed,
        },
        name,
        out,
    )
    parts = encoder_parts(image, audio, options)
    facts = BundleFacts(
        name=name,
        version="1",
        description=description,
        unseen_classes=(),
        metrics=(),
        command=command,
        seed=seed if random_weights else None,
        data="random weights" if random_weights else "see the sources of the weights",
        card=model_card(description, image, audio, command),
    )
    export_bundle(out, parts, similarity_head(), facts)
    typer.echo(f"{out}: bundle {name}. {description}")
    typer.echo(f"next: ahse classify CLIP --bundle {out} --label ... , or ahse serve --bundle {out}")


def precisions(given: list[str]) -> dict[str, Precision]:
    """Precision by graph: `int8` is for all graphs, `audio=fp32` for one, in any order.

    Raises:
        EncoderError: No such graph or precision, or one given twice.
    """
    from model_export.encoders.encoder_graphs import TOWERS
    from service.bundle import provenance

    known = get_args(provenance.Precision)
    chosen: dict[str, Precision] = {}
    for one in given:
        graph, _, value = one.rpartition("=")
        if (graph and graph not in TOWERS) or value not in known or graph in chosen:
            raise EncoderError(
                f"--precision {one}: give {', '.join(known)}, once for all or for one graph, "
                f"as in audio=fp32; the graphs are {', '.join(TOWERS)}"
            )
        chosen[graph] = cast("Precision", value)
    return {
        graph: chosen[graph if graph in chosen else ""] for graph in TOWERS if graph in chosen or "" in chosen
    }


def preferred(device: str) -> Precision:
    """The precision that is fastest on a device.

    Raises:
        EncoderError: No such device.
    """
    if device not in _FASTEST:
        raise EncoderError(f"--device {device}: give {' or '.join(_FASTEST)}")
    return _FASTEST[device]


def _check_files(*paths: Path | None) -> None:
    """Refuse a mistyped path before minutes of building models."""
    for path in paths:
        if path is not None and not path.exists():
            raise EncoderError(f"there is no {path}")


def _choice_options(image: ImageChoice, audio: AudioChoice) -> dict[str, object]:
    """The options that give these encoders, with names of files in place of paths."""
    return {
        "--image-model": image.model,
        "--image-pretrained": image.pretrained,
        "--image-checkpoint": image.checkpoint and image.checkpoint.name,
        "--image-tokenizer": image.tokenizer and image.tokenizer.name,
        "--image-revision": image.revision,
        "--audio-pretrained": audio.pretrained,
        "--audio-model": audio.model,
        "--audio-checkpoint": audio.checkpoint and audio.checkpoint.name,
        "--audio-revision": audio.revision,
        "--clap-tokenizer": audio.tokenizer and audio.tokenizer.name,
    }
