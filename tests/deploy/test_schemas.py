"""What the overlays make are objects that a cluster takes, with no key that it would drop."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy.make_schemas import CORE, SCHEMAS, of_custom_resource, strict
from tests.deploy.manifests import KUBECTL, OVERLAYS, SERVE_CONFIG, Manifest, of_kind, overlay

jsonschema = pytest.importorskip("jsonschema")
kubernetes = pytest.importorskip("kubernetes_validate", reason="no kubernetes-validate (extra test)")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="no kubectl with kustomize 5 or newer")

# The oldest version that has all that is used (a preStop that sleeps), and the newest with a schema.
VERSIONS = ("1.30", kubernetes.latest_version())
CUSTOM = {"RayService": "rayservice", "ScaledObject": "scaledobject"}
# Of a trigger the CRD knows only that its values are texts.
# Source: prometheusMetadata in pkg/scalers/prometheus_scaler.go of KEDA 2.20.2.
TRIGGER = {"serverAddress", "query", "threshold", "activationThreshold", "ignoreNullValues", "namespace"}


def _schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return schema


def _check(manifest: Manifest) -> None:
    """As a cluster would, and more strictly.

    Raises:
        jsonschema.ValidationError: It has another form, or a key that is not known.
    """
    if manifest["kind"] not in CUSTOM:
        for version in VERSIONS:
            kubernetes.validate(manifest, version, strict=True)
        return
    schema = _schema(CUSTOM[manifest["kind"]])
    jsonschema.Draft202012Validator(schema).validate(manifest)
    for part in _core_parts(manifest, schema):
        _check(part)
    for trigger in manifest["spec"].get("triggers", []):
        if unknown := set(trigger["metadata"]) - TRIGGER:
            raise jsonschema.ValidationError(f"unknown: {unknown}")
    if "serveConfigV2" in manifest["spec"]:
        _check_serve(yaml.safe_load(manifest["spec"]["serveConfigV2"]))


def _core_parts(value: Any, schema: dict[str, Any]) -> Iterator[Manifest]:
    """Objects of Kubernetes inside of a custom one, as objects of their own."""
    if kind := schema.get(CORE):
        content = {"template": value} if kind == "PodTemplate" else value
        yield {"apiVersion": "v1", "kind": kind, **content}
    elif isinstance(value, list):
        for one in value:
            yield from _core_parts(one, schema["items"])
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _core_parts(one, schema.get("properties", {}).get(key, {}))


def _check_serve(config: Any) -> None:
    jsonschema.Draft202012Validator(_schema("serve")).validate(config)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_of_an_overlay_is_valid(name: str) -> None:
    """By the schemas of Kubernetes, KubeRay, KEDA and Ray Serve; names of one kind differ."""
    objects = overlay(name)
    for one in objects:
        _check(one)
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(set(names)) == len(names)


def test_the_serve_configuration_is_valid_and_is_that_of_the_rayservice() -> None:
    """One file for `serve deploy` and for Kubernetes."""
    text = SERVE_CONFIG.read_text(encoding="utf-8")
    _check_serve(yaml.safe_load(text))
    (service,) = of_kind(overlay("rayservice"), "RayService")
    assert service["spec"]["serveConfigV2"] == text


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("cpu", "StatefulSet", "spec.podManagmentPolicy"),
        ("cpu", "StatefulSet", "spec.template.spec.containers.0.readinesProbe"),
        ("cpu", "NetworkPolicy", "spec.ingress.0.form"),
        ("cpu", "PodDisruptionBudget", "spec.maxUnavailble"),
        ("bulk", "Job", "spec.backofLimitPerIndex"),
        ("autoscaling", "ScaledObject", "spec.maxReplicasCount"),
        ("autoscaling", "ScaledObject", "spec.advanced.horizontalPodAutoscalerConfig.behaviour"),
        ("autoscaling", "ScaledObject", "spec.triggers.0.metadata.treshold"),
        ("rayservice", "RayService", "spec.serveConfigV3"),
        ("rayservice", "RayService", "spec.rayClusterConfig.authOptions.modes"),
        ("rayservice", "RayService", "spec.rayClusterConfig.workerGroupSpecs.0.replica"),
        ("rayservice", "RayService", "spec.rayClusterConfig.headGroupSpec.template.spec.fsGroup"),
        ("rayservice", "RayService", "spec.rayClusterConfig.workerGroupSpecs.0.template.spec.volumes.0.size"),
    ],
)
def test_a_misspelt_key_is_found(name: str, kind: str, path: str) -> None:
    """A cluster would drop it without a word."""
    manifest = copy.deepcopy(of_kind(overlay(name), kind)[0])
    _add(manifest, path)
    with pytest.raises(jsonschema.ValidationError):
        _check(manifest)


@pytest.mark.parametrize(
    "path", ["proxy_locations", "http_options.hots", "applications.0.import_paths", "applications.0.route"]
)
def test_a_misspelt_key_of_the_serve_configuration_is_found(path: str) -> None:
    """Ray Serve would ignore it."""
    config = yaml.safe_load(SERVE_CONFIG.read_text(encoding="utf-8"))
    config.setdefault("http_options", {})
    _add(config, path)
    with pytest.raises(jsonschema.ValidationError):
        _check_serve(config)


def _add(value: Any, path: str) -> None:
    *parents, key = path.split(".")
    for parent in parents:
        value = value[int(parent) if parent.isdigit() else parent]
    assert key not in value
    value[key] = "x"


def test_a_wrong_value_is_found() -> None:
    """Of a kind of Kubernetes, and of a custom one."""
    for name, kind, path, key in (
        ("cpu", "StatefulSet", ("spec",), "replicas"),
        ("rayservice", "RayService", ("spec", "rayClusterConfig", "authOptions"), "mode"),
    ):
        manifest = copy.deepcopy(of_kind(overlay(name), kind)[0])
        part = manifest
        for parent in path:
            part = part[parent]
        part[key] = "many"
        with pytest.raises(jsonschema.ValidationError):
            _check(manifest)


def test_a_strict_schema_closes_objects_and_leaves_maps_open() -> None:
    """Named keys only, however deep; free ones where the source has them; of the version that is stored."""
    source = {
        "type": "object",
        "description": "left out",
        "properties": {
            "spec": {"type": "object", "properties": {"n": {"type": "integer", "format": "int32"}}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "status": {"type": "object"},
            "free": {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    closed = strict(source)
    assert closed["additionalProperties"] is False
    assert closed["properties"]["spec"] == {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "additionalProperties": False,
    }
    assert closed["properties"]["labels"]["additionalProperties"] == {"type": "string"}
    assert "additionalProperties" not in closed["properties"]["free"]
    versions = [
        {"name": "v1", "storage": True, "schema": {"openAPIV3Schema": source}},
        {"name": "v1alpha1", "storage": False},
    ]
    names = {"group": "example.org", "names": {"kind": "Thing"}, "versions": versions}
    made = of_custom_resource({"spec": names})["properties"]
    assert (made["kind"], made["apiVersion"]) == ({"enum": ["Thing"]}, {"enum": ["example.org/v1"]})
    assert "status" not in made
