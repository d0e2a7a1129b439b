"""The audit log: one `edit` event in the service's log for each change of label sets, bundles or keys."""

from __future__ import annotations

from urllib.parse import quote

import structlog

_log = structlog.get_logger(__name__)
_MAX_TARGET_CHARACTERS = 300


def record_edit(
    action: str,
    target: str,
    *,
    client: str,
    key: str | None = None,
    key_name: str | None = None,
    **further: str,
) -> None:
    """Record a change that has succeeded; the log adds the time.

    Args:
        action: What was done, such as `put_label_set` or `revoke_key`.
        target: What it was done to: the path of an address, or the id of a key.
        client: Address of the client, or `command line`.
        key: Id of the key that allowed it; None: none was needed.
        key_name: Its name.
        further: Further facts.
    """
    _log.info(
        "edit",
        action=action,
        # Quoted, so that no control character of a name reaches a terminal.
        target=quote(target)[:_MAX_TARGET_CHARACTERS],
        client=client,
        key=key,
        key_name=key_name,
        **further,
    )
