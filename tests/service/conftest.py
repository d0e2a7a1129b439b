"""A running service on the toy bundle, for all tests over real HTTP that change none of its settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.postgres.server import Server, serving_postgres, why_absent
from tests.service.serving import serving


@pytest.fixture(scope="session")
def toy_service(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its URL. It has no keys; label sets that a test makes are named after it."""
    with serving(toy_bundle, tmp_path_factory.mktemp("toy service")) as client:
        yield str(client.base_url)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server; a test that stops or freezes it lets it go on."""
    if reason := why_absent():
        pytest.skip(reason)
    with serving_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def _upgraded_url(postgres: Server) -> str:
    from service.postgres.upgrade import upgrade

    url = postgres.url(postgres.new_database())
    upgrade(url)
    return url


@pytest.fixture
def store_url(_upgraded_url: str) -> Iterator[str]:
    """URL of a database with empty tables. Don't change the tables themselves."""
    import psycopg

    from service.postgres.schema import metadata

    yield _upgraded_url
    names = ", ".join(metadata.tables)
    with psycopg.connect(_upgraded_url) as connection:
        connection.execute(f"TRUNCATE {names}".encode())
