"""`ahse bulk run --ray` without Ray: its workers in this process, behind a cluster that is played."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import service
from service.cli.bulk import on_ray
from service.cli.bulk.plan import Plan
from service.cli.bulk.shard_worker import Order, Report, ShardWorker
from tests.conftest import Ahse
from tests.toy import write_clip, write_toy_bundle

parquet = pytest.importorskip("pyarrow.parquet", reason="plans are Parquet files (the extra bulk)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips and a file that is none. Don't change it."""
    made = tmp_path_factory.mktemp("ray_clips")
    for index, (colour, tone) in enumerate([("red", "low"), ("green", "high"), ("blue", None)]):
        write_clip(made / f"{index}.mp4", colour, tone, seconds=0.5)
    (made / "broken.mp4").write_bytes(b"\0" * 200)
    return made


@pytest.fixture
def planned(folder: Path, toy_bundle: Path, tmp_path: Path, ahse: Ahse) -> Path:
    """A plan of four shards of one clip."""
    words = ("bulk", "plan", str(folder), "--out", str(tmp_path / "plan"), "--shard-size", "1")
    code, _, complaint = ahse(*words, "--label", "red low", "--label", "blue", "--bundle", str(toy_bundle))
    assert code == 0, complaint
    return tmp_path / "plan"


class RayError(Exception):
    """As Ray calls it."""


class RayTaskError(RayError):
    """A method of an actor has raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Played(ModuleType):
    """What is used of Ray. References are calls that are made when they are asked for.

    Attributes:
        faults: Called before each shard with its number; may raise.
        at: The node of the actor that has the shard.
        known: Its nodes.
        killed: Actors that were ended.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("ray")
        self.faults: Callable[[int], object] = lambda _: None
        self.at = ""
        self.killed = 0
        self.known = list(nodes)
        self.address = ""

    def init(self, address: str, **_: object) -> None:
        """Connect."""
        self.address = address

    def shutdown(self) -> None:
        """Disconnect."""

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        """All of them."""
        return self.known

    def kill(self, actor: Any) -> None:
        """End its decoders, and count it."""
        self.killed += 1
        if hasattr(actor.worker, "_ranker"):
            actor.worker._ranker.close()

    def wait(self, waited: list[Any], **_: object) -> tuple[list[Any], list[Any]]:
        """The first is ready."""
        return waited[:1], waited[1:]

    def get(self, reference: Callable[[], Any]) -> Any:
        """Make the call."""
        return reference()

    def remote(self, kind: type[ShardWorker]) -> Any:
        """An actor class."""

        def actor(node: str, *arguments: Any) -> Any:
            worker = kind(*arguments)

            def reports(shard: int) -> Iterator[Callable[[], Any]]:
                self.at = node
                self.faults(shard)
                for report in worker.rank(shard):
                    yield partial(_itself, report)

            rank = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=reports))
            opened = SimpleNamespace(remote=lambda: worker.open)
            return SimpleNamespace(open=opened, rank=rank, worker=worker)

        return SimpleNamespace(
            options=lambda scheduling_strategy, **_: SimpleNamespace(
                remote=partial(actor, scheduling_strategy)
            )
        )


def _itself(report: Report) -> Report:
    return report


def node(name: str, resources: Mapping[str, float], *, alive: bool = True) -> dict[str, Any]:
    """A node as Ray tells of it."""
    return {"NodeID": name, "Alive": alive, "NodeManagerAddress": f"at {name}", "Resources": resources}


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Played:
    """A cluster of a head without processors and two nodes."""
    one = {"CPU": 1.0}
    played = Played([node("head", {}), node("a", one), node("b", one), node("gone", one, alive=False)])
    strategies = ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda node_id, **_: node_id  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", played)
    monkeypatch.setitem(sys.modules, "ray.util", ModuleType("ray.util"))
    monkeypatch.setitem(sys.modules, strategies.__name__, strategies)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return played


def files_of(plan: Path) -> dict[str, bytes]:
    """All results by name."""
    return {file.name: file.read_bytes() for file in sorted((plan / "results").iterdir())}


