"""The SQLite file that stores share between threads; what stores do with it is tested with them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from service.database import Database


def test_a_thread_keeps_few_pages_of_a_file(tmp_path: Path) -> None:
    """Every thread has a connection to every file, and each would keep 2 MB: memory would creep up."""
    with closing(Database(tmp_path / "x.sqlite3", "CREATE TABLE t (v)", "NORMAL", "test")) as database:

        def kept_kib() -> int:
            with database.reading() as connection:
                (size,) = connection.execute("PRAGMA cache_size").fetchone()
            return -int(size)  # SQLite gives a size in KiB as a negative number

        with ThreadPoolExecutor(1) as other:
            assert kept_kib() == other.submit(kept_kib).result() == 256
