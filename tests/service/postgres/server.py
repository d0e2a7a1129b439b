"""A PostgreSQL server of the tests' own, on a socket in a temporary folder; it can be frozen and stopped."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

PASSWORD = "s3cret-of-the-tests"  # noqa: S105  (nothing else has it)
_USERS = ("postgres", "nobody")


def why_absent() -> str | None:
    """What is missing for these tests here; None: nothing."""
    if find_spec("sqlalchemy") is None or find_spec("psycopg") is None or find_spec("alembic") is None:
        return "the packages of the extra `postgres` are not installed"
    if _programs() is None:
        return "there is no PostgreSQL server (Debian: apt-get install postgresql)"
    return None


def _programs() -> Path | None:
    """The folder of initdb and postgres; Debian has it outside of the path."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


class Server:
    """A running server.

    Args:
        folder: Of its data and its socket.
        programs: Folder of its programs.
        user: Who runs it; None: whoever runs the tests. It refuses to run as root.
    """

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self._folder, self._programs, self._user = folder, programs, user
        self._numbers = count()
        (folder / "password").write_text(PASSWORD)
        self._run(
            "initdb",
            *(
                "--pgdata",
                str(folder / "data"),
                "--username",
                "ahse",
                "--encoding",
                "UTF8",
                "--locale",
                "C.UTF-8",
            ),
            *("--auth", "scram-sha-256", "--pwfile", str(folder / "password"), "--no-sync"),
        )

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(  # noqa: S603  (our own command)
            [self._programs / program, *arguments],
            check=True,
            user=self._user,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PGPASSWORD": PASSWORD},
        )

    def start(self, **more: str) -> None:
        """Start, and wait until it answers.

        Args:
            more: Further settings.
        """
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "fsync": "off",
            "max_connections": "500",
            "shared_buffers": "32MB",
            **more,
        }
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self._control("start", "--log", str(self._folder / "log"), "--options", options)

    def stop(self) -> None:
        """Stop at once; sessions are ended."""
        self._control("stop", "--mode", "immediate")

    @contextmanager
    def over_tls(self, certificate: Path, key: Path) -> Iterator[int]:
        """Inside the block the server is restarted, and takes connections with TLS at a port of localhost."""
        own = self._folder / "key.pem"
        shutil.copy(key, own)
        own.chmod(0o600)
        if self._user is not None:
            shutil.chown(own, self._user)
        shutil.copy(certificate, self._folder / "certificate.pem")
        with socket.create_server(("localhost", 0)) as free:
            port = free.getsockname()[1]
        self.stop()
        self.start(
            listen_addresses="localhost",
            port=str(port),
            ssl="on",
            ssl_cert_file=str(self._folder / "certificate.pem"),
            ssl_key_file=str(own),
        )
        try:
            yield port
        finally:
            self.stop()
            self.start()

    def _control(self, *action: str) -> None:
        self._run("pg_ctl", *action, "--wait", "--pgdata", str(self._folder / "data"))

    def url(self, database: str) -> str:
        """Of a database, with a password."""
        return f"postgresql://ahse:{PASSWORD}@/{database}?host={self._folder}"

    def new_database(self) -> str:
        """The name of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        self._run("createdb", "-h", str(self._folder), "-U", "ahse", "--template", "template0", name)
        return name

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside the block the server takes connections and bytes, and answers nothing."""
        postmaster = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        pids = [postmaster]
        try:
            os.kill(postmaster, signal.SIGSTOP)
            children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
            pids += map(int, children)
            for pid in pids[1:]:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def serving_postgres() -> Iterator[Server]:
    """A new server, which is gone afterwards with all it has stored."""
    programs = _programs()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="ahse-postgres-"))
    user = next((one for one in _USERS if _is_user(one)), None) if os.getuid() == 0 else None
    try:
        if user is not None:
            shutil.chown(folder, user)
        server = Server(folder, programs, user)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _is_user(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())
