"""Damaged media and damaged bytes for every parser: quick, seeded runs of what `make fuzz` does at length."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.decode.pool import DecodePool
from service.media import DecodeLimits
from tests.attack.damage import mutate
from tests.attack.media_mutations import SPEC, decode_all, write_media
from tests.attack.parsers import PARSERS

SEED = 13
N_MEDIA, N_INPUTS = 300, 300


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Small files that can be decoded."""
    return write_media(tmp_path_factory.mktemp("media"))


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    """Two decoding processes, with limits that no whole file of these tests comes near to."""
    with DecodePool(DecodeLimits(processor_time_s=20.0), n_workers=2) as pool:
        yield pool


def test_damaged_media_are_decoded_or_refused(media: list[bytes], pool: DecodePool, tmp_path: Path) -> None:
    """Each ends in a clip or in a typed error; afterwards the pool has the same processes and decodes."""
    path = tmp_path / "whole"
    path.write_bytes(media[0])
    pool.decode(path, SPEC)
    outcomes = list(decode_all(pool, media, SEED, range(N_MEDIA), tmp_path))
    assert [(one.number, one.fault) for one in outcomes if one.fault] == []
    kinds = Counter(one.ended_in for one in outcomes)
    assert kinds["clip"] > N_MEDIA // 10
    assert kinds.total() - kinds["clip"] > N_MEDIA // 10
    assert pool.decode(path, SPEC).frames is not None
    assert len(_processes(pool)) <= pool.n_workers


def test_no_process_outlives_its_pool(media: list[bytes], pool: DecodePool, tmp_path: Path) -> None:
    """Also where files brought some of them down."""
    list(decode_all(pool, media, SEED, range(20), tmp_path))
    processes = _processes(pool)
    pool.close()
    assert processes
    assert all(process.poll() is not None for process in processes)


def test_mutations_are_repeatable(media: list[bytes]) -> None:
    """A reported number names one file."""
    assert mutate(media, SEED, 5) == mutate(media, SEED, 5) != mutate(media, SEED + 1, 5)


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_input_is_read_or_refused_as_documented(name: str) -> None:
    """Whatever else a parser raises fails here; and the samples themselves are good."""
    parser = PARSERS[name]
    assert not any(parser.refuses(sample) for sample in parser.samples()[:2])
    refused = Counter(parser.refuses(content) for content in parser.damaged(SEED, N_INPUTS))
    assert min(refused[True], refused[False]) > N_INPUTS // 20


def _processes(pool: DecodePool) -> list[subprocess.Popen[bytes]]:
    return [worker._process for worker in pool._workers if worker._process is not None]
