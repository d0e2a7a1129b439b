"""Cancellation tokens follow the context of a request, also into other threads."""

from __future__ import annotations

import contextvars
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.cancellation import (
    CancellationToken,
    WorkCancelled,
    current_token,
    raise_if_cancelled,
    stopping,
)


def test_a_token_is_active_in_its_block_and_in_copies_of_its_context() -> None:
    """It is not active after the block, nor in threads that run in another context."""
    token = CancellationToken()
    with token.active(), ThreadPoolExecutor(1) as thread:
        copy = contextvars.copy_context()
        assert thread.submit(copy.run, current_token).result() is token
        assert thread.submit(current_token).result() is None
    assert current_token() is None


def test_work_ends_once_its_token_is_cancelled() -> None:
    """The error names the stage; without a token nothing is cancelled."""
    token = CancellationToken()
    raise_if_cancelled("decode")
    with token.active():
        raise_if_cancelled("decode")
        token.cancel()
        with pytest.raises(WorkCancelled) as cancelled:
            raise_if_cancelled("decode")
    assert cancelled.value.stage == "decode"


def test_what_can_be_stopped_is_stopped_once_and_only_inside_its_block() -> None:
    """At the moment of the cancellation, or at once if that is past; the first reason stays."""
    token, stopped = CancellationToken(), []
    with token.active():
        with stopping(lambda: stopped.append("too late")):
            pass
        with stopping(lambda: stopped.append("running")):
            token.cancel("deadline")
            token.cancel("disconnect")
        with stopping(lambda: stopped.append("begun afterwards")):
            pass
    assert stopped == ["running", "begun afterwards"]
    assert token.reason == "deadline"


def test_without_a_token_nothing_is_stopped() -> None:
    """As on the command line."""
    stopped: list[str] = []
    with stopping(lambda: stopped.append("never")):
        raise_if_cancelled("decode")
    assert stopped == []
