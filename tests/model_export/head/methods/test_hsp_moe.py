"""HSP-MoE: sizes, each term of its loss against an oracle, training, and the same ranking when served."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scipy.special import rel_entr, softmax
from torch import Tensor, nn

from model_export.data.gzsl_data import GzslData, SplitFeatures
from model_export.export.bundle_parts import BundleFacts, export_bundle
from model_export.export.existing_bundle import encoders_of
from model_export.export.head_parts import trained_head
from model_export.head.distances import embedding_distances, rank_embedding, rank_raw, raw_distances
from model_export.head.evaluation import evaluate
from model_export.head.head_config import PRESETS, HeadConfig
from model_export.head.methods.hsp_moe import HspMoe, distribution, relations, uniformity
from model_export.head.network import HeadAv, HeadText
from model_export.head.run_folder import Run
from model_export.head.stage_tensors import Clips, StageTensors, Texts
from model_export.head.standardisation import exact_statistics
from model_export.head.training import train
from model_export.head.training_batches import Batch, StageInputs
from service.encode.features import ClipFeatures, TextFeatures
from service.head.head import cosines_of
from service.registry import load_bundle
from service.runtime.providers import Runtime
from tests.model_export.head.small_world import N_AUDIO, N_VISUAL, small_world

CPU = torch.device("cpu")
SMALL = PRESETS["hsp_moe"].model_copy(
    update={"n_epochs": 2, "n_batches_per_epoch": 10, "batch_size": 12, "lr": 1e-3}
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on the small world."""
    return train(small_world(), SMALL, tmp_path_factory.mktemp("hsp_moe") / "run", n_threads=1)


@pytest.fixture
def batch() -> Batch:
    """The first batch of the small world's first stage."""
    data = small_world()
    inputs = StageInputs.of(StageTensors.of(data, data.stage(1), CPU), HspMoe(SMALL, N_VISUAL, N_AUDIO))
    return next(inputs.batches(SMALL, seed=0))


def n_parameters(module: nn.Module) -> int:
    """Trainable numbers of a module."""
    return sum(p.numel() for p in module.parameters())


def test_published_dimensions_give_the_parameters_of_the_public_code() -> None:
    """CLIP-CLAP's 2,237,824; experts n x 128 + 128, norm 256, 128 x 64 + 64; router inputs n x 64 + 64."""
    network = HspMoe(HeadConfig(method="hsp_moe"), n_visual=512, n_audio=1024)
    experts = [n_parameters(expert) for expert in network.experts.experts]
    assert experts == [n * 128 + 128 + 256 + 128 * 64 + 64 for n in (1536, 512, 1024)]
    assert n_parameters(network.experts.describe_visual) == 512 * 64 + 64
    assert n_parameters(network.experts.describe_audio) == 1024 * 64 + 64
    assert n_parameters(network.experts.router) == (128 * 128 + 128) + (128 * 32 + 32) + (32 * 3 + 3)
    assert n_parameters(network) == 2_237_824 + 419_136 + 98_432 + 20_739 == 2_776_131


def test_embeddings_are_64_wide_and_have_unit_length() -> None:
    """Whatever the length of the features; so every distance is between 0 and 2."""
    network = HspMoe(SMALL, 6, 10).eval()
    visual, audio = torch.randn(5, 6), torch.randn(5, 10)
    for theta in (network.embed_av(visual, audio), network.embed_text(visual, audio)):
        assert theta.shape == (5, 64)
        torch.testing.assert_close(theta.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(network.embed_av(7 * visual, 0.2 * audio), network.embed_av(visual, audio))


def test_a_clip_is_half_theta_and_half_its_experts_weighted_by_the_router() -> None:
    """Against a loop over clips and experts in numpy."""
    torch.manual_seed(0)
    network = HspMoe(SMALL, 6, 10).eval()
    visual, audio = F.normalize(torch.randn(4, 6), dim=1), F.normalize(torch.randn(4, 10), dim=1)
    mixture = network.experts
    found = network.embed_av(visual, audio).detach().numpy()

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x)  # type: ignore[no-any-return]

    theta = super(HspMoe, network).embed_av(visual, audio).detach().numpy()
    for row in range(4):
        v, a = visual[row : row + 1], audio[row : row + 1]
        inputs = (torch.cat([v, a], dim=1), v, a)
        opinions = [unit(e(x).detach().numpy()[0]) for e, x in zip(mixture.experts, inputs, strict=True)]
        described = [unit(mixture.describe_visual(v).detach().numpy()[0])]
        described.append(unit(mixture.describe_audio(a).detach().numpy()[0]))
        weights = softmax(mixture.router(torch.from_numpy(np.concatenate(described))).detach().numpy())
        experts = unit(sum(w * o for w, o in zip(weights, opinions, strict=True)))
        np.testing.assert_allclose(found[row], unit(0.5 * unit(theta[row]) + 0.5 * experts), atol=1e-6)


