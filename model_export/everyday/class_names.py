"""The classes that the networks know: their names, and embeddings of these by the text encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from open_clip import IMAGENET_CLASSNAMES
from timm.data.imagenet_info import ImageNetInfo
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from model_export.everyday.rebuilt_networks import SentenceEncoder
from service.labels.label import fill

# Classes of AudioSet that fit most recordings and say little about one: whole kinds of things, kinds of
# music, and what a place or a recording is like. Chosen by their meaning, not one by one by their effect.
_TOO_GENERAL = """
Speech; Music; Silence; Animal; Narration, monologue
Vehicle; Motor vehicle (road); Rail transport; Tools; Mechanisms; Engine; Water
Domestic animals, pets; Livestock, farm animals, working animals; Wild animals; Rodents, rats, mice
Bird vocalization, bird call, bird song; Musical instrument; Plucked string instrument
Bowed string instrument; Wind instrument, woodwind instrument; Percussion; Mallet percussion
Pop music; Rock music; Hip hop music; Traditional music; Background music; Theme music; Soundtrack music
Inside, small room; Inside, large room or hall; Inside, public space; Outside, urban or manmade
Outside, rural or natural; Field recording; Sound effect; Noise; Environmental noise; White noise
Pink noise; Static; Hum; Mains hum; Distortion; Sidetone; Cacophony; Echo; Reverberation
"""

_BATCH = 64

Embed = Callable[[Sequence[str]], Tensor]


def embedder(sentences: SentenceEncoder, tokenizer: Tokenizer) -> Embed:
    """Texts to unit embeddings float32 [n, 384]."""
    return partial(_embed, sentences, tokenizer)


def token_rows(tokenizer: Tokenizer, pad_id: int, templates: Sequence[str], names: Sequence[str]) -> Tensor:
    """Prompts of names as the service makes them, padded to the longest: int64 [n, length]."""
    prompts = [fill(template, name) for name in names for template in templates]
    return _padded(tokenizer, pad_id, prompts)


def image_class_names() -> tuple[str, ...]:
    """ImageNet's 1000 classes: the names that OpenAI curated for CLIP, as open_clip carries them (MIT)."""
    return tuple(IMAGENET_CLASSNAMES)


def embed_image_classes(embed: Embed) -> Tensor:
    """Each class as its name and its definition in WordNet together, float32 [1000, 384].

    The definition says what kind of thing it is, so that a name of the kind finds its members.
    """
    info = ImageNetInfo()
    definitions = [
        info.label_name_to_description(synset, detailed=True).removeprefix(
            f"{info.label_name_to_description(synset)}: "
        )
        for synset in info.label_names()  # type: ignore[no-untyped-call]
    ]
    return normalize(embed(image_class_names()) + embed(definitions), dim=-1)


def embed_audio_classes(embed: Embed, names: Sequence[str]) -> Tensor:
    """Each AudioSet class as its name and as a sound, float32 [521, 384]."""
    plain = [name.replace(" (", ", ").replace(")", "").lower() for name in names]
    return normalize(embed(names) + embed([f"the sound of {name}" for name in plain]), dim=-1)


def is_specific(names: Sequence[str]) -> Tensor:
    """Which classes tell recordings apart: bool [n].

    Raises:
        ValueError: A general class is none of the network's.
    """
    general = {name.strip() for line in _TOO_GENERAL.split("\n") for name in line.split(";") if name.strip()}
    if unknown := general - set(names):
        raise ValueError(f"the audio network has no classes {sorted(unknown)}")
    return torch.tensor([name not in general for name in names])


@torch.no_grad()
def _embed(sentences: SentenceEncoder, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    batches = (texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH))
    return torch.cat([sentences(_padded(tokenizer, sentences.pad_id, batch)) for batch in batches])


def _padded(tokenizer: Tokenizer, pad_id: int, texts: Sequence[str]) -> Tensor:
    """Token ids, padded to the longest text: int64 [n, length]."""
    rows = [torch.tensor(tokenizer.encode(text).ids) for text in texts]
    return pad_sequence(rows, batch_first=True, padding_value=pad_id)
