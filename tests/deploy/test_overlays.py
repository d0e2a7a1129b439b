"""The objects of an overlay fit each other, the service's metrics, and docs/deployment.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.api.guard.scopes import NEEDS
from service.settings import Settings
from supply_chain.audit import read_pins
from tests.deploy.manifests import (
    KUBECTL,
    KUBERNETES,
    OVERLAYS,
    PAGE,
    ROOT,
    build,
    containers,
    image_says,
    of_kind,
    overlay,
    pod_templates,
)
from tests.integrations.series import check_names, measured_series

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="no kubectl with kustomize 5 or newer")

PROMTOOL = shutil.which("promtool")
each_overlay = pytest.mark.parametrize("name", OVERLAYS)


@each_overlay
def test_ports_are_those_that_the_images_listen_on(name: str) -> None:
    """Services and policies name ports that pods have."""
    objects = overlay(name)
    named = [one for container in containers(objects) for one in container.get("ports", [])]
    ports = {one["name"]: one["containerPort"] for one in named}
    for of_service in ("http", "serve"):
        assert ports.get(of_service, 8000) == int(image_says(r"AHSE_PORT=(\d+)"))
    for service in of_kind(objects, "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)
    for policy in of_kind(objects, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                assert port["port"] in {*ports, *ports.values(), 52365}, port  # Ray's agent on each node


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if not {"matchLabels", "matchExpressions"} & set(selector):  # that of a Service
        selector = {"matchLabels": selector}
    wanted = selector.get("matchLabels", {})
    among = selector.get("matchExpressions", [])
    assert wanted or among
    return wanted.items() <= labels.items() and all(labels.get(one["key"]) in one["values"] for one in among)


@each_overlay
def test_selectors_find_pods(name: str) -> None:
    """A wrong label would leave a policy or a budget without effect. Every pod has a policy, both ways."""
    objects = overlay(name)
    labels = [template["metadata"]["labels"] for template in pod_templates(objects)]
    for one in objects:
        for key in {"selector", "podSelector"} & set(one.get("spec", ())):
            assert any(_selects(one["spec"][key], found) for found in labels), one["metadata"]
    policies = [one["spec"] for one in of_kind(objects, "NetworkPolicy")]
    for found in labels:
        chosen = [one for one in policies if _selects(one["podSelector"], found)]
        assert chosen
        assert all(one["policyTypes"] == ["Ingress", "Egress"] for one in chosen)


def test_each_worker_of_a_bulk_job_has_its_own_shards() -> None:
    """Of as many as there are workers: fewer would leave shards out."""
    (job,) = of_kind(overlay("bulk"), "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    shard = container["args"][container["args"].index("--shard") + 1]
    assert shard == f"$(JOB_COMPLETION_INDEX)/{job['spec']['completions']}"
    assert job["spec"]["completionMode"] == "Indexed"


def test_what_overlays_share_is_in_one_file() -> None:
    """Replicas alone differ by their number, their image, and the database."""
    (alone,) = of_kind(overlay("cpu"), "StatefulSet")
    (shared,) = of_kind(overlay("postgres"), "StatefulSet")
    (variable,) = (
        one
        for one in shared["spec"]["template"]["spec"]["containers"][0]["env"]
        if one["name"] == "AHSE_STORE"
    )
    expected = yaml.safe_load(yaml.safe_dump(alone))
    expected["spec"]["replicas"] = 3
    expected["spec"]["template"]["spec"]["containers"][0]["env"].insert(0, variable)
    assert shared == expected


def test_ray_is_told_the_same_everywhere() -> None:
    """The proxy that does not hold bodies, no statistics sent, the version that is pinned, a token."""
    (service,) = of_kind(overlay("rayservice"), "RayService")
    for container in containers([service]):
        values = {one["name"]: one.get("value") for one in container["env"]}
        assert (values["RAY_SERVE_ENABLE_HA_PROXY"], values["RAY_USAGE_STATS_ENABLED"]) == ("1", "0")
    assert service["spec"]["rayClusterDeletionDelaySeconds"] > Settings().request_timeout_s
    cluster = service["spec"]["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token"}
    pinned = dict(read_pins(ROOT / "constraints.txt"))["ray"]
    assert str(pinned) == cluster["rayVersion"]


def test_all_replicas_of_ray_serve_find_room() -> None:
    """On pods of the workers; their variables are settings."""
    (service,) = of_kind(overlay("rayservice"), "RayService")
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    (workers,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    fitting = container["resources"]["limits"]["cpu"] // application["args"]["processors"]
    assert workers["replicas"] * fitting >= application["args"]["max_replicas"]
    variables = application["runtime_env"]["env_vars"]
    Settings.model_validate({name.removeprefix("AHSE_").lower(): value for name, value in variables.items()})
    assert {name.removeprefix("AHSE_").lower() for name in variables} <= set(Settings.model_fields)


def test_the_autoscaler_asks_for_what_is_measured() -> None:
    """A metric or route that was renamed would never scale anything."""
    objects = overlay("autoscaling")
    (scaled,) = of_kind(objects, "ScaledObject")
    (target,) = of_kind(objects, "StatefulSet")
    wanted = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": target["metadata"]["name"]}
    assert scaled["spec"]["scaleTargetRef"] == wanted
    assert "replicas" not in target["spec"]  # else each `kubectl apply` would set it again
    measured = measured_series()
    for trigger in scaled["spec"]["triggers"]:
        query = trigger["metadata"]["query"]
        check_names(query, measured)
        assert all(f"POST {route}" in NEEDS for route in re.findall(r'route="(.*?)"', query))


def test_the_document_ends_the_pause_of_the_autoscaler() -> None:
    """It was paused before an upgrade; replicas are not in the overlay, so else there would be none."""
    paused, goes_on = "scaledobject ahse autoscaling.keda.sh/paused=true", "autoscaling.keda.sh/paused-`"
    assert PAGE.count(goes_on) == 1
    assert PAGE.index(paused) < PAGE.index("ahse-store-upgrade --ignore-not-found") < PAGE.index(goes_on)


def test_the_ingress_passes_bodies_of_jobs() -> None:
    """Which are larger than uploads; the service itself bounds both."""
    (limit,) = re.findall(r"`proxy-body-size: (\d+)g`", PAGE)
    assert int(limit) * 2**30 >= max(Settings().max_job_bytes, Settings().max_upload_bytes)
    assert '`proxy-request-buffering: "off"`' in PAGE


def _examples() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_an_overlay_of_ones_own_changes_every_image(tmp_path: Path) -> None:
    """The example of the document, for a database and GPUs."""
    (example,) = (one for one in _examples() if "kind: Kustomization" in one)
    folder = os.path.relpath(KUBERNETES, tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(example.replace("../deploy/kubernetes", folder))
    objects = build(tmp_path)
    images = {one["image"] for one in containers(objects)}
    assert len(images) == 1
    assert images.pop().startswith("registry.example.org/")
    (replicas,) = of_kind(objects, "StatefulSet")
    (container,) = replicas["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {one["name"] for one in container["env"]} >= {"AHSE_STORE", "AHSE_API_KEY"}


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool; Debian has it in prometheus")
def test_prometheus_takes_the_queries_and_the_configuration(tmp_path: Path) -> None:
    """The queries of the autoscaler as rules; the document's way to scrape replicas, for a job named ahse."""
    (scaled,) = of_kind(overlay("autoscaling"), "ScaledObject")
    queries = [one["metadata"]["query"] for one in scaled["spec"]["triggers"]]
    assert all('job="ahse"' in query for query in queries)
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    (example,) = (one for one in _examples() if "scrape_configs" in one)
    (tmp_path / "prometheus.yml").write_text(f"rule_files: [queries.yml]\n{example}")
    (tmp_path / "ahse.key").write_text("key")
    done = subprocess.run(  # noqa: S603  (fixed arguments)
        [str(PROMTOOL), "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout
    (job,) = yaml.safe_load(example)["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(overlay("autoscaling"), "Service")}
    (port,) = services[found["names"][0].partition(".")[0]]["ports"]
    assert (job["job_name"], found["port"]) == ("ahse", port["port"])


def test_workers_of_a_bulk_job_take_gpus_as_replicas_do(tmp_path: Path) -> None:
    """By the same component, which gives the upgrade of a database none."""
    folder = os.path.relpath(KUBERNETES, tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{folder}/overlays/bulk]\ncomponents: [{folder}/components/gpu]\n"
    )
    for objects, with_gpu in ((build(tmp_path), ["ahse-bulk"]), (overlay("autoscaling"), ["ahse"])):
        found = {
            one["metadata"]["name"]: container["resources"]["limits"].get("nvidia.com/gpu")
            for kind in ("StatefulSet", "Job")
            for one in of_kind(objects, kind)
            for container in containers([one])
        }
        assert [name for name, n_gpus in found.items() if n_gpus == 1] == with_gpu
        assert {one["image"] for one in containers(objects)} == {"ahse:gpu"}


def _replicas(*jobs: str) -> list[dict[str, str]]:
    """Series of replicas with so many jobs; one that is stale is down."""
    labels = [f'{{job="ahse", instance="{number}"}}' for number in range(len(jobs))]
    up = ["1 1 0x10" if "stale" in values else "1x10" for values in jobs]
    return [
        {"series": name + of, "values": values}
        for name, all_values in (("ahse_jobs", jobs), ("up", up))
        for of, values in zip(labels, all_values, strict=True)
    ]


def test_no_replica_goes_while_jobs_are_under_way() -> None:
    """By the number of replicas: each counts 1, and Kubernetes takes the highest of what triggers ask for."""
    (scaled,) = of_kind(overlay("autoscaling"), "ScaledObject")
    (trigger,) = (one for one in scaled["spec"]["triggers"] if "ahse_jobs" in one["metadata"]["query"])
    assert trigger["metricType"] == "AverageValue"
    assert (trigger["metadata"]["threshold"], trigger["metadata"]["ignoreNullValues"]) == ("1", "false")


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool; Debian has it in prometheus")
def test_the_autoscaler_sees_load_and_silence(tmp_path: Path) -> None:
    """By Prometheus itself: rows of all replicas, seconds, or 0 where no clip is sent, and jobs under way."""
    (scaled,) = of_kind(overlay("autoscaling"), "ScaledObject")
    rows, seconds, jobs = (one["metadata"]["query"] for one in scaled["spec"]["triggers"])
    waiting = [f'ahse_rows_waiting{{job="ahse", instance="{name}", encoder="visual"}}' for name in "ab"]
    route = 'job="ahse", instance="a", route="/v1/classify"'
    slow = [
        {"series": f'ahse_request_seconds_bucket{{{route}, le="{limit}"}}', "values": f"0+{step}x10"}
        for limit, step in (("5", 0), ("10", 60), ("+Inf", 60))
    ]

    def case(series: list[dict[str, str]], query: str, value: float | None) -> dict[str, Any]:
        samples = [] if value is None else [{"value": value, "labels": "{}"}]
        expected = {"expr": query, "eval_time": "5m", "exp_samples": samples}
        return {"interval": "1m", "input_series": series, "promql_expr_test": [expected]}

    cases = [
        case([{"series": one, "values": "60x10"} for one in waiting], rows, 120),
        case(slow, seconds, 9.75),  # all between 5 and 10 s: 5 + 0.95 * 5
        case([one | {"values": "7x10"} for one in slow], seconds, 0),
        case([], seconds, 0),
        case(_replicas("0x10", "2x10", "0x10"), jobs, 3),
        case(_replicas("0x10", "0x10", "0x10"), jobs, 0),
        case(_replicas("0x10", "2 2 stale", "0x10"), jobs, 3),  # the second can't be scraped just now
        case([], jobs, None),  # nothing measured is not nothing to do
    ]
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": [], "tests": cases}))
    done = subprocess.run(  # noqa: S603  (fixed arguments)
        [str(PROMTOOL), "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
