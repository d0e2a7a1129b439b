"""The head of a bundle as it is loaded: a trained one with its graphs, or stored statistics alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service.bundle.graph import Axes, Graph, Inputs
from service.bundle.manifest import AhseHead, Manifest, SimilarityHead
from service.bundle.providers import Runtime
from service.bundle.similarity import SimilarityStatistics, load_similarity_statistics
from service.bundle.statistics import Statistics, load_statistics


@dataclass(frozen=True)
class LoadedAhse:
    """A trained head: `av` and `text` make theta, the statistics standardise it."""

    facts: AhseHead
    av: Graph
    text: Graph
    statistics: Statistics


@dataclass(frozen=True)
class LoadedSimilarity:
    """No trained head: the statistics standardise the similarity of each track to its own text."""

    facts: SimilarityHead
    statistics: SimilarityStatistics | None
    """None: similarity is cosine x logit scale."""


def load_head(directory: Path, manifest: Manifest, runtime: Runtime) -> LoadedAhse | LoadedSimilarity:
    """Open the head that the manifest describes.

    Raises:
        BundleInvalidError: a graph or the statistics are not what the manifest says.
    """
    facts, visual_dim, audio_dim = manifest.head, manifest.visual.dim, manifest.audio.dim
    if isinstance(facts, SimilarityHead):
        if facts.statistics is None:
            return LoadedSimilarity(facts, None)
        file = directory / facts.statistics
        return LoadedSimilarity(facts, load_similarity_statistics(file, visual_dim, audio_dim))
    features: Inputs = {"visual": ("float", (visual_dim,)), "audio": ("float", (audio_dim,))}
    axes = Axes(features, {"theta": facts.dim})
    return LoadedAhse(
        facts,
        av=Graph(directory / facts.av_graph, axes, runtime),
        text=Graph(directory / facts.text_graph, axes, runtime),
        statistics=load_statistics(
            directory / facts.statistics, dim=facts.dim, visual_dim=visual_dim, audio_dim=audio_dim
        ),
    )
