"""Who waits for an answer: known in the request's context, and in copies of it in other threads."""

from __future__ import annotations

import contextvars
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.cancellation import Client, ClientGone, drop_if_gone, served_client


def test_the_client_is_known_inside_and_in_copies_of_the_context() -> None:
    """Not outside, and not in threads that work for somebody else."""
    client = Client()
    with client.served(), ThreadPoolExecutor(1) as thread:
        copy = contextvars.copy_context()
        assert thread.submit(copy.run, served_client).result() is client
        assert thread.submit(served_client).result() is None
    assert served_client() is None


def test_work_ends_once_the_client_has_left() -> None:
    """And says what it was waiting for; without a client nothing is dropped."""
    client = Client()
    drop_if_gone("decode")
    with client.served():
        drop_if_gone("decode")
        client.leave()
        with pytest.raises(ClientGone) as gone:
            drop_if_gone("decode")
    assert gone.value.waited_for == "decode"
