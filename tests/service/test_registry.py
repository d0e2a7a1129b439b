"""A bundle is opened only if its parts fit each other and the manifest."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.bundle.directory import file_sha256
from service.bundle.head_specs import SimilaritySpec
from service.bundle.manifest import MANIFEST_FILE
from service.encode.encoders import Encoders, load_encoders, text_outputs
from service.errors import BundleInvalidError, DeviceUnavailableError, UnknownBundleError
from service.head.similarity import SimilarityHead
from service.head.statistics import load_ahse_statistics
from service.registry import Registry, load_bundle
from service.runtime.providers import Runtime
from tests.toy import write_toy_bundle

CPU = Runtime(device="cpu")
Rewrite = Callable[[Callable[[dict[str, Any]], None]], Path]


@pytest.fixture
def rewrite(toy_bundle: Path, tmp_path: Path) -> Rewrite:
    """Change a copy of the bundle's manifest with all hashes kept right: only deeper checks can fail."""
    return _rewriter(toy_bundle, tmp_path)


def _rewriter(original: Path, folder: Path) -> Rewrite:
    bundle = Path(shutil.copytree(original, folder / "bundle"))

    def change(edit: Callable[[dict[str, Any]], None]) -> Path:
        path = bundle / MANIFEST_FILE
        document = json.loads(path.read_text())
        edit(document)
        document["files"] = {name: file_sha256(bundle / name) for name in document["files"]}
        path.write_text(json.dumps(document))
        return bundle

    return change


@pytest.fixture
def rewrite_shared(shared_bundle: Path, tmp_path: Path) -> Rewrite:
    """The same for the bundle with one text graph."""
    return _rewriter(shared_bundle, tmp_path)


def _save_head(bundle: Path, nodes: list[onnx.NodeProto], batch: int | str) -> None:
    """Put another head_av.onnx into the bundle."""
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, 3]) for n in ("visual", "audio")]
    outputs = [helper.make_tensor_value_info("theta", TensorProto.FLOAT, [batch, 6])]
    graph = helper.make_graph(nodes, "head", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, bundle / "head_av.onnx")


def test_the_toy_bundle_opens(toy_bundle: Path) -> None:
    """All graphs run and say which provider runs them."""
    bundle = load_bundle(toy_bundle, CPU)
    assert bundle.name == "toy"
    assert bundle.encoders.visual.provider == "CPUExecutionProvider"
    assert bundle.encoders.visual(frames=np.zeros((2, 16, 16, 3), np.uint8)).shape == (2, 3)


def test_one_text_graph_serves_both_tracks(shared_bundle: Path) -> None:
    """Both fields are the same object; its outputs are concatenated in the order of `text_outputs`."""
    bundle = load_bundle(shared_bundle, CPU)
    assert bundle.encoders.text_audio is bundle.encoders.text_visual
    assert text_outputs(bundle.manifest) == {"visual": 3, "audio": 3, "nearness": 1}
    ids = bundle.encoders.tokens_visual(["red low", "filler0 high", "piano"])
    expected = np.array([[1, 0, 0, 1, 0, 0, 0.9], [0, 0, 0, 0, 0, 1, 0.9], [0] * 7])
    np.testing.assert_allclose(bundle.encoders.text_visual(tokens=ids), expected, atol=1e-6)


def test_separate_text_graphs_are_separate_encoders(toy_bundle: Path) -> None:
    """Each has one output."""
    bundle = load_bundle(toy_bundle, CPU)
    assert bundle.encoders.text_audio is not bundle.encoders.text_visual
    assert text_outputs(bundle.manifest) == {"features": 3}


def test_an_unused_output_of_a_text_graph_is_not_computed(rewrite_shared: Rewrite) -> None:
    """Without known_names nearness is not computed."""
    bundle = load_bundle(rewrite_shared(lambda document: document.update(known_names=None)), CPU)
    assert bundle.encoders.text_visual(tokens=bundle.encoders.tokens_visual(["red"])).shape == (1, 6)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda d: d["audio"]["text"].update(output="sound"), r"text\.onnx gives .*, not sound \[batch, 3\]"),
        (lambda d: d["known_names"].update(output="near"), r"text\.onnx gives .*, not near \[batch, 1\]"),
        (lambda d: d["known_names"].update(output="audio"), "must differ in their output"),
    ],
    ids=["no such output", "no such nearness", "an output twice"],
)
def test_missing_outputs_of_a_shared_text_graph_are_refused(
    rewrite_shared: Rewrite, edit: Callable[[dict[str, Any]], None], says: str
) -> None:
    """Outputs are checked by name and dim."""
    with pytest.raises(BundleInvalidError, match=says):
        load_bundle(rewrite_shared(edit), CPU)


