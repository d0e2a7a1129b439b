"""Under which licence a repository's weights are, and where that is said."""

from __future__ import annotations

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from model_export.hub.wanted import Hub

CANONICAL = "https://huggingface.co"
_TIMEOUT_S = 10.0
_OPENAI = "MIT (https://github.com/openai/CLIP/blob/main/LICENSE)"
_KNOWN = {
    "lukewys/laion_clap": f"CC0-1.0 ({CANONICAL}/lukewys/laion_clap)",
    "laion/clap-htsat-unfused": f"Apache-2.0 ({CANONICAL}/laion/clap-htsat-unfused)",
}


def licence_of(repo: str, hub: Hub) -> str:
    """The licence with its source: a known one, else what the model card says, else "unknown: see ..."."""
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
