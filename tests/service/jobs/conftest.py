"""A place for jobs in each kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from service.jobs.job import Job, JobLimits, NewJob
from service.jobs.sqlite.store import SqliteJobStore
from service.jobs.store import JobStore

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LIMITS = JobLimits(max_jobs=100, max_bytes=100_000, kept_for=DAY)
FORM = (("labels", "dog"), ("labels", "cat"))
_numbers = count()

Make = Callable[..., JobStore]


@pytest.fixture(params=["sqlite", "postgres"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Opens the store of the test, on one data directory, also again; each is closed at the end."""
    with ExitStack() as stack:
        if request.param == "sqlite":

            def made(limits: JobLimits = LIMITS) -> JobStore:
                return stack.enter_context(closing(SqliteJobStore(tmp_path / "data", limits)))

        else:
            url = request.getfixturevalue("store_url")
            from service.jobs.postgres.store import PostgresJobStore
            from service.postgres.database import PostgresDatabase

            def made(limits: JobLimits = LIMITS) -> JobStore:
                database = stack.enter_context(closing(PostgresDatabase(url)))
                return stack.enter_context(closing(PostgresJobStore(database, tmp_path / "data", limits)))

        yield made


@pytest.fixture
def store(make: Make) -> JobStore:
    """A store of the process that works on the jobs."""
    store = make()
    assert store.lead()
    return store


def add(store: JobStore, n_clips: int = 1, owner: str = "", size: int = 10, **more: object) -> Job:
    """Make a job of clips of some size; each later one a second later."""
    number = next(_numbers)
    clips = store.folder.path / f"arriving-{number}"
    clips.mkdir()
    for index in range(n_clips):
        (clips / str(index)).write_bytes(b"x" * size)
    names = tuple(f"clip {index}.mp4" for index in range(n_clips))
    new = NewJob(owner, FORM, names, **more)  # type: ignore[arg-type]  # of the test
    return store.create(new, clips, NOW + timedelta(seconds=number))[0]