def test_a_bundle_without_statistics_opens(tmp_path: Path) -> None:
    """The head then has neither a file nor arrays."""
    bare = SimilaritySpec(kind="similarity", visual_share=0.5, n_clips=0)
    directory = write_toy_bundle(tmp_path / "toy", head=bare)
    assert not (directory / "statistics.safetensors").exists()
    head = load_bundle(directory, CPU).head
    assert isinstance(head, SimilarityHead)
    assert head.statistics is None


def test_a_graph_of_another_frame_size_is_refused(rewrite: Rewrite) -> None:
    """Frames are decoded to the size in the manifest, so every request would fail."""
    bundle = rewrite(lambda document: document["visual"].update(image_size_px=32))
    with pytest.raises(BundleInvalidError, match=r"visual\.onnx: input frames .* 32, 32, 3"):
        load_bundle(bundle, CPU)


def test_a_graph_of_another_dim_is_refused(rewrite: Rewrite) -> None:
    """Dims are checked at the graph's output."""
    bundle = rewrite(lambda document: document["audio"].update(dim=4))
    with pytest.raises(BundleInvalidError, match=r"audio\.onnx gives .* \[batch, 4\]"):
        load_bundle(bundle, CPU)


def test_swapped_graphs_are_refused(rewrite: Rewrite) -> None:
    """Their input names differ."""

    def exchange(document: dict[str, Any]) -> None:
        document["visual"]["graph"], document["audio"]["graph"] = "audio.onnx", "visual.onnx"

    with pytest.raises(BundleInvalidError, match=r"audio\.onnx takes inputs \['waveform'\]"):
        load_bundle(rewrite(exchange), CPU)


def test_a_fixed_batch_axis_is_refused(rewrite: Rewrite) -> None:
    """A graph exported for one item only would fail at the second frame."""
    bundle = rewrite(lambda _: None)
    nodes = [helper.make_node("Concat", ["visual", "audio"], ["theta"], axis=1)]
    _save_head(bundle, nodes, batch=1)
    with pytest.raises(BundleInvalidError, match=r"batch axis of .* is fixed to 1"):
        load_bundle(rewrite(lambda _: None), CPU)


def test_a_file_that_is_no_graph_is_refused(rewrite: Rewrite) -> None:
    """All error types of onnxruntime become one."""
    (rewrite(lambda _: None) / "audio.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleInvalidError, match=r"can't run audio\.onnx"):
        load_bundle(rewrite(lambda _: None), CPU)


@pytest.mark.parametrize(
    ("encoder", "changes", "says"),
    [("audio", {"hop_s": 1e-6}, "hop_s must be"), ("audio", {"hop_s": 0.6}, "hop_s must be")],
)
def test_an_impossible_hop_is_refused(
    rewrite: Rewrite, encoder: str, changes: dict[str, Any], says: str
) -> None:
    """A hop of no samples, or one that leaves gaps between windows."""
    bundle = rewrite(lambda document: document[encoder].update(changes))
    with pytest.raises(BundleInvalidError, match=says):
        load_bundle(bundle, CPU)


def test_sampling_the_middle_requires_one_frame(rewrite: Rewrite) -> None:
    """This is found at start, not with the first clip."""
    directory = rewrite(lambda manifest: manifest["visual"].update(sampling="middle"))
    with pytest.raises(BundleInvalidError, match="sampling middle requires n_frames 1"):
        load_bundle(directory, CPU)


def test_a_pad_token_outside_the_vocabulary_is_refused(rewrite: Rewrite) -> None:
    """The text graph would look up a row that it does not have."""
    bundle = rewrite(lambda document: document["visual"]["text"].update(pad_id=99_999))
    with pytest.raises(BundleInvalidError, match="pad_id is not in the vocabulary"):
        load_bundle(bundle, CPU)


def test_a_graph_with_invalid_output_is_refused(rewrite: Rewrite) -> None:
    """Its axes are right but its numbers are not finite, which is found at start."""
    bundle = rewrite(lambda _: None)
    nodes = [
        helper.make_node("Concat", ["visual", "audio"], ["both"], axis=1),
        helper.make_node("Log", ["both"], ["theta"]),
    ]
    _save_head(bundle, nodes, batch="batch")
    with pytest.raises(BundleInvalidError, match=r"head_av\.onnx gives numbers that are not finite"):
        load_bundle(rewrite(lambda _: None), CPU)


def test_an_emptied_tokenizer_is_refused(rewrite: Rewrite) -> None:
    """An offline tokenizer of a few tokens encodes everything as unknown, without any error."""
    bundle = rewrite(lambda document: document["visual"]["text"].update(vocabulary_size=50_265))
    with pytest.raises(BundleInvalidError, match="has 108 tokens, the manifest says 50265"):
        load_bundle(bundle, CPU)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("av_std", np.zeros(6, np.float32), "av_std must be positive"),
        ("av_mean", np.full(6, np.nan, np.float32), "av_mean is not finite"),
        ("text_mean", np.zeros(5, np.float32), "text_mean is float32"),
        ("fill_audio", np.zeros(3, np.float64), "fill_audio is float64"),
        ("fill_visual", None, "no tensor fill_visual"),
    ],
)
def test_bad_statistics_are_refused(
    toy_bundle: Path, tmp_path: Path, name: str, value: np.ndarray[Any, Any] | None, says: str
) -> None:
    """They would silently give wrong rankings."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(toy_bundle / "statistics.safetensors")
    tensors.pop(name)
    save_file(tensors if value is None else {**tensors, name: value}, tmp_path / "statistics.safetensors")
    with pytest.raises(BundleInvalidError, match=says):
        load_ahse_statistics(tmp_path / "statistics.safetensors", dim=6, visual_dim=3, audio_dim=3)


def test_a_configured_gpu_that_is_missing_prevents_the_start(toy_bundle: Path) -> None:
    """Running on the CPU without a word would be hard to notice."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has a CUDA provider")
    with pytest.raises(DeviceUnavailableError, match="no provider for it"):
        load_bundle(toy_bundle, Runtime(device="cuda"))


