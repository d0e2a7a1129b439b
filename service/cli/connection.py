"""The options --url and --key of commands, and the client that they make."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.answer_text import printable
from service.errors import UnauthenticatedError

if TYPE_CHECKING:
    from service.client import Client, ClientError

Url = Annotated[
    str | None,
    typer.Option(
        "--url", help="Ask the service at this address, such as http://127.0.0.1:8000.", metavar="URL"
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        help="API key for --url; default: the environment variable AHSE_API_KEY, which other users of the "
        "machine can't see.",
        metavar="KEY",
    ),
]

_NO_KEY = (
    "The service asks for a valid API key that has not expired: give it with --key or, better, in the "
    "environment variable AHSE_API_KEY."
)


@contextmanager
def connected(url: str, key: str | None, n_jobs: int | None = None) -> Iterator[Client]:
    """A client, whose errors end the command with one line and exit code 2.

    Args:
        url: Of the service.
        key: API key.
        n_jobs: Requests at a time, where so many were asked for.
    """
    from service.client import Client, ClientError, ServiceError
    from service.client.connection import MAX_CONNECTIONS

    try:
        with Client(url, key, max_connections=max(MAX_CONNECTIONS, n_jobs or 0)) as client:
            yield client
    except ClientError as error:
        request_id = error.request_id if isinstance(error, ServiceError) else ""
        named = f" (request {request_id})" if request_id else ""
        typer.echo(printable(f"ahse: {message_of(error)} [{error.code}]{named}"), err=True)
        raise typer.Exit(2) from error


def message_of(error: ClientError) -> str:
    """What is wrong and what to do; of keys the service's own words are about headers."""
    return _NO_KEY if error.code == UnauthenticatedError.code else error.message


def refuse_key_without_url(url: str | None, key: str | None) -> None:
    """A key is for a service."""
    if key is not None and url is None:
        raise typer.BadParameter("--key is for a service; give its address with --url")
