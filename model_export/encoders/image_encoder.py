"""The image encoder and its text encoder: any model of open_clip, with its weights or random ones."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from tokenizers import Tokenizer
from torch import nn

from model_export.encoders.encoder_modules import CausalTextTower, ImageTower, text_tower
from model_export.encoders.encoder_types import ImageEncoder, TextEncoder, sources
from model_export.encoders.image_tokenizers import (
    CLIP_PAD_ID,
    check_expressible,
    clip_tokenizer,
    hub_tokenizer,
)
from model_export.encoders.tokenizer_file import STAND_IN_PAD_ID, stand_in_tokenizer
from model_export.encoders.weights_file import load_all, read_state
from model_export.errors import EncoderError
from model_export.export.graph_export import MAX_WEIGHTS_BYTES
from model_export.export.quiet_libraries import quiet
from model_export.hub.checkpoints import open_clip_checkpoint, open_clip_repository
from model_export.hub.fetch import sha256_of
from model_export.hub.hub_requests import Hub
from service.bundle.provenance import Licence, Source
from service.media import RESIZE_RULES, Resize

PART = "image encoder and its text encoder"
TEMPLATES = ("a photo of a {}.", "a photo of {}.", "a video of a {}.", "a video of a person {}.")
# open_clip's words for ours.
_SHAPES = {"shorter_side": "shortest", "squash": "squash"}
_RESIZE = {(_SHAPES[rule.shape], rule.filter): resize for resize, rule in RESIZE_RULES.items()}
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
_N_SHOWN_TAGS = 5


@dataclass(frozen=True)
class ImageChoice:
    """Which image encoder.

    Attributes:
        model: open_clip's name of the architecture.
        pretrained: open_clip's tag of the weights, which also says how pictures are prepared and which
            activation the model has; by default the first that open_clip lists for the model.
        checkpoint: Weights on this machine instead of the tag's download; where tags differ in the above,
            `pretrained` must say which one they are of.
        tokenizer: tokenizer.json on this machine, or its folder, for models with one of the hub.
        revision: Commit, tag or branch of the weights' repository instead of the pinned one.
    """

    model: str = "ViT-B-32"
    pretrained: str | None = None
    checkpoint: Path | None = None
    tokenizer: Path | None = None
    revision: str | None = None


def load_image_encoder(
    choice: ImageChoice, random_seed: int | None = None, hub: Hub | None = None
) -> ImageEncoder:
    """Build the model and give it its weights.

    Args:
        choice: Which model and weights.
        random_seed: Seed of random weights; nothing is downloaded then, and a stand-in takes the place of a
            tokenizer that would come from the hub.
        hub: The hub to download from; by default as the environment says.

    Raises:
        EncoderError: The model is not known, is too large or can't be exported, or the weights are of another
            one; or a file may be of tags with another activation or other preprocessing.
        HubError: The weights can't be had.
    """
    config, tag = _config(choice)
    if random_seed is None and choice.checkpoint is not None and choice.pretrained is None:
        _check_tags_agree(choice.model)
    hub = _versioned(choice, tag, hub or Hub())
    _check_sizes(choice.model, tag)
    if random_seed is None:
        source = choice.checkpoint or tag
        if source is None:
            raise EncoderError(f"open_clip lists no weights for {choice.model}: give --image-checkpoint FILE")
        found = open_clip_checkpoint(choice.model, str(source), hub)
        model = _build(choice.model, tag, 0)
        state = read_state(found.path)
        _load(model, state, choice.model, found.path.name)
        licence = Licence(part=PART, licence=found.licence, source=found.source)
        files = found.files
    else:
        model = _build(choice.model, tag, random_seed)
        licence = Licence(part=PART, licence="none: random weights", source=f"random, seed {random_seed}")
        files = ()
    size, resize, mean, std = _preprocessing(model, choice.model)
    tokens = _tokenizer(model, config["text_cfg"], choice, hub, stand_in=random_seed is not None)
    return ImageEncoder(
        module=ImageTower(model.visual, mean, std).eval(),
        text=_text(model, config["text_cfg"], tokens),
        dim=int(config["embed_dim"]),
        size_px=size,
        resize=resize,
        logit_scale=model.logit_scale.detach().exp().item(),
        licence=licence,
        sources=(*sources("image encoder", files), *tokens.sources),
        stand_in_tokenizer=tokens.stand_in,
    )


def _versioned(choice: ImageChoice, tag: str | None, hub: Hub) -> Hub:
    """The hub at the revision asked for; a revision only makes sense for weights of the hub."""
    repo = open_clip_repository(choice.model, tag) if tag and choice.checkpoint is None else None
    if choice.revision is not None and repo is None:
        raise EncoderError("--image-revision is of weights on the hub: leave it or --image-checkpoint out")
    return hub.at(repo, choice.revision) if repo else hub


def _config(choice: ImageChoice) -> tuple[dict[str, Any], str | None]:
    """open_clip's configuration of a model, and the tag of its weights."""
    if ":" in choice.model:  # hf-hub:, local-dir: open_clip would fetch weights of its own choice
        raise EncoderError(
            f"{choice.model} is no model that open_clip lists: give its architecture with --image-model, and "
            "--image-checkpoint FILE for other weights than the listed ones"
        )
    config = open_clip.get_model_config(choice.model)
    if config is None:
        near = get_close_matches(choice.model, open_clip.list_models(), n=5, cutoff=0.4)
        raise EncoderError(
            f"open_clip has no model {choice.model!r}; near it are {', '.join(near) or 'none'}"
        )
    if "multimodal_cfg" in config:
        raise EncoderError(
            f"{choice.model} writes captions too (CoCa); only models of two encoders can be exported"
        )
    if choice.tokenizer is not None and not config["text_cfg"].get("hf_tokenizer_name"):
        raise EncoderError(f"{choice.model} has open_clip's own tokenizer: leave --image-tokenizer out")
    tags = open_clip.list_pretrained_tags_by_model(choice.model)
    if choice.pretrained is not None and choice.pretrained not in tags:
        raise EncoderError(
            f"open_clip lists no weights {choice.pretrained!r} for {choice.model}, only "
            f"{', '.join(tags) or 'none'}; a file is given with --image-checkpoint"
        )
    return config, choice.pretrained or (tags[0] if tags else None)


