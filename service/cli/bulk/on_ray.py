"""`ahse bulk run --ray`: shards on the nodes of a Ray cluster.

Each node has a worker for each of its GPUs, or one. A worker takes a shard at a time and publishes it itself,
so what passes through the cluster are numbers of shards and reports. What a lost worker had begun is given to
another one. Ray is imported here only, and only when it is asked for.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

import service
from service.cli.bulk.plan import Plan, size_of_shard
from service.cli.bulk.shard_worker import Order, Report, ShardWorker
from service.cli.interrupts import INTERRUPTED, Interrupts, exiting_at_once
from service.cli.progress import CountingDisplay, shown
from service.cli.ranking_run import NOTHING_DONE, OK, SOME_FAILED
from service.cli.serve import read_settings
from service.errors import InvalidOptionError

# How often nodes are looked for that came or whose worker was lost.
_LOOK_S = 2.0
# Without any worker after this time, it is said that the cluster is waited for.
_PATIENCE_S = 20.0
_CONNECT_S = 5.0
# A shard, or a node, at which workers are lost so often is given up.
_MAX_LOST = 3
# They are no business of a worker, and would be seen in the cluster's logs.
_KEPT_HERE = frozenset({"api_key", "store", "bundles", "host", "port", "data_dir"})


@dataclass(frozen=True)
class Slot:
    """A place for a worker.

    Attributes:
        node_id: Of the node.
        address: Of the node, for the user.
        index: Among those of the node.
        n_processors: That it has.
        n_gpus: 1 or 0.
    """

    node_id: str
    address: str
    index: int
    n_processors: int
    n_gpus: int


def slots_of(node: Mapping[str, Any], *, uses_gpus: bool) -> list[Slot]:
    """The places for workers of a node: one for each GPU with its share of the processors; else one.

    A node that gives Ray no processor has none, as is usual for the head of a cluster.

    Args:
        node: As `ray.nodes()` has it.
        uses_gpus: Whether a worker is to have a GPU where there is one.
    """
    if not node["Alive"]:
        return []
    has = node["Resources"]
    n_processors, n_gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0)) if uses_gpus else 0
    n_workers = min(max(1, n_gpus), n_processors)
    return [
        Slot(
            node["NodeID"],
            node["NodeManagerAddress"],
            index,
            n_processors // n_workers,
            1 if n_gpus else 0,
        )
        for index in range(n_workers)
    ]


@dataclass
class _Hired:
    """A worker in its place; `shard` is what it works on."""

    slot: Slot
    actor: Any
    shard: int | None = None


def run_on_ray(
    address: str, folder: Path, planned: Plan, todo: Sequence[int], bundle: Path | None, n_jobs: int | None
) -> int:
    """Have the shards done by a cluster.

    Args:
        address: Of the cluster: `auto`, or host and port of its head.
        folder: Of the plan.
        planned: The plan.
        todo: Numbers of the shards.
        bundle: Directory of the bundle, at the same place on every node; None: what the nodes are set up for.
        n_jobs: Clips that each worker works on at once; None: as many as it has processors.

    Returns:
        The exit code.

    Raises:
        InvalidOptionError: There is no cluster at the address.
    """
    settings = read_settings({})
    own = bundle or (settings.bundles[0] if "bundles" in settings.model_fields_set else None)
    order = Order(
        folder.absolute(),
        planned.manifest_digest,
        None if own is None else own.absolute(),
        {name: getattr(settings, name) for name in settings.model_fields_set - _KEPT_HERE},
        service.__version__,
    )
    with exiting_at_once():
        ray = _connect(address)
        sizes = [size_of_shard(folder, shard) for shard in todo]
    n_clips, n_bytes = map(sum, zip(*sizes, strict=True))
    try:
        with Interrupts() as interrupts, shown(n_clips, n_bytes) as display:
            run = _Run(ray, order, todo, n_jobs, interrupts, display, uses_gpus=settings.device != "cpu")
            run.go()
        return run.sum_up(n_clips)
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    if "://" in address:
        raise InvalidOptionError(
            "--ray takes no ray:// address: run the command on a node of the cluster, with --ray auto, or "
            "send it there with: ray job submit"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it is asked for in the middle of the output
    import ray

    try:
        _check_that_it_listens(os.environ.get("RAY_ADDRESS", "") if address == "auto" else address)
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except Exception as error:
        if "InvalidAuthToken" in str(error):
            raise InvalidOptionError(
                f"the Ray cluster at {address} has another token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN "
                "as they were where it was started"
            ) from None
        raise InvalidOptionError(
            f"there is no Ray cluster at {address}, or this machine is not one of its nodes; start one with: "
            "ray start --head, and join it with: ray start --address HOST:PORT"
        ) from error
    return ray


def _check_that_it_listens(address: str) -> None:
    """Ray would try for two minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()