def test_the_files_are_those_of_the_plain_command(
    planned: Path, toy_bundle: Path, ahse: Ahse, ray: Played
) -> None:
    """Byte for byte; and nothing is left for a second run."""
    words = ("bulk", "run", str(planned), "--bundle", str(toy_bundle))
    code, _, complaint = ahse(*words, "--ray", "auto")
    assert code == 1
    assert "1 of 4 clips failed" in complaint
    assert "broken.mp4: This is not a clip" in complaint
    assert (ray.address, ray.killed) == ("auto", 2)
    by_ray = files_of(planned)
    for file in (planned / "results").iterdir():
        file.unlink()
    ahse(*words)
    assert files_of(planned) == by_ray
    assert "has its results already" in ahse(*words, "--ray", "auto")[1]


def test_the_shard_of_a_lost_worker_is_done_by_another(
    planned: Path, toy_bundle: Path, ahse: Ahse, ray: Played
) -> None:
    """Its clips are not counted twice."""
    lost: list[int] = []

    def lose_once(shard: int) -> None:
        if shard == 1 and not lost:
            lost.append(shard)
            raise RayError("the worker died")

    ray.faults = lose_once
    code, _, complaint = ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle), "--ray", "auto")
    assert code == 1
    assert "its worker was lost; shard 1 is done again" in complaint
    assert "1 of 4 clips failed" in complaint
    assert len(files_of(planned)) == 4


def test_a_node_that_joins_gets_a_worker(
    planned: Path, toy_bundle: Path, ahse: Ahse, ray: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the others work."""
    monkeypatch.setattr(on_ray, "_LOOK_S", 0.0)

    def join(_: int) -> None:
        if len(ray.known) == 4:
            ray.known.append(node("late", {"CPU": 1.0}))

    ray.faults = join
    ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle), "--ray", "auto")
    assert len(files_of(planned)) == 4
    assert ray.killed == 3


def test_a_shard_that_ends_its_workers_is_given_up(
    planned: Path, toy_bundle: Path, ahse: Ahse, ray: Played
) -> None:
    """The others are done, and it is said which one is missing."""

    def lose_always(shard: int) -> None:
        if shard == 2:
            raise RayError("no memory")

    ray.faults = lose_always
    code, _, complaint = ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle), "--ray", "auto")
    assert code == 1
    assert complaint.count("its worker was lost; shard 2 is done again") == 2
    assert complaint.count("its worker was lost; shard 2 is given up: 3 workers were lost at it") == 1
    assert "3 of 4 shards are done. Go on with the same command." in complaint
    assert sorted(files_of(planned)) == ["00000.parquet", "00001.parquet", "00003.parquet"]


@pytest.mark.parametrize("n_shards", [4, 12])
def test_a_node_that_loses_every_worker_spoils_no_shard(
    n_shards: int,
    folder: Path,
    planned: Path,
    toy_bundle: Path,
    tmp_path: Path,
    ahse: Ahse,
    ray: Played,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other node does all of them; the bad one is left out when it has lost three."""
    monkeypatch.setattr(on_ray, "_LOOK_S", 0.0)

    def lose_here(_: int) -> None:
        if ray.at == "a":
            raise RayError("a broken machine")

    ray.faults = lose_here
    plan = planned
    if n_shards > 4:
        clips = tmp_path / "many"
        clips.mkdir()
        for n in range(n_shards):
            shutil.copy(folder / "0.mp4", clips / f"{n:02}.mp4")
        plan = tmp_path / "other plan"
        words = ("bulk", "plan", str(clips), "--label", "red", "--label", "blue", "--bundle", str(toy_bundle))
        assert ahse(*words, "--shard-size", "1", "--out", str(plan))[0] == 0
    _, _, complaint = ahse("bulk", "run", str(plan), "--bundle", str(toy_bundle), "--ray", "auto")
    assert "given up" not in complaint
    assert len(files_of(plan)) == n_shards
    is_left_out = "node at a is left out: its workers were lost at 3 shards in a row" in complaint
    assert is_left_out == (n_shards == 12)


def test_a_shard_that_fails_once_costs_no_node(
    planned: Path, toy_bundle: Path, ahse: Ahse, ray: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only node does it again, with the others; why it failed is said."""
    monkeypatch.setattr(on_ray, "_LOOK_S", 0.0)
    ray.known = [node("a", {"CPU": 1.0})]
    failed: list[int] = []

    def fail_once(shard: int) -> None:
        if shard == 1 and not failed:
            failed.append(shard)
            raise RayTaskError(MemoryError("too large"))

    ray.faults = fail_once
    code, _, complaint = ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle), "--ray", "auto")
    assert code == 1
    assert "its worker has failed (MemoryError: too large); shard 1 is done again" in complaint
    assert len(files_of(planned)) == 4


def test_a_node_that_always_fails_is_left_out(
    planned: Path, toy_bundle: Path, ahse: Ahse, ray: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, say; the other node fails too, and nothing goes on for ever."""
    monkeypatch.setattr(on_ray, "_LOOK_S", 0.0)

    def full(_: int) -> None:
        raise RayTaskError(OSError("No space left on device"))

    ray.faults = full
    code, _, complaint = ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle), "--ray", "auto")
    assert code == 2
    assert "node at a: its worker has failed (OSError: No space left on device)" in complaint
    assert "node at a is left out: its workers were lost at 3 shards in a row" in complaint
    assert "no node of the cluster can work on it. 0 of 4 shards are done" in complaint


