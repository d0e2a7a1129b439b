"""Serve the ML backend: python -m integrations.label_studio --help."""

from __future__ import annotations

import argparse
import logging
import os

import uvicorn

from integrations.label_studio.backend import Backend, Choices, create_app
from integrations.label_studio.videos import Videos
from service.client import AsyncClient

# Label Studio waits 100 s for all of a request.
_ANSWER_S = 90.0


def main() -> None:
    """Read the flags and secrets of the environment, and serve until interrupted."""
    options = _options()
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx2").setLevel("WARNING")  # its lines have the addresses of videos
    backend = Backend(
        AsyncClient(options.service, timeout_s=_ANSWER_S),
        Videos(options.label_studio, os.environ.get("LABEL_STUDIO_API_KEY"), options.max_bytes),
        Choices(options.segment_s, options.max_unknown),
    )
    app = create_app(backend, os.environ.get("BASIC_AUTH_USER"), os.environ.get("BASIC_AUTH_PASS"))
    uvicorn.run(app, host=options.host, port=options.port, access_log=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m integrations.label_studio",
        description="An ML backend for Label Studio that names the parts of videos.",
        epilog="Secrets come from the environment: LABEL_STUDIO_API_KEY (a personal access token), "
        "AHSE_API_KEY, BASIC_AUTH_USER and BASIC_AUTH_PASS (what Label Studio must send).",
    )
    parser.add_argument("--service", default="http://127.0.0.1:8000", help="address of AHSE")
    parser.add_argument("--label-studio", default="http://127.0.0.1:8080", help="address of Label Studio")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=9090, help="port to listen on")
    parser.add_argument("--segment-s", default="auto", help="seconds of a segment; auto: the sound encoder's")
    parser.add_argument(
        "--max-unknown", type=float, default=0.5, help="segments whose `unknown` is above this get no region"
    )
    parser.add_argument("--max-bytes", type=int, default=512 * 2**20, help="largest video")
    return parser.parse_args()


if __name__ == "__main__":
    main()
