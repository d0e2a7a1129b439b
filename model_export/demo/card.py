"""What the demo bundle says about itself: metrics for the manifest, the model card, tables."""

from __future__ import annotations

from collections.abc import Sequence

from model_export.data.gzsl_data import Track
from model_export.demo.evaluate import DemoScores
from model_export.head.evaluation import Accuracy
from service.bundle.provenance import Metric

GOALS = {"harmonic_mean": 92.0, "zsl": 95.0}

_TRACK_NAMES: dict[Track, str] = {"both": "both tracks", "visual": "picture only", "audio": "sound only"}
_FIGURES = {"seen": "S", "unseen": "U", "harmonic_mean": "HM", "zsl": "ZSL"}
_KIND_NAMES = {
    "new_pairing": "new pairings of known words",
    "new_to_head": "words that head training never had, of shapes and sounds it had",
    "new_to_encoders": "words that the encoders never had either",
}


def metrics(scores: DemoScores, late_fusion: Accuracy, n_differing: int) -> tuple[Metric, ...]:
    """Measured numbers for the manifest."""
    data = f"demo test: {scores.n_clips[0]} clips of seen and {scores.n_clips[1]} of unseen classes"
    found = [
        Metric(name=f"{short}, {_TRACK_NAMES[track]}", value=getattr(accuracy, name), data=data)
        for track, accuracy in scores.tracks.items()
        for name, short in _FIGURES.items()
    ]
    found += [
        Metric(name=f"{short}, untrained late fusion", value=getattr(late_fusion, name), data=data)
        for name, short in _FIGURES.items()
    ]
    for kind in scores.kinds:
        named = f"{kind.n_classes} unseen classes: {_KIND_NAMES[kind.kind]}"
        found.append(Metric(name=f"U, {named}", value=kind.unseen, data=data))
        found.append(Metric(name=f"ZSL, {named}", value=kind.zsl, data=data))
    found.append(Metric(name="decisions unlike torch's", value=n_differing, data=data, unit="count"))
    return tuple(found)


def table(scores: DemoScores, late_fusion: Accuracy | None = None) -> str:
    """Markdown table of the four figures."""
    rows = [(_TRACK_NAMES[track], accuracy) for track, accuracy in scores.tracks.items()]
    if late_fusion is not None:
        rows.append(("both tracks, untrained late fusion", late_fusion))
    lines = ["| demo bundle, demo clips | S | U | HM | ZSL |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {_cells(accuracy)} |" for name, accuracy in rows]
    return "\n".join(lines)


def kind_table(scores: DemoScores) -> str:
    """Markdown table of the unseen classes by kind."""
    lines = ["| unseen classes, both tracks | classes | U | ZSL |", "|---|---|---|---|"]
    lines += [
        f"| {_KIND_NAMES[kind.kind]} | {kind.n_classes} | {kind.unseen:.1f} | {kind.zsl:.1f} |"
        for kind in scores.kinds
    ]
    return "\n".join(lines)


def verdict(scores: DemoScores) -> Sequence[str]:
    """Each goal and by how much it was met or missed."""
    both = scores.tracks["both"]
    lines = []
    for name, goal in GOALS.items():
        value = getattr(both, name)
        word = "met" if value >= goal else f"missed by {goal - value:.1f}"
        lines.append(f"- {_FIGURES[name]} >= {goal:g}: {value:.1f}, {word}.")
    return lines


def model_card(scores: DemoScores, late_fusion: Accuracy, command: str) -> str:
    """The text of MODEL_CARD.md.

    Args:
        scores: Of the bundle.
        late_fusion: Of the raw similarities alone.
        command: That made the bundle.
    """
    return f"""# Model card: the demo bundle

**This bundle knows only its own world.** It was trained on procedurally made clips: one of 16 drawn shapes
is shown while one of 16 synthesised sounds is heard, among clutter and noise. It can say which of these fits
a clip of that world. On real videos its answers mean nothing; it exists so that the service can be tried,
tested and measured without a download. Made by `{command}`, no outside data
is used; `--keep-encoders` trains the head anew beside encoders that an earlier `ahse demo build` trained.

## Parts

- a tiny CLIP (image and text tower) and a tiny CLAP (sound and text tower), trained on demo captions;
- an AHSE head trained on clips of 60 seen and 18 validation classes by the two-stage protocol; beta,
  temperature and fusion weights were chosen on validation only;
- stored standardisation statistics: mean and deviation of each of the embedding's 64 dimensions, over the
  training clips and over the names of their classes, from one pass after training. At inference every
  embedding is standardised by them, and then by its own mean and deviation.

## Measured

On a fixed test: {scores.n_clips[0]} clips of the 78 classes that the final head was trained on and
{scores.n_clips[1]} of 18 classes that it never saw; mean per class, in per cent; S and U with all 96 names as
candidates, ZSL with the 18 unseen ones. Measured through the service's own code; `ahse demo evaluate` does it
again.

{table(scores, late_fusion)}

{kind_table(scores)}

Against untrained late fusion of the same encoders the head makes {_gain(scores, late_fusion)} points of HM.
Picture and sound of a demo clip are independent given its class, so adding both similarities is close to the
best that can be done here; do not judge the head by this world.

Goals that were set before:

{chr(10).join(verdict(scores))}
"""


def _gain(scores: DemoScores, late_fusion: Accuracy) -> str:
    return f"{scores.tracks['both'].harmonic_mean - late_fusion.harmonic_mean:+.1f}"


def _cells(accuracy: Accuracy) -> str:
    return " | ".join(f"{getattr(accuracy, name):.1f}" for name in _FIGURES)
