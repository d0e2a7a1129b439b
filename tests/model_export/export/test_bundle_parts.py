"""From a trained head to a served ranking: the service computes what torch computes."""

from __future__ import annotations

import importlib.metadata
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from model_export.errors import ParityError, RunError
from model_export.export import head_parts
from model_export.export.bundle_parts import BundleFacts, EncoderParts, HeadParts, export_bundle
from model_export.export.graph_export import export_graph
from model_export.export.head_parts import STATISTICS_FILE, trained_head
from model_export.head.calibration import Calibration, Calibrations
from model_export.head.distances import embedding_distances, raw_distances
from model_export.head.head_config import HeadConfig, Standardisation
from model_export.head.methods.clip_clap import ClipClap
from model_export.head.run_folder import DataIdentity, Run, RunConfig
from model_export.head.stage_tensors import Clips, Texts
from model_export.head.standardisation import Statistics
from service.bundle.directory import read_manifest
from service.bundle.guarantees import Guarantees
from service.bundle.head_specs import AgreementScore, AhseSpec, Certificate
from service.bundle.provenance import GraphCheck
from service.encode.features import ClipFeatures, TextFeatures
from service.head.head import cosines_of
from service.registry import load_bundle
from service.runtime.providers import Runtime

FACTS = BundleFacts("mine", "1", "For a test.", ("b",), (), "pytest", 0, "random weights", "# card")
CERTIFICATE = Certificate(
    is_open=True,
    gain=2.0,
    low=0.5,
    high=3.5,
    frozen_harmonic_mean=60.0,
    n_seen_classes=12,
    n_unseen_classes=11,
    n_clips=70,
    text_p=0.005,
    data="validation clips of a test",
    measured=date(2026, 1, 2),
)
AGREEMENT = AgreementScore(visual_temperature=0.1, audio_temperature=0.2, threshold=0.3, scale=0.4)
STORED = Calibration(
    raw_weight=0.3,
    visual_share=0.25,
    beta=0.5,
    temperature=0.7,
    unknown_threshold=1.0,
    unknown_scale=0.2,
    seen=0,
    unseen=0,
    harmonic_mean=0,
    zsl=0,
    certificate=CERTIFICATE,
)


def _run(folder: Path, mode: Standardisation, n_visual: int = 3, n_audio: int = 3) -> Run:
    """A head with random weights and random statistics; modes that store nothing have mean 0 and std 1."""
    torch.manual_seed(0)
    config = HeadConfig(standardisation=mode, raw_fusion=True)
    network = ClipClap(config, n_visual, n_audio).eval()
    spread = float(mode in ("per_dimension", "stored_then_sample"))
    parts = [part for _ in range(2) for part in (spread * torch.randn(64), 1 + spread * torch.rand(64))]
    parts += [normalize(torch.randn(n), dim=0) for n in (n_visual, n_audio)]
    parts += [0.2 * torch.randn(n) for n in (n_visual, n_audio, n_visual, n_audio)]
    data = DataIdentity(
        name="d", simulated=True, n_visual=n_visual, n_audio=n_audio, seen_classes=("a",), fingerprint="f"
    )
    calibrations = Calibrations(embedding=STORED, fused=STORED, raw=STORED)
    return Run(folder, RunConfig(head=config, data=data), network, Statistics(*parts), calibrations)


@pytest.mark.parametrize(
    "certificate", [None, CERTIFICATE.model_copy(update={"is_open": False, "low": -0.5})]
)
def test_a_head_without_a_certificate_that_it_helps_is_refused(
    tmp_path: Path, certificate: Certificate | None
) -> None:
    """With what is known of it and what to do; one that is left out of the ranking may be exported."""
    run = _run(tmp_path, "none")
    doubtful = STORED.model_copy(update={"certificate": certificate})
    claims = Calibrations(embedding=STORED, fused=doubtful, raw=STORED)
    with pytest.raises(RunError, match=r"nothing shows that it does no harm \(.*raw_weight=validated"):
        trained_head(replace(run, calibrations=claims))
    without = doubtful.model_copy(update={"raw_weight": 1.0})
    left_out = replace(run, calibrations=Calibrations(embedding=STORED, fused=without, raw=STORED))
    assert trained_head(left_out).facts.calibrations.both.raw_weight == 1  # type: ignore[union-attr]


