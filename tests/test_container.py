"""The container's files agree with each other and with the tree; `make images` tries the images."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import service
from service.settings import DEMO_BUNDLE, EVERYDAY_BUNDLE, Settings

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SCRIPT = ROOT / "docker" / "build_and_try.sh"
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Of clips at 1080p on two processors (docs/deployment.md, Sizing).
MEMORY_BYTES = 2_000_000_000


def _found(pattern: str, text: str) -> list[str]:
    return re.findall(pattern, text, flags=re.MULTILINE)


def test_what_the_image_copies_is_there_and_reaches_the_build() -> None:
    """A renamed folder, or one that .dockerignore keeps out, would end the build."""
    allowed = [Path(name) for name in _found(r"^!(.+)$", (ROOT / ".dockerignore").read_text())]
    sources = [name for line in _found(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE) for name in line.split()]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(name.is_relative_to(source) for name in allowed), source
    for bundle in (EVERYDAY_BUNDLE, DEMO_BUNDLE):
        assert bundle.relative_to(ROOT) in allowed


def test_the_image_is_built_with_the_installer_that_the_makefile_pins() -> None:
    """One version of uv everywhere, as the resolver decides what constraints.txt means."""
    assert _found(r"uv==([\d.]+)", DOCKERFILE) == _found(
        r"^UV_VERSION := (.+)$", (ROOT / "Makefile").read_text()
    )


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_each_image_takes_its_own_extra_by_hash(extra: str) -> None:
    """Every package comes from constraints.txt, by hash, and as a wheel: there is no compiler."""
    (line,) = _found(rf"uv pip install .*--extra {extra} \\\n.*EXTRAS", DOCKERFILE)
    assert {"--require-hashes", "--only-binary :all:", "--constraint constraints.txt"} <= set(
        re.findall(r"--\S+(?: [^-\s]\S*)?", line)
    )


def test_compose_builds_targets_that_exist() -> None:
    """Both profiles, and no other stage."""
    targets = _found(r"build: \{context: \., target: (\w+)\}", (ROOT / "compose.yaml").read_text())
    assert targets == ["cpu", "gpu"]
    assert set(targets) <= set(_found(r"^FROM runtime AS (\w+)$", DOCKERFILE))


def test_both_images_have_the_same_further_extras() -> None:
    """Extras that exist; the bill of materials lists what they bring along."""
    (extras,) = _found(r'^ARG EXTRAS="(.*)"$', DOCKERFILE)
    assert set(extras.split()) <= set(PROJECT["optional-dependencies"])
    assert len(_found(r"^ARG EXTRAS$", DOCKERFILE)) == 2
    printed = subprocess.run(
        ["make", "--dry-run", "sbom", "EXTRA=gpu"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert _found(r"--extra (\w+)", printed.stdout) == ["gpu", *extras.split()]


def test_labels_say_what_the_project_says() -> None:
    """Of both images; a version that was raised is raised there too."""
    labels = re.findall(r'org\.opencontainers\.image\.(\w+)="(.*)"', DOCKERFILE.split(" AS runtime")[1])
    assert dict(labels) == {
        "title": PROJECT["name"],
        "description": PROJECT["description"],
        "licenses": PROJECT["license"],
        "version": service.__version__,
    }


def test_the_images_name_the_authorities_that_they_install() -> None:
    """For a database with `sslrootcert=system` (tests/service/postgres/test_tls.py)."""
    (authorities,) = _found(r" SSL_CERT_FILE=(\S+)$", DOCKERFILE.split(" AS runtime")[1])
    assert authorities == "/etc/ssl/certs/ca-certificates.crt"  # of Debian's package
    assert "install --yes --no-install-recommends ca-certificates" in DOCKERFILE.split(" AS build")[0]


def test_the_gpu_image_asks_for_gpus_by_itself() -> None:
    """For the runtime that is not told of them; the cpu image must not take any."""
    before, gpu = DOCKERFILE.split("FROM runtime AS gpu")
    assert "NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility" in gpu
    assert "NVIDIA" not in before


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_uploads_fit_into_the_memory_of_a_composed_service(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in a tmpfs, which counts for the limit. All variables are settings with valid values."""
    composed = COMPOSE["services"][name]
    for variable, value in composed["environment"].items():
        assert variable.removeprefix("AHSE_").lower() in Settings.model_fields
        if not str(value).startswith("${"):
            monkeypatch.setenv(variable, str(value))
    (tmpfs,) = composed["tmpfs"]
    (megabytes,) = _found(r"^/tmp:size=(\d+)m", tmpfs)
    assert Settings().max_bytes_on_disk < int(megabytes) * 2**20
    (gigabytes,) = _found(r"^(\d+)g$", composed["mem_limit"])
    assert int(megabytes) * 2**20 + MEMORY_BYTES < int(gigabytes) * 2**30


def test_the_script_makes_the_base_that_the_image_is_built_from() -> None:
    """Else the stand-in is not used, and the build ends for want of a base."""
    script = SCRIPT.read_text()
    (suite,) = _found(r"^suite=(\w+)$", script)
    assert f"FROM debian:{suite}-slim AS python" in DOCKERFILE
    assert "base=docker.io/library/debian:$suite-slim" in script


def test_the_script_can_be_read_by_bash() -> None:
    """Only read: it needs root, buildah and minutes."""
    subprocess.run(["bash", "-n", SCRIPT], check=True)  # noqa: S603, S607  (our own script)


def test_the_wheel_keeps_bundles_inside_the_service_package() -> None:
    """Where the settings look for them; nothing else lands beside the two packages."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["service", "model_export"]
    bundles = {path.relative_to(ROOT).as_posix() for path in (ROOT / "weights").iterdir() if path.is_dir()}
    assert wheel["force-include"] == {bundle: f"service/{bundle}" for bundle in bundles}


def test_the_first_process_collects_those_that_were_left_behind() -> None:
    """Decoders of a worker that was killed would else be in the container's table of processes for ever."""
    (entrypoint,) = _found(r"^ENTRYPOINT (.+)$", DOCKERFILE)
    assert entrypoint == '["tini", "--"]'
    runtime = DOCKERFILE[: DOCKERFILE.index(" AS build")]
    assert "tini" in " ".join(_found(r"apt-get install (.+) \\$", runtime)).split()