def test_distribution_is_four_times_the_kl_divergence_at_temperature_2() -> None:
    """Against scipy's relative entropy; 0 where both agree."""
    draw = torch.Generator().manual_seed(0)
    cosines, raw = torch.rand(7, 5, generator=draw), torch.rand(7, 5, generator=draw)
    p, q = softmax(raw.numpy() / 2, axis=1), softmax(cosines.numpy() / 2, axis=1)
    assert distribution(cosines, raw).item() == pytest.approx(4 * rel_entr(p, q).sum(1).mean(), rel=1e-4)
    assert distribution(raw, raw).item() == pytest.approx(0, abs=1e-6)


def test_relations_leave_out_the_diagonal() -> None:
    """By hand: differences 0.5 and 0.5 off the diagonal; what stands on it does not count."""
    cosines = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    raw = torch.tensor([[0.0, 0.0], [0.0, 0.3]])
    assert relations(cosines, raw).item() == pytest.approx(0.25)


def test_uniformity_counts_pairs_of_different_classes_only() -> None:
    """By hand: of three clips, two of one class; two pairs at right angles, |a - b|^2 = 2, so 8 - 4."""
    av = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert uniformity(av, torch.tensor([0, 0, 1])).item() == pytest.approx(4.0)
    # Opposite points: 8 - 8. One point and right angles: log((1 + e^-4) / 2) + 8.
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([0, 1])).item() == 0
    mixed = uniformity(av, torch.tensor([0, 1, 1])).item()
    assert mixed == pytest.approx(math.log((1 + math.exp(-4)) / 2) + 8, rel=1e-6)
    assert uniformity(av, torch.tensor([2, 2, 2])).item() == 0


def test_the_loss_is_made_of_cosines_of_the_embedding_and_of_the_raw_features(batch: Batch) -> None:
    """Each from the embeddings in evaluation mode; the teacher is the mean of both tracks' cosines."""
    torch.manual_seed(0)
    network = HspMoe(SMALL, N_VISUAL, N_AUDIO).eval()
    terms = network.loss_terms(batch)
    av = network.embed_av(batch.visual, batch.audio)
    text = network.embed_text_input(batch.text_input)
    texts_visual, texts_audio = batch.text_input[:, :N_VISUAL], batch.text_input[:, N_VISUAL:]

    def cosines(a: Tensor, b: Tensor) -> Tensor:
        return F.cosine_similarity(a[:, None], b[None], dim=2)

    to_classes = (cosines(batch.visual, texts_visual) + cosines(batch.audio, texts_audio)) / 2
    to_clips = (cosines(batch.visual, batch.visual) + cosines(batch.audio, batch.audio)) / 2
    expected = {
        "cross_entropy": F.cross_entropy(cosines(av, text) / 0.1, batch.target),
        "distribution": 0.001 * distribution(cosines(av, text), to_classes),
        "relations": 0.0002 * relations(cosines(av, av), to_clips),
        "uniformity": 0.0002 * uniformity(av, batch.target),
    }
    assert terms.keys() == expected.keys() | {"regression", "reconstruction"}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-4, atol=1e-7)


def test_the_regression_takes_theta_before_it_gets_unit_length(batch: Batch) -> None:
    """Ten times the last layer's output of the text branch moves it, but not the cross entropy."""
    torch.manual_seed(0)
    network = HspMoe(SMALL, N_VISUAL, N_AUDIO).eval()
    before = network.loss_terms(batch)
    norm = network.text_projection[1]
    assert isinstance(norm, nn.BatchNorm1d)
    with torch.no_grad():
        norm.weight.mul_(10)
        norm.bias.mul_(10)
    after = network.loss_terms(batch)
    torch.testing.assert_close(after["cross_entropy"], before["cross_entropy"], rtol=1e-4, atol=1e-5)
    assert after["regression"] > 2 * before["regression"]


def test_the_code_runs_the_text_branch_twice_in_each_step(batch: Batch) -> None:
    """So its batch norms see the batch's rows too; evaluated, both ways give the same loss."""
    found = {}
    for follow in ("paper", "code"):
        torch.manual_seed(0)
        network = HspMoe(SMALL.model_copy(update={"follow": follow}), N_VISUAL, N_AUDIO)
        norm = network.text_projection[1]
        assert isinstance(norm, nn.BatchNorm1d)
        evaluated = network.eval().loss_terms(batch)
        network.train().loss_terms(batch)
        assert norm.num_batches_tracked is not None
        found[follow] = (int(norm.num_batches_tracked), evaluated)
    assert (found["paper"][0], found["code"][0]) == (1, 2)
    for name, value in found["paper"][1].items():
        torch.testing.assert_close(found["code"][1][name], value)


