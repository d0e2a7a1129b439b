"""`ahse serve --workers`: one port, one store, metrics together, and a worker that ends is started again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import httpx2
import pytest

from service.access.keys import make_key
from service.access.sqlite import SqliteKeyStore
from service.cli.workers import find_gpus
from tests.service.serving import COMMAND
from tests.toy import write_toy_bundle

ALL = {"0", "1"}


class Service:
    """A running service with two workers, whose log is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: Queue[str] = Queue()
        # Read all the time: a full pipe would stop the workers at their next line.
        threading.Thread(target=self._read, daemon=True).start()
        self.log = (json.loads(line) for line in iter(lambda: self._lines.get(timeout=60), ""))
        self.pids: dict[int, int] = {}
        for _ in range(2):
            self.url = self.wait_for("serving")["url"]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)
        self._lines.put("")

    def wait_for(self, event: str) -> dict[str, Any]:
        """Read the log up to an event. Notes the process of each worker that starts."""
        for line in self.log:
            if started := re.match(r"Started server process \[(\d+)\]", line["event"]):
                self.pids[line["worker"]] = int(started[1])
            if line["event"] == event:
                found: dict[str, Any] = line
                return found
        raise AssertionError(f"no {event} in the log")

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Ask on a connection of its own, which any worker may accept."""
        with httpx2.Client(base_url=self.url, timeout=60) as client:
            return client.request(method, path, **options)

    def answered(self, route: str) -> dict[str, int]:
        """How many requests of a route each worker has answered."""
        pattern = rf'ahse_requests_total{{.*route="{re.escape(route)}".*worker="(\d)"}} (\d+)'
        found = re.findall(pattern, self.request("GET", "/metrics").text)
        return {worker: int(n) for worker, n in found}

    def ask_both(self, path: str, route: str) -> set[str]:
        """Ask until every worker has answered; the texts."""
        texts = set()
        for _ in range(200):
            texts.add(self.request("GET", path).text)
            if set(self.answered(route)) == ALL:
                return texts
        raise AssertionError("one worker never answered")


@contextmanager
def _serving(
    bundle: Path, data: Path, expected: int = 0, variables: dict[str, str] | None = None
) -> Iterator[Service]:
    flags = ["--bundle", str(bundle), "--port", "0", "--data-dir", str(data), "--workers", "2"]
    with subprocess.Popen(  # noqa: S603  (our own interpreter and code)
        [*COMMAND, *flags, "--log-format", "json"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (variables or {}),
    ) as process:
        try:
            yield Service(process)
        finally:
            process.send_signal(signal.SIGTERM)
            # Nothing is under way: no worker takes its time to finish.
            assert process.wait(20) == expected


@pytest.fixture(scope="module")
def service(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers on the toy bundle."""
    with _serving(toy_bundle, tmp_path_factory.mktemp("workers")) as running:
        yield running
        for pid in running.pids.values():
            os.kill(pid, 0)  # lives


def test_a_change_counts_for_the_next_request_of_every_worker(service: Service) -> None:
    """Label sets are shared through the files of the data directory."""
    path, route = "/v1/label-sets/two", "/v1/label-sets/{name}"
    service.request("PUT", path, json={"labels": ["bell"]}).raise_for_status()
    service.ask_both(path, route)  # both have read it, and keep it as read
    service.request("POST", f"{path}/labels", json={"labels": ["horn"]}).raise_for_status()
    texts = service.ask_both(path, route)
    for _ in range(20):
        texts.add(service.request("GET", path).text)
    assert {tuple(label["name"] for label in json.loads(text)["labels"]) for text in texts} == {
        ("bell", "horn")
    }


def test_metrics_are_those_of_all_workers(service: Service) -> None:
    """Whichever worker is asked."""
    before = sum(service.answered("/v2/health/live").values())
    for _ in range(30):
        service.request("GET", "/v2/health/live").raise_for_status()
    assert sum(service.answered("/v2/health/live").values()) == before + 30
    text = service.request("GET", "/metrics").text
    assert re.findall(r'ahse_worker_up{worker="(\d)"} (\d)', text) == [("0", "1"), ("1", "1")]
    assert text.count("# TYPE ahse_requests_total counter") == 1


