"""Class scores and names in one space: weights, lengths, and what is left of nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize, softmax

from model_export.everyday import class_names
from model_export.everyday.class_names import image_class_names, is_specific
from model_export.everyday.joined_encoders import AudioTower, Classes, NameTower, Weights

THREE = Weights(meaning=0.2, classes=0.5, evidence=0.3, temperature=0.1)
TWO = Weights(meaning=0.3, classes=0.7, evidence=0.0, temperature=0.1)


def _classes(weights: Weights, n: int = 7, dim: int = 5) -> Classes:
    torch.manual_seed(0)
    return Classes(normalize(torch.randn(n, dim), dim=-1), weights)


@pytest.mark.parametrize("weights", [THREE, TWO])
def test_clips_and_names_have_unit_length(weights: Weights) -> None:
    """In a space whose dim is told; parts of no weight take no room."""
    classes, logits = _classes(weights), 3 * torch.randn(4, 7)
    assert classes.dim == 5 + 7 * (2 if weights.evidence else 1)
    for features in (classes.of_scores(softmax(logits, dim=-1), logits), classes.of_names(torch.randn(4, 5))):
        assert features.shape == (4, classes.dim)
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(4))


@pytest.mark.parametrize("weights", [THREE, TWO])
def test_the_cosine_is_the_weighted_mean_of_the_parts(weights: Weights) -> None:
    """Each part worked out from the definition at the head of the module."""
    classes, logits = _classes(weights), 3 * torch.randn(6, 7)
    p, embeddings = softmax(logits, dim=-1), normalize(torch.randn(6, 5), dim=-1)
    found = (classes.of_scores(p, logits) * classes.of_names(embeddings)).sum(dim=-1)
    u = normalize(embeddings - classes.mean, dim=-1)
    s = softmax(u @ classes.centred.T / weights.temperature, dim=-1)
    meaning = cosine_similarity(p @ classes.centred, u)
    bhattacharyya = (p * s).sqrt().sum(dim=-1)
    evidence = cosine_similarity(logits - logits.mean(dim=-1, keepdim=True), s - 1 / 7)
    wanted = weights.meaning * meaning + weights.classes * bhattacharyya + weights.evidence * evidence
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_probabilities_of_zero_give_zeros() -> None:
    """Nothing recognised is near to no name, and no NaN."""
    found = _classes(TWO).of_scores(torch.zeros(2, 7), torch.zeros(2, 7))
    assert not found.any()


class _Patches(nn.Module):
    """Logits [batch, patches, 7] that the test gives."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, waveform: Tensor) -> Tensor:
        return self.logits[: len(waveform)]


def test_sound_has_the_root_of_the_sigmoid_averaged_over_patches() -> None:
    """By its logarithm in fp32, and plainly in fp64: the same from certain to impossible."""
    logits = torch.tensor([-120.0, -40.0, -15.0, -3.0, 0.0, 8.0, 90.0]).repeat(1, 3, 1)
    logits[:, 1:] += torch.tensor([[-2.0], [1.0]])
    classes, kept = _classes(TWO), torch.tensor([True] * 6 + [False])
    tower = AudioTower(_Patches(logits), classes, kept)  # type: ignore[arg-type]
    roots = torch.sigmoid(logits.double()).sqrt().mean(dim=1) * kept
    exact = Classes(torch.zeros(7, 5), TWO).double()
    exact.centred = classes.centred.double()
    wanted = exact.of_scores(roots * roots, logits.double().mean(dim=1))
    torch.testing.assert_close(tower(torch.zeros(1, 1)).double(), wanted, atol=1e-6, rtol=1e-5)


def test_a_class_that_is_left_out_says_nothing() -> None:
    """However sure the network is of it."""
    kept = torch.tensor([True] * 6 + [False])
    quiet, loud = torch.randn(1, 2, 7), torch.zeros(1, 2, 7)
    loud[:] = quiet
    loud[..., 6] = 50
    towers = [AudioTower(_Patches(logits), _classes(TWO), kept) for logits in (quiet, loud)]  # type: ignore[arg-type]
    torch.testing.assert_close(towers[0](torch.zeros(1, 1)), towers[1](torch.zeros(1, 1)))


def test_only_silence_gives_finite_numbers() -> None:
    """Every class that is kept is impossible."""
    tower = AudioTower(_Patches(torch.full((1, 2, 7), -400.0)), _classes(TWO), torch.ones(7).bool())  # type: ignore[arg-type]
    assert torch.isfinite(tower(torch.zeros(1, 1))).all()


class _Sentences(nn.Module):
    """Tokens are rows of a table."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table[tokens[:, 0]]


def test_names_are_encoded_once_for_both_tracks_and_nearness() -> None:
    """Nearness is the largest cosine to what is known: one for a known name itself."""
    table = normalize(torch.randn(5, 5), dim=-1)
    visual, audio = _classes(THREE), _classes(TWO, n=4)
    tower = NameTower(_Sentences(table), visual, audio, 3 * table[:3])  # type: ignore[arg-type]
    features = tower(torch.arange(5)[:, None])
    torch.testing.assert_close(features[0], visual.of_names(table))
    torch.testing.assert_close(features[1], audio.of_names(table))
    assert features[2].shape == (5, 1)
    torch.testing.assert_close(features[2][:3, 0], torch.ones(3))
    torch.testing.assert_close(features[2][3:, 0], (table[3:] @ table[:3].T).amax(dim=-1))


def test_imagenet_has_a_thousand_names() -> None:
    """Each is a text; two classes may share one, as `crane` does not here."""
    names = image_class_names()
    assert len(names) == 1000
    assert all(name.strip() == name and name for name in names)
    assert {"military uniform", "tench", "toilet paper"} <= set(names)


def test_what_is_too_general_is_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in the list, or another network, is found; what is listed is left out and nothing else."""
    monkeypatch.setattr(class_names, "_TOO_GENERAL", "\nSpeech; Music\nNarration, monologue\n")
    names = ["Speech", "Dog", "Narration, monologue", "Music", "Bark"]
    assert is_specific(names).tolist() == [False, True, False, False, True]
    with pytest.raises(ValueError, match=r"no classes \['Music'\]"):
        is_specific([name for name in names if name != "Music"])