def _check_tags_agree(name: str) -> None:
    """Refuse a file of an unknown tag where the model's tags differ: with a wrong one it would load too.

    Raises:
        EncoderError: They differ.
    """
    tags = open_clip.list_pretrained_tags_by_model(name)
    facts = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    if len({(bool(one.get("quick_gelu")), *(one.get(key) for key in _PREPROCESSING)) for one in facts}) > 1:
        shown = [*tags[:_N_SHOWN_TAGS], *(["..."] if len(tags) > _N_SHOWN_TAGS else [])]
        raise EncoderError(
            f"weights of {name} differ in activation or preprocessing, and a file does not say which it has: "
            f"add --image-pretrained TAG, the tag that --image-checkpoint is of ({', '.join(shown)})"
        )


def _build(name: str, tag: str | None, seed: int, device: str = "cpu") -> Any:
    """The architecture with random weights, with the preprocessing and the activation of the tag."""
    facts = open_clip.get_pretrained_cfg(name, tag) if tag else {}
    with torch.random.fork_rng(devices=()), torch.device(device), quiet():
        torch.manual_seed(seed)
        try:
            model = open_clip.create_model(
                name,
                device=device,
                force_quick_gelu=bool(facts.get("quick_gelu")),
                force_preprocess_cfg={key: facts[key] for key in _PREPROCESSING if key in facts},
                pretrained_text=False,
            )
        except Exception as error:
            raise EncoderError(
                f"open_clip can't build {name} here; a model with a part of the transformers library needs "
                "its configuration from the hub, so run this once with a network"
            ) from error
    return model.eval()


