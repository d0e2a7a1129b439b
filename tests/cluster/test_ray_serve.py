"""The application of Ray Serve, with the configuration that we ship and HAProxy in front of it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
import yaml
from pydantic import BaseModel

from benchmarks.servers import free_port
from tests.cluster.ray_cluster import ROOT, RayCluster, ray_cluster
from tests.cluster.test_ray_bulk import PATIENCE_S, wait_until
from tests.service.serving import serving

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray (the extra ray)"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # from the import of ray.serve
]
CONFIGURATION = ROOT / "deploy" / "ray" / "serve.yaml"
KEY = "a-key-for-the-tests-of-ray"
FIELDS = {"labels": ["red low", "green high", "blue middle"]}
MAX_WAITING = 2


def shipped() -> dict[str, Any]:
    """The configuration as it is shipped."""
    read: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
    return read


@pytest.fixture(scope="module")
def variables(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of the nodes. Their ports are free ones; one clip is worked on at once, so that others wait."""
    ports = ("HAPROXY_STATS_PORT", "HAPROXY_METRICS_PORT", "FALLBACK_PROXY_HTTP_PORT")
    return {
        **{f"RAY_SERVE_{name}": str(free_port()) for name in ports},
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(CONFIGURATION.with_name("haproxy-without-splicing")),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "AHSE_API_KEY": KEY,
        "AHSE_BUNDLES": str(toy_bundle),
        "AHSE_DATA_DIR": str(tmp_path_factory.mktemp("ray_data")),
        "AHSE_CLIP_CACHE_BYTES": "0",  # the same clip is work each time
        "AHSE_DECODE_TIMEOUT_S": "120",
        "AHSE_MAX_CONCURRENCY": "1",
        "AHSE_MAX_WAITING": str(MAX_WAITING),
    }


@pytest.fixture(scope="module")
def cluster(variables: dict[str, str]) -> Iterator[RayCluster]:
    """One node."""
    with ray_cluster([2], variables) as running:
        yield running


@pytest.fixture(scope="module")
def client(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """Of the application; its configuration is the shipped one on another port, with a small replica."""
    port = free_port()
    configuration = shipped()
    configuration["http_options"]["port"] = port
    configuration["applications"][0]["args"]["processors"] = 1
    file = tmp_path_factory.mktemp("serve") / "serve.yaml"
    file.write_text(yaml.safe_dump(configuration))
    log = file.with_name("log")
    words = ["-c", "from ray.serve.scripts import cli; cli()", "run", str(file), "--address", cluster.address]
    with (
        log.open("w") as stderr,
        subprocess.Popen(  # noqa: S603  (fixed words)
            [sys.executable, *words], cwd=ROOT, env=cluster.environment, stdout=stderr, stderr=stderr
        ) as process,
    ):
        headers = {"Authorization": f"Bearer {KEY}"}
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, headers=headers) as made:
                wait_until(lambda: _is_ready(made, process, log))
                yield made
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)


def _is_ready(client: httpx2.Client, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-3000:]
    try:
        return client.get("/v2/health/ready").status_code == 200
    except httpx2.HTTPError:
        return False


def ask(client: httpx2.Client, clip: Path) -> httpx2.Response:
    """A clip for an answer."""
    with clip.open("rb") as file:
        return client.post("/v1/classify", files={"file": (clip.name, file)}, data=FIELDS)


def test_it_answers_as_the_plain_service_does(
    client: httpx2.Client, clips: dict[str, Path], toy_bundle: Path, tmp_path: Path
) -> None:
    """The same rankings to the digit; without the key nothing."""
    with serving(toy_bundle, tmp_path) as plain:
        for clip in clips.values():
            answers = [ask(one, clip).json() for one in (client, plain)]
            for answer in answers:
                del answer["id"], answer["timings_ms"]
            assert answers[0] == answers[1]
    assert client.get("/v1/models", headers={"Authorization": ""}).status_code == 401


