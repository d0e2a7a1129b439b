"""Requests to a hub: which hub and which file, when to repeat a request, and what a refusal means.

huggingface_hub (2.4) can repeat requests too (`retry_on_errors`), but as often where a hub can't be reached:
without a network its error would come after 23 seconds. It also waits for as long as the hub asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# Documented, but behind a lazy import that mypy does not see through.
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

from model_export.errors import HubError
from model_export.hub.pins import DEFAULT_PINS, Pins

T = TypeVar("T")

PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which a request may soon succeed."""

_PAUSES_S = (1.0, 2.0, 4.0)
# A longer pause is reported instead of waited for: the screen would stand still.
_LONGEST_S = 60.0
_LOG_IN = "set HF_TOKEN or run `hf auth login`"
_OTHER_TOKEN = "use a token with access to it (HF_TOKEN, else that of `hf auth login`)"  # noqa: S105


@dataclass(frozen=True)
class Hub:
    """A hub, its cache, and which versions are wanted; by default what the environment says.

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
        """The same, but another version of one repository."""
        return self if revision is None else replace(self, pins=self.pins.at(repo, revision))


@dataclass(frozen=True)
class Wanted:
    """One file of a repository.

    Attributes:
        repo: `owner/name`, as on the hub.
        files: Names that the file may have there, the preferred one first.
        option: The option that takes a local file instead, e.g. `--image-checkpoint FILE`; for messages.
        revision: Branch, tag or commit; by default the pinned commit, else `main`.
        beside: Files that will be wanted with it; for the advice where there is no network.
    """

    repo: str
    files: tuple[str, ...]
    option: str
    revision: str | None = None
    beside: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The repository's folder in the cache, by the cache's documented layout."""
        return f"models--{self.repo.replace('/', '--')}"


def with_retries(ask: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """Make a request, and repeat it up to three times after a status that may soon pass.

    Args:
        ask: One request through huggingface_hub.
        sleep: Waits for some seconds.

    Raises:
        HfHubHTTPError: Another status, no success after three repetitions, or the hub asks for a pause of
            over a minute.
    """
    for pause_s in _PAUSES_S:
        try:
            return ask()
        except HfHubHTTPError as error:
            pause_s = max(pause_s, asked_pause_s(error))
            if error.response.status_code not in PASSING or pause_s > _LONGEST_S:
                raise
            sleep(pause_s)
    return ask()


def asked_pause_s(error: HfHubHTTPError) -> float:
    """Seconds for which the hub asks clients to wait; 0 where it does not say."""
    headers = error.response.headers
    retry_after_s = headers.get("Retry-After", "")
    limit = parse_ratelimit_headers(headers)
    if retry_after_s.isdigit():
        return float(retry_after_s)
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else 0.0


def refusal(error: Exception, wanted: Wanted, hub: Hub) -> HubError:
    """The error for a file that neither the hub nor the cache gives, with what to do."""
    repo, hub_name = wanted.repo, hub.endpoint
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    enter = _OTHER_TOKEN if get_token() else _LOG_IN
    match error:
        case GatedRepoError():
            text = f"{repo} is gated: accept its terms at {hub_name}/{repo}, then {enter}"
        case HfHubHTTPError() if status == 401 and get_token():  # a valid token would get 404
            text = (
                f"{hub_name} rejects the token that is set (HF_TOKEN, else that of `hf auth login`): it is "
                "mistyped, expired or revoked. Set another one, or none if the repository is public"
            )
        case RepositoryNotFoundError():
            text = (
                f"there is no repository {repo} on {hub_name}, and no such file or folder here; if the "
                f"repository is private, {enter}"
            )
        case RevisionNotFoundError():
            text = (
                f"{repo} on {hub_name} has no revision {wanted.revision}: name another one with "
                "--image-revision or --audio-revision"
            )
        case HfHubHTTPError() if status in (401, 403):
            text = f"{hub_name} refuses access to {wanted.files[0]} of {repo}: {enter}"
        case _:
            return _absent(error, wanted, hub)
    return HubError(f"{text}; or give {wanted.option}")


def _absent(error: Exception, wanted: Wanted, hub: Hub) -> HubError:
    """What to do where no hub answers."""
    match error:
        case OfflineModeIsEnabled():
            why = "offline mode is on (HF_HUB_OFFLINE)"
        case HfHubHTTPError():
            why = f"{hub.endpoint} {_answer(error)}"
        case _:
            why = f"{hub.endpoint} can't be reached"
    names = " ".join([*wanted.files, *wanted.beside])
    version = "" if wanted.revision == "main" else f" --revision {wanted.revision}"
    # Into an empty cache: in one that repositories share the folder has links to content outside of it.
    download = f"HF_HUB_DISABLE_SHARED_BLOBS=1 hf download {wanted.repo} {names}{version} --cache-dir copied"
    return HubError(
        f"{' or '.join(wanted.files)} of {wanted.repo} is not in the cache, and {why}. Give {wanted.option}; "
        f"or run `{download}` on a connected machine and copy the folder copied/{wanted.folder} into "
        f"{hub.cache}"
    )


def _answer(error: HfHubHTTPError) -> str:
    """What the hub answers instead of a file."""
    status, pause_s = error.response.status_code, asked_pause_s(error)
    if pause_s:
        later = f" and asks to be tried again in {pause_s:.0f} s"
    else:
        later = ", also when tried again" if status in PASSING else ""
    if status == 429:
        return f"takes no more requests for now (status 429){later}"
    return f"answers with status {status}{later}"
