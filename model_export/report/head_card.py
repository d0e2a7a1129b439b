"""The figures and the model card of a bundle with a trained head."""

from __future__ import annotations

from collections.abc import Iterator

from model_export.data.gzsl_data import Track
from model_export.head.evaluation import Evaluation
from model_export.head.run_folder import Run
from model_export.report.measurements import MeasuredRun
from service.bundle.manifest import Manifest
from service.bundle.provenance import Metric

_TRACKS: dict[Track, str] = {"both": "both tracks", "visual": "picture only", "audio": "sound only"}
_FIGURES = {"seen": "S", "unseen": "U", "harmonic_mean": "HM", "zsl": "ZSL"}


def data_name(run: Run) -> str:
    """Name of the data that a run was trained on; says SIMULATED where it is."""
    data = run.config.data
    return f"SIMULATED {data.name}" if data.simulated else data.name


def metrics(measured: MeasuredRun) -> tuple[Metric, ...]:
    """The benchmark's four figures, with each set of tracks and for the raw similarities, per cent."""
    return tuple(
        Metric(
            name=f"{short}, {what}",
            value=round(getattr(one.accuracy, name), 4),
            data=f"test clips of {_counts(one)}",
        )
        for what, one in _evaluations(measured)
        for name, short in _FIGURES.items()
    )


def unseen_classes(measured: MeasuredRun) -> tuple[str, ...]:
    """The classes that the figures call unseen; one may have clips with a single track only."""
    rows = [row for _, one in _evaluations(measured) for row in one.classes]
    return tuple(dict.fromkeys(row.name for row in rows if not row.seen))


def model_card(run: Run, encoders: Manifest, measured: MeasuredRun | None) -> str:
    """The text of MODEL_CARD.md.

    Args:
        run: Run of the head.
        encoders: The manifest of the bundle that the encoders are from.
        measured: The run's figures; None where it was not evaluated.
    """
    data, seen = run.config.data, run.config.data.seen_classes
    return f"""# Model card: a head trained on {data_name(run)}

## Parts

- Encoders, copied byte for byte from the bundle {encoders.name} {encoders.version}. Their digest:
  `{data.encoders}`
- A head, trained on clips of the {len(seen)} classes below. Seed: {run.config.head.seed}. Fingerprint of the
  features: `{data.fingerprint}`

Epoch, beta, temperatures and fusion weights were chosen on validation classes and clips that a first head
had not been trained on; then the head was trained from scratch on training and validation clips together.
The test clips took no part.

Any other name can be ranked too. Results are better for names that are closer to what the encoders and the
head were trained on.

## What the head brings

{_brings(run)}

## Measured

{_measured(measured)}

## Classes that the head was trained on

{_listed(seen)}
"""


def _brings(run: Run) -> str:
    """The certificates, in words."""
    lines = []
    for track, what in _TRACKS.items():
        certificate = run.calibration_of(track).certificate
        lines.append(f"- {what}: {certificate.in_words if certificate else 'not measured'}")
    listed = "\n".join(lines)
    head = run.config.head
    then = (
        "Where the gain is not certain, the head is left out, and clips are ranked as without it."
        if head.raw_fusion and head.raw_weight == "validated"
        else "The head ranks as its method does, whatever it brings."
    )
    return f"""Against the ranking of the frozen encoders, in points of HM with 95 % intervals over classes,
by the first stage's head on validation clips. Weights and beta were chosen on other classes than those that
they were measured on; the epoch was chosen on all of them. {then}

{listed}"""


def _measured(measured: MeasuredRun | None) -> str:
    if measured is None:
        return "Not measured: the run was not evaluated before it was exported (`ahse evaluate`)."
    rows = [
        f"| {what} | {' | '.join(f'{getattr(one.accuracy, name):.1f}' for name in _FIGURES)} |"
        for what, one in _evaluations(measured)
    ]
    rows += [
        f"| {what} | {' | '.join(['not measured'] * len(_FIGURES))} |"
        for track, what in _TRACKS.items()
        if not measured.has(measured.own_ranking, track)
    ]
    table = "\n".join([f"| | {' | '.join(_FIGURES.values())} |", "|---|---|---|---|---|", *rows])
    return f"""{_tested(measured)}
Mean per class, in per cent: S and U with all of these classes as candidates, HM their harmonic mean, ZSL
with the unseen ones only. With few clips or classes the figures are coarse.

{table}

Unseen, known to the head by name only:

{_listed(unseen_classes(measured))}"""


def _listed(names: tuple[str, ...]) -> str:
    return "\n".join(f"- {name}" for name in names)


def _evaluations(measured: MeasuredRun) -> Iterator[tuple[str, Evaluation]]:
    for track, what in _TRACKS.items():
        if measured.has(measured.own_ranking, track):
            yield what, measured.of(measured.own_ranking, track)
    clips = "both tracks" if measured.has("raw") else "all test clips"
    yield f"{clips}, untrained late fusion", measured.of("raw")


def _tested(measured: MeasuredRun) -> str:
    """Which test clips there were; where some lack a track, with each set of tracks."""
    counts = {what: _counts(one) for what, one in _evaluations(measured)}
    if len(set(counts.values())) == 1:
        return f"Test clips of {_counts(measured.of(measured.own_ranking))}."
    return "\n".join(["Test clips:\n", *(f"- {what}: {count}" for what, count in counts.items()), ""])


def _counts(measured: Evaluation) -> str:
    """How many clips of how many classes were tested."""
    seen = [one.n_clips for one in measured.classes if one.seen]
    unseen = [one.n_clips for one in measured.classes if not one.seen]
    name = f"SIMULATED {measured.data}" if measured.simulated else measured.data
    return (
        f"{name}: {sum(seen)} clips of {len(seen)} classes that the head was trained on and {sum(unseen)} of "
        f"{len(unseen)} unseen ones"
    )
