"""The parts of a bundle, and how they are written as one directory."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from service import __version__
from service.bundle.directory import write_bundle
from service.bundle.head_specs import AhseSpec, SimilaritySpec
from service.bundle.manifest import FORMAT_VERSION, AudioEncoderSpec, ImageEncoderSpec, KnownNames, Manifest
from service.bundle.provenance import GraphCheck, Licence, Metric, Provenance, Source

_VERSIONED = (
    *("torch", "onnx", "tokenizers", "numpy"),
    # The encoders' own code.
    *("open-clip-torch", "timm", "laion-clap", "transformers"),
)


@dataclass(frozen=True)
class EncoderParts:
    """The encoders' part of a bundle.

    Attributes:
        visual: Manifest of the image encoder and its text encoder.
        audio: Manifest of the audio encoder and its text encoder.
        write: Writes graphs and tokenizers into a directory; returns how each graph was checked, by its name.
        licences: Licences of the weights.
        sources: The files that weights, settings and tokenizers are from.
        known_names: When names get a warning, where the shared text encoder gives nearness to known names.
        texts: Further text files that go with the encoders, such as their licences, by name.
        versions: Of the packages that read the sources, by name; None: of those that are installed here.
    """

    visual: ImageEncoderSpec
    audio: AudioEncoderSpec
    write: Callable[[Path], dict[str, GraphCheck]]
    licences: tuple[Licence, ...]
    sources: tuple[Source, ...] = ()
    known_names: KnownNames | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] | None = None


@dataclass(frozen=True)
class HeadParts:
    """The head's part of a bundle.

    Attributes:
        facts: Manifest of the head.
        seen_classes: Classes that it was trained on; their distances get beta.
        write: Writes its files into a directory; returns how each graph was checked, by its name.
    """

    facts: AhseSpec | SimilaritySpec
    seen_classes: tuple[str, ...]
    write: Callable[[Path], dict[str, GraphCheck]]


@dataclass(frozen=True)
class BundleFacts:
    """What the manifest says besides the models.

    Attributes:
        name: Name by which requests choose the bundle.
        version: Version of the weights.
        description: One sentence.
        unseen_classes: Classes that the metrics call unseen.
        metrics: Measured numbers.
        command: Command that makes the bundle again.
        seed: Seed of everything random in it, if anything is.
        data: What the weights were trained on.
        card: Text of MODEL_CARD.md.
        notice: What everybody who reads an answer must know.
        created: When it was made; None for now.
    """

    name: str
    version: str
    description: str
    unseen_classes: tuple[str, ...]
    metrics: tuple[Metric, ...]
    command: str
    seed: int | None
    data: str
    card: str
    notice: str | None = None
    created: datetime | None = None


def export_bundle(directory: Path, encoders: EncoderParts, head: HeadParts, facts: BundleFacts) -> None:
    """Write a bundle with all graphs checked against torch; if a check fails, nothing is written.

    Raises:
        ParityError: A graph does not compute what torch computes.
    """
    parity: dict[str, GraphCheck] = {}

    def fill(aside: Path) -> None:
        parity.update(encoders.write(aside))
        parity.update(head.write(aside))
        for name, text in {"MODEL_CARD.md": facts.card, **encoders.texts}.items():
            (aside / name).write_text(text, encoding="utf-8")

    write_bundle(directory, fill, lambda files: _manifest(encoders, head, facts, parity, files))


def _manifest(
    encoders: EncoderParts,
    head: HeadParts,
    facts: BundleFacts,
    parity: dict[str, GraphCheck],
    files: dict[str, str],
) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name=facts.name,
        version=facts.version,
        description=facts.description,
        notice=facts.notice,
        requires_service=".".join(__version__.split(".")[:3]),  # without .dev0
        visual=encoders.visual,
        audio=encoders.audio,
        known_names=encoders.known_names,
        head=head.facts,
        seen_classes=head.seen_classes,
        unseen_classes=facts.unseen_classes,
        metrics=facts.metrics,
        provenance=Provenance(
            created=facts.created or datetime.now(UTC).replace(microsecond=0),
            command=facts.command,
            seed=facts.seed,
            data=facts.data,
            versions=_versions() if encoders.versions is None else dict(encoders.versions),
            sources=encoders.sources,
            parity=parity,
        ),
        licences=encoders.licences,
        files=files,
    )


def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in _VERSIONED}
    for name in ("onnxruntime", "onnxruntime-gpu"):  # one of the two is installed
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