def test_the_manifest_has_the_certificate(exported: Path) -> None:
    """In numbers, and in words for people."""
    head = read_manifest(exported).head
    assert isinstance(head, AhseSpec)
    assert head.calibrations.both.certificate == CERTIFICATE
    assert CERTIFICATE.in_words == (
        "the head brings +2.0 HM [+0.5, +3.5] on 60.0 (70 validation clips of a test, 12 seen and 11 unseen "
        "classes, 2026-01-02)"
    )


def test_the_bundle_has_what_was_measured_of_agreement_and_promises(exported: Path) -> None:
    """The service reads both."""
    bundle = load_bundle(exported, Runtime(device="cpu"))
    assert bundle.head.agreement == AGREEMENT
    assert bundle.guarantees == Guarantees(data="clips", limits=())


def _parts(toy: Path) -> EncoderParts:
    """The toy bundle's encoders."""
    manifest = read_manifest(toy)
    names = ["visual.onnx", "audio.onnx", "text_visual.onnx", "text_audio.onnx", "tokenizer.json"]

    def write(folder: Path) -> dict[str, GraphCheck]:
        for name in names:
            shutil.copyfile(toy / name, folder / name)
        return {}

    return EncoderParts(manifest.visual, manifest.audio, write, manifest.licences)


@pytest.fixture(scope="module")
def exported(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an exported head. Don't change it."""
    folder = tmp_path_factory.mktemp("exported")
    run = _run(folder, "per_sample")
    told = replace(
        run,
        calibrations=run.calibrations.model_copy(update={"agreement": AGREEMENT}),
        guarantees=Guarantees(data="clips", limits=()),
    )
    export_bundle(folder / "mine", _parts(toy_bundle), trained_head(told), FACTS)
    return folder / "mine"


def _with_graphs_of(exported: Path, run: Run) -> HeadParts:
    """The head of a run whose network has the same weights, so that it needs no export of its own."""

    def write(folder: Path) -> dict[str, GraphCheck]:
        for name in ("head_av.onnx", "head_text.onnx"):
            shutil.copyfile(exported / name, folder / name)
        run.statistics.save(folder / STATISTICS_FILE)
        return {}

    return replace(trained_head(run), write=write)


@pytest.mark.parametrize("mode", ["none", "per_dimension", "per_sample", "stored_then_sample"])
def test_served_distances_are_torchs(
    toy_bundle: Path, exported: Path, tmp_path: Path, mode: Standardisation
) -> None:
    """Head in ONNX, statistics and fusion in numpy, against torch throughout; missing tracks included."""
    run = _run(tmp_path, mode)
    export_bundle(tmp_path / "mine", _parts(toy_bundle), _with_graphs_of(exported, run), FACTS)
    bundle = load_bundle(tmp_path / "mine", Runtime(device="cpu"))
    random = np.random.default_rng(1)

    def unit(n: int) -> np.ndarray:
        rows = random.normal(size=(n, 3)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)  # type: ignore[no-any-return]

    clips, texts = (unit(6), unit(6)), TextFeatures(unit(9), unit(9))
    clips[0][4], clips[1][5] = 0, 0
    rows = (torch.from_numpy(clips[0]), torch.from_numpy(clips[1]))
    tensors = Clips(*rows, torch.zeros(6, dtype=torch.int64))
    names = Texts(torch.from_numpy(texts.visual), torch.from_numpy(texts.audio))
    expected = 0.7 * embedding_distances(run.network, mode, run.statistics, tensors, names)
    expected = expected + 0.3 * raw_distances(run.statistics, tensors, names, 0.25)
    ranker = bundle.head
    z = ranker.embed_names(texts)
    for row in range(6):
        visual, audio = (side[row] if side[row].any() else None for side in clips)
        clip = ClipFeatures(visual, audio)
        found = ranker.distances(ranker.embed_clip(clip), cosines_of(clip, texts), z)
        np.testing.assert_allclose(found, expected[row].numpy(), rtol=1e-4, atol=1e-4)


def test_the_manifest_says_what_was_exported(exported: Path) -> None:
    """Calibration, seen classes, and each graph's measured difference to torch, at most 1e-5."""
    manifest = read_manifest(exported)
    assert manifest.seen_classes == ("a",)
    assert isinstance(manifest.head, AhseSpec)
    assert manifest.head.calibrations.both.temperature == 0.7
    assert manifest.provenance.parity.keys() == {"head_av", "head_text"}
    assert all(check.difference <= check.tolerance == 1e-5 for check in manifest.provenance.parity.values())
    assert {"torch", "onnxruntime"} <= manifest.provenance.versions.keys()


def test_either_build_of_onnxruntime_will_do(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with a GPU the other one is installed; the manifest names it."""
    installed = importlib.metadata.version

    def version(name: str) -> str:
        if name == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.31.1" if name == "onnxruntime-gpu" else installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    run = _run(tmp_path / "run", "none")
    export_bundle(tmp_path / "mine", _parts(toy_bundle), trained_head(run), FACTS)
    versions = read_manifest(tmp_path / "mine").provenance.versions
    assert "onnxruntime" not in versions
    assert versions["onnxruntime-gpu"] == "1.31.1"


def test_a_bundle_needs_the_release_whose_development_version_wrote_it(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version's last part says nothing of what the service can do; it opens its own bundles."""
    for module in ("model_export.export.bundle_parts", "service.bundle.directory"):
        monkeypatch.setattr(f"{module}.__version__", "0.2.0.dev0")
    head = trained_head(_run(tmp_path / "run", "none"))
    export_bundle(tmp_path / "mine", _parts(toy_bundle), head, FACTS)
    assert read_manifest(tmp_path / "mine").requires_service == "0.2.0"


def test_a_graph_that_differs_is_refused_and_leaves_nothing(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parity is a gate."""
    monkeypatch.setattr(head_parts, "HEAD_TOLERANCE", -1.0)
    run = _run(tmp_path / "run", "none")
    with pytest.raises(ParityError, match=r"head_av\.onnx differs from torch"):
        export_bundle(tmp_path / "mine", _parts(toy_bundle), trained_head(run), FACTS)
    assert list(tmp_path.iterdir()) == []


class _LosesItsEpsilon(torch.nn.Module):
    """Divides by a root whose summand the exporter takes for zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / torch.sqrt((x * x).mean(dim=1, keepdim=True) + 1e-8)


def test_a_graph_that_fails_on_silence_only_is_refused(tmp_path: Path) -> None:
    """Random inputs alone would let it pass."""
    with pytest.raises(ParityError, match="differs from torch by nan"):
        export_graph(_LosesItsEpsilon(), {"x": torch.randn(3, 4)}, ["y"], tmp_path / "g.onnx", tolerance=1e-5)


def test_a_graph_tells_nothing_of_the_machine(tmp_path: Path) -> None:
    """No source file, line or stack of the exporting process is inside."""
    module = torch.nn.Linear(4, 2)
    export_graph(module, {"x": torch.randn(3, 4)}, ["y"], tmp_path / "g.onnx", tolerance=1e-5)
    content = (tmp_path / "g.onnx").read_bytes()
    assert b".py" not in content
    assert b"site-packages" not in content


def test_an_older_run_without_calibrations_per_track_is_exported_with_the_common_one(tmp_path: Path) -> None:
    """Such runs rank clips with one track as they did."""
    run = _run(tmp_path, "none")
    assert replace(run).calibration_of("visual") == STORED