def test_training_ends_in_a_ranking_better_than_chance(run: Run) -> None:
    """Chance is 8 per cent among 12 classes; all losses are finite, or training would have stopped."""
    found = evaluate(run, small_world(), ranking="embedding")
    assert found.accuracy.seen > 30
    assert evaluate(run, small_world()).accuracy.harmonic_mean > 60


def test_the_balanced_weight_ranks_as_both_distances_over_their_validation_means_do(run: Run) -> None:
    """Of the first stage's network; for clips with one track their raw distance is that track's."""
    data = small_world()
    stage = StageTensors.of(data, data.stage(1), CPU)
    network = HspMoe(SMALL, N_VISUAL, N_AUDIO)
    network.load_state_dict(load_file(run.path / "stage_1.safetensors"))
    statistics = exact_statistics(network, "none", stage)
    ranked, raw = rank_embedding(network, SMALL, statistics, stage), rank_raw(statistics, stage, 0.5)
    own, other = (r.pooled().distances[:, r.candidates()] for r in (ranked, raw))
    expected, weight = own / own.mean() + other / other.mean(), run.calibration.raw_weight
    fused = (1 - weight) * own + weight * other
    np.testing.assert_allclose(fused / fused.mean(), expected / expected.mean(), rtol=1e-5)
    assert (run.calibration_of("visual").visual_share, run.calibration_of("audio").visual_share) == (1, 0)


def test_a_balanced_weight_needs_the_fused_ranking() -> None:
    """Without it there is no weight to choose."""
    with pytest.raises(ValueError, match="raw_weight=balanced needs raw_fusion"):
        HeadConfig(raw_weight="balanced")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own internals
@pytest.mark.parametrize("half", [HeadAv, HeadText])
def test_each_half_gives_the_same_in_onnx_as_in_torch(
    half: type[nn.Module], run: Run, tmp_path: Path
) -> None:
    """Exported with five rows; compared with one and with seventeen, to 1e-5."""
    module, path, rows = half(run.network).eval(), tmp_path / "half.onnx", torch.export.Dim.DYNAMIC
    example = (torch.randn(5, N_VISUAL), torch.randn(5, N_AUDIO))
    shapes = ({0: rows}, {0: rows})
    torch.onnx.export(module, example, path, input_names=["a", "b"], dynamo=True, dynamic_shapes=shapes)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 17):
        a, b = torch.randn(n, N_VISUAL), torch.randn(n, N_AUDIO)
        (found,) = session.run(None, {"a": a.numpy(), "b": b.numpy()})
        np.testing.assert_allclose(found, module(a, b).detach().numpy(), atol=1e-5)


def _toy_world() -> GzslData:
    """The small world, cut to the three dimensions of the toy encoders."""
    data = small_world()
    splits = {
        name: SplitFeatures(clips.visual[:, :3], clips.audio[:, :3], clips.class_index)
        for name, clips in data.named_splits()
    }
    texts = [np.ascontiguousarray(text[:, :3]) for text in (data.text_visual, data.text_audio)]
    return replace(data, splits=splits, text_visual=texts[0], text_audio=texts[1])


def test_a_served_bundle_ranks_as_the_run_does(toy_bundle: Path, tmp_path: Path) -> None:
    """Distances of the service, clips without sound or picture included, against torch throughout."""
    data = _toy_world()
    config = SMALL.model_copy(update={"n_epochs": 1, "n_batches_per_epoch": 3})
    run = train(data, config, tmp_path / "run", n_threads=1)
    facts = BundleFacts("mine", "1", "For a test.", (), (), "pytest", 0, "simulated", "# card")
    _, parts = encoders_of(toy_bundle)
    export_bundle(tmp_path / "mine", parts, trained_head(run, ungated=True), facts)
    head = load_bundle(tmp_path / "mine", Runtime(device="cpu")).head

    visual, audio = (F.normalize(torch.randn(6, 3), dim=1) for _ in range(2))
    visual[4], audio[5] = 0, 0
    texts = Texts(F.normalize(torch.randn(9, 3), dim=1), F.normalize(torch.randn(9, 3), dim=1))
    clips = Clips(visual, audio, torch.zeros(6, dtype=torch.int64))
    served_texts = TextFeatures(texts.visual.numpy(), texts.audio.numpy())
    names = head.embed_names(served_texts)
    embedding = embedding_distances(run.network, "none", run.statistics, clips, texts).numpy()
    for row in range(6):
        given = [track[row].numpy() if track[row].any() else None for track in (visual, audio)]
        clip = ClipFeatures(*given)
        chosen = run.calibration_of("both" if row < 4 else "audio" if row == 4 else "visual")
        raw = raw_distances(run.statistics, clips, texts, chosen.visual_share).numpy()
        expected = (1 - chosen.raw_weight) * embedding[row] + chosen.raw_weight * raw[row]
        found = head.distances(head.embed_clip(clip), cosines_of(clip, served_texts), names)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
