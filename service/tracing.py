"""Traces by OpenTelemetry: spans of requests and of the steps of a classification.

Off unless asked for, and then nothing of OpenTelemetry's SDK is imported. Steps are told of in numbers only,
so that no name of a label or a file gets into a span.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from service import __version__
from service.errors import AhseError, SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

Facts = dict[str, float]
"""What is told of a step besides its time: counts and seconds."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing:
    """No traces: every method does nothing."""

    def step(self, name: str) -> AbstractContextManager[Facts]:  # noqa: ARG002  (for those that trace)
        """A span around a `with` block, which may fill in facts."""
        return nullcontext({})

    def past_step(self, name: str, seconds: float, facts: Mapping[str, float]) -> None:
        """A span of a step that has just ended, which took turns with the steps of other requests."""

    def close(self) -> None:
        """Send what is left."""


class OpenTelemetry(Tracing):
    """Spans that are sent as OTLP over HTTP, as the standard variables (OTEL_...) say.

    Args:
        processor: Takes the spans; None: sends them in the background.

    Raises:
        ImportError: The extra `otel` is not installed.
    """

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        own = Resource({"service.name": "ahse", "service.version": __version__})
        named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        # Those of the environment win.
        resource = own.merge(Resource.create()) if named else Resource.create().merge(own)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        # Not the process's global one: apps in one process don't share traces.
        self._tracer = self._provider.get_tracer("ahse", __version__)
        self._headers = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator[Span]:
        """A span around a request, in the trace that its header `traceparent` names."""
        from opentelemetry.trace import SpanKind

        parent = self._headers.extract(headers)
        with self._span(name, context=parent, kind=SpanKind.SERVER) as span:
            yield span

    @contextmanager
    def step(self, name: str) -> Iterator[Facts]:
        """A span around a `with` block, which may fill in facts."""
        facts: Facts = {}
        with self._span(name) as span:
            try:
                yield facts
            finally:
                span.set_attributes(_attributes(facts))

    def past_step(self, name: str, seconds: float, facts: Mapping[str, float]) -> None:
        """A span of a step that has just ended."""
        now = time.time_ns()
        span = self._tracer.start_span(
            name, start_time=now - round(seconds * 1e9), attributes=_attributes(facts)
        )
        span.end(now)

    def close(self) -> None:
        """Send what is left, for some seconds at most."""
        self._provider.shutdown()

    @contextmanager
    def _span(self, name: str, **options: Any) -> Iterator[Span]:
        # The texts of exceptions may hold names.
        options |= {"record_exception": False, "set_status_on_exception": False}
        with self._tracer.start_as_current_span(name, **options) as span:
            try:
                yield span
            except BaseException as error:
                fail(span, error.code if isinstance(error, AhseError) else type(error).__name__)
                raise


def fail(span: Span, code: str) -> None:
    """Mark a span as failed, with the stable name of the error."""
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", code)
    span.set_status(StatusCode.ERROR)


def open_tracing(wanted: bool | None) -> Tracing:
    """Traces, or none.

    Args:
        wanted: None: where the environment names an endpoint, if the extra is installed.

    Raises:
        SettingsError: They are wanted, and the extra is not installed.
    """
    if wanted is False or (wanted is None and not any(os.environ.get(name) for name in _ENDPOINTS)):
        return Tracing()
    try:
        return OpenTelemetry()
    except ImportError as error:
        if wanted is None:
            return Tracing()
        raise SettingsError(
            "AHSE_TRACES needs packages that are not installed; install them with the extra otel: "
            "pip install 'ahse[otel]'"
        ) from error


def _attributes(facts: Mapping[str, float]) -> dict[str, float]:
    return {f"ahse.{name}": value for name, value in facts.items()}
