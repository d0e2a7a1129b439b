"""Parts of a cluster end under load: nothing acknowledged is lost, and no request without a clean answer."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tests.attack.figures import write_figures
from tests.cluster.cluster import (
    MAX_CONCURRENCY,
    MAX_WAITING,
    Cluster,
    running_cluster,
    wait_until,
    why_no_cluster,
)
from tests.cluster.load import Client, Load, Tally, form, load

pytestmark = pytest.mark.cluster
if reason := why_no_cluster():
    pytest.skip(reason, allow_module_level=True)

_FIGURES = Path(__file__).parents[2] / "build" / "attack"
_NAMES = ("red", "green", "blue")
_N_KILLS = 40
_WELL = {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}


@pytest.fixture(scope="module")
def cluster(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three replicas that have all read the label set `colours`."""
    with running_cluster(tmp_path_factory.mktemp("cluster"), toy_bundle) as running:
        client = Client(running.balancer.port, Tally())
        body = json.dumps({"labels": _NAMES}).encode()
        assert client.ask("PUT", "/v1/label-sets/colours", body).status == HTTPStatus.CREATED
        yield running


@pytest.fixture(scope="module")
def report() -> Iterator[list[dict[str, Any]]]:
    """A row for each scenario; written at the end."""
    rows: list[dict[str, Any]] = []
    yield rows
    write_figures(_FIGURES, "cluster", "make test-cluster", {"What was done to three replicas": rows})


@contextmanager
def _under_load(
    cluster: Cluster, clips: dict[str, Path], report: list[dict[str, Any]], what: str
) -> Iterator[Load]:
    """All clients have worked before the block, and once more after it; then nothing may be wrong.

    Every replica has read the label set from the database: one that was just started could not rank by it
    without, and one that has not found it again since the scenario before would go on to refuse changes.
    """
    for replica in cluster.replicas.values():
        assert Client(replica.port, Tally()).read("/v1/label-sets/colours").status == HTTPStatus.OK
    with load(cluster.balancer.port, clips["red low"], "colours", "red") as clients:
        _go_on(clients)
        yield clients
        _go_on(clients)
    tally = clients.tally
    report.append(
        {
            "what": what,
            "edits acknowledged": clients.n_acknowledged,
            "label sets not as acknowledged": sum("acknowledged" in one for one in tally.faults),
            "answers to edits": _counts(tally.edits),
            "clips ranked": clients.n_ranked,
            "answers to clips": _counts(tally.rankings),
            "with a label set as read last": tally.stale,
            "slowest, seconds": round(tally.slowest_s, 2),
        }
    )
    assert tally.faults == []


def _go_on(clients: Load) -> None:
    """Wait until every client has done some more."""
    goals = [n + 5 for n in clients.progress()]
    wait_until(
        lambda: all(n >= goal for n, goal in zip(clients.progress(), goals, strict=True)), "no progress"
    )


def _counts(statuses: dict[int, int]) -> str:
    return ", ".join(f"{n} x {int(status)}" for status, n in sorted(statuses.items()))


def test_too_much_is_answered_by_the_replicas(cluster: Cluster, clips: dict[str, Path]) -> None:
    """HAProxy spreads clips evenly, holds none back, and passes 429 on; what was let in is ranked."""
    body, kind = form(clips["red low"], "colours")
    head = f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    n_let_in, n_too_many = len(cluster.replicas) * (MAX_CONCURRENCY + MAX_WAITING), 9
    with ExitStack() as stack:
        sent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", cluster.balancer.port)))
            for _ in range(n_let_in + n_too_many)
        ]
        for one in sent:  # all but the end: nothing is finished before all have come
            one.sendall(request[:-10])
        refused: list[socket.socket] = []
        wait_until(lambda: _have_answers(sent, refused, n_too_many), "not as many refused")
        for one in sent:
            one.sendall(request[-10:])
        answers = [_answer_of(one) for one in refused]
        ranked = [_answer_of(one) for one in sent if one not in refused]
    assert [(status, code) for status, _, code in answers] == [(429, "overloaded")] * n_too_many
    assert all(b"retry-after: 5" in head.lower() for _, head, _ in answers)
    assert [status for status, _, _ in ranked] == [200] * n_let_in


def _have_answers(sent: list[socket.socket], found: list[socket.socket], n: int) -> bool:
    found[:] = select.select(sent, [], [], 0)[0]
    return len(found) >= n


