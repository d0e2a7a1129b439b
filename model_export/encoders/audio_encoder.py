"""The audio encoder and its text encoder: CLAP as LAION or transformers stores it, or with random weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from model_export.encoders.clap_networks import PADDINGS, build_clap, load_transformers_clap
from model_export.encoders.encoder_modules import (
    LaionAudioTower,
    LaionTextTower,
    TransformersAudioTower,
    TransformersTextTower,
)
from model_export.encoders.encoder_types import AudioEncoder, TextEncoder, sources
from model_export.encoders.tokenizer_file import open_tokenizer, stand_in_tokenizer
from model_export.encoders.weights_file import load_all, read_state
from model_export.errors import EncoderError
from model_export.hub.checkpoints import (
    LAION_CLAP_FILES,
    TOKENIZER_OPTION,
    Checkpoint,
    clap_checkpoint,
    clap_repository,
    tokenizer_file,
)
from model_export.hub.hub_requests import Hub
from service.bundle.provenance import Licence, Source

PART = "audio encoder and its text encoder"
CONTEXT_LENGTH = 77
TEMPLATES = ("This is a sound of {}.",)
_TOKENIZER = "roberta-base"
_Tokens = tuple[Tokenizer, tuple[Source, ...]]


@dataclass(frozen=True)
class AudioChoice:
    """Which audio encoder.

    Attributes:
        pretrained: A checkpoint by name: LAION's (630k-audioset), or a hub repository of transformers.
        model: laion_clap's name of the architecture; by default the one that LAION trained the name with.
        checkpoint: A file of laion_clap or a folder of transformers on this machine instead.
        tokenizer: tokenizer.json of roberta-base on this machine instead of the hub's.
        revision: Commit, tag or branch of the weights' repository instead of the pinned one.

    Raises:
        EncoderError: `pretrained` is no name, but perhaps a path, which would tell another machine nothing.
    """

    pretrained: str = "630k-audioset"
    model: str | None = None
    checkpoint: Path | None = None
    tokenizer: Path | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.pretrained in LAION_CLAP_FILES:
            return
        if clap_repository(self.pretrained) is None or Path(self.pretrained).exists():
            raise EncoderError(
                f"{self.pretrained!r} names no weights: give {', '.join(LAION_CLAP_FILES)}, or a hub "
                "repository (owner/name); a file is given with --audio-checkpoint"
            )

    @property
    def architecture(self) -> str:
        """laion_clap's configuration: its music and speech models are the larger ones."""
        return self.model or (
            "HTSAT-base" if self.pretrained.startswith(("music", "speech")) else "HTSAT-tiny"
        )


def load_audio_encoder(
    choice: AudioChoice, random_seed: int | None = None, hub: Hub | None = None
) -> AudioEncoder:
    """Build the model and give it its weights.

    Args:
        choice: Which model and weights.
        random_seed: Seed of random weights; nothing is downloaded then.
        hub: The hub to download from; by default as the environment says.

    Raises:
        EncoderError: The weights are of another model, or of transformers beside `choice.model`; or the
            tokenizer does not fit.
        HubError: Weights or tokenizer can't be had.
    """
    hub = _versioned(choice, hub or Hub())
    if random_seed is None and choice.model is not None and _is_of_transformers(choice):
        raise EncoderError(
            "a checkpoint in transformers' format says its architecture itself: leave --audio-model out"
        )
    if random_seed is not None:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(random_seed)
            clap, facts = build_clap(choice.architecture)
        n_rows = _n_rows(clap)
        licence = Licence(part=PART, licence="none: random weights", source=f"random, seed {random_seed}")
        stand_in = choice.tokenizer is None
        tokens = (stand_in_tokenizer(n_rows), ()) if stand_in else _tokenizer(choice.tokenizer, n_rows, hub)
        return replace(_laion(clap, facts, tokens, licence), stand_in_tokenizer=stand_in)
    found = clap_checkpoint(str(choice.checkpoint or choice.pretrained), hub)
    encoder = _transformers(found, choice, hub) if found.path.is_dir() else _trained(found, choice, hub)
    return replace(encoder, sources=(*sources("audio encoder", found.files), *encoder.sources))


