"""Why the hub gave no file, and what to do, in one sentence; the library's own errors end here."""

from __future__ import annotations

from huggingface_hub import get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from model_export.errors import HubError
from model_export.hub.patience import PASSING, asked_pause_s
from model_export.hub.wanted import Hub, Wanted

_LOG_IN = "set HF_TOKEN or run `hf auth login`"
_OTHER_TOKEN = "use a token with access to it (HF_TOKEN, else that of `hf auth login`)"  # noqa: S105


def refusal(error: Exception, wanted: Wanted, hub: Hub) -> HubError:
    """The error for a file that neither the hub gave nor the cache has."""
    repo, hub_name = wanted.repo, hub.endpoint
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    enter = _OTHER_TOKEN if get_token() else _LOG_IN
    match error:
        case GatedRepoError():
            text = f"{repo} is gated: accept its terms at {hub_name}/{repo}, then {enter}"
        case HfHubHTTPError() if status == 401 and get_token():  # where a good one gets 404
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
    """What to do when there is no hub to ask."""
    match error:
        case OfflineModeIsEnabled():
            why = "offline mode is on (HF_HUB_OFFLINE)"
        case HfHubHTTPError():
            why = f"{hub.endpoint} {_trouble(error)}"
        case _:
            why = f"{hub.endpoint} can't be reached"
    names = " ".join([*wanted.files, *wanted.beside])
    version = "" if wanted.revision == "main" else f" --revision {wanted.revision}"
    return HubError(
        f"{' or '.join(wanted.files)} of {wanted.repo} is not in the cache, and {why}. Give {wanted.option}; "
        f"or run `hf download {wanted.repo} {names}{version}` on a connected machine and copy the folder "
        f"{wanted.folder} from its cache into {hub.cache}"
    )


def _trouble(error: HfHubHTTPError) -> str:
    """What the hub answers in place of a file."""
    status, pause_s = error.response.status_code, asked_pause_s(error)
    if pause_s:
        later = f" and wants to be asked again in {pause_s:.0f} s"
    else:
        later = ", also when asked again" if status in PASSING else ""
    if status == 429:
        return f"takes no more requests for now (status 429){later}"
    return f"answers with status {status}{later}"
