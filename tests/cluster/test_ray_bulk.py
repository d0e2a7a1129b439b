"""`ahse bulk run --ray` on two nodes: killed half way, resumed, and equal to the plain command."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.ray_cluster import ROOT, RayCluster, ray_cluster
from tests.conftest import Ahse
from tests.toy import write_clip, write_toy_bundle

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray (the extra ray)"),
]
KINDS = [("red", "low"), ("green", "high"), ("blue", "middle"), ("red", "high"), ("green", None)]
N_SHARDS = 40
PATIENCE_S = 120


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """A head without processors, as is usual, and two nodes of one."""
    with ray_cluster([0, 1, 1]) as running:
        yield running


@pytest.fixture
def plan(toy_bundle: Path, tmp_path: Path, ahse: Ahse) -> Path:
    """Forty shards of two clips each, one of which is no clip."""
    clips = tmp_path / "clips"
    clips.mkdir()
    kinds = [write_clip(tmp_path / f"{n}.mp4", *kind, seconds=0.5) for n, kind in enumerate(KINDS)]
    for index in range(2 * N_SHARDS - 1):
        os.link(kinds[index % len(kinds)], clips / f"{index:03}.mp4")
    (clips / "broken.mp4").write_bytes(b"\0" * 200)
    words = ["bulk", "plan", str(clips), "--out", str(tmp_path / "plan"), "--shard-size", "2"]
    words += [word for name in ("red low", "green high", "blue middle") for word in ("--label", name)]
    code, _, complaint = ahse(*words, "--bundle", str(toy_bundle))
    assert code == 0, complaint
    return tmp_path / "plan"


def start(cluster: RayCluster, plan: Path, bundle: Path) -> subprocess.Popen[str]:
    """The command, as a process of its own."""
    words = ["bulk", "run", str(plan), "--bundle", str(bundle), "--ray", cluster.address]
    return subprocess.Popen(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-m", "service.cli", *words],
        cwd=ROOT,
        env=cluster.environment,
        text=True,
        stderr=subprocess.PIPE,
    )


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for something that other processes do."""
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def results_of(plan: Path) -> dict[str, bytes]:
    """All files of results by name."""
    return {file.name: file.read_bytes() for file in (plan / "results").glob("[0-9]*.parquet")}


def test_killed_half_way_and_resumed_to_the_same_files(
    cluster: RayCluster, plan: Path, toy_bundle: Path, ahse: Ahse, tmp_path: Path
) -> None:
    """A worker, then the program, then a whole node are killed; what was there is not done again."""
    plain = tmp_path / "plain"
    shutil.copytree(plan, plain)
    ahse("bulk", "run", str(plain), "--bundle", str(toy_bundle))
    expected = results_of(plain)
    assert len(expected) == N_SHARDS

    with start(cluster, plan, toy_bundle) as first:
        wait_until(lambda: len(results_of(plan)) >= 4)
        os.kill(cluster.find("ray::ShardWorker")[0], signal.SIGKILL)
        n_before = len(results_of(plan))
        wait_until(lambda: len(results_of(plan)) >= n_before + 4)
        first.kill()
    wait_until(lambda: not cluster.find("ray::ShardWorker"))
    before = {path: path.stat() for path in (plan / "results").glob("[0-9]*.parquet")}
    assert 8 <= len(before) < N_SHARDS
    assert ahse("bulk", "status", str(plan))[0] == 1

    with start(cluster, plan, toy_bundle) as second:
        wait_until(lambda: len(results_of(plan)) >= len(before) + 2)
        cluster.kill_node(2)
        _, complaint = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 1, complaint
    assert "Traceback" not in complaint
    assert results_of(plan) == expected
    for path, state in before.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (state.st_ino, state.st_mtime_ns)
    assert ahse("bulk", "status", str(plan))[0] == 0


def test_ctrl_c_leaves_what_is_finished(cluster: RayCluster, plan: Path, toy_bundle: Path) -> None:
    """Exit code 130, no traceback, no worker that goes on."""
    with start(cluster, plan, toy_bundle) as run:
        wait_until(lambda: len(results_of(plan)) >= 2)
        run.send_signal(signal.SIGINT)
        _, complaint = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 130
    assert "interrupted" in complaint
    assert "Go on with the same command" in complaint
    assert "Traceback" not in complaint
    assert 2 <= len(results_of(plan)) < N_SHARDS
    wait_until(lambda: not cluster.find("ray::ShardWorker"))


def test_another_bundle_is_refused_by_each_node(cluster: RayCluster, plan: Path, tmp_path: Path) -> None:
    """In words, without any result."""
    other = write_toy_bundle(tmp_path / "other", name="other")
    with start(cluster, plan, other) as run:
        _, complaint = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 2
    assert "is left out: the plan was made with the bundle toy 1" in complaint
    assert f"no node of the cluster can work on it. 0 of {N_SHARDS} shards are done" in complaint
    assert not results_of(plan)
