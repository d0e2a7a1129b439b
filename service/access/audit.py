"""The audit log: one `edit` event for each change, in the log of whoever made it."""

from __future__ import annotations

from urllib.parse import quote

import structlog

_log = structlog.get_logger(__name__)
_MAX_TARGET_CHARACTERS = 300


def record_edit(
    action: str,
    target: str,
    *,
    key: str | None,
    key_name: str | None,
    client: str,
    request_id: str | None = None,
) -> None:
    """Record a change that has succeeded; the log adds the time.

    Args:
        action: What was done, such as `put_label_set` or `revoke_key`.
        target: What it was done to: the path of an address, or the id of a key.
        key: Id of the key that allowed it; None: none was needed.
        key_name: Its name.
        client: Address of the client, or the user at a terminal.
        request_id: Of the request.
    """
    _log.info(
        "edit",
        action=action,
        # Quoted, so that no control character of a name reaches a terminal.
        target=quote(target)[:_MAX_TARGET_CHARACTERS],
        key=key,
        key_name=key_name,
        client=client,
        request_id=request_id,
    )
