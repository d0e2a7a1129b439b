"""The shipped demo bundle, its example clips, and what the documents say of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from starlette.testclient import TestClient

from demo_world.world import World
from service.api.app import create_app
from service.bundle.directory import read_manifest
from service.encode.text import encode_labels
from service.head.ahse import AhseHead
from service.labels.label import make_label
from service.registry import load_bundle
from service.runtime.providers import Runtime
from service.settings import DEMO_BUNDLE, Settings

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
INDEX: dict[str, Any] = json.loads((EXAMPLES / "examples.json").read_text())


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The service as `make serve` starts it."""
    settings = Settings(bundles=(DEMO_BUNDLE,), data_dir=tmp_path_factory.mktemp("data"))
    with TestClient(create_app(settings)) as running:
        yield running


def _classify(client: TestClient, file: str, **fields: Any) -> Any:
    content = (EXAMPLES / file).read_bytes()
    return client.post("/v1/classify", files={"file": (file, content)}, data=fields).json()


def test_nine_of_ten_examples_are_right_among_all_names(client: TestClient) -> None:
    """Over HTTP, with all 96 names as candidates, unseen classes included."""
    labels = json.dumps(INDEX["labels"])
    best = {
        one["file"]: _classify(client, one["file"], labels=labels)["predictions"][0] for one in INDEX["clips"]
    }
    right = [one for one in INDEX["clips"] if best[one["file"]]["label"] == one["label"]]
    assert len(right) >= 0.9 * len(INDEX["clips"])
    assert any(not one["seen"] for one in right)
    assert all(best[one["file"]]["seen"] == one["seen"] for one in right)


@pytest.mark.parametrize("clip", INDEX["one_track"], ids=lambda clip: str(clip["missing"]))
def test_a_clip_with_one_track_is_ranked_by_it(client: TestClient, clip: dict[str, Any]) -> None:
    """The shape of a silent clip, or the sound of one without picture, is that of the best name."""
    body = _classify(client, clip["file"], labels=json.dumps(INDEX["labels"]))
    missing = {"sound": "audio", "picture": "visual"}[clip["missing"]]
    assert [name for name in ("visual", "audio") if not body["tracks"][name]["used"]] == [missing]
    half = {"sound": 0, "picture": 1}[clip["missing"]]
    assert _concept(body["predictions"][0]["label"], half) == _concept(clip["label"], half)


def _concept(label: str, half: int) -> str:
    """The shape (half 0) or the sound (half 1) that a class name means, whichever synonym it uses."""
    world = World()
    spec = next(spec for spec in world.classes if spec.name == label)
    return (world.shapes[spec.shape], world.sounds[spec.sound])[half].key


def test_the_examples_are_what_their_index_says() -> None:
    """Twelve or more with H.264 and AAC, six of unseen classes; one silent, one without picture."""
    seen = set(read_manifest(DEMO_BUNDLE).seen_classes)
    assert len(INDEX["clips"]) >= 12
    assert sum(not one["seen"] for one in INDEX["clips"]) >= 6
    assert {one["missing"] for one in INDEX["one_track"]} == {"picture", "sound"}
    for one in [*INDEX["clips"], *INDEX["one_track"]]:
        assert one["label"] in INDEX["labels"]
        assert one["seen"] == (one["label"] in seen)
        with av.open(str(EXAMPLES / one["file"])) as container:
            codecs = {stream.type: stream.codec_context.name for stream in container.streams}
            for stream in container.streams.video:
                assert min(stream.width, stream.height) >= 256
        expected = {"video": "h264", "audio": "aac"}
        expected.pop({"picture": "video", "sound": "audio"}.get(one.get("missing"), ""), None)
        assert codecs == expected
        assert (EXAMPLES / one["file"]).stat().st_size < 2_000_000


def test_the_bundle_is_small_and_says_that_it_knows_only_its_world() -> None:
    """At most 15 MB; the card's first words are the caveat."""
    assert sum(path.stat().st_size for path in DEMO_BUNDLE.iterdir()) <= 15e6
    assert "**This bundle knows only its own world.**" in (DEMO_BUNDLE / "MODEL_CARD.md").read_text()


def test_the_stored_statistics_are_those_of_the_trained_classes() -> None:
    """Means and deviations of the seen names' embeddings (Eq. 1), not the 0 and 1 of a head without any."""
    bundle = load_bundle(DEMO_BUNDLE, Runtime(device="cpu"))
    assert isinstance(bundle.head, AhseHead)
    assert bundle.head.spec.standardisation == "stored_then_sample"
    stored = bundle.head.statistics
    texts = encode_labels(bundle.encoders, [make_label(name) for name in bundle.manifest.seen_classes])
    theta = bundle.head.text(visual=texts.visual, audio=texts.audio)
    np.testing.assert_allclose(stored.text_mean, theta.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(stored.text_std, np.sqrt(theta.var(axis=0) + 1e-5), atol=1e-4)
    for mean, std in ((stored.av_mean, stored.av_std), (stored.text_mean, stored.text_std)):
        assert np.ptp(mean) > 0.05
        assert np.ptp(std) > 0.05


def test_the_results_show_the_numbers_of_the_manifest() -> None:
    """The table is what was measured for this very bundle."""
    measured = {metric.name: metric.value for metric in read_manifest(DEMO_BUNDLE).metrics}
    results = (ROOT / "docs/results/demo/README.md").read_text()
    for row in ("both tracks", "picture only", "sound only"):
        figures = " | ".join(f"{measured[f'{figure}, {row}']:.1f}" for figure in ("S", "U", "HM", "ZSL"))
        assert re.search(rf"^\| {row} \| {re.escape(figures)} \|$", results, re.MULTILINE), (row, figures)


def test_a_silent_stretch_does_not_spoil_a_clip() -> None:
    """A window of digital silence gives a finite feature of unit length, not NaN."""
    bundle = load_bundle(DEMO_BUNDLE, Runtime(device="cpu"))
    sound = np.zeros((2, bundle.manifest.audio.window_samples), np.float32)
    sound[1] = np.random.default_rng(0).normal(0, 0.1, sound.shape[1])
    features = bundle.encoders.audio(waveform=sound)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
