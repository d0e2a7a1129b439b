"""The sound encoder and its text encoder: CLAP as LAION or transformers stores it, or with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from model_export.encoders.errors import EncoderError
from model_export.encoders.laion import build_clap
from model_export.encoders.loaded import SoundEncoder, TextEncoder
from model_export.encoders.stand_in import stand_in_tokenizer
from model_export.encoders.state import load_all, read_state
from model_export.encoders.tokenizer_file import open_tokenizer
from model_export.encoders.towers import LaionSoundTower, LaionTextTower
from model_export.encoders.transformers_clap import (
    PADDINGS,
    TransformersSoundTower,
    TransformersTextTower,
    load_transformers_clap,
)
from model_export.hub.checkpoints import TOKENIZER_OPTION, clap_checkpoint, tokenizer_file
from service.bundle.manifest import Licence

PART = "sound encoder and its text encoder"
CONTEXT_LENGTH = 77
TEMPLATES = ("This is a sound of {}.",)
_TOKENIZER = "roberta-base"


@dataclass(frozen=True)
class SoundChoice:
    """Which sound encoder.

    Attributes:
        pretrained: A checkpoint by name: LAION's (630k-audioset), or a hub repository of transformers.
        model: laion_clap's name of the architecture; by default the one that LAION trained the name with.
        checkpoint: A file of laion_clap or a folder of transformers on this machine instead.
        tokenizer: tokenizer.json of roberta-base on this machine instead of the hub's.
    """

    pretrained: str = "630k-audioset"
    model: str | None = None
    checkpoint: Path | None = None
    tokenizer: Path | None = None

    @property
    def architecture(self) -> str:
        """laion_clap's configuration: its music and speech models are the larger ones."""
        return self.model or (
            "HTSAT-base" if self.pretrained.startswith(("music", "speech")) else "HTSAT-tiny"
        )


def load_sound_encoder(choice: SoundChoice, random_seed: int | None = None) -> SoundEncoder:
    """Build the model and give it its weights.

    Args:
        choice: Which model and weights.
        random_seed: Of random weights instead; nothing is downloaded then.

    Raises:
        EncoderError: the weights are of another model, or the tokenizer does not fit.
        HubError: weights or tokenizer can't be had.
    """
    if random_seed is not None:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(random_seed)
            clap, facts = build_clap(choice.architecture)
        licence = Licence(part=PART, licence="none: random weights", source=f"random, seed {random_seed}")
        return _laion(clap, facts, choice, licence, random=True)
    found = clap_checkpoint(str(choice.checkpoint or choice.pretrained))
    licence = Licence(part=PART, licence=found.licence, source=found.source)
    if found.path.is_dir():
        return _transformers(found.path, choice, licence)
    state = read_state(found.path)  # before the network is built: a wrong file is found out at once
    clap, facts = build_clap(choice.architecture)
    load_all(clap, state, f"laion_clap {choice.architecture}", found.path.name)
    return _laion(clap, facts, choice, licence, random=False)


def _laion(
    clap: Any, facts: dict[str, Any], choice: SoundChoice, licence: Licence, *, random: bool
) -> SoundEncoder:
    config = clap.text_branch.config
    stand_in = random and choice.tokenizer is None
    tokenizer = (
        stand_in_tokenizer(config.vocab_size) if stand_in else _tokenizer(choice.tokenizer, config.vocab_size)
    )
    return SoundEncoder(
        module=LaionSoundTower(clap).eval(),
        text=_text(LaionTextTower(clap), tokenizer, config.pad_token_id),
        dim=clap.joint_embed_shape,
        sample_rate_hz=facts["sample_rate"],
        window_s=facts["clip_samples"] / facts["sample_rate"],
        padding="repeat_whole",  # its data_filling is repeatpad for every checkpoint
        logit_scale=clap.logit_scale_a.detach().exp().item(),
        licence=licence,
        stand_in_tokenizer=stand_in,
    )


def _transformers(folder: Path, choice: SoundChoice, licence: Licence) -> SoundEncoder:
    clap, log_mel, reader = load_transformers_clap(folder)
    config: Any = clap.config.text_config
    own = folder / "tokenizer.json"
    path = choice.tokenizer or (own if own.is_file() else None)
    repo = _TOKENIZER if choice.checkpoint else choice.pretrained
    tokenizer = _tokenizer(path, config.vocab_size, repo)
    return SoundEncoder(
        module=TransformersSoundTower(clap, log_mel).eval(),
        text=_text(TransformersTextTower(clap), tokenizer, config.pad_token_id),
        dim=clap.config.projection_dim,
        sample_rate_hz=reader.sampling_rate,
        window_s=reader.nb_max_samples / reader.sampling_rate,
        padding=PADDINGS[reader.padding],
        logit_scale=clap.logit_scale_a.detach().exp().item(),
        licence=licence,
    )


def _tokenizer(path: Path | None, n_rows: int, repo: str = _TOKENIZER) -> Tokenizer:
    return open_tokenizer(path or tokenizer_file(repo), n_rows, TOKENIZER_OPTION)


def _text(module: torch.nn.Module, tokenizer: Tokenizer, pad_id: int) -> TextEncoder:
    if tokenizer.id_to_token(pad_id) != "<pad>":
        raise EncoderError(
            f"the text encoder pads with id {pad_id}, which the tokenizer has for something else"
        )
    return TextEncoder(
        module.eval(), tokenizer, CONTEXT_LENGTH, dynamic_length=True, pad_id=pad_id, templates=TEMPLATES
    )
