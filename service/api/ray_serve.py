"""The service as an application of Ray Serve: `import_path: service.api.ray_serve:build` (docs/ray.md).

Each replica is a whole service, with its own decoders and models, in the actor that Serve starts for it. Ray
is imported here only, and only when the application is built.
"""

# Without `from __future__ import annotations`: Serve reads the type of the builder's argument.
import os
from typing import Any

import structlog
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from service.api.app import create_app
from service.errors import SettingsError
from service.log import configure_logging
from service.process import set_up_allocator, use_one_thread_per_product
from service.settings import Settings, settings_of

_HA_PROXY = "RAY_SERVE_ENABLE_HA_PROXY"
# Of Serve: how long a replica that is to end still answers, and what its end may take besides.
_DRAINING_S = 35.0
# Requests beyond the maximum that wait in Serve for a moment; further ones are answered 429 by it.
_N_QUEUED = 64
_RETRY_AFTER_S = 5
# Parts without which no request can be answered: a replica that has lost one is replaced.
_VITAL = ("bundle", "decoder")


class Options(BaseModel):
    """What `args` of a Serve configuration may hold. All else is set by AHSE_... variables of the nodes.

    Attributes:
        processors: Of each replica.
        gpus: Of each replica.
        min_replicas: Replicas that always run.
        max_replicas: Replicas under load; Serve refuses fewer than min_replicas.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    processors: int = Field(default=4, ge=1, le=256)
    gpus: int = Field(default=0, ge=0, le=1)
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=1, ge=1)


def build(options: Options) -> Any:
    """The application, for Serve.

    Requests of one replica are bounded by its own admission: Serve lets in as many as `ahse serve` would have
    connections, so what is too much is answered 429 by the replica, in the words of the service.

    Raises:
        SettingsError: The cluster or the settings don't fit; the message says what to change.
    """
    from ray import serve
    from ray.serve.config import BackpressureConfig

    settings = replica_settings(options.processors, options.gpus)
    deployment = serve.deployment(
        name="ahse",
        ray_actor_options={"num_cpus": options.processors, "num_gpus": options.gpus},
        autoscaling_config={
            "min_replicas": options.min_replicas,
            "max_replicas": options.max_replicas,
            # With more, requests would wait in the replica.
            "target_ongoing_requests": settings.max_concurrency,
        },
        max_ongoing_requests=settings.max_connections,
        max_queued_requests=_N_QUEUED,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=_RETRY_AFTER_S),
        graceful_shutdown_timeout_s=settings.request_timeout_s + _DRAINING_S,
    )
    return deployment(serve.ingress(create_replica)(Replica)).bind()


class Replica:
    """What Serve asks of a replica besides requests."""

    app: FastAPI

    def check_health(self) -> None:
        """Raise where it can't answer any more, and has to be replaced.

        A store that is away is no reason: another replica would not have it either.
        """
        faults = self.app.state.context.health.faults()
        lost = {name: fault for name, fault in faults.items() if name.startswith(_VITAL)}
        if lost and self.app.state.context.health.wait_for_first(0):
            raise RuntimeError(f"parts of the service do not work: {lost}")


def create_replica() -> FastAPI:
    """The service of this actor, within what Serve has given it."""
    import ray

    given = ray.get_runtime_context().get_assigned_resources()
    settings = replica_settings(max(1, int(given.get("CPU", 1))), int(given.get("GPU", 0)))
    set_up_allocator()
    use_one_thread_per_product()
    configure_logging(settings.log_format, settings.log_level)
    if settings.store is None:
        structlog.get_logger(__name__).warning(
            "not_shared",
            what="label sets, API keys and jobs stay on this node: no other replica has them",
            remedy="set AHSE_STORE=postgresql://... on every node",
        )
    return create_app(settings)


def replica_settings(n_processors: int, n_gpus: int) -> Settings:
    """Settings from the environment, for a part of a node.

    Args:
        n_processors: That the replica has. It sees all those of its node.
        n_gpus: Likewise.

    Raises:
        SettingsError: A setting is not acceptable, or can't be had behind Ray Serve.
    """
    if os.environ.get(_HA_PROXY) != "1":
        raise SettingsError(
            f"set {_HA_PROXY}=1 where each node of the cluster is started: the other proxy of Ray Serve "
            "keeps whole uploads in memory, without any bound"
        )
    own = settings_of({})
    for name in ("admin_port", "tls_cert"):
        if getattr(own, name) is not None:
            raise SettingsError(
                f"AHSE_{name.upper()} can't be had behind Ray Serve, which listens itself; unset it"
            )
    if own.workers > 1:
        raise SettingsError(
            "AHSE_WORKERS can't be had behind Ray Serve, whose replicas are workers; unset it"
        )
    at_once = min(max(8, 2 * n_processors), 1024)
    part = {"decode_workers": n_processors, "max_concurrency": at_once}
    if not n_gpus:
        part["parallel_runs"] = min(n_processors, 64)
    unset = {name: value for name, value in part.items() if name not in own.model_fields_set}
    # Its ports are open on all addresses, so it needs a key, or to be open on purpose.
    return own.model_copy(update={**unset, "host": "0.0.0.0"})  # noqa: S104  (Serve listens so)
