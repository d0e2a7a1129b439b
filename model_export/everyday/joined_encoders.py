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

from model_export.everyday.rebuilt_networks import SentenceEncoder, Yamnet


@dataclass(frozen=True)
class Weights:
    """Weights of the parts of the cosine, in sum 1, and the temperature by which a name chooses classes."""

    meaning: float
    classes: float
    evidence: float
    temperature: float

    def scale(self, parts: list[Tensor]) -> Tensor:
        """Parts of unit length side by side, each scaled by the root of its weight: [batch, sum of dims]."""
        weights = (self.meaning, self.classes, self.evidence)
        return torch.cat([part * weight**0.5 for part, weight in zip(parts, weights, strict=False)], dim=-1)


class Classes(nn.Module):
    """The classes of one network in the space of the text encoder.

    Args:
        embeddings: Embeddings of the class names, float32 [n, dim].
        weights: Weights of the parts.
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
        """Length of the features of clips and names."""
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


class ImageTower(nn.Module):
    """frames uint8 [batch, size, size, 3] RGB to features [batch, dim] by a classifier of pictures."""

    def __init__(self, network: nn.Module, classes: Classes) -> None:
        super().__init__()
        self.network = network
        self.classes = classes

    def forward(self, frames: Tensor) -> Tensor:
        """EfficientNet-Lite takes (pixel - 127) / 128."""
        logits = self.network((frames.permute(0, 3, 1, 2).float() - 127) / 128)
        return self.classes.of_scores(softmax(logits, dim=-1), logits)


class AudioTower(nn.Module):
    """waveform float32 [batch, samples] to features [batch, dim] by a tagger of sounds.

    Args:
        network: Gives logits of all classes for each patch of a waveform.
        classes: Classes of the network.
        kept: Classes that tell recordings apart, bool [n]; the others fit nearly every recording.
    """

    kept: Tensor

    def __init__(self, network: Yamnet, classes: Classes, kept: Tensor) -> None:
        super().__init__()
        self.network = network
        self.classes = classes
        self.register_buffer("kept", kept.float())

    def forward(self, waveform: Tensor) -> Tensor:
        """Average the roots of the classes' probabilities over the patches.

        So a sound that lasts counts more than one patch in which the network is sure of something.
        """
        logits = self.network(waveform)
        # The root of the sigmoid, by its logarithm: onnxruntime's sigmoid has an error of 1e-7, of which the
        # root makes 3e-4, and it can be below zero on silence, where the root would be NaN.
        roots = torch.exp(-0.5 * softplus(-logits)).mean(dim=1) * self.kept
        return self.classes.of_scores(roots * roots, logits.mean(dim=1))


class NameTower(nn.Module):
    """tokens int64 [batch, length] to features for both tracks and nearness to known names.

    Args:
        sentences: The text encoder.
        visual: Classes of the image network.
        audio: Classes of the audio network.
        known: Embeddings of all class names, float32 [n, 384].
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
