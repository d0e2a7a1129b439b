"""What is asked of the hub: which hub and cache, which file of which repository, which option instead."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from model_export.hub.pins import DEFAULT_PINS, Pins


@dataclass(frozen=True)
class Hub:
    """A hub, the cache in front of it, and which versions are wanted; by default what the environment says.

    Attributes:
        endpoint: Address without a slash at its end; HF_ENDPOINT, else https://huggingface.co.
        cache: The cache that all users of huggingface_hub share; HF_HUB_CACHE, or `hub` in HF_HOME.
        pins: Versions and hashes.
        sleep: Waits for some seconds.
    """

    endpoint: str = field(default_factory=lambda: constants.ENDPOINT)
    cache: Path = field(default_factory=lambda: Path(constants.HF_HUB_CACHE))
    pins: Pins = DEFAULT_PINS
    sleep: Callable[[float], None] = time.sleep

    def at(self, repo: str, revision: str | None) -> Hub:
        """The same, with a version of one repository that somebody asked for."""
        return self if revision is None else replace(self, pins=self.pins.at(repo, revision))


@dataclass(frozen=True)
class Wanted:
    """One file of a repository.

    Attributes:
        repo: `owner/name`, as on the hub.
        files: Names that the file may have there, the preferred one first.
        option: The option that takes a local file instead, for messages: `--image-checkpoint FILE`.
        revision: Branch, tag or commit; by default the pinned commit, else `main`.
        beside: Files that will be wanted with it, for the advice to someone without a network.
    """

    repo: str
    files: tuple[str, ...]
    option: str
    revision: str | None = None
    beside: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The repository's folder in the cache."""
        return repo_folder_name(repo_id=self.repo, repo_type="model")
