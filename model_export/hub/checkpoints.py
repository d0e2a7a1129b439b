"""From the name of a checkpoint or tokenizer, or a local path, to a verified local file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from model_export.errors import HubError
from model_export.hub.fetch import ModelFile, fetch, sha256_of
from model_export.hub.hub_requests import Hub, Wanted

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
    """Weights on this machine, verified but not read.

    Attributes:
        path: A file, or a folder in transformers' format.
        files: What was read of it: the weights first, then settings.
        source: Address of the exact version on the hub, or the name of a local file.
        licence: The licence with its source, or "unknown: ...".
    """

    path: Path
    files: tuple[ModelFile, ...]
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
        HubError: Neither a tag nor a file, or the file can't be obtained.
    """
    # Imported here because it loads torch, which nothing else in this folder needs.
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    hub = hub or Hub()
    facts = get_pretrained_cfg(model, pretrained)
    if not facts:
        if Path(pretrained).is_file():
            return _local(Path(pretrained), [Path(pretrained)], hub)
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
    return _single(Wanted(repo, names, IMAGE_OPTION), hub)


def open_clip_repository(model: str, tag: str) -> str | None:
    """The hub's repository of a tag that open_clip knows for a model."""
    from open_clip.pretrained import get_pretrained_cfg

    return str(get_pretrained_cfg(model, tag).get("hf_hub", "")).rpartition("/")[0] or None


def clap_checkpoint(name: str, hub: Hub | None = None) -> Checkpoint:
    """Weights of a CLAP model.

    Args:
        name: One of LAION_CLAP_FILES; a hub repository in transformers' format (`laion/clap-htsat-unfused`),
            which gives a folder with its configurations and weights; or a local file or folder.
        hub: Where to ask; by default what the environment says.

    Raises:
        HubError: None of these, or it can't be obtained.
    """
    hub = hub or Hub()
    if name in LAION_CLAP_FILES:
        return _single(Wanted(LAION_CLAP, (LAION_CLAP_FILES[name],), AUDIO_OPTION), hub)
    path = Path(name)
    if path.is_file():
        return _local(path, [path], hub)
    if path.is_dir():
        return _local(path, _files_of(path), hub)
    if not _is_repository(name):
        known = ", ".join(LAION_CLAP_FILES)
        raise HubError(f"{name} is no file or folder, no hub repository (owner/name), and none of {known}")
    return _folder(name, hub)


def clap_repository(name: str) -> str | None:
    """The hub's repository of a CLAP model by its name."""
    return LAION_CLAP if name in LAION_CLAP_FILES else name if _is_repository(name) else None


def tokenizer_file(repo: str, option: str = TOKENIZER_OPTION, hub: Hub | None = None) -> ModelFile:
    """The tokenizer.json of a hub repository.

    Args:
        repo: `roberta-base`, `timm/ViT-B-16-SigLIP`, ...; or a local tokenizer file, or its folder.
        option: The option that takes a local file instead, for messages.
        hub: Where to ask; by default what the environment says.

    Raises:
        HubError: It can't be obtained.
    """
    path, hub = Path(repo), hub or Hub()
    if path.is_dir():
        path = path / "tokenizer.json"
        if not path.is_file():
            raise HubError(f"the folder {repo} has no tokenizer.json")
    if path.is_file():
        return local_file(path, hub)
    if path.suffix in _FILE_SUFFIXES:
        raise HubError(f"there is no file {repo}")
    return fetch(Wanted(repo, ("tokenizer.json",), option), hub)


def local_file(path: Path, hub: Hub) -> ModelFile:
    """A file that the user gave.

    Raises:
        HubError: Pins forbid it.
    """
    found = ModelFile(path, sha256_of(path))
    hub.pins.check_local(path, found.sha256)
    return found


def _is_repository(name: str) -> bool:
    """Whether a name can be `owner/name`; a mistyped path of a weights file can't."""
    return bool(_REPOSITORY.fullmatch(name)) and Path(name).suffix not in _FILE_SUFFIXES


def _single(wanted: Wanted, hub: Hub) -> Checkpoint:
    file = fetch(wanted, hub)
    return Checkpoint(file.path, (file,), _source(file), licence_of(wanted.repo, hub))


def _folder(repo: str, hub: Hub) -> Checkpoint:
    """Configurations and weights of one commit, side by side in the cache."""
    option = AUDIO_OPTION.replace("FILE", "FOLDER")
    beside = (_SOUND_SETTINGS, *_TRANSFORMERS_WEIGHTS, "tokenizer.json")
    config = fetch(Wanted(repo, ("config.json",), option, beside=beside), hub)
    settings = fetch(Wanted(repo, (_SOUND_SETTINGS,), option, config.commit), hub)
    weights = fetch(Wanted(repo, _TRANSFORMERS_WEIGHTS, option, config.commit), hub)
    files = (weights, config, settings)
    return Checkpoint(weights.path.parent, files, _source(weights), licence_of(repo, hub))


def _source(file: ModelFile) -> str:
    """The public address, also where a mirror was asked: the hash proves that it is the same file."""
    return f"{CANONICAL}/{file.repo}/blob/{file.commit}/{file.path.name}"


def _local(path: Path, files: Iterable[Path], hub: Hub) -> Checkpoint:
    found = tuple(local_file(file, hub) for file in files)
    return Checkpoint(path, found, f"local file {found[0].path.name}", "unknown: a local file")


def _files_of(folder: Path) -> list[Path]:
    """Weights and settings of a folder in transformers' format, the weights first."""
    found = [folder / name for name in _TRANSFORMERS_WEIGHTS if (folder / name).is_file()]
    if not found or not (folder / "config.json").is_file():
        raise HubError(f"the folder {folder} needs config.json and {' or '.join(_TRANSFORMERS_WEIGHTS)}")
    settings = [folder / name for name in ("config.json", _SOUND_SETTINGS) if (folder / name).is_file()]
    return [found[0], *settings]


CANONICAL = "https://huggingface.co"
_TIMEOUT_S = 10.0
_OPENAI = "MIT (https://github.com/openai/CLIP/blob/main/LICENSE)"
_KNOWN = {
    "lukewys/laion_clap": f"CC0-1.0 ({CANONICAL}/lukewys/laion_clap)",
    "laion/clap-htsat-unfused": f"Apache-2.0 ({CANONICAL}/laion/clap-htsat-unfused)",
}


def licence_of(repo: str, hub: Hub) -> str:
    """The licence of a repository's weights with its source: a known one, else that of the model card."""
    if repo.startswith("timm/") and repo.endswith(".openai"):  # OpenAI's weights, converted for open_clip
        return _OPENAI
    return _KNOWN.get(repo) or _of_card(repo, hub)


def _of_card(repo: str, hub: Hub) -> str:
    page = f"{CANONICAL}/{repo}"
    try:
        card = HfApi(endpoint=hub.endpoint).model_info(repo, timeout=_TIMEOUT_S).card_data
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx2.TransportError):
        card = None
    # A licence of the publisher's own is "other" with a name.
    name = card and (card.get("license_name") or card.get("license"))
    return f"{name} ({page})" if name else f"unknown: see {page}"
