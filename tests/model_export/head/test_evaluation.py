"""What an evaluation reports, and that it is independent of the test clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model_export.data.gzsl_data import GzslData, Track
from model_export.errors import RunError
from model_export.head.distances import embedding_distances, raw_distances
from model_export.head.evaluation import Evaluation, RankedBy, evaluate
from model_export.head.run_folder import Run
from model_export.head.stage_tensors import Clips, StageTensors, Texts
from model_export.head.standardisation import Statistics, exact_statistics

CPU = torch.device("cpu")


def fused_in_numpy(run: Run, data: GzslData, split: str, classes: np.ndarray) -> np.ndarray:
    """The ranking as the service computes it: theta from the network, all else in float64 numpy."""
    s = {name: getattr(run.statistics, name).numpy().astype(np.float64) for name in vars(run.statistics)}
    clips, c = data.splits[split], run.calibration  # type: ignore[index]

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)  # type: ignore[no-any-return]

    def z(theta: torch.Tensor, side: str) -> np.ndarray:
        x = (theta.detach().numpy().astype(np.float64) - s[f"{side}_mean"]) / s[f"{side}_std"]
        return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)  # type: ignore[no-any-return]

    tensors = [torch.from_numpy(x) for x in (clips.visual, clips.audio)]
    texts = [torch.from_numpy(x[classes]) for x in (data.text_visual, data.text_audio)]
    av, text = z(run.network.embed_av(*tensors), "av"), z(run.network.embed_text(*texts), "text")
    embedding = np.linalg.norm(av[:, None] - text[None], axis=2)
    cosines = [
        unit(unit(x) - s[f"{name}_mean"]) @ unit(unit(t[classes]) - s[f"text_{name}_mean"]).T
        for name, x, t in (
            ("visual", clips.visual, data.text_visual),
            ("audio", clips.audio, data.text_audio),
        )
    ]
    cosine = c.visual_share * cosines[0] + (1 - c.visual_share) * cosines[1]
    raw = 8 * np.sqrt(2 - 2 * cosine)
    return (1 - c.raw_weight) * embedding + c.raw_weight * raw  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def evaluation(small_run: Run, small_data: GzslData) -> Evaluation:
    """Of the small run as it is configured."""
    return evaluate(small_run, small_data)


def test_accuracy_is_what_a_plain_numpy_ranking_gives(
    evaluation: Evaluation, small_run: Run, small_data: GzslData
) -> None:
    """S, U and ZSL recomputed without any code of the package but the networks."""
    seen, unseen = np.arange(9), np.arange(9, 12)
    everything = np.concatenate([seen, unseen])
    beta = small_run.calibration.beta * np.isin(everything, seen)

    def accuracy(split: str, classes: np.ndarray, shift: np.ndarray) -> float:
        d = fused_in_numpy(small_run, small_data, split, classes) + shift
        right = classes[d.argmin(1)] == small_data.splits[split].class_index  # type: ignore[index]
        return 100 * float(right.mean())  # all classes have as many clips

    assert evaluation.accuracy.seen == pytest.approx(accuracy("test_seen", everything, beta))
    assert evaluation.accuracy.unseen == pytest.approx(accuracy("test_unseen", everything, beta))
    assert evaluation.accuracy.zsl == pytest.approx(accuracy("test_unseen", unseen, np.zeros(3)))
    assert evaluation.accuracy.harmonic_mean > 60  # the small world is easy; chance is 8


def test_stored_statistics_are_one_exact_pass(small_run: Run, small_data: GzslData) -> None:
    """Recomputed in numpy over all training clips and, each once, all training classes."""
    train = small_data.stage(2).train
    theta = small_run.network.embed_av(torch.from_numpy(train.visual), torch.from_numpy(train.audio))
    text = small_run.network.embed_text(
        torch.from_numpy(small_data.text_visual[:9]), torch.from_numpy(small_data.text_audio[:9])
    )
    s = small_run.statistics
    for rows, mean, std in ((theta, s.av_mean, s.av_std), (text, s.text_mean, s.text_std)):
        x = rows.detach().numpy().astype(np.float64)
        np.testing.assert_allclose(mean, x.mean(0), atol=1e-5)
        np.testing.assert_allclose(std, np.sqrt(x.var(0) + 1e-5), atol=1e-5)


def test_statistics_are_read_as_they_were_saved(small_run: Run) -> None:
    """All ten tensors, bit for bit, under their names."""
    again = Statistics.load(small_run.path / "statistics.safetensors")
    for name, value in vars(again).items():
        assert torch.equal(value, getattr(small_run.statistics, name))


def test_distances_to_a_class_do_not_depend_on_other_classes(small_run: Run, small_data: GzslData) -> None:
    """Distances to twelve classes are those to nine, and three more."""
    clips = Clips.of(small_data.splits["test_seen"], CPU)
    texts = Texts.of(small_data, CPU)
    few = Texts(texts.visual[:9], texts.audio[:9])
    mode, s = small_run.config.head.standardisation, small_run.statistics
    all_classes = embedding_distances(small_run.network, mode, s, clips, texts)
    nine = embedding_distances(small_run.network, mode, s, clips, few)
    torch.testing.assert_close(all_classes[:, :9], nine, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        raw_distances(s, clips, texts, 0.5)[:, :9], raw_distances(s, clips, few, 0.5), atol=5e-5, rtol=0
    )


def test_one_clip_alone_is_ranked_as_within_any_batch(small_run: Run, small_data: GzslData) -> None:
    """Evaluation never uses statistics of the test batch."""
    clips, texts = Clips.of(small_data.splits["test_unseen"], CPU), Texts.of(small_data, CPU)
    mode, s = small_run.config.head.standardisation, small_run.statistics
    batch = embedding_distances(small_run.network, mode, s, clips, texts)
    for i in (0, 11, 23):
        one = Clips(clips.visual[i : i + 1], clips.audio[i : i + 1], clips.class_index[i : i + 1])
        alone = embedding_distances(small_run.network, mode, s, one, texts)
        torch.testing.assert_close(alone[0], batch[i], atol=1e-5, rtol=0)


def test_statistics_come_from_the_training_clips_only(small_run: Run, small_data: GzslData) -> None:
    """Stages that differ in their evaluation clips have the same statistics."""
    stage = StageTensors.of(small_data, small_data.stage(2), CPU)
    swapped = replace(stage, eval_seen=stage.eval_unseen)
    a, b = (exact_statistics(small_run.network, "stored_then_sample", s) for s in (stage, swapped))
    assert all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_a_missing_track_is_ranked_by_the_other(small_run: Run, small_data: GzslData) -> None:
    """A row of zeros is replaced by the fill-in feature and has no say in the raw distance."""
    split = small_data.splits["test_seen"]
    silent = replace(split, audio=np.zeros_like(split.audio))
    filled = replace(split, audio=np.tile(small_run.statistics.fill_audio.numpy(), (len(split), 1)))
    texts, s = Texts.of(small_data, CPU), small_run.statistics
    mode = small_run.config.head.standardisation
    by_zero, by_fill = (
        embedding_distances(small_run.network, mode, s, Clips.of(clips, CPU), texts)
        for clips in (silent, filled)
    )
    torch.testing.assert_close(by_zero, by_fill)
    raw = raw_distances(s, Clips.of(silent, CPU), texts, 0.3)
    torch.testing.assert_close(raw, raw_distances(s, Clips.of(split, CPU), texts, 1.0))
    assert raw.isfinite().all()


@pytest.mark.parametrize("track", ["visual", "audio"])
def test_evaluation_measures_clips_with_a_single_track(
    small_run: Run, small_data: GzslData, track: str
) -> None:
    """Better than chance (8 per cent), and no better than both tracks with this much noise."""
    one = evaluate(small_run, small_data, track=track)  # type: ignore[arg-type]
    assert one.track == track
    assert one.accuracy.seen > 16


def test_evaluation_measures_each_ranking_with_its_own_calibration(
    small_run: Run, small_data: GzslData
) -> None:
    """The embedding alone, the raw features alone, both; each with its own calibration."""
    found: dict[RankedBy, Evaluation] = {}
    rankings: tuple[RankedBy, ...] = ("embedding", "fused", "raw")
    for ranking in rankings:
        found[ranking] = evaluate(small_run, small_data, ranking=ranking)
    assert found["embedding"].calibration.raw_weight == 0
    assert found["raw"].calibration.raw_weight == 1
    assert found["fused"].calibration.harmonic_mean >= found["embedding"].calibration.harmonic_mean


def test_an_evaluation_is_complete_and_read_as_it_was_written(
    evaluation: Evaluation, small_data: GzslData
) -> None:
    """Per-class table over all test classes, and figures within their ranges."""
    assert {row.name for row in evaluation.classes} == set(small_data.class_names)
    assert sum(row.n_clips for row in evaluation.classes) == 12 * 8
    assert sum(evaluation.hubness.occurrences) == 12 * 8 * 10
    assert 0 <= evaluation.calibration_error <= 1
    assert evaluation.unknown_auroc > 0.5
    assert evaluation.simulated
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation


def test_evaluation_refuses_data_that_the_run_was_not_trained_on(
    small_run: Run, small_data: GzslData
) -> None:
    """Numbers of a run are only those on its own data."""
    other = replace(small_data, text_visual=small_data.text_visual + 1)
    with pytest.raises(RunError, match="other data"):
        evaluate(small_run, other)


@pytest.mark.parametrize("track", ["visual", "audio"])
def test_clips_with_one_track_have_a_calibration_of_their_own(
    small_run: Run, small_data: GzslData, track: Track
) -> None:
    """Chosen on validation clips with that track only, and used for such test clips."""
    alone = small_run.calibration_of(track)
    assert alone == getattr(small_run.calibrations, track)
    assert alone != small_run.calibration
    assert alone.visual_share == float(track == "visual")
    assert evaluate(small_run, small_data, track=track).calibration == alone