def test_the_first_bundle_is_the_default(toy_bundle: Path, tmp_path: Path) -> None:
    """Names are in the order of the settings."""
    other = write_toy_bundle(tmp_path / "other", name="other")
    registry = Registry([other, toy_bundle], CPU)
    assert registry.names() == ["other", "toy"]
    assert registry.get().name == "other"
    with pytest.raises(UnknownBundleError, match="loaded are: other, toy"):
        registry.get("nope")


def test_two_bundles_of_one_name_are_refused(toy_bundle: Path, tmp_path: Path) -> None:
    """A request could not tell them apart."""
    with pytest.raises(BundleInvalidError, match="two bundles are named toy"):
        Registry([toy_bundle, write_toy_bundle(tmp_path / "b")], CPU)


def test_a_bundle_is_replaced_at_run_time_and_kept_when_the_new_one_is_damaged(tmp_path: Path) -> None:
    """Requests under way keep the old bundle; a damaged new one changes nothing."""
    directory = write_toy_bundle(tmp_path / "toy", version="1")
    registry = Registry([directory], CPU)
    held = registry.get()
    write_toy_bundle(directory, version="2")
    assert registry.reload("toy").manifest.version == "2"
    assert held.manifest.version == "1"
    (directory / "visual.onnx").write_bytes(b"damaged")
    with pytest.raises(BundleInvalidError, match=r"^bundle toy: visual\.onnx is not the file"):
        registry.reload("toy")
    assert registry.get("toy").manifest.version == "2"


def test_only_the_start_names_the_path_of_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts the service has chosen it; who asks to load it again may be anywhere."""
    directory = write_toy_bundle(tmp_path / "of" / "models", name="toy")
    monkeypatch.chdir(directory)
    registry = Registry([Path()], CPU)
    (directory / MANIFEST_FILE).unlink()
    with pytest.raises(BundleInvalidError, match=rf"^bundle {directory}: there is no manifest\.json"):
        Registry([Path()], CPU)
    with pytest.raises(BundleInvalidError, match=r"^bundle toy: there is no manifest\.json"):
        registry.reload("toy")


@pytest.mark.parametrize(
    "replace",
    [
        lambda directory: write_toy_bundle(directory, version="2"),
        lambda directory: os.utime(directory / "audio.onnx", ns=(0, 0)),
        lambda directory: (directory / MANIFEST_FILE).write_text(
            f"{(directory / MANIFEST_FILE).read_text()} "
        ),
    ],
    ids=["the whole bundle", "one file", "the manifest"],
)
def test_files_that_are_replaced_while_they_are_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: Callable[[Path], object]
) -> None:
    """Else another bundle's weights could serve under the digest of the one that was verified."""
    directory = write_toy_bundle(tmp_path / "toy", version="1")
    registry = Registry([directory], CPU)

    def replaced(*given: Any) -> Encoders:
        replace(directory)
        return load_encoders(*given)

    with monkeypatch.context() as patch:
        patch.setattr("service.registry.load_encoders", replaced)
        with pytest.raises(
            BundleInvalidError, match="bundle toy: its files were replaced while they were read"
        ):
            registry.reload("toy")
    assert registry.get().manifest.version == "1"
    registry.reload("toy")