def test_what_keeps_a_node_from_working_is_said_in_words(
    planned: Path, toy_bundle: Path, tmp_path: Path
) -> None:
    """Another version, a folder that it does not see, another plan or bundle there."""
    digest = Plan.read(planned).manifest_digest
    other = write_toy_bundle(tmp_path / "other", name="other")

    def fault(
        folder: Path = planned, digest: str = digest, bundle: Path = toy_bundle, version: str = ""
    ) -> str:
        return ShardWorker(Order(folder, digest, bundle, {}, version or service.__version__), 1).open()

    assert "it has ahse" in fault(version="0.0.1")
    assert "holds no plan" in fault(folder=tmp_path / "nowhere")
    assert "holds another plan there; mount the same folder" in fault(digest="0" * 64)
    assert "the plan was made with the bundle toy 1" in fault(bundle=other)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"CPU": 16.0}, [(16, 0)]),
        ({"CPU": 16.0, "GPU": 2.0}, [(8, 1), (8, 1)]),
        ({"CPU": 1.0, "GPU": 2.0}, [(1, 1)]),
        ({"GPU": 1.0}, []),
        ({}, []),
    ],
)
def test_a_node_has_a_worker_for_each_gpu_or_one(
    resources: dict[str, float], expected: list[tuple[int, int]]
) -> None:
    """Each with its share of the processors; a node without any processor has none."""
    slots = on_ray.slots_of(node("n", resources), uses_gpus=True)
    assert [(slot.n_processors, slot.n_gpus) for slot in slots] == expected
    without = on_ray.slots_of(node("n", resources), uses_gpus=False)
    assert [slot.n_gpus for slot in without] == [0] * (1 if resources.get("CPU") else 0)


def test_addresses_that_lead_nowhere(planned: Path, ahse: Ahse, ray: Played) -> None:
    """In words, with what to do, and at once."""
    for address, said in {"ray://head:10001": "ray job submit", "127.0.0.1:1": "ray start --head"}.items():
        code, _, complaint = ahse("bulk", "run", str(planned), "--ray", address)
        assert (code, said in complaint) == (2, True), complaint
    assert not ray.address


def test_a_cluster_with_another_token(
    planned: Path, ahse: Ahse, ray: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words, without the traceback that Ray has in its message."""

    def refuse(**_: object) -> None:
        raise RuntimeError(
            "Traceback ...\nray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: ..."
        )

    monkeypatch.setattr(ray, "init", refuse)
    code, _, complaint = ahse("bulk", "run", str(planned), "--ray", "auto")
    assert code == 2
    assert "the Ray cluster at auto has another token: set RAY_AUTH_MODE=token" in complaint
    assert "Traceback" not in complaint


def test_without_ray_it_says_what_to_install(
    planned: Path, ahse: Ahse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only this command needs it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, complaint = ahse("bulk", "run", str(planned), "--ray", "auto")
    assert code == 2
    assert "pip install 'ahse[cpu,bulk,ray]'" in complaint
