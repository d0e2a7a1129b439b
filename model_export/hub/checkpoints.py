"""From the name of a checkpoint or tokenizer, or a local path, to a local file that is what it should be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from model_export.hub.errors import HubError
from model_export.hub.fetch import HubFile, fetch
from model_export.hub.hashes import sha256_of
from model_export.hub.licences import CANONICAL, licence_of
from model_export.hub.wanted import Hub, Wanted

IMAGE_OPTION = "--image-checkpoint FILE"
AUDIO_OPTION = "--audio-checkpoint FILE"
TOKENIZER_OPTION = "--clap-tokenizer FILE"

LAION_CLAP = "lukewys/laion_clap"
# The checkpoints without feature fusion, as github.com/LAION-AI/CLAP lists them.
LAION_CLAP_FILES = {
    "630k-audioset": "630k-audioset-best.pt",
    "630k": "630k-best.pt",
    "music_audioset": "music_audioset_epoch_15_esc_90.14.pt",
    "music_speech": "music_speech_epoch_15_esc_89.25.pt",
    "music_speech_audioset": "music_speech_audioset_epoch_15_esc_89.98.pt",
}
_TRANSFORMERS_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SOUND_SETTINGS = "preprocessor_config.json"
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_FILE_SUFFIXES = {".bin", ".ckpt", ".json", ".pt", ".pth", ".safetensors"}


@dataclass(frozen=True)
class Checkpoint:
    """Weights on this machine, not yet read by anyone.

    Attributes:
        path: A file, or a folder in transformers' format.
        sha256: Of the file, or of the folder's weights file.
        source: Address of the exact version on the hub, or the name of a local file.
        licence: The licence with its source, or "unknown: ...".
    """

    path: Path
    sha256: str
    source: str
    licence: str


def open_clip_checkpoint(model: str, pretrained: str, hub: Hub | None = None) -> Checkpoint:
    """Weights of an open_clip model.

    Every tag of open_clip 3.3 has a hub repository; a plain address beside it is not used.

    Args:
        model: open_clip's name: `ViT-B-32`.
        pretrained: A tag that open_clip knows for it (`openai`), or a local file.
        hub: Where to ask; by default what the environment says.

    Raises:
        HubError: Neither a tag nor a file, or the file can't be had.
    """
    # Imported here because it loads torch, which nothing else in this room needs.
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    facts = get_pretrained_cfg(model, pretrained)
    if not facts:
        if Path(pretrained).is_file():
            return _local(Path(pretrained), Path(pretrained))
        tags = ", ".join(list_pretrained_tags_by_model(model)) or "none"
        raise HubError(
            f"{pretrained} is no file, and no weights that open_clip knows for {model}; it knows: {tags}"
        )
    if not facts.get("hf_hub"):
        raise HubError(
            f"{model} {pretrained} is on no hub: download {facts.get('url')} and give {IMAGE_OPTION}"
        )
    repo, _, name = facts["hf_hub"].rpartition("/")
    names = (name,) if name else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    return _single(Wanted(repo, names, IMAGE_OPTION), hub or Hub())


def clap_checkpoint(name: str, hub: Hub | None = None) -> Checkpoint:
    """Weights of a CLAP model.

    Args:
        name: One of LAION_CLAP_FILES; a hub repository in transformers' format (`laion/clap-htsat-unfused`),
            which gives a folder with its configurations and weights; or a local file or folder.
        hub: Where to ask; by default what the environment says.

    Raises:
        HubError: None of these, or it can't be had.
    """
    hub = hub or Hub()
    if name in LAION_CLAP_FILES:
        return _single(Wanted(LAION_CLAP, (LAION_CLAP_FILES[name],), AUDIO_OPTION), hub)
    path = Path(name)
    if path.is_file():
        return _local(path, path)
    if path.is_dir():
        return _local(path, _weights_of(path))
    if not _is_repository(name):
        known = ", ".join(LAION_CLAP_FILES)
        raise HubError(f"{name} is no file or folder, no hub repository (owner/name), and none of {known}")
    return _folder(name, hub)


def tokenizer_file(repo: str, option: str = TOKENIZER_OPTION, hub: Hub | None = None) -> Path:
    """The tokenizer.json of a hub repository.

    Args:
        repo: `roberta-base`, `timm/ViT-B-16-SigLIP`, ...; or a local tokenizer file, or its folder.
        option: The option that takes a local file instead, for messages.
        hub: Where to ask; by default what the environment says.

    Raises:
        HubError: It can't be had.
    """
    path = Path(repo)
    if path.is_file():
        return path
    if path.is_dir():
        if not (path / "tokenizer.json").is_file():
            raise HubError(f"the folder {repo} has no tokenizer.json")
        return path / "tokenizer.json"
    if path.suffix in _FILE_SUFFIXES:
        raise HubError(f"there is no file {repo}")
    return fetch(Wanted(repo, ("tokenizer.json",), option), hub or Hub()).path


def _is_repository(name: str) -> bool:
    """Whether a name can be `owner/name`: a mistyped path of a weights file is none."""
    return bool(_REPOSITORY.fullmatch(name)) and Path(name).suffix not in _FILE_SUFFIXES


def _single(wanted: Wanted, hub: Hub) -> Checkpoint:
    file = fetch(wanted, hub)
    return Checkpoint(file.path, file.sha256, _source(wanted.repo, file), licence_of(wanted.repo, hub))


def _folder(repo: str, hub: Hub) -> Checkpoint:
    """Configurations and weights of one commit, side by side in the cache."""
    option = AUDIO_OPTION.replace("FILE", "FOLDER")
    beside = (_SOUND_SETTINGS, *_TRANSFORMERS_WEIGHTS, "tokenizer.json")
    config = fetch(Wanted(repo, ("config.json",), option, beside=beside), hub)
    fetch(Wanted(repo, (_SOUND_SETTINGS,), option, config.commit), hub)
    weights = fetch(Wanted(repo, _TRANSFORMERS_WEIGHTS, option, config.commit), hub)
    return Checkpoint(weights.path.parent, weights.sha256, _source(repo, weights), licence_of(repo, hub))


def _source(repo: str, file: HubFile) -> str:
    """The public address, also where a mirror was asked: the hash says that it is the same file."""
    return f"{CANONICAL}/{repo}/blob/{file.commit}/{file.path.name}"


def _local(path: Path, weights: Path) -> Checkpoint:
    return Checkpoint(path, sha256_of(weights), f"local file {weights.name}", "unknown: a local file")


def _weights_of(folder: Path) -> Path:
    found = [folder / name for name in _TRANSFORMERS_WEIGHTS if (folder / name).is_file()]
    if not found or not (folder / "config.json").is_file():
        raise HubError(f"the folder {folder} needs config.json and {' or '.join(_TRANSFORMERS_WEIGHTS)}")
    return found[0]
