"""`ahse export head`: the encoders of one bundle and the head of a run, or a clear refusal."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from model_export.data.feature_file import FeatureSet, write_feature_file
from model_export.data.gzsl_data import GzslData, SplitFeatures
from model_export.head.head_config import HeadConfig
from model_export.head.training import train
from model_export.report.measurements import MeasuredRun
from service.bundle.directory import read_manifest
from service.bundle.manifest import MANIFEST_FILE
from service.bundle.provenance import GraphCheck, Licence, Source
from service.registry import load_bundle
from service.runtime.providers import Runtime
from tests.conftest import Ahse
from tests.model_export.head.small_world import small_world
from tests.toy import write_toy_bundle

CHECK = GraphCheck(difference=1e-6, tolerance=1e-5)
SOURCE = Source(part="image encoder", file="a.pt", sha256="1" * 64)


@dataclass(frozen=True)
class Made:
    """What the tests export from."""

    bundle: Path
    run: Path
    data: GzslData


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A toy bundle with checks and licences of its own, and a small run on features of another toy bundle.

    Both have the same encoders; name and kind of head differ.
    """
    folder = tmp_path_factory.mktemp("export")
    bundle = write_toy_bundle(folder / "similar", name="similar", head="similarity")
    manifest = read_manifest(bundle)
    licences = (*manifest.licences, Licence(part="head", licence="X", source="an older head"))
    parity = {"visual": CHECK, "head_av": CHECK}
    update = {"parity": parity, "sources": (SOURCE,), "versions": {"torch": "2.0.0"}}
    provenance = manifest.provenance.model_copy(update=update)
    changed = manifest.model_copy(update={"licences": licences, "provenance": provenance})
    (bundle / MANIFEST_FILE).write_text(changed.model_dump_json())

    extracted_with = read_manifest(write_toy_bundle(folder / "toy"))
    data = _small_toy_world(extracted_with.encoders_digest())
    config = HeadConfig(raw_fusion=True, n_epochs=1, n_batches_per_epoch=3, batch_size=8)
    return Made(bundle, train(data, config, folder / "run", n_threads=1).path, data)


def _small_toy_world(encoders: str) -> GzslData:
    """The small world, cut to the dims of the toy encoders."""
    data = small_world()
    cut = {
        name: SplitFeatures(clips.visual[:, :3], clips.audio[:, :3], clips.class_index)
        for name, clips in data.named_splits()
    }
    return replace(
        data,
        name="toys",
        simulated=False,
        text_visual=np.ascontiguousarray(data.text_visual[:, :3]),
        text_audio=np.ascontiguousarray(data.text_audio[:, :3]),
        splits=cut,
        encoders=encoders,
    )


def test_the_encoders_are_taken_over_byte_for_byte(ahse: Ahse, made: Made, tmp_path: Path) -> None:
    """With their checks and licences; the older head's are left behind; the bundle is whole and loads."""
    out = tmp_path / "weights" / "mine"
    code, _, complaints = ahse(
        *("export", "head", made.run, "--encoders", made.bundle, "--out", out),
        *("--name", "toys-1", "--description", "My toys.", "--licence", "CC0-1.0"),
    )
    assert code == 0
    assert "the run was not evaluated" in complaints
    old, new = read_manifest(made.bundle), load_bundle(out, Runtime(device="cpu")).manifest
    for name in old.encoder_files():
        assert (out / name).read_bytes() == (made.bundle / name).read_bytes()
    assert new.encoders_digest() == old.encoders_digest()
    assert (new.name, new.description) == ("toys-1", "My toys.")
    assert new.seen_classes == tuple(f"class {i}" for i in range(9))
    assert (new.unseen_classes, new.metrics) == ((), ())
    assert new.provenance.command == (
        "ahse export head run --encoders similar --description 'My toys.' --licence CC0-1.0 "
        "--name toys-1 --out mine"
    )
    assert new.provenance.parity.keys() == {"visual", "head_av", "head_text"}
    assert new.provenance.parity["visual"] == CHECK
    assert new.provenance.parity["head_av"] != CHECK
    assert new.provenance.sources == (SOURCE,)
    assert new.provenance.versions == {"torch": "2.0.0"}, "of the packages that read the sources"
    assert [(one.part, one.licence) for one in new.licences] == [("all", "Apache-2.0"), ("head", "CC0-1.0")]
    assert "Not measured" in (out / "MODEL_CARD.md").read_text()
    assert str(tmp_path) not in (out / MANIFEST_FILE).read_text()


