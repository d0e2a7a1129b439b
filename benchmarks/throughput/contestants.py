"""The services that are compared, each a process of its own, started when it is asked first."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from benchmarks.names import keep_made_up, put_label_set
from benchmarks.servers import Server, free_port, running, serve_command
from benchmarks.throughput.points import REAL, BenchmarkDevice, Service
from service.registry import load_bundle
from service.runtime.providers import Runtime

TEMPLATE: Final = "a video of a {}."
"""of the real architectures: one prompt a name, for each service."""
_N_WORKERS: Final[dict[Service, int]] = {"ahse, 8 workers": 8}


class Contestants:
    """All services with one bundle. Those that have started run until the context ends, idle in between.

    Args:
        name: Of the bundle, in points.
        bundle: Its directory.
        folder: For the data of the services.
        device: What they run on.
    """

    def __init__(self, name: str, bundle: Path, folder: Path, device: BenchmarkDevice) -> None:
        self.templates = (TEMPLATE,) if name == REAL else ()
        """prompts that requests send; none: the bundle's own."""
        self._is_real = name == REAL
        self._bundle = bundle
        self._folder = folder
        self._device = device
        self._stack = ExitStack()
        self._started: dict[Service, Server] = {}

    def __enter__(self) -> Contestants:
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all that have started."""
        self._stack.close()

    def server(self, service: Service) -> tuple[Server, bool]:
        """The server of a service, and whether it was started just now."""
        if service in self._started:
            return self._started[service], False
        port, is_ours = free_port(), service.startswith("ahse")
        command = self._ours(service, port) if is_ours else self._opponent(service, port)
        started = running(command, port, n_workers=_N_WORKERS.get(service, 1))
        self._started[service] = server = self._stack.enter_context(started)
        if service == "ahse":
            put_label_set(port)
        return server, True

    def _ours(self, service: Service, port: int) -> list[str]:
        data, keeps_clips = self._folder / service, service == "ahse, clips kept"
        if service == "ahse":
            keep_made_up(load_bundle(self._bundle, Runtime(device="cpu")), self.templates or None, data)
        options = ("--device", self._device, "--workers", str(_N_WORKERS.get(service, 1)))
        return serve_command(self._bundle, port, data, *options, keeps_clips=keeps_clips)

    def _opponent(self, service: Service, port: int) -> list[str]:
        models = (
            ["--clap-tokenizer", self._bundle / "tokenizer_audio.json", "--device", self._device]
            if self._is_real
            else ["--bundle", self._bundle]
        )
        keeps = ["--keep-names"] if service == "names kept" else []
        words = [sys.executable, "-m", "benchmarks.throughput.opponent", "--port", port, *models, *keeps]
        return [*map(str, words)]
