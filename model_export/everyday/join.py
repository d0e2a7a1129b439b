"""Join networks of fixed classes to open names: class scores and names meet in the space of a text encoder.

A clip is described by what a classifier with n classes says of it, a name by how near it is to the names of
those classes. With C [n, 384] the sentence embeddings of the class names about their mean:

    clip:  p = class probabilities, z = logits about their mean
           unit(p C)        the mean meaning of what was recognised (ConSE; Norouzi et al., ICLR 2014)
           unit(sqrt p)     the classes themselves
           z / |z|          and all of them, also the improbable ones
    name:  u = unit(embedding - mean),  s = softmax(u C' / temperature)
           u,  sqrt s  and  unit(s - 1 / n)

Each part has unit length, and the parts stand side by side, each scaled by the root of its weight: so the
cosine of a clip and a name is the weighted mean of the parts' cosines. (sqrt p) . (sqrt s) is Bhattacharyya's
coefficient of two distributions over the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softmax, softplus

from model_export.everyday.networks import SentenceEncoder, Yamnet


@dataclass(frozen=True)
class Weights:
    """What each part of the cosine counts, in sum 1, and how sharply a name chooses among the classes."""

    meaning: float
    classes: float
    evidence: float
    temperature: float

    def scale(self, parts: list[Tensor]) -> Tensor:
        """The parts, of unit length each, side by side: [batch, sum of dims], of unit length."""
        weights = (self.meaning, self.classes, self.evidence)
        return torch.cat([part * weight**0.5 for part, weight in zip(parts, weights, strict=False)], dim=-1)


class Classes(nn.Module):
    """The classes of one network in the space of the text encoder.

    Args:
        embeddings: float32 [n, dim], of the class names.
        weights: of the parts.
    """

    mean: Tensor
    centred: Tensor

    def __init__(self, embeddings: Tensor, weights: Weights) -> None:
        super().__init__()
        self.register_buffer("mean", embeddings.mean(dim=0))
        self.register_buffer("centred", embeddings - embeddings.mean(dim=0))
        self.weights = weights

    @property
    def dim(self) -> int:
        """Of the features of clips and names."""
        n, dim = self.centred.shape
        return dim + n * (2 if self.weights.evidence else 1)

    def of_scores(self, probabilities: Tensor, logits: Tensor) -> Tensor:
        """Features of pictures or sounds: float32 [batch, n] twice to [batch, dim]."""
        parts = [normalize(probabilities @ self.centred, dim=-1), normalize(probabilities.sqrt(), dim=-1)]
        if self.weights.evidence:
            parts.append(normalize(logits - logits.mean(dim=-1, keepdim=True), dim=-1))
        return self.weights.scale(parts)

    def of_names(self, embeddings: Tensor) -> Tensor:
        """Features of names: sentence embeddings float32 [batch, 384] to [batch, dim]."""
        u = normalize(embeddings - self.mean, dim=-1)
        shares = softmax(u @ self.centred.T / self.weights.temperature, dim=-1)
        parts = [u, shares.sqrt()]
        if self.weights.evidence:
            parts.append(normalize(shares - shares.mean(dim=-1, keepdim=True), dim=-1))
        return self.weights.scale(parts)


class PictureTower(nn.Module):
    """frames uint8 [batch, size, size, 3] RGB to features [batch, dim] by a classifier of pictures."""

    def __init__(self, network: nn.Module, classes: Classes) -> None:
        super().__init__()
        self.network = network
        self.classes = classes

    def forward(self, frames: Tensor) -> Tensor:
        """EfficientNet-Lite takes (pixel - 127) / 128."""
        logits = self.network((frames.permute(0, 3, 1, 2).float() - 127) / 128)
        return self.classes.of_scores(softmax(logits, dim=-1), logits)


class SoundTower(nn.Module):
    """waveform float32 [batch, samples] to features [batch, dim] by a tagger of sounds.

    Args:
        network: Tells what is heard in each patch of a waveform.
        classes: Of the network.
        kept: bool [n], classes that say what is heard; the others fit nearly every recording.
    """

    kept: Tensor

    def __init__(self, network: Yamnet, classes: Classes, kept: Tensor) -> None:
        super().__init__()
        self.network = network
        self.classes = classes
        self.register_buffer("kept", kept.float())

    def forward(self, waveform: Tensor) -> Tensor:
        """Every class has a probability of its own; over the patches the roots are averaged.

        So a sound that lasts counts more than one patch in which the network is sure of something.
        """
        logits = self.network(waveform)
        # The root of the sigmoid, by its logarithm: onnxruntime's sigmoid is right to 1e-7 only, of which the
        # root makes 1e-4, and goes below zero on silence, which has no root.
        roots = torch.exp(-0.5 * softplus(-logits)).mean(dim=1) * self.kept
        return self.classes.of_scores(roots * roots, logits.mean(dim=1))


class NameTower(nn.Module):
    """tokens int64 [batch, length] to what both tracks and the warning need of a name, encoded once.

    Args:
        sentences: The text encoder.
        visual: Classes of the network that sees.
        audio: Classes of the network that hears.
        known: float32 [n, 384], embeddings of all names that either was trained with.
    """

    known: Tensor

    def __init__(self, sentences: SentenceEncoder, visual: Classes, audio: Classes, known: Tensor) -> None:
        super().__init__()
        self.sentences = sentences
        self.visual = visual
        self.audio = audio
        self.register_buffer("known", normalize(known, dim=-1))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features [batch, visual dim] and [batch, audio dim], and nearness [batch, 1]."""
        embeddings = self.sentences(tokens)
        nearest = (embeddings @ self.known.T).amax(dim=-1, keepdim=True)
        return self.visual.of_names(embeddings), self.audio.of_names(embeddings), nearest