def _answer_of(connection: socket.socket) -> tuple[int, bytes, str | None]:
    """Status, header, and the code of a problem."""
    head, _, body = b"".join(iter(lambda: connection.recv(2**16), b"")).partition(b"\r\n\r\n")
    return int(head.split()[1]), head, json.loads(body).get("code")


def test_work_ends_for_a_client_that_leaves(cluster: Cluster, clips: dict[str, Path]) -> None:
    """HAProxy passes it on: the decoder that works for it is killed, and another one takes its place."""
    body, kind = form(clips["red low"], "colours")
    replicas = cluster.replicas.values()
    decoders = {pid for replica in replicas for pid in replica.decoders()}
    assert len(decoders) == len(replicas)
    with ExitStack() as stack:
        for decoder in decoders:
            os.kill(decoder, signal.SIGSTOP)
            stack.callback(_go_on_if_there, decoder)
        leaving = http.client.HTTPConnection("127.0.0.1", cluster.balancer.port, timeout=1)
        with closing(leaving):
            leaving.request("POST", "/v1/classify", body, {"Content-Type": kind})
            with pytest.raises(TimeoutError):
                leaving.getresponse()
        wait_until(
            lambda: bool(decoders.difference(*(replica.decoders() for replica in replicas))),
            "the work goes on",
        )
    ranked = Client(cluster.balancer.port, Tally()).ask("POST", "/v1/classify", body, kind)
    assert ranked.status == HTTPStatus.OK


def _go_on_if_there(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_a_killed_replica(cluster: Cluster, clips: dict[str, Path], report: list[dict[str, Any]]) -> None:
    """What it was working on is answered 502; the others go on, and it comes back."""
    with _under_load(cluster, clips, report, "one replica killed (SIGKILL) and started again") as clients:
        replica = cluster.replicas["two"]
        replica.end(signal.SIGKILL)
        _go_on(clients)
        cluster.balancer.wait_for("two", "DOWN")
        _go_on(clients)
        replica.start()
        cluster.balancer.wait_for("two", "UP")
    answers = clients.tally.edits + clients.tally.rankings
    failed = {status: n for status, n in answers.items() if status not in _WELL}
    assert set(failed) <= {HTTPStatus.BAD_GATEWAY}
    assert sum(failed.values()) <= len(clients.editors) + len(clients.rankers)


def test_killed_connections_to_the_database(
    cluster: Cluster, clips: dict[str, Path], report: list[dict[str, Any]]
) -> None:
    """A change whose answer was lost is recognised when it comes again."""
    n_killed = 0
    with _under_load(cluster, clips, report, "connections to the database killed") as clients:
        for _ in range(_N_KILLS):
            n_killed += cluster.end_connections()
            goal = clients.n_acknowledged + 3
            wait_until(partial(clients.has_acknowledged, goal), "no edit was made")
    report[-1]["what"] = f"{n_killed} connections to the database killed"
    assert n_killed >= _N_KILLS
    assert set(clients.tally.rankings) == {HTTPStatus.OK}
    assert set(clients.tally.edits) <= {*_WELL, HTTPStatus.SERVICE_UNAVAILABLE}


def test_a_frozen_database(cluster: Cluster, clips: dict[str, Path], report: list[dict[str, Any]]) -> None:
    """Clips are ranked by the label set as it was read last; changes are refused until it is back."""
    loaded = _under_load(cluster, clips, report, "database frozen, then going on")
    with loaded as clients, cluster.postgres.frozen():
        refused = clients.tally.edits[HTTPStatus.SERVICE_UNAVAILABLE]
        wait_until(lambda: clients.tally.edits[HTTPStatus.SERVICE_UNAVAILABLE] >= refused + 6, "not refused")
        stale = clients.tally.stale
        wait_until(lambda: clients.tally.stale >= stale + 30, "nothing is ranked")
    assert set(clients.tally.rankings) == {HTTPStatus.OK}
    assert set(clients.tally.edits) <= {*_WELL, HTTPStatus.SERVICE_UNAVAILABLE}


def test_a_rolling_update(cluster: Cluster, clips: dict[str, Path], report: list[dict[str, Any]]) -> None:
    """One replica after the other is drained, ended and started again: no client notices."""
    with _under_load(cluster, clips, report, "rolling update: drained, ended, started again") as clients:
        for name, replica in cluster.replicas.items():
            cluster.balancer.drain(name)
            assert replica.end(signal.SIGTERM) in (0, -signal.SIGTERM)
            _go_on(clients)
            replica.start()
            cluster.balancer.use(name)
    assert set(clients.tally.edits + clients.tally.rankings) <= _WELL
