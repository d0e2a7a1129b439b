"""TLS to the database: a server with a certificate of an authority of the test's own."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.errors import StoreUnavailableError
from tests.service.postgres.server import PASSWORD, Server, why_absent

if reason := why_absent() or (None if shutil.which("openssl") else "openssl is not installed"):
    pytest.skip(reason, allow_module_level=True)

from service.postgres.database import PostgresDatabase

_NEW_KEY = (
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-days",
    "2",
)


def _certificate(folder: Path, name: str, *options: str) -> Path:
    """A new certificate, beside its key."""
    files = ("-out", str(folder / f"{name}.pem"), "-keyout", str(folder / f"{name}.key"))
    command = [str(shutil.which("openssl")), *_NEW_KEY, "-subj", f"/CN={name}", *options, *files]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603  (fixed arguments)
    return folder / f"{name}.pem"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificates of two authorities, and one for localhost that the first has signed."""
    folder = tmp_path_factory.mktemp("tls")
    authority = _certificate(folder, "authority")
    _certificate(folder, "another")
    _certificate(
        folder,
        "server",
        *("-CA", str(authority), "-CAkey", str(authority.with_suffix(".key"))),
        *("-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:false"),
    )
    return folder


@pytest.fixture(scope="module")
def secure_url(postgres: Server, folder: Path, _upgraded_url: str) -> Iterator[str]:
    """URL of a database with tables, on a server with TLS, all but what is asked of it."""
    name = _upgraded_url.partition("?")[0].rpartition("/")[2]
    with postgres.over_tls(folder / "server.pem", folder / "server.key") as port:
        yield f"postgresql://ahse:{PASSWORD}@localhost:{port}/{name}"


def test_the_authority_and_the_host_are_checked(secure_url: str, folder: Path) -> None:
    """As `sslmode=verify-full` and `sslrootcert` in the URL ask for; each kind of connection is encrypted."""
    url = f"{secure_url}?sslmode=verify-full&sslrootcert={folder / 'authority.pem'}"
    encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    with closing(PostgresDatabase(url)) as database:
        database.check_version()
        assert database.ask(encrypted) == (True,)
        assert database.read(lambda connection: connection.exec_driver_sql(encrypted).scalar())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("authority.pem", "another.pem"),
        ("authority.pem", "nothing.pem"),
        ("@localhost", "@127.0.0.1"),
        ("verify-full", "no-such-mode"),
    ],
)
def test_a_server_that_is_not_trusted_is_refused(
    secure_url: str, folder: Path, old: str, new: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another authority, none, another host, no mode of libpq: with what to check, and nothing secret."""
    caplog.set_level(logging.DEBUG)
    url = f"{secure_url}?sslmode=verify-full&sslrootcert={folder / 'authority.pem'}".replace(old, new)
    with (
        capture_logs() as logs,
        closing(PostgresDatabase(url)) as database,
        pytest.raises(StoreUnavailableError, match="that sslrootcert is the file") as raised,
    ):
        database.check_version()
    for secret in (PASSWORD, str(folder), "localhost:"):
        assert secret not in raised.value.message + str(logs) + caplog.text


def test_the_systems_authorities_are_those_that_the_environment_names(
    secure_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SSL_CERT_FILE, as in the images: the libpq of psycopg's wheel looks where no system has any."""
    url = f"{secure_url}?sslmode=verify-full&sslrootcert=system"
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
    with closing(PostgresDatabase(url)) as database:
        database.check_version()
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "another.pem"))
    with closing(PostgresDatabase(url)) as database, pytest.raises(StoreUnavailableError):
        database.check_version()