class _Run:
    """One run over shards: hires workers, hands out shards, takes reports."""

    def __init__(
        self,
        ray: Any,
        order: Order,
        todo: Sequence[int],
        n_jobs: int | None,
        interrupts: Interrupts,
        display: CountingDisplay,
        *,
        uses_gpus: bool,
    ) -> None:
        self._ray = ray
        self._order = order
        self._todo = deque(todo)
        self._n_jobs = n_jobs
        self._interrupts = interrupts
        self._display = display
        self._uses_gpus = uses_gpus
        self._hired: dict[tuple[str, int], _Hired] = {}
        self._idle: list[_Hired] = []
        self._waited_for: dict[Any, _Hired] = {}  # by what its next message comes in
        self._left_out: set[str] = set()
        self._lost: Counter[object] = Counter()  # by shard, and by node where none could start
        # Shards at which workers of a node were lost since it published one: so a bad node is told from a bad
        # shard, which is lost on any node.
        self._lost_at: dict[str, set[int]] = {}
        self._n_failed: Counter[int] = Counter()
        self._begun: dict[int, tuple[int, int]] = {}  # clips and bytes that were counted, by shard
        self._n_shards, self._n_published = len(todo), 0
        self._looks_at = 0.0
        self._is_told_to_wait = False
        self._stopped = ""

    def go(self) -> None:
        """Work until all shards are done or given up, no node is left, or Ctrl-C."""
        began = time.monotonic()
        try:
            while self._todo or any(one.shard is not None for one in self._hired.values()):
                self._hire()
                self._hand_out()
                if not self._waited_for:
                    self._stopped = "no node of the cluster can work on it."
                    break
                with self._interrupts.waiting():
                    ready, _ = self._ray.wait(list(self._waited_for), timeout=_LOOK_S, fetch_local=False)
                for one in ready:
                    self._hear(one)
                if time.monotonic() - began > _PATIENCE_S:
                    self._tell_to_wait()
        except KeyboardInterrupt:
            pass
        for hired in self._hired.values():
            self._ray.kill(hired.actor)

    def _hire(self) -> None:
        """Start a worker in each place that has none, for as many shards as wait for one."""
        if time.monotonic() < self._looks_at:
            return
        self._looks_at = time.monotonic() + _LOOK_S
        slots = [slot for node in self._ray.nodes() for slot in slots_of(node, uses_gpus=self._uses_gpus)]
        for slot in slots:
            n_free = sum(one.shard is None for one in self._hired.values())
            is_taken = (slot.node_id, slot.index) in self._hired or slot.node_id in self._left_out
            if not is_taken and n_free < len(self._todo):
                self._start(slot)

    def _start(self, slot: Slot) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        n_jobs = self._n_jobs or slot.n_processors
        order = self._order
        if not slot.n_gpus:
            # A worker sees all processors of its node, not those that it was given.
            settings = {"parallel_runs": min(slot.n_processors, 64), **order.settings}
            order = Order(order.folder, order.manifest_digest, order.bundle, settings, order.version)
        there = NodeAffinitySchedulingStrategy(slot.node_id, soft=False)
        worker = self._ray.remote(ShardWorker).options(
            num_cpus=slot.n_processors, num_gpus=slot.n_gpus, scheduling_strategy=there
        )
        hired = _Hired(slot, worker.remote(order, n_jobs))
        self._hired[slot.node_id, slot.index] = hired
        self._waited_for[hired.actor.open.remote()] = hired

    def _hand_out(self) -> None:
        """Give a shard to each worker that has none."""
        for hired in list(self._idle):
            shard = self._next_for(hired.slot.node_id)
            if shard is None:
                continue
            self._idle.remove(hired)
            self._todo.remove(shard)
            hired.shard = shard
            reports = hired.actor.rank.options(num_returns="streaming").remote(hired.shard)
            self._waited_for[reports] = hired

    def _next_for(self, node_id: str) -> int | None:
        """A shard for a node; None: others should rather try those at which it has lost workers."""
        lost_here = self._lost_at.get(node_id, set())
        others = {one.slot.node_id for one in self._hired.values()} - {node_id}
        for shard in self._todo:
            if shard not in lost_here or all(shard in self._lost_at.get(other, ()) for other in others):
                return shard
        return None

    def _hear(self, source: Any) -> None:
        """Take the next message of a worker."""
        hired = self._waited_for.pop(source)
        try:
            if hired.shard is None:
                self._is_open(hired, self._ray.get(source))
                return
            report = self._ray.get(next(source))
        except StopIteration:
            hired.shard = None
            self._idle.append(hired)
        except self._ray.exceptions.RayTaskError as error:
            cause = f"{type(error.cause).__name__}: {error.cause}"
            if hired.shard is None:
                self._leave_out(hired, cause)
            else:  # it may be the fault of the shard
                self._lose(hired, error, f"has failed ({cause})")
        except self._ray.exceptions.RayError as error:
            self._lose(hired, error, "was lost")
        else:
            self._take(hired.shard, report)
            if report.is_published:
                self._lost_at.pop(hired.slot.node_id, None)
            self._waited_for[source] = hired

    def _is_open(self, hired: _Hired, fault: str) -> None:
        if fault:
            self._leave_out(hired, fault)
        else:
            self._idle.append(hired)

    def _take(self, shard: int, report: Report) -> None:
        n_clips, n_bytes = self._begun.get(shard, (0, 0))
        self._begun[shard] = n_clips + report.n_clips, n_bytes + report.n_bytes
        self._n_failed[shard] = report.n_failed
        self._n_published += report.is_published
        for message in report.messages:
            self._display.message(message)
        self._display.add(report.n_clips, report.n_bytes)

    def _dismiss(self, hired: _Hired) -> None:
        """End a worker."""
        self._ray.kill(hired.actor)
        del self._hired[hired.slot.node_id, hired.slot.index]
        self._looks_at = 0.0

    def _lose(self, hired: _Hired, error: Exception, how: str) -> None:
        """A worker has failed at a shard, or has died, with or without its node."""
        node, shard = hired.slot, hired.shard
        self._dismiss(hired)
        if shard is not None:
            self._display.message(f"node {node.address}: its worker {how}; {self._put_back(shard)}")
            lost_at = self._lost_at.setdefault(node.node_id, set())
            lost_at.add(shard)
            if len(lost_at) == _MAX_LOST:
                self._left_out.add(node.node_id)
                self._display.message(
                    f"node {node.address} is left out: its workers were lost at {_MAX_LOST} shards in a row"
                )
            return
        self._lost[node.node_id] += 1
        if self._lost[node.node_id] == _MAX_LOST:
            self._left_out.add(node.node_id)
            said = str(error).strip().splitlines() or [type(error).__name__]
            self._display.message(f"node {node.address} is left out: no worker can start there: {said[-1]}")

    def _put_back(self, shard: int) -> str:
        """Have another worker do a shard, unless too many were lost at it; tells which."""
        self._n_failed.pop(shard, None)
        n_clips, n_bytes = self._begun.pop(shard, (0, 0))
        self._display.add(-n_clips, -n_bytes)
        self._lost[shard] += 1
        if self._lost[shard] < _MAX_LOST:
            self._todo.append(shard)
            return f"shard {shard} is done again"
        return f"shard {shard} is given up: {_MAX_LOST} workers were lost at it"

    def _leave_out(self, hired: _Hired, fault: str) -> None:
        """A node that can't work on this plan gets nothing more."""
        self._dismiss(hired)
        if hired.slot.node_id not in self._left_out:  # another worker of the node may have said so
            self._left_out.add(hired.slot.node_id)
            self._display.message(f"node {hired.slot.address} is left out: {fault}")

    def _tell_to_wait(self) -> None:
        """Once, where no worker has begun."""
        if not self._is_told_to_wait and not self._begun:
            self._is_told_to_wait = True
            self._display.message("waiting for the cluster: its processors are taken, or workers still start")

    def sum_up(self, n_clips: int) -> int:
        """Say what is missing; returns the exit code."""
        n_failed = sum(self._n_failed.values())
        if n_failed:
            typer.echo(f"{n_failed} of {n_clips} clips failed", err=True)
        done = f"{self._n_published} of {self._n_shards} shards are done. Go on with the same command."
        if self._interrupts.came:
            typer.echo(f"ahse: interrupted; {done}", err=True)
            return INTERRUPTED
        if self._n_published < self._n_shards:
            typer.echo(f"ahse: {self._stopped and self._stopped + ' '}{done}", err=True)
            return SOME_FAILED if self._n_published else NOTHING_DONE
        return SOME_FAILED if n_failed else OK