def test_too_much_is_answered_429_by_the_service(
    client: httpx2.Client, clips: dict[str, Path], cluster: RayCluster
) -> None:
    """Its own problem with Retry-After while the decoder holds still; those that were let in are answered."""
    (decoder,) = cluster.find("service.decode.worker")
    n_let_in, n_all = 1 + MAX_WAITING, 12
    os.kill(decoder, signal.SIGSTOP)
    with ThreadPoolExecutor(n_all) as pool:
        asked = [pool.submit(ask, client, clips["red low"]) for _ in range(n_all)]
        wait_until(lambda: sum(one.done() for one in asked) == n_all - n_let_in)
        refused = [one.result() for one in asked if one.done()]
        os.kill(decoder, signal.SIGCONT)
    assert sorted(one.result().status_code for one in asked) == [200] * n_let_in + [429] * len(refused)
    for answer in refused:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"]
        assert answer.json()["code"] == "overloaded"


def test_a_client_that_leaves_is_counted_and_its_work_ends(
    client: httpx2.Client, clips: dict[str, Path], cluster: RayCluster
) -> None:
    """The decoder that works for it is killed, and another one takes its place."""
    (decoder,) = cluster.find("service.decode.worker")
    os.kill(decoder, signal.SIGSTOP)
    leaving = httpx2.Client(base_url=client.base_url, headers=client.headers, timeout=1)
    with leaving, pytest.raises(httpx2.TimeoutException):
        ask(leaving, clips["red low"])
    wait_until(lambda: decoder not in cluster.find("service.decode.worker"))
    wait_until(lambda: 'status="499"' in client.get("/metrics").text)
    assert ask(client, clips["red low"]).status_code == 200


def _surplus(data: Any, model: Any, where: str = "") -> list[str]:
    """Keys that a model of pydantic has no field for. Serve takes them without a word."""
    if isinstance(data, list):
        return [one for item in data for one in _surplus(item, model, where)]
    models = [one for one in (model, *get_args(model)) if isinstance(one, type)]
    model = next((one for one in models if issubclass(one, BaseModel)), None)
    if model is None or not isinstance(data, dict):
        return []
    found = []
    for key, value in data.items():
        if key in model.model_fields:
            annotation = model.model_fields[key].annotation
            inner = next((one for one in get_args(annotation) if isinstance(one, type)), annotation)
            found += _surplus(value, inner, f"{where}/{key}")
        else:
            found.append(f"{where}/{key}")
    return found


def test_the_shipped_configuration_has_no_key_that_serve_does_not_know() -> None:
    """By Serve's own schema, which would accept misspelt keys; and ours of `args`, which would not."""
    from ray.serve.schema import ServeDeploySchema

    from service.api.ray_serve import Options

    ServeDeploySchema.model_validate(shipped())
    assert _surplus(shipped(), ServeDeploySchema) == []
    misspelt = shipped()
    misspelt["http_options"]["prot"] = 1
    misspelt["applications"][0]["runtimeenv"] = {}
    assert _surplus(misspelt, ServeDeploySchema) == ["/http_options/prot", "/applications/runtimeenv"]
    (application,) = shipped()["applications"]
    assert application["import_path"] == "service.api.ray_serve:build"
    Options.model_validate(application["args"])


def test_what_serve_is_told_of_a_replica(monkeypatch: pytest.MonkeyPatch, toy_bundle: Path) -> None:
    """It lets in more than the replica admits, and ends none before its requests are answered."""
    from service.api.ray_serve import Options, build

    for name, value in {"RAY_SERVE_ENABLE_HA_PROXY": "1", "AHSE_BUNDLES": str(toy_bundle)}.items():
        monkeypatch.setenv(name, value)
    application = build(Options(processors=3, gpus=1, max_replicas=5))
    deployment = application._bound_deployment
    assert deployment.max_ongoing_requests == 1024
    assert deployment.max_queued_requests > 0
    assert deployment.ray_actor_options["num_cpus"] == 3
    assert deployment.ray_actor_options["num_gpus"] == 1
    scaling = deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (1, 5, 8)
    assert deployment._deployment_config.graceful_shutdown_timeout_s > 120