def _versioned(choice: AudioChoice, hub: Hub) -> Hub:
    """The hub at the revision asked for; a revision only makes sense for weights of the hub."""
    repo = clap_repository(choice.pretrained) if choice.checkpoint is None else None
    if choice.revision is not None and repo is None:
        raise EncoderError("--audio-revision is of weights on the hub: leave it or --audio-checkpoint out")
    return hub.at(repo, choice.revision) if repo else hub


def _is_of_transformers(choice: AudioChoice) -> bool:
    """Whether the weights are those of a folder or a repository in transformers' format."""
    name = str(choice.checkpoint or choice.pretrained)
    return Path(name).is_dir() or (not Path(name).is_file() and clap_repository(name) == name)


def _trained(found: Checkpoint, choice: AudioChoice, hub: Hub) -> AudioEncoder:
    """A checkpoint of laion_clap."""
    state = read_state(found.path)  # before the network is built: a wrong file is found out at once
    clap, facts = build_clap(choice.architecture)
    load_all(clap, state, f"laion_clap {choice.architecture}", found.path.name)
    tokens = _tokenizer(choice.tokenizer, _n_rows(clap), hub)
    return _laion(clap, facts, tokens, _licence(found))


def _laion(clap: Any, facts: dict[str, Any], tokens: _Tokens, licence: Licence) -> AudioEncoder:
    tokenizer, origin = tokens
    return AudioEncoder(
        module=LaionAudioTower(clap).eval(),
        text=_text(LaionTextTower(clap), tokenizer, clap.text_branch.config.pad_token_id),
        dim=clap.joint_embed_shape,
        sample_rate_hz=facts["sample_rate"],
        window_s=facts["clip_samples"] / facts["sample_rate"],
        padding="repeat_whole",  # its data_filling is repeatpad for every checkpoint
        logit_scale=clap.logit_scale_a.detach().exp().item(),
        licence=licence,
        sources=origin,
    )


def _transformers(found: Checkpoint, choice: AudioChoice, hub: Hub) -> AudioEncoder:
    """A folder in transformers' format."""
    clap, log_mel, reader = load_transformers_clap(found.path, found.files[0].path)
    config: Any = clap.config.text_config
    own = found.path / "tokenizer.json"
    beside = own if choice.checkpoint and own.is_file() else None
    repo = _TOKENIZER if choice.checkpoint else choice.pretrained
    tokenizer, origin = _tokenizer(choice.tokenizer or beside, config.vocab_size, hub, repo)
    return AudioEncoder(
        module=TransformersAudioTower(clap, log_mel).eval(),
        text=_text(TransformersTextTower(clap), tokenizer, config.pad_token_id),
        dim=clap.config.projection_dim,
        sample_rate_hz=reader.sampling_rate,
        window_s=reader.nb_max_samples / reader.sampling_rate,
        padding=PADDINGS[reader.padding],
        logit_scale=clap.logit_scale_a.detach().exp().item(),
        licence=_licence(found),
        sources=origin,
    )


def _n_rows(clap: Any) -> int:
    """Rows of the text encoder's embedding."""
    return int(clap.text_branch.config.vocab_size)


def _licence(found: Checkpoint) -> Licence:
    return Licence(part=PART, licence=found.licence, source=found.source)


def _tokenizer(path: Path | None, n_rows: int, hub: Hub, repo: str = _TOKENIZER) -> _Tokens:
    """The tokenizer from a file or the hub, and its source."""
    file = tokenizer_file(str(path) if path else repo, TOKENIZER_OPTION, hub)
    return open_tokenizer(file.path, n_rows, TOKENIZER_OPTION), sources("audio tokenizer", [file])


def _text(module: torch.nn.Module, tokenizer: Tokenizer, pad_id: int) -> TextEncoder:
    if tokenizer.id_to_token(pad_id) != "<pad>":
        raise EncoderError(
            f"the text encoder pads with id {pad_id}, which the tokenizer has for something else"
        )
    return TextEncoder(
        module.eval(), tokenizer, CONTEXT_LENGTH, dynamic_length=True, pad_id=pad_id, templates=TEMPLATES
    )
