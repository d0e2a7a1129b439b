"""The description and the model card of a bundle of real encoders."""

from __future__ import annotations

from model_export.encoders.loaded import ImageEncoder, SoundEncoder


def describe(
    image_name: str, sound_name: str, image: ImageEncoder, sound: SoundEncoder, *, random: bool
) -> str:
    """One sentence for the manifest."""
    made_up = [one for one, has in (("image", image), ("CLAP", sound)) if has.stand_in_tokenizer]
    stand_in = f", and it has stand-in tokenizers ({', '.join(made_up)})" if made_up else ""
    warning = f" RANDOM weights: its answers mean nothing{stand_in}." if random else ""
    return f"{image_name} and {sound_name}, ranked by similarity, no head trained.{warning}"


def model_card(
    description: str,
    image: ImageEncoder,
    sound: SoundEncoder,
    command: str,
) -> str:
    """Text of MODEL_CARD.md.

    Args:
        description: One sentence.
        image: As exported.
        sound: As exported.
        command: That makes the bundle again.
    """
    licences = "\n".join(
        f"| {one.part} | {one.licence} | {one.source} |" for one in (image.licence, sound.licence)
    )
    return f"""# {description}

Frozen encoders as bundled by `{command}`, without a trained head: labels are ranked by the similarity of each
track to its own text. `ahse calibrate` fits statistics to your clips; `ahse train` trains a head.

| part | input | features |
|---|---|---|
| image | {image.size_px} px square frames | {image.dim} |
| audio | {sound.window_s:g} s windows at {sound.sample_rate_hz} Hz | {sound.dim} |

Every graph was compared with its torch original; manifest.json has the precisions and the differences.

| weights | licence | source |
|---|---|---|
{licences}

Both models were trained on pictures, sounds and captions from the internet, including their biases and gaps.
Measure the bundle on clips of your own before you rely on it.
"""
