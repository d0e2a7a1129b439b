"""Why the hub gave no file, and what to do, in one sentence; the library's own errors end here."""

from __future__ import annotations

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from model_export.hub.errors import HubError
from model_export.hub.wanted import Hub, Wanted

_LOG_IN = "set HF_TOKEN or run `hf auth login`"


def refusal(error: Exception, wanted: Wanted, hub: Hub) -> HubError:
    """The error for a file that neither the hub gave nor the cache has."""
    repo = wanted.repo
    match error:
        case GatedRepoError():
            text = f"{repo} is gated: accept its terms at {hub.endpoint}/{repo}, then {_LOG_IN}"
        case RepositoryNotFoundError():
            text = (
                f"there is no repository {repo} on {hub.endpoint}, and no such file or folder here; if the "
                f"repository is private, {_LOG_IN}"
            )
        case RevisionNotFoundError():
            text = f"{repo} on {hub.endpoint} has no revision {wanted.revision}"
        case HfHubHTTPError() if error.response.status_code in (401, 403):
            text = f"{hub.endpoint} refuses access to {wanted.files[0]} of {repo}: {_LOG_IN}"
        case _:
            return _absent(error, wanted, hub)
    return HubError(f"{text}; or give {wanted.option}")


def _absent(error: Exception, wanted: Wanted, hub: Hub) -> HubError:
    """What to do when there is no hub to ask."""
    match error:
        case OfflineModeIsEnabled():
            why = "offline mode is on (HF_HUB_OFFLINE)"
        case HfHubHTTPError():
            why = f"{hub.endpoint} answers with status {error.response.status_code}"
        case _:
            why = f"{hub.endpoint} can't be reached"
    names = " ".join([*wanted.files, *wanted.beside])
    return HubError(
        f"{' or '.join(wanted.files)} of {wanted.repo} is not in the cache, and {why}. Give {wanted.option}; "
        f"or run `hf download {wanted.repo} {names}` on a connected machine and copy the folder "
        f"{wanted.folder} from its cache into {hub.cache}"
    )
