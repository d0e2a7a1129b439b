"""Pods fit the service, its images, and what docs/deployment.md says of them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from service.api.guard.scopes import NEEDS
from service.cli.commands import app
from service.cli.server import GRACE_S
from service.settings import Settings
from tests.deploy.manifests import (
    DOCKERFILE,
    KUBECTL,
    OVERLAYS,
    PAGE,
    ROOT,
    Manifest,
    containers,
    image_says,
    n_bytes,
    of_kind,
    overlay,
    pod_templates,
)

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="no kubectl with kustomize 5 or newer")

each_overlay = pytest.mark.parametrize("name", OVERLAYS)
# Of a service besides its decoding processes (docs/deployment.md, Sizing).
SERVICE_BYTES = 2 * 2**30


@each_overlay
def test_variables_are_settings_with_valid_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is no setting has no effect; a wrong value would keep the service from starting."""
    secret = {f"AHSE_{one.upper()}" for one in ("api_key", "store")}
    for container in containers(overlay(name)):
        variables = {one["name"]: one for one in container.get("env", [])}
        ours = {one for one in variables if one.startswith("AHSE_")}
        assert ours <= {f"AHSE_{field.upper()}" for field in Settings.model_fields}
        for variable in ours:
            assert ("value" in variables[variable]) != (variable in secret), variable
            if "value" in variables[variable]:
                monkeypatch.setenv(variable, variables[variable]["value"])
        Settings()


@each_overlay
def test_secrets_are_those_that_the_document_has_one_make(name: str) -> None:
    """By reference, and never optional: without a key the service would not start."""
    (command,) = re.findall(r"kubectl create secret generic (.*?)\n(?!  )", PAGE, re.DOTALL)
    secret, *words = shlex.split(command.replace("\\\n", " "))
    keys = {word.removeprefix("--from-literal=").partition("=")[0] for word in words}
    for container in containers(overlay(name)):
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                assert reference == {"name": secret, "key": reference["key"]}
                assert reference["key"] in keys


@each_overlay
def test_pods_have_no_rights(name: str) -> None:
    """The restricted level of Kubernetes' pod security standards, nothing writable, no token of a cluster."""
    uid = int(image_says(r"--uid (\d+)"))
    assert DOCKERFILE.count(f"USER {uid}") == 1
    templates = list(pod_templates(overlay(name)))
    assert templates
    for template in templates:
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert (
            pod["securityContext"].items()
            >= {
                "runAsNonRoot": True,
                "runAsUser": uid,
                "fsGroup": uid,
                "seccompProfile": {"type": "RuntimeDefault"},
            }.items()
        )
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@each_overlay
def test_services_set_no_variables(name: str) -> None:
    """A Service named ahse would set AHSE_PORT to tcp://..., with which the service does not start."""
    for template in pod_templates(overlay(name)):
        assert template["spec"]["enableServiceLinks"] is False
    with pytest.raises(ValueError, match="port"):
        Settings.model_validate({"port": "tcp://10.0.0.1:80"})


@each_overlay
def test_every_container_has_limits_and_room_for_uploads(name: str) -> None:
    """Temporary files are on disk; all uploads at once fit, and are within what a container may use."""
    for template in pod_templates(overlay(name)):
        volumes = {one["name"]: one for one in template["spec"]["volumes"]}
        for container in template["spec"]["containers"]:
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"])
            limits = resources["limits"]
            assert n_bytes(resources["requests"]["memory"]) <= n_bytes(limits["memory"])
            (tmp,) = (one for one in container["volumeMounts"] if one["mountPath"] == "/tmp")  # noqa: S108
            directory = volumes[tmp["name"]]["emptyDir"]
            assert "medium" not in directory
            assert n_bytes(directory["sizeLimit"]) > Settings().max_bytes_on_disk
            if "ephemeral-storage" in limits:
                assert n_bytes(limits["ephemeral-storage"]) > n_bytes(directory["sizeLimit"])


