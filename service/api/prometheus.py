"""Prometheus metrics, one registry for each app, so that apps in one process don't share counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# Nothing was worked on: no key, no right, no place. Among the times of answers they would hide how long those
# wait who were let in.
_REFUSED = frozenset({401, 403, 429})
# Steps that are not taken for a clip whose features are known.
_SPARED = frozenset({"decode", "encode"})
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """What the service counts and times."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "ahse_requests", "Answered requests.", ["method", "route", "status"], registry=self.registry
        )
        self._request_seconds = Histogram(
            "ahse_request_seconds",
            "Time to answer, upload included, without requests that were refused with 401, 403 or 429.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._step_seconds = Histogram(
            "ahse_step_seconds",
            "Time of one step of classify.",
            ["step"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._labels = Counter(
            "ahse_labels",
            "Candidate names by whether their embedding was known.",
            ["cache"],
            registry=self.registry,
        )

        self._clip_features = Counter(
            "ahse_clip_features",
            "Ranked clips by whether their features were known, so that nothing was decoded.",
            ["cache"],
            registry=self.registry,
        )

        self._batch_rows = Histogram(
            "ahse_batch_rows",
            "Rows that an encoder ran at once.",
            ["encoder"],
            buckets=_ROWS,
            registry=self.registry,
        )
        self._rows_waiting = Gauge(
            "ahse_rows_waiting", "Rows that wait for an encoder.", ["encoder"], registry=self.registry
        )
        self._dropped = Counter(
            "ahse_dropped_requests",
            "Requests that were given up: the client left, or it took too long; by what they waited for.",
            ["waited_for"],
            registry=self.registry,
        )

        self._warm_ups = Counter(
            "ahse_warm_ups",
            "Label sets whose labels were to be embedded behind requests, by what became of it.",
            ["outcome"],
            registry=self.registry,
        )
        self._stale_label_sets = Counter(
            "ahse_stale_label_sets",
            "Answers with a label set as it was read last, since the store was away.",
            registry=self.registry,
        )
        self._jobs = Gauge("ahse_jobs", "Jobs that have not ended.", registry=self.registry)
        self._job_clips = Counter(
            "ahse_job_clips",
            "Clips of jobs that were finished, by whether they have an answer or a problem.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("answer", "problem"):  # from 0, else Prometheus would not see the first clip
            self._job_clips.labels(outcome)

    def count_clips(self, n_clips: Callable[[], int]) -> None:
        """Ask for the number of clips whenever the metrics are read."""
        gauge = Gauge("ahse_clips", "Clips that are worked on or wait for it.", registry=self.registry)
        gauge.set_function(n_clips)

    def watch_store(self, is_away: Callable[[], bool]) -> None:
        """Ask whether the database that replicas share is away whenever the metrics are read."""
        gauge = Gauge(
            "ahse_store_away",
            "1 while the database that replicas share does not answer.",
            registry=self.registry,
        )
        gauge.set_function(is_away)

    def stale_label_set(self) -> None:
        """Count an answer with a label set as it was read last, since the store is away."""
        self._stale_label_sets.inc()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request, and time it unless it was refused.

        Args:
            method: Of a fixed list: each makes a series of its own, which stays.
            route: Pattern of the address.
            status: HTTP status.
            seconds: Time to answer.
        """
        self._requests.labels(method, route, str(status)).inc()
        if status not in _REFUSED:
            self._request_seconds.labels(route).observe(seconds)

    def names(self, timings_ms: Mapping[str, float], n_labels: int, n_encoded: int) -> None:
        """Record the steps of a request up to its names, and how many of these had to be encoded.

        That is once for all of its clips, and also where none of them can be ranked.
        """
        self._steps(timings_ms)
        self._labels.labels("miss").inc(n_encoded)
        self._labels.labels("hit").inc(n_labels - n_encoded)

    def classification(self, timings_ms: Mapping[str, float], *, is_known: bool) -> None:
        """Record the further steps of one clip, and whether its features were known before."""
        self._clip_features.labels("hit" if is_known else "miss").inc()
        self._steps({step: ms for step, ms in timings_ms.items() if not (is_known and step in _SPARED)})

    def _steps(self, timings_ms: Mapping[str, float]) -> None:
        for step, ms in timings_ms.items():
            self._step_seconds.labels(step).observe(ms / 1000)

    def batch_ran(self, encoder: str, n_rows: int) -> None:
        """Record one run of an encoder."""
        self._batch_rows.labels(encoder).observe(n_rows)

    def rows_waiting(self, encoder: str, change: int) -> None:
        """So many more rows wait for an encoder, or fewer."""
        self._rows_waiting.labels(encoder).inc(change)

    def jobs(self, n_unfinished: int) -> None:
        """So many jobs have not ended."""
        self._jobs.set(n_unfinished)

    def job_clip(self, outcome: str) -> None:
        """Count a finished clip of a job: `answer` or `problem`."""
        self._job_clips.labels(outcome).inc()

    def warm_up(self, outcome: str) -> None:
        """Count a label set that was to be embedded: `done`, `failed`, or `refused` where too many wait."""
        self._warm_ups.labels(outcome).inc()

    def dropped(self, waited_for: str) -> None:
        """Count a request that was given up."""
        self._dropped.labels(waited_for).inc()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


def text_of_workers(texts: Mapping[int, str], n_workers: int) -> bytes:
    """The metrics of all workers in one text, each with a label `worker`, and which of them answered.

    Sums over workers are left to whoever reads them: since a counter begins again with its worker, a sum made
    here would fall now and then, and be no counter.

    Args:
        texts: Of the workers that answered, by their numbers.
        n_workers: How many there are.
    """
    up = Metric("ahse_worker_up", "1 for a worker that answers the others.", "gauge")
    for number in range(n_workers):
        up.add_sample(up.name, {"worker": str(number)}, int(number in texts))
    merged = {up.name: up}
    for number, text in sorted(texts.items()):
        for metric in text_string_to_metric_families(text):
            whole = merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            for sample in metric.samples:
                whole.samples.append(sample._replace(labels={**sample.labels, "worker": str(number)}))
    registry = CollectorRegistry()
    registry.register(_Collected(merged.values()))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """As they were collected."""
        return self._metrics
