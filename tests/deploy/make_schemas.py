"""Makes the strict schemas in schemas/ from what KubeRay, KEDA and Ray publish; all three are Apache-2.0.

    python -m tests.deploy.make_schemas rayservice ray.io_rayservices.yaml
    python -m tests.deploy.make_schemas scaledobject keda.sh_scaledobjects.yaml
    python -m tests.deploy.make_schemas serve             # with the package ray

An object may have no other keys than those that are named. A cluster drops keys that it does not know, and
Ray Serve ignores them: a misspelt one would have no effect, and make no error. Left out are descriptions,
defaults, the status, rules in CEL, and what is an object of Kubernetes itself: `CORE` says of which kind, so
that it can be compared with Kubernetes' own schemas.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

SCHEMAS = Path(__file__).parent / "schemas"
CORE = "x-core"
_SOURCES = {
    "rayservice": "ray-operator/config/crd/bases/ray.io_rayservices.yaml of ray-project/kuberay v1.7.0",
    "scaledobject": "config/crd/bases/keda.sh_scaledobjects.yaml of kedacore/keda v2.20.2",
    "serve": "ray.serve.schema.ServeDeploySchema of ray-project/ray 2.60.0",
}
_KEPT = ("$ref", "type", "enum", "required", "minimum", "exclusiveMinimum", "maximum", "minLength", "pattern")


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that knows the same keys and allows no others."""
    if kind := _core_kind(schema):
        return {"type": "object", CORE: kind}
    kept: dict[str, Any] = {key: schema[key] for key in _KEPT if key in schema}
    for key, value in schema.items():
        if key in ("anyOf", "oneOf", "allOf"):
            kept[key] = [strict(one) for one in value]
        elif key in ("properties", "$defs"):
            kept[key] = {name: strict(one) for name, one in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            kept[key] = strict(value)
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        kept["additionalProperties"] = False
    return kept


def _core_kind(schema: dict[str, Any]) -> str:
    """The kind of an object of Kubernetes that stands whole in a custom resource; empty: it is none."""
    names = set(schema.get("properties", {}))
    spec = set(schema.get("properties", {}).get("spec", {}).get("properties", {}))
    if {"metadata", "spec"} <= names and "containers" in spec:
        return "PodTemplate"
    return "Service" if {"apiVersion", "kind", "spec"} <= names and "clusterIPs" in spec else ""


def of_custom_resource(definition: dict[str, Any]) -> dict[str, Any]:
    """The schema of the version of a custom resource that is stored."""
    (version,) = (one for one in definition["spec"]["versions"] if one["storage"])
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"].update(
        kind={"enum": [definition["spec"]["names"]["kind"]]},
        apiVersion={"enum": [f"{definition['spec']['group']}/{version['name']}"]},
    )
    schema["properties"].pop("status", None)
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return schema


def main(name: str, *paths: str) -> None:
    """Write one schema."""
    if name == "serve":
        from ray.serve.schema import ServeDeploySchema

        schema = strict(ServeDeploySchema.model_json_schema())
    else:
        schema = of_custom_resource(yaml.safe_load(Path(paths[0]).read_text(encoding="utf-8")))
    comment = f"Apache-2.0. Reduced by tests/deploy/make_schemas.py from {_SOURCES[name]} (github.com)."
    text = json.dumps({"$comment": comment, **schema}, separators=(",", ":"), sort_keys=True)
    (SCHEMAS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