def _check_sizes(name: str, tag: str | None) -> None:
    """Refuse a model whose graphs would be too large for a file, before its weights are downloaded.

    Raises:
        EncoderError: One of its encoders is.
    """
    n_bytes = {"image": 0, "text": 0}
    for weights, tensor in _build(name, tag, 0, "meta").state_dict().items():
        n_bytes["image" if weights.startswith("visual.") else "text"] += tensor.nbytes
    for side, n in n_bytes.items():
        if n > MAX_WEIGHTS_BYTES:
            raise EncoderError(
                f"the {side} encoder of {name} has {n / 1e9:.2f} GB of weights, and a graph has room for "
                f"{MAX_WEIGHTS_BYTES / 1e9:.2f} GB: choose a smaller model"
            )


def _load(model: nn.Module, state: dict[str, torch.Tensor], name: str, source: str) -> None:
    """Convert older layouts as open_clip does, and load; every tensor must fit."""
    state = convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for scalar in ("logit_scale", "logit_bias"):
        if scalar in state and isinstance(wanted := getattr(model, scalar, None), torch.Tensor):
            state[scalar] = state[scalar].reshape(wanted.shape)
    load_all(model, state, f"open_clip {name}", source)


def _preprocessing(model: Any, name: str) -> tuple[int, Resize, list[float], list[float]]:
    """Size, resize rule, mean and std of the model's own transform."""
    facts = model.visual.preprocess_cfg
    size = facts["size"]
    height, width = (size, size) if isinstance(size, int) else size
    resize = _RESIZE.get((facts["resize_mode"], facts["interpolation"]))
    if resize is None or height != width:
        raise EncoderError(
            f"{name} wants pictures of {height} x {width}, {facts['resize_mode']}, {facts['interpolation']}; "
            "the service prepares square ones only, shortest or squash, bicubic or bilinear"
        )
    return height, resize, list(facts["mean"]), list(facts["std"])


@dataclass(frozen=True)
class _Tokens:
    """A tokenizer, the id that it pads with, its files, and whether it is a stand-in."""

    tokenizer: Tokenizer
    pad_id: int
    sources: tuple[Source, ...] = ()
    stand_in: bool = False


def _tokenizer(
    model: Any, config: dict[str, Any], choice: ImageChoice, hub: Hub, *, stand_in: bool
) -> _Tokens:
    n_rows = _n_rows(model)
    if config.get("hf_tokenizer_name"):
        check_expressible(config)
        if stand_in and choice.tokenizer is None:
            return _Tokens(stand_in_tokenizer(n_rows), STAND_IN_PAD_ID, stand_in=True)
        found = hub_tokenizer(config, n_rows, choice.tokenizer, hub)
        return _Tokens(found.tokenizer, found.pad_id, sources("image tokenizer", found.files))
    if "siglip" in choice.model.lower() or config.get("tokenizer_kwargs"):
        raise EncoderError(f"the tokenizer of {choice.model} is none that can be exported")
    tokenizer = clip_tokenizer(SimpleTokenizer())
    if tokenizer.get_vocab_size() != n_rows:
        raise EncoderError(f"{choice.model} has {n_rows} tokens, open_clip's tokenizer has others")
    return _Tokens(tokenizer, CLIP_PAD_ID, (_packaged(Path(default_bpe())),))


def _packaged(path: Path) -> Source:
    """A file that comes with open_clip."""
    version = f"open-clip-torch {open_clip.__version__}"
    return Source(part="image tokenizer", revision=version, file=path.name, sha256=sha256_of(path))


def _text(model: Any, config: dict[str, Any], tokens: _Tokens) -> TextEncoder:
    module = text_tower(model).eval()
    length, any_length = int(config.get("context_length", 77)), isinstance(module, CausalTextTower)
    return TextEncoder(
        module,
        tokens.tokenizer,
        length,
        dynamic_length=any_length,
        pad_id=tokens.pad_id,
        templates=TEMPLATES,
    )


def _n_rows(model: Any) -> int:
    """Rows of the text encoder's embedding."""
    text = getattr(model, "text", model)
    if hasattr(text, "token_embedding"):
        return int(text.token_embedding.num_embeddings)
    return int(text.transformer.get_input_embeddings().num_embeddings)