def _decoders_bytes(n_decoders: int, settings: Settings, *, with_jobs: bool) -> int:
    """What all decoding processes may take: those of jobs, one for every four, are besides (JobRunner)."""
    n_of_jobs = max(1, n_decoders // 4) if with_jobs else 0
    return (n_decoders + n_of_jobs) * settings.decode_memory_bytes


@each_overlay
def test_decoding_processes_fit_into_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are processors, whatever clips they have, beside the service and what is in memory."""
    objects = overlay(name)
    heads = [one["spec"]["rayClusterConfig"]["headGroupSpec"] for one in of_kind(objects, "RayService")]
    assert all(head["rayStartParams"]["num-cpus"] == "0" for head in heads)  # nothing is decoded there
    templates = [one for one in pod_templates(objects) if one not in [head["template"] for head in heads]]
    assert templates
    for template in templates:
        for container in template["spec"]["containers"]:
            if container.get("args") == ["ahse", "store", "upgrade"]:
                continue
            for variable in container["env"]:
                if "value" in variable:
                    monkeypatch.setenv(variable["name"], variable["value"])
            limits = container["resources"]["limits"]
            in_memory = [
                n_bytes(one["emptyDir"]["sizeLimit"])
                for one in template["spec"]["volumes"]
                if one.get("emptyDir", {}).get("medium") == "Memory"
            ]
            of_decoders = _decoders_bytes(limits["cpu"], Settings(), with_jobs="args" not in container)
            assert of_decoders + SERVICE_BYTES + sum(in_memory) <= n_bytes(limits["memory"])


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_decoding_processes_fit_into_the_memory_of_a_composed_service(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their number is set: a limit on processors would keep Docker from starting where there are fewer."""
    composed = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"][name]
    for variable in ("AHSE_DECODE_WORKERS", "AHSE_DECODE_MEMORY_BYTES"):
        monkeypatch.setenv(variable, str(composed["environment"][variable]))
    (megabytes,) = re.findall(r"^/tmp:size=(\d+)m", composed["tmpfs"][0])
    of_decoders = _decoders_bytes(Settings().decode_workers, Settings(), with_jobs=True)
    limit = n_bytes(composed["mem_limit"].replace("g", "Gi"))
    assert of_decoders + SERVICE_BYTES + int(megabytes) * 2**20 <= limit


@each_overlay
def test_volumes_and_mounts_belong_together(name: str) -> None:
    """Each mount has its volume, each volume is mounted, and data are where the image keeps them."""
    objects = overlay(name)
    for template in pod_templates(objects):
        volumes = {one["name"] for one in template["spec"]["volumes"]}
        mounts = {mount["name"] for one in template["spec"]["containers"] for mount in one["volumeMounts"]}
        claims = {one["name"] for one in _claims(objects)} if "data" in mounts - volumes else set()
        assert mounts == volumes | claims
    for one in of_kind(objects, "StatefulSet"):
        (claim,) = one["spec"]["volumeClaimTemplates"]
        assert n_bytes(claim["spec"]["resources"]["requests"]["storage"]) > Settings().max_job_bytes
        (container,) = one["spec"]["template"]["spec"]["containers"]
        paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert paths["data"] == image_says(r"AHSE_DATA_DIR=(\S+)")


def _claims(objects: list[Manifest]) -> list[Manifest]:
    sets = of_kind(objects, "StatefulSet")
    return [claim["metadata"] for one in sets for claim in one["spec"]["volumeClaimTemplates"]]


@each_overlay
def test_probes_ask_addresses_that_need_no_key(name: str) -> None:
    """On ports that the container names. Ray's own proxy has its own address."""
    for container in containers(overlay(name)):
        ports = {one["name"] for one in container.get("ports", [])}
        probes = [value["httpGet"] for key, value in container.items() if key.endswith("Probe")]
        for probe in probes:
            assert probe["port"] in ports
            assert probe["path"] == "/-/healthz" or NEEDS[f"GET {probe['path']}"] == "nothing"
        if "http" in ports:
            assert len(probes) == 3


@each_overlay
def test_requests_have_time_to_finish(name: str) -> None:
    """The balancers' time to notice, and then what the service gives running requests."""
    for template in pod_templates(overlay(name)):
        for container in template["spec"]["containers"]:
            if "lifecycle" in container:
                sleep_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
                assert template["spec"]["terminationGracePeriodSeconds"] > sleep_s + GRACE_S


@each_overlay
def test_images_are_those_that_are_built(name: str) -> None:
    """By compose.yaml, or by a command of the document."""
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    built = {one["image"] for one in compose["services"].values()}
    built |= set(re.findall(r"docker build -t (\S+)", PAGE))
    assert {one["image"] for one in containers(overlay(name))} <= built


@each_overlay
def test_commands_are_commands_of_ours(name: str) -> None:
    """With options that they have; without one the image's own is run. Its entrypoint stays, tini."""
    for container in containers(overlay(name)):
        assert "command" not in container
        if "args" in container:
            program, *words = container["args"]
            assert program == "ahse"
            command: Any = typer.main.get_command(app)
            with command.make_context("ahse", words, resilient_parsing=True) as context:
                while hasattr(command, "get_command"):
                    command = command.get_command(context, words.pop(0))
                    assert command is not None
                command.make_context(command.name, words, parent=context).close()


def test_the_pods_of_ray_run_the_wrapper_that_is_mounted() -> None:
    """HAProxy as Ray Serve starts it does not notice clients that leave (docs/ray.md)."""
    objects = overlay("rayservice")
    (config,) = (one for one in of_kind(objects, "ConfigMap") if one["metadata"]["name"] == "ahse-haproxy")
    for template in pod_templates(of_kind(objects, "RayService")):
        (volume,) = (one for one in template["spec"]["volumes"] if "configMap" in one)
        assert volume["configMap"]["name"] == "ahse-haproxy"
        assert volume["configMap"]["defaultMode"] & 0o111
        for container in template["spec"]["containers"]:
            (mount,) = (one for one in container["volumeMounts"] if one["name"] == volume["name"])
            named = {one["name"]: one.get("value") for one in container["env"]}
            path = Path(str(named["RAY_SERVE_HAPROXY_BINARY_PATH"]))
            assert str(path.parent) == mount["mountPath"]
            assert path.name in config["data"]