@pytest.mark.slow
def test_measured_figures_are_in_the_exported_bundle(ahse: Ahse, made: Made, tmp_path: Path) -> None:
    """The figures of the evaluation, its unseen classes, and the model card's table."""
    run = Path(shutil.copytree(made.run, tmp_path / "run"))
    features = tmp_path / "toys.safetensors"
    names = {split: ("clip",) * len(clips) for split, clips in made.data.named_splits()}
    write_feature_file(features, FeatureSet(made.data, names))
    assert ahse("evaluate", run, features)[0] == 0
    out = tmp_path / "mine"
    assert ahse("export", "head", run, "--encoders", made.bundle, "--out", out)[::2] == (0, "")
    manifest = read_manifest(out)
    assert manifest.name == "mine"
    assert manifest.unseen_classes == ("class 10", "class 11", "class 9")
    accuracy = MeasuredRun.load(run).of("fused").accuracy
    found = {metric.name: metric.value for metric in manifest.metrics}
    assert found["HM, both tracks"] == pytest.approx(accuracy.harmonic_mean, abs=1e-4)
    assert len(found) == 16
    card = (out / "MODEL_CARD.md").read_text()
    figures = (accuracy.seen, accuracy.unseen, accuracy.harmonic_mean, accuracy.zsl)
    assert f"| both tracks | {' | '.join(f'{one:.1f}' for one in figures)} |" in card
    assert "72 clips of 9 classes that the head was trained on and 24 of 3 unseen ones" in card


def test_export_head_refuses_other_encoders(ahse: Ahse, made: Made, tmp_path: Path) -> None:
    """One setting of one tower makes them others; both digests are said."""
    manifest = read_manifest(made.bundle)
    visual = manifest.visual.model_copy(update={"n_frames": 5})
    changed = manifest.model_copy(update={"visual": visual})
    other = Path(shutil.copytree(made.bundle, tmp_path / "other"))
    (other / MANIFEST_FILE).write_text(changed.model_dump_json())
    code, _, complaints = ahse("export", "head", made.run, "--encoders", other, "--out", tmp_path / "b")
    assert code == 2
    assert "a head fits no others" in complaints
    assert manifest.encoders_digest() in complaints
    assert changed.encoders_digest() in complaints
    assert not (tmp_path / "b").exists()


def test_export_head_refuses_runs_on_features_of_unnamed_encoders(
    ahse: Ahse, made: Made, tmp_path: Path
) -> None:
    """A run on such features is refused rather than believed."""
    config = HeadConfig(raw_fusion=True, n_epochs=1, n_batches_per_epoch=1, batch_size=8)
    run = train(replace(made.data, encoders=""), config, tmp_path / "run", n_threads=1).path
    code, _, complaints = ahse("export", "head", run, "--encoders", made.bundle, "--out", tmp_path / "a")
    assert (code, "by encoders that are not named" in complaints) == (2, True)


def test_a_method_that_ranks_in_its_own_way_is_exported_on_demand_only(
    ahse: Ahse, made: Made, tmp_path: Path
) -> None:
    """Nothing shows that it does no harm; told to be, it is exported, and every answer says so."""
    config = HeadConfig(n_epochs=1, n_batches_per_epoch=1, batch_size=8)
    run = train(made.data, config, tmp_path / "run", n_threads=1).path
    words = ("export", "head", run, "--encoders", made.bundle, "--out", tmp_path / "a")
    code, _, complaints = ahse(*words)
    assert (code, "too few classes to say what the head brings" in complaints) == (2, True)
    assert "--ungated" in complaints
    assert ahse(*words, "--ungated")[0] == 0
    manifest = read_manifest(tmp_path / "a")
    assert manifest.provenance.command == "ahse export head run --encoders similar --ungated --out a"
    assert manifest.notice is not None
    assert "whether or not it does better than the encoders alone" in manifest.notice
    assert manifest.head.kind == "ahse"
    assert manifest.head.calibrations.both.raw_weight == 0
    code, said, _ = ahse("bundle", "inspect", tmp_path / "a")
    assert (code, "gain    both: too few classes" in said) == (0, True)


def test_export_head_with_bad_arguments_leaves_nothing(ahse: Ahse, made: Made, tmp_path: Path) -> None:
    """A taken directory, a name that is none, no run, no bundle, a damaged bundle."""
    broken = Path(shutil.copytree(made.bundle, tmp_path / "broken"))
    (broken / "audio.onnx").write_bytes(b"")
    (tmp_path / "taken").mkdir()
    cases = [
        (made.run, made.bundle, "taken", "exists already"),
        (made.run, made.bundle, "my head", "can't be a bundle's name"),
        (tmp_path / "none", made.bundle, "out", "holds no finished run"),
        (made.run, tmp_path / "none", "out", "there is no such folder"),
        (made.run, broken, "out", "audio.onnx is not the file that was published"),
    ]
    before = sorted(path.name for path in tmp_path.iterdir())
    for run, bundle, out, what in cases:
        code, _, complaints = ahse("export", "head", run, "--encoders", bundle, "--out", tmp_path / out)
        assert (code, what in complaints) == (2, True), complaints
        assert "Traceback" not in complaints
    assert sorted(path.name for path in tmp_path.iterdir()) == before
