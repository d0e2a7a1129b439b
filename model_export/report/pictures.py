"""The pictures of a report, each drawn on a figure of its own and returned as PNG."""

from collections.abc import Sequence
from io import BytesIO
from textwrap import fill
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from model_export.report.measurements import MeasuredRun, Sample
from model_export.report.tables import Method, data_title

DPI: Final = 90
RANKED_BY: Final = {"embedding": "embedding", "fused": "embedding and raw", "raw": "raw similarities"}


def embedding_map(found: Sequence[Method]) -> bytes:
    """t-SNE of the first seed's embeddings: clips as dots, class names as stars, a colour for each class."""
    figure, axes = _panels(f"t-SNE of unseen classes, {data_title(found)}", len(found), height=4.6)
    for ax, method in zip(axes, found, strict=True):
        _draw_map(ax, method.runs[0].sample)
        _title(ax, method.name, f"seed {method.seeds[0]}")
    names = found[0].runs[0].sample.names
    legend = figure.legend(
        *axes[0].get_legend_handles_labels(), loc="lower center", ncols=5, fontsize=7, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # dollars in a name are dollars
    figure.subplots_adjust(
        bottom=0.06 + 0.045 * (1 + len(names) // 5), left=0.02, right=0.98, top=0.83, wspace=0.04
    )
    return _png(figure)


def _draw_map(ax: Axes, sample: Sample) -> None:
    points = np.concatenate([sample.z, sample.prototypes]).astype(np.float64)
    perplexity = min(30.0, (len(points) - 1) / 3)
    flat = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(points)
    clips, prototypes = flat[: len(sample.z)], flat[len(sample.z) :]
    for c, name in enumerate(sample.names):
        own, colour = clips[sample.class_index == c], f"C{c}"
        ax.scatter(own[:, 0], own[:, 1], s=7, color=colour, label=name)
        x, y = prototypes[c]
        ax.scatter(x, y, s=130, marker="*", color=colour, edgecolor="black", linewidth=0.8)
    ax.set_xticks([])
    ax.set_yticks([])


def beta_curves(found: Sequence[Method]) -> bytes:
    """S, U and HM against beta on the test clips; the vertical line is the beta that validation chose."""
    figure, axes = _panels(f"Calibrated stacking, {data_title(found)}", len(found))
    for ax, method in zip(axes, found, strict=True):
        own = method.runs[0].of(method.runs[0].own_ranking)
        beta = [row.beta for row in own.beta_curve]
        for label, name in (("S", "seen"), ("U", "unseen"), ("HM", "harmonic_mean")):
            ax.plot(beta, [getattr(row, name) for row in own.beta_curve], label=label)
        ax.axvline(own.calibration.beta, color="black", linestyle=":", linewidth=1, label="chosen")
        _title(ax, method.name, f"seed {own.seed}, ranked by {RANKED_BY[own.ranking]}")
        ax.set(xlabel="beta", ylim=(0, 100))
    axes[0].set_ylabel("per cent")
    axes[0].legend(fontsize=8)
    return _png(figure)


def hubness_histogram(found: Sequence[Method]) -> bytes:
    """Histogram of how often classes are among the 10 nearest of a clip, all seeds together."""
    figure, axes = _panels(f"10-occurrences of the classes, {data_title(found)}", len(found))
    counts = [np.concatenate([_occurrences(run) for run in method.runs]) for method in found]
    bins = np.linspace(0, max(c.max() for c in counts) + 1, 40)
    for ax, method, count in zip(axes, found, counts, strict=True):
        ax.hist(count, bins=bins.tolist(), color="C0")
        ax.axvline(float(count.mean()), color="black", linestyle=":", linewidth=1)
        _title(ax, method.name, f"skewness {method.figure('hubness').shown()}")
        ax.set(xlabel="10-occurrence, by the embedding", yscale="log")
    axes[0].set_ylabel("classes")
    return _png(figure)


def _occurrences(run: MeasuredRun) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(run.of("embedding").hubness.occurrences)


def reliability_diagram(found: Sequence[Method]) -> bytes:
    """Share of right predictions by confidence; probabilities are reliable near the diagonal."""
    figure, axes = _panels(f"Reliability, {data_title(found)}", len(found))
    for ax, method in zip(axes, found, strict=True):
        ranking = method.runs[0].own_ranking
        own = method.runs[0].of(ranking)
        confidence = [b.confidence for b in own.reliability]
        sizes = [10 + 200 * b.n_clips / sum(x.n_clips for x in own.reliability) for b in own.reliability]
        ax.plot([0, 1], [0, 1], color="grey", linewidth=1)
        ax.scatter(confidence, [b.accuracy for b in own.reliability], s=sizes)
        _title(ax, method.name, f"{RANKED_BY[ranking]}: ECE {method.figure('ECE', ranking).shown(3)}")
        ax.set(xlabel="confidence", xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("share that is right")
    return _png(figure)


def _panels(title: str, n: int, height: float = 3.4) -> tuple[Figure, list[Axes]]:
    """A figure with n panels side by side."""
    figure = Figure(figsize=(4.4 * n, height))
    figure.suptitle(title, fontsize=11, parse_math=False)
    axes = figure.subplots(1, n, squeeze=False)
    figure.subplots_adjust(top=0.76, bottom=0.15, left=0.16 / n + 0.02, right=0.98)
    return figure, list(axes[0])


def _title(ax: Axes, name: str, more: str) -> None:
    ax.set_title(fill(name, 52) + "\n" + more, fontsize=9, parse_math=False)


def _png(figure: Figure) -> bytes:
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()
