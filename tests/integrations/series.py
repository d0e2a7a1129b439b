"""What the service measures, and whether an expression asks for nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set

from prometheus_client.parser import text_string_to_metric_families

from service.api.prometheus import Metrics, text_of_workers

# Added by Prometheus.
_OF_TARGETS = {"job", "instance"}


def measured_series() -> dict[str, set[str]]:
    """Label names by series, of a service that has measured everything once."""
    metrics = Metrics()
    metrics.count_clips(lambda: 0)
    metrics.watch_store(lambda: False)
    metrics.request("GET", "/v1/info", 200, 0.1)
    metrics.names({"labels": 1.0}, 2, 1)
    metrics.classification({"decode": 1.0}, is_known=False)
    metrics.batch_ran("visual", 1)
    metrics.rows_waiting("visual", 1)
    metrics.dropped("visual")
    metrics.jobs(1)
    metrics.job_clip("answer")
    found: dict[str, set[str]] = {"up": set(_OF_TARGETS)}
    for family in text_string_to_metric_families(text_of_workers({0: metrics.text().decode()}, 1).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set(_OF_TARGETS)).update(sample.labels)
    return found


def check_names(text: str, measured: Mapping[str, Set[str]]) -> None:
    """Every series of an expression is measured, with the labels that are asked for."""
    series = re.findall(r"\b(up|ahse_\w+)(?:\{(.*?[^\\])\}(?=[^\"]*(?:\"[^\"]*\"[^\"]*)*$))?", text)
    assert series
    for name, matchers in series:
        assert name in measured, name
        assert set(re.findall(r"(\w+)\s*[=!]~?\s*\"", matchers)) <= measured[name], (name, matchers)
    known = set().union(*(measured[name] for name, _ in series))
    for grouping in re.findall(r"\b(?:by|on) \((.*?)\)", text):
        assert {label.strip() for label in grouping.split(",")} <= known, grouping