def test_connections_that_come_together_are_shared(service: Service) -> None:
    """No worker takes all of a burst: 40 connections are open before the first asks."""
    clients = [httpx2.Client(base_url=service.url, timeout=60) for _ in range(40)]
    try:
        before = service.answered("/v1/info")
        for client in clients:
            client.get("/v1/info").raise_for_status()
        after = service.answered("/v1/info")
    finally:
        for client in clients:
            client.close()
    shares = {worker: after[worker] - before.get(worker, 0) for worker in after}
    assert sum(shares.values()) == 40
    assert set(shares) == ALL


def test_a_reload_is_for_every_worker(tmp_path: Path) -> None:
    """Also for those that are not asked; one that does not answer makes it an error."""
    bundle = tmp_path / "toy"
    with _serving(write_toy_bundle(bundle), tmp_path / "data") as service:
        shutil.rmtree(bundle)
        write_toy_bundle(bundle, version="2")
        service.request("POST", "/v1/models/toy/reload").raise_for_status()
        texts = service.ask_both("/v1/models/toy", "/v1/models/{name}")
        assert {json.loads(text)["version"] for text in texts} == {"2"}


def test_a_worker_that_hangs_is_told_and_stops_nothing_else(toy_bundle: Path, tmp_path: Path) -> None:
    """The others go on; what concerns all workers says so."""
    variables = {"AHSE_REQUEST_TIMEOUT_S": "1"}
    with _serving(toy_bundle, tmp_path, variables=variables) as service:
        os.kill(service.pids[1], signal.SIGSTOP)
        try:
            with httpx2.Client(base_url=service.url, timeout=60) as client:
                assert 'ahse_worker_up{worker="1"} 0' in client.get("/metrics").text
                assert client.post("/v1/models/toy/reload").json()["code"] == "not_ready"
                assert client.get("/v1/models").status_code == 200
        finally:
            os.kill(service.pids[1], signal.SIGCONT)


def test_a_worker_that_is_killed_is_started_again(toy_bundle: Path, tmp_path: Path) -> None:
    """The others go on meanwhile."""
    with _serving(toy_bundle, tmp_path) as service:
        killed = dict(service.pids)
        os.kill(killed[0], signal.SIGKILL)
        ended = service.wait_for("worker_ended")
        assert (ended["worker"], ended["exit_code"]) == (0, -signal.SIGKILL)
        service.request("GET", "/v2/health/ready").raise_for_status()
        assert service.wait_for("serving")["worker"] == 0
        assert service.pids[0] != killed[0]
        assert 'ahse_worker_up{worker="0"} 1' in service.request("GET", "/metrics").text


def test_a_worker_that_is_started_again_needs_a_key_that_was_revoked(
    toy_bundle: Path, tmp_path: Path
) -> None:
    """As the service does from the first key that it has seen until its end."""
    with (
        _serving(toy_bundle, tmp_path) as service,
        closing(SqliteKeyStore(tmp_path / "keys.sqlite3")) as store,
    ):
        key, _ = make_key("one", frozenset({"classify"}))
        store.create(key)
        for _ in range(100_000):  # the keys are read twice a second
            if service.request("GET", "/v1/info").status_code != 200:
                break
        store.revoke(key.id)
        for number, pid in dict(service.pids).items():
            os.kill(pid, signal.SIGKILL)
            assert service.wait_for("serving")["worker"] == number
        assert {service.request("GET", "/v1/info").status_code for _ in range(10)} == {401}


def test_workers_end_with_their_supervisor(toy_bundle: Path, tmp_path: Path) -> None:
    """Also with one that was killed: the log, which they hold open, comes to its end."""
    with _serving(toy_bundle, tmp_path, expected=-signal.SIGKILL) as service:
        service.process.kill()
        assert list(service.log)[-1]["event"].startswith("Finished server process")


def test_what_keeps_it_from_starting_is_told_once(tmp_path: Path) -> None:
    """And there is no second try."""
    ended = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [*COMMAND, "--workers", "3", "--port", "0", "--bundle", str(tmp_path), "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("ahse: ") == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, ["0", "1", "2"]), ({"CUDA_VISIBLE_DEVICES": "3,GPU-abc"}, ["3", "GPU-abc"])],
)
def test_gpus_are_those_of_the_machine_or_the_listed(
    variables: dict[str, str], expected: list[str], tmp_path: Path
) -> None:
    """Only devices with a number are GPUs; CUDA counts those that it sees from 0."""
    for name in ("nvidia10", "nvidia0", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert find_gpus(variables, tmp_path) == expected
