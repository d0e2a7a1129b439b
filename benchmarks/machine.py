"""Where and when something was measured."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from datetime import UTC, datetime
from pathlib import Path

from service import __version__
from service.process import n_processors

_ROOT = Path(__file__).resolve().parent.parent
_VERSIONED = (
    *("av", "onnxruntime", "onnxruntime-gpu", "nvidia-cudnn-cu13", "nvidia-cublas"),
    *("torch", "numpy", "fastapi", "uvicorn", "open-clip-torch"),
)
_EIGHT_BIT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8")


def describe_machine() -> dict[str, str]:
    """Processor, system, date and versions; nothing that names the machine itself."""
    facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    known = {key.strip(): value.strip() for key, value in facts.items()}
    flags = known.get("flags", "").split()
    versions = [f"{name} {version}" for name in _VERSIONED if (version := _version(name))]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": known.get("model name", platform.machine()),
        "cores": str(n_processors()),
        "8-bit products": ", ".join(flag for flag in _EIGHT_BIT_PRODUCTS if flag in flags) or "none",
        "python": platform.python_version(),
        "versions": ", ".join(versions),
        "service": f"{__version__}, sources {sources_digest(_ROOT / 'service')}",
    }


def sources_digest(*folders: Path) -> str:
    """What tells one state of the code in some folders from another."""
    digest = hashlib.sha256()
    for source in sorted(file for folder in folders for file in folder.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _version(name: str) -> str:
    """Of a package; empty: this environment does not have it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
