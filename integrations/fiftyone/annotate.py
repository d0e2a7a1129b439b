"""Fill `Classifications` and `TemporalDetections` of a dataset from the service."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import fiftyone as fo

from integrations.spans import spans
from service.client import Answer, Client, ClientError


@dataclass(frozen=True)
class Names:
    """The candidates: names, or a stored label set."""

    labels: list[str] | None
    label_set: str | None


@dataclass(frozen=True)
class Fields:
    """What is filled.

    Attributes:
        whole: Gets the ranked names of the whole video.
        parts: Gets the stretches of the video with the best name of each; None: nothing does.
        segment_s: Length of a segment in seconds, or auto.
        top_k: Names of the whole video.
        max_unknown: Segments whose `unknown` is above this are in no stretch.
    """

    whole: str = "ahse"
    parts: str | None = "ahse_parts"
    segment_s: str = "auto"
    top_k: int = 5
    max_unknown: float = 0.5


@dataclass(frozen=True)
class Failure:
    """A sample that got nothing, and why."""

    filepath: str
    reason: str


def annotate(
    samples: Any, client: Client, names: Names, fields: Fields | None = None, at_once: int = 4
) -> list[Failure]:
    """Classify samples and save what was found; broken files are left as they are and listed.

    Args:
        samples: A dataset or a view. Stretches need the metadata of videos: compute_metadata() of FiftyOne.
        client: Of the service.
        names: The candidates.
        fields: What is filled.
        at_once: Clips that are sent at once.
    """
    fields = fields or Fields()
    paths = samples.values("filepath")
    failures = []
    with ThreadPoolExecutor(at_once) as threads:
        try:
            answers = threads.map(partial(_classify, client, names, fields), paths)
            for sample, answer in zip(samples.iter_samples(progress=True), answers, strict=True):
                if isinstance(answer, Failure):
                    failures.append(answer)
                else:
                    _fill(sample, answer, fields)
                    sample.save()
        finally:
            threads.shutdown(cancel_futures=True)
    return failures


def without(samples: Any, field: str) -> Any:
    """Those of the samples whose field is empty, so that an interrupted run goes on where it stopped."""
    return samples.exists(field, bool=False) if samples.has_field(field) else samples


def _classify(client: Client, names: Names, fields: Fields, path: str) -> Answer | Failure:
    try:
        return client.classify(
            path,
            labels=names.labels,
            label_set=names.label_set,
            top_k=fields.top_k,
            segment_s=fields.segment_s if fields.parts else None,
        )
    except ClientError as error:
        return Failure(path, error.message)
    except OSError as error:
        return Failure(path, error.strerror or "The file can't be read.")


def _fill(sample: Any, answer: Answer, fields: Fields) -> None:
    ranked = [fo.Classification(label=one.label, confidence=one.score) for one in answer.predictions]
    sample[fields.whole] = fo.Classifications(
        classifications=ranked, unknown=answer.unknown, bundle=f"{answer.bundle} {answer.bundle_version}"
    )
    if fields.parts and sample.metadata is not None:
        sample[fields.parts] = fo.TemporalDetections(detections=list(_detections(sample, answer, fields)))


def _detections(sample: Any, answer: Answer, fields: Fields) -> Iterator[Any]:
    n_frames = sample.metadata.total_frame_count
    for span in spans(answer.segments or (), fields.max_unknown):
        first, last = span.frames(sample.metadata.frame_rate)
        # Sound may last longer than the picture.
        if first <= n_frames:
            support = [first, min(last, n_frames)]
            yield fo.TemporalDetection(label=span.label, confidence=span.score, support=support)
