"""`ahse info`: what is installed here, or what a service runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.answer_text import json_line
from service.cli.command_app import CommandApp
from service.cli.connection import Key, Url, connected, refuse_key_without_url
from service.cli.interrupts import exiting_at_once

if TYPE_CHECKING:
    from service.client import Client
    from service.settings import Settings

app = CommandApp()


@app.command()
def info(
    url: Url = None,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print version, bundles, devices and limits: of a service with --url, else of what is installed here."""
    refuse_key_without_url(url, key)
    with exiting_at_once():
        if url is None:
            facts = _installed()
        else:
            with connected(url, key) as client:
                facts = _of_service(client)
    typer.echo(json_line(facts) if as_json else _as_text(facts))


def _of_service(client: Client) -> dict[str, Any]:
    about, health, models = client.info(), client.health(), client.models()
    return {
        "url": client.url,
        "version": about.version,
        "ready": health.ready or health.detail,
        "bundles": [
            {"name": one.id, "version": one.version, "description": one.description, "notice": one.notice}
            for one in models
        ],
        "devices": sorted({one.provider for one in models}),
        "limits": vars(about.limits),
    }


def _installed() -> dict[str, Any]:
    import platform
    from dataclasses import fields

    from service import __version__
    from service.api.intake.body import MAX_FILES
    from service.cli.serve import read_settings
    from service.client import Limits

    settings = read_settings({})
    known = dict(settings) | {"max_files": MAX_FILES}
    return {
        "version": __version__,
        "python": platform.python_version(),
        "data_dir": str(settings.data_dir),
        "bundles": [_bundle(directory) for directory in _bundles(settings)],
        "devices": _devices(),
        "limits": {one.name: known[one.name] for one in fields(Limits)},
    }


def _bundles(settings: Settings) -> list[Any]:
    """The configured ones, and those that came with the package."""
    from service.settings import DEMO_BUNDLE, EVERYDAY_BUNDLE

    ours = [one for one in (EVERYDAY_BUNDLE, DEMO_BUNDLE) if one not in settings.bundles and one.is_dir()]
    return [*settings.bundles, *ours]


def _bundle(directory: Any) -> dict[str, Any]:
    from service.bundle.directory import read_manifest
    from service.errors import BundleInvalidError

    try:
        manifest = read_manifest(directory)
    except BundleInvalidError as error:
        return {"directory": str(directory), "error": error.message}
    named = {"name": manifest.name, "version": manifest.version, "directory": str(directory)}
    return {**named, "description": manifest.description, "notice": manifest.notice}


def _devices() -> list[str]:
    """What bundles can run on; nothing without onnxruntime, as where only `--url` is used."""
    from service.runtime.graph import available_providers
    from service.runtime.providers import USABLE

    try:
        available = available_providers()
    except ModuleNotFoundError:
        return []
    return [provider for provider in USABLE if provider in available]


def _as_text(facts: dict[str, Any]) -> str:
    lines = [f"{name:9} {value}" for name, value in facts.items() if isinstance(value, str)]
    if "ready" in facts:
        lines = [line for line in lines if not line.startswith("ready ")]
        lines.append(f"{'ready':9} {'yes' if facts['ready'] is True else facts['ready']}")
    for bundle in facts["bundles"]:
        named = f"{bundle['name']} {bundle['version']}" if "name" in bundle else bundle["directory"]
        lines.append(f"{'bundle':9} {named}: {bundle.get('description', bundle.get('error'))}")
        if bundle.get("notice"):
            lines.append(f"{'':9} {bundle['notice']}")
    devices = ", ".join(facts["devices"]) or "none: onnxruntime is not installed (pip install 'ahse[cpu]')"
    lines.append(f"{'devices':9} {devices}")
    lines += [f"{'limit':9} {name} {value}" for name, value in facts["limits"].items()]
    return "\n".join(lines)
