"""Settings of a deployment: AHSE_... environment variables or the flags of `ahse serve`.

Facts of a model are not here; they come from the bundle's manifest.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import service
from service.access.rates import parse_rate
from service.batch.batched_encoders import Budgets
from service.errors import SettingsError
from service.faults import describe_fault
from service.jobs.job import JobLimits
from service.media import DecodeLimits, FrameChoice
from service.process import n_processors
from service.runtime.providers import Device, Runtime

_PACKAGE = Path(service.__file__).resolve().parent
# In a wheel bundles are data of the package; in a checkout they stand beside it.
_INSTALLED = _PACKAGE / "weights"
_WEIGHTS = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "weights"
EVERYDAY_BUNDLE = _WEIGHTS / "everyday"
DEMO_BUNDLE = _WEIGHTS / "demo"
_MIN_KEY_CHARACTERS = 20


def _own_processors(validated: dict[str, Any]) -> int:
    """Processors for one worker, at least 1."""
    n_workers: int = validated.get("workers", 1)
    return math.ceil(n_processors() / n_workers)


def _data_directory() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "ahse"


class Settings(BaseSettings):
    """Built once and passed on; nothing else reads the environment.

    Errors of validation do not repeat what was given, which may be a secret.
    """

    model_config = SettingsConfigDict(
        env_prefix="AHSE_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    bundles: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(EVERYDAY_BUNDLE,), min_length=1, description="bundle directories; the first is the default"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="server processes behind the port, each with limits and bundles of its own; each takes a "
        "GPU in turn",
    )
    data_dir: Path = Field(
        default_factory=_data_directory,
        description="where label sets, API keys, embeddings, jobs with their clips and, if switched on, "
        "features of clips are kept; default: $XDG_DATA_HOME/ahse where that is set",
    )
    store: SecretStr | None = Field(
        default=None,
        description="postgresql://USER:PASSWORD@HOST/DATABASE, which replicas share; default: files in the "
        "data directory",
    )
    upload_dir: Path | None = Field(
        default=None,
        description="directory of uploads while they are decoded; default: the system's temporary directory",
    )
    device: Device = Field(
        default="auto", description="auto, cpu or cuda; cuda refuses to start without a GPU"
    )
    inference_threads: int = Field(
        default=1, ge=0, le=1024, description="threads of one model run on a CPU; 0: onnxruntime decides"
    )
    gpu_memory_bytes: int = Field(
        default=0, ge=0, description="maximum GPU memory of the arena of each encoder; 0: no limit"
    )
    decode_workers: int = Field(
        default_factory=lambda given: min(_own_processors(given), 256),
        ge=1,
        le=256,
        description="decoding processes; a lone clip has as many threads, up to 16",
    )
    max_concurrency: int = Field(
        default_factory=lambda given: min(max(8, 2 * _own_processors(given)), 1024),
        ge=1,
        le=1024,
        description="maximum number of requests with clips that are processed at once",
    )
    max_waiting: int = Field(
        default=128,
        ge=0,
        description="maximum number of requests with clips that wait; further ones are answered 429",
    )
    batch_frames: int = Field(
        default=0, ge=0, le=4096, description="maximum frames in one model run; 0: 4 on a CPU, 128 on a GPU"
    )
    batch_windows: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="maximum audio windows in one model run; 0: 1 on a CPU, 64 on a GPU",
    )
    batch_tokens: int = Field(
        default=0,
        ge=0,
        description="maximum tokens of names in one model run; 0: 500 on a CPU, 20000 on a GPU",
    )
    parallel_runs: int = Field(
        default=0,
        ge=0,
        le=64,
        description="concurrent model runs, on a CPU of all encoders of all bundles, on a GPU of each; "
        "0: as many as processors allow, 2 on a GPU",
    )
    frames: FrameChoice = Field(
        default="exact",
        description="frames of a clip when a request does not say: exact, or key for key frames, which "
        "decode faster",
    )
    request_timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="longest time from the end of a request's body to its answer, else 504",
    )
    header_timeout_s: float = Field(
        default=10.0, gt=0, description="longest time for the header of a request, answered 408"
    )
    keep_alive_s: int = Field(
        default=30, ge=1, description="how long a connection may be idle after an answer"
    )
    upload_pause_s: float = Field(
        default=10.0,
        gt=0,
        description="longest pause in the body of a request, after which it is answered 408",
    )
    body_timeout_s: float = Field(
        default=600.0, gt=0, description="longest time for the whole body of a request, answered 408"
    )
    min_bytes_per_s: int = Field(
        default=16 * 2**10,
        ge=1,
        description="lowest average rate of a body (answered 408), and at which an answer must be read",
    )
    url_input: bool = Field(
        default=False,
        description="1 accepts the URL of a clip (form field url) in place of a file; the service fetches it",
    )
    max_connections: int = Field(default=1024, ge=16, description="maximum number of open connections")
    max_upload_bytes: int = Field(default=512 * 2**20, ge=1, description="largest upload")
    max_json_bytes: int = Field(default=8 * 2**20, ge=1, description="largest JSON body")
    max_bytes_on_disk: int = Field(
        default=4 * 2**30,
        ge=1,
        validate_default=True,
        description="maximum bytes of all uploads at once, in equal shares for workers, each at least "
        "AHSE_MAX_UPLOAD_BYTES; further ones are answered 429",
    )
    max_bytes_in_flight: int = Field(
        default=64 * 2**20,
        ge=1,
        validate_default=True,
        description="maximum bytes of JSON bodies, form fields and large answers in memory at once; further "
        "ones are answered 429",
    )
    # Jobs.
    max_jobs: int = Field(
        default=1000,
        ge=1,
        description="maximum number of jobs that are kept, with those that have ended until they expire",
    )
    max_job_bytes: int = Field(
        default=8 * 2**30,
        ge=1,
        description="maximum bytes of all jobs on disk, clips and results, and of one",
    )
    job_timeout_s: float = Field(default=1800.0, gt=0, description="longest work on one clip of a job")
    job_max_duration_s: float = Field(
        default=3660.0,  # an hour, and what a recording of one is longer
        gt=0,
        le=1e6,
        description="longest clip of a job; more segments and pixels are allowed in the same measure",
    )
    job_expiry_s: float = Field(
        default=86_400.0, gt=0, le=1e9, description="how long the results of a job are kept after its end"
    )
    webhooks: bool = Field(
        default=False, description="1 lets clients have the end of a job reported to a public URL"
    )
    max_labels: int = Field(default=10_000, ge=1, description="maximum labels in one request")
    max_prompt_characters: int = Field(
        default=20_000_000,
        ge=1,
        description="maximum characters of all prompts of one request together, and of the names and prompts "
        "of a label set",
    )
    max_labels_per_set: int = Field(default=100_000, ge=1, description="maximum labels in one label set")
    max_duration_s: float = Field(default=DecodeLimits.max_duration_s, gt=0, description="longest clip")
    max_segments: int = Field(
        default=DecodeLimits.max_segments,
        ge=1,
        description="maximum segments of one clip; more than 1000 may need more AHSE_DECODE_MEMORY_BYTES",
    )
    max_frame_pixels: int = Field(
        default=DecodeLimits.max_frame_pixels, ge=1, description="largest frame, width x height"
    )
    max_decoded_pixels: int = Field(
        default=DecodeLimits.max_decoded_pixels,
        ge=1,
        description="maximum pixels decoded for one clip, frames x width x height",
    )
    decode_timeout_s: float = Field(
        default=DecodeLimits.processor_time_s,
        gt=0,
        description="maximum processor time to decode one clip; it may take five times as long by the clock",
    )
    decode_memory_bytes: int = Field(
        default=DecodeLimits.memory_bytes,
        ge=2**20,
        description="maximum memory that a clip may take in a decoding process",
    )
    label_cache_bytes: int = Field(
        default=512 * 2**20,
        ge=2**20,
        description="maximum memory of the label embeddings that are kept; one label set is kept whatever "
        "its size",
    )
    label_store_size: int = Field(
        default=200_000, ge=0, description="label embeddings kept on disk, beside the label sets; 0: none"
    )
    clip_cache_bytes: int = Field(
        default=64 * 2**20,
        ge=0,
        description="maximum memory of the features of clips that are kept for another question; 0: none",
    )
    clip_store_bytes: int = Field(
        default=0,
        ge=0,
        description="maximum size of a file with such features, which restarts and workers share; 0: none",
    )
    health_interval_s: float = Field(
        default=15.0, gt=0, description="time between two checks of the parts of the service, for readiness"
    )
    log_format: Literal["json", "text"] = Field(default="text", description="one JSON object a line, or text")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="minimum level"
    )
    traces: bool | None = Field(
        default=None,
        description="1 sends OpenTelemetry traces, 0 does not; default: where OTEL_EXPORTER_OTLP_ENDPOINT "
        "or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set",
    )

    # Who may use it.
    api_key: SecretStr | None = Field(
        default=None, description="an API key with every scope, 20 characters or more"
    )
    open: bool = Field(
        default=False, description="let everyone who reaches the port do everything, on any address"
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="host names that requests may name besides localhost and IP addresses, `*` for any; "
        "default: any when keys are needed, else none",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="origins of web pages that may use the service, such as https://example.org"
    )
    rate_limit: str = Field(
        default="",
        description="maximum rate of a key's requests, or of an address's without a key, such as 600/minute; "
        "empty: none",
    )
    admin_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="port of its own for reload, metrics and health, not the number of AHSE_PORT; 0: a free "
        "one; default: the main port",
    )
    admin_host: str = Field(
        default="127.0.0.1", description="address of the admin port; only on loopback it needs no key"
    )
    tls_cert: Path | None = Field(
        default=None, description="PEM file of the TLS certificate and its chain; default: no TLS"
    )
    tls_key: Path | None = Field(
        default=None, description="PEM file of the private key of the TLS certificate"
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="proxies, as addresses and networks, whose X-Forwarded-For and -Proto are believed",
    )

    @field_validator("max_bytes_in_flight", "max_bytes_on_disk")
    @classmethod
    def _largest_body_fits(cls, value: int, info: ValidationInfo) -> int:
        """Else the largest body would never be let in."""
        largest = "max_json_bytes" if info.field_name == "max_bytes_in_flight" else "max_upload_bytes"
        if value < info.data.get(largest, 0):
            raise ValueError(f"must be at least AHSE_{largest.upper()}")
        return value

    @field_validator("admin_port")
    @classmethod
    def _is_another_port(cls, value: int | None, info: ValidationInfo) -> int | None:
        """On two addresses both could be bound, and the main one would need no key for metrics and reload."""
        if value and value == info.data.get("port"):
            raise ValueError("must differ from AHSE_PORT, on another address too")
        return value

    @field_validator("store")
    @classmethod
    def _is_a_database(cls, value: SecretStr | None) -> SecretStr | None:
        """The value is not repeated: it holds a password."""
        text = value.get_secret_value() if value is not None else ""
        if not text:
            return None
        if not re.fullmatch(r"postgres(ql)?://[^/\s]*/[^/?\s]+(\?\S*)?", text):
            raise ValueError("write it as postgresql://USER:PASSWORD@HOST/DATABASE")
        return value

    @field_validator("api_key")
    @classmethod
    def _is_hard_to_guess(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else ""
        if not text:
            return None
        if len(text) < _MIN_KEY_CHARACTERS or not re.fullmatch(r"[!-~]+", text):
            raise ValueError(
                f"a key has {_MIN_KEY_CHARACTERS} characters or more, without spaces; make one with: "
                "openssl rand -hex 32"
            )
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_host_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, host in enumerate(value, 1):
            if host != "*" and not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9a-fA-F:]+", host):
                raise ValueError(f"item {number} is no host name; write names without scheme and port")
        return tuple(host.lower() for host in value)

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, origin in enumerate(value, 1):
            if not re.fullmatch(r"https?://[^/\s*@]+", origin):
                raise ValueError(
                    f"item {number} is no origin; write each as scheme://host or scheme://host:port"
                )
        return tuple(origin.lower() for origin in value)

    @field_validator("rate_limit")
    @classmethod
    def _is_a_rate(cls, value: str) -> str:
        if value:
            parse_rate(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, proxy in enumerate(value, 1):
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise ValueError(f"item {number} is no address or network, such as 10.0.0.0/8") from None
        return value

    @field_validator("bundles", "allowed_hosts", "cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split_lists(cls, value: object) -> object:
        """Lists are separated by commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    def runtime(self, n_threads: int | None = None) -> Runtime:
        """How graphs run: for serving, or with all threads where one run goes at a time."""
        return Runtime(
            device=self.device,
            n_threads=self.inference_threads if n_threads is None else n_threads,
            gpu_memory_bytes=self.gpu_memory_bytes,
        )

    def budgets(self) -> Budgets:
        """What one run of an encoder may hold."""
        return Budgets(
            frames=self.batch_frames,
            windows=self.batch_windows,
            tokens=self.batch_tokens,
            n_runs=self.parallel_runs,
            n_threads=self.inference_threads,
            n_processors=_own_processors({"workers": self.workers}),
        )

    def decode_limits(self) -> DecodeLimits:
        """What one clip may cost."""
        return DecodeLimits(
            max_duration_s=self.max_duration_s,
            max_segments=self.max_segments,
            max_frame_pixels=self.max_frame_pixels,
            max_decoded_pixels=self.max_decoded_pixels,
            processor_time_s=self.decode_timeout_s,
            memory_bytes=self.decode_memory_bytes,
        )

    def job_decode_limits(self) -> DecodeLimits:
        """What one clip of a job may cost: longer clips, with what belongs to their length."""
        longer = max(1.0, self.job_max_duration_s / self.max_duration_s)
        return replace(
            self.decode_limits(),
            max_duration_s=self.job_max_duration_s,
            max_segments=round(self.max_segments * longer),
            max_decoded_pixels=round(self.max_decoded_pixels * longer),
            processor_time_s=self.job_timeout_s,
        )

    def job_limits(self) -> JobLimits:
        """What all jobs may take."""
        return JobLimits(self.max_jobs, self.max_job_bytes, timedelta(seconds=self.job_expiry_s))


def settings_of(given: Mapping[str, Any]) -> Settings:
    """Settings from the environment, and from what takes precedence over it.

    Raises:
        SettingsError: A value is not acceptable. The message names the settings, and no secret.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError("; ".join(setting_faults(error))) from None


def setting_faults(error: ValidationError) -> list[str]:
    """What is wrong with which settings, in our own words."""
    return [
        f"setting {fault['loc'][0]} (AHSE_{str(fault['loc'][0]).upper()}): {describe_fault(fault)}"
        for fault in error.errors()
        if fault["type"] != "default_factory_not_called"  # since another one is not acceptable
    ]
