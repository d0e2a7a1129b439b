"""Serve MCP over standard input and output: python -m integrations.mcp --root DIR."""

from __future__ import annotations

import argparse
from pathlib import Path

from integrations.mcp.server import LocalClips, create_server
from service.client import AsyncClient


def main() -> None:
    """Read the flags, and serve until standard input ends."""
    parser = argparse.ArgumentParser(
        prog="python -m integrations.mcp",
        description="An MCP server (stdio) that classifies local clips and edits label sets.",
        epilog="AHSE_API_KEY in the environment is the key of the service.",
    )
    parser.add_argument("--service", default="http://127.0.0.1:8000", help="address of AHSE")
    parser.add_argument(
        "--root",
        type=Path,
        action="append",
        required=True,
        help="folder whose files may be classified; repeat for several",
    )
    options = parser.parse_args()
    try:
        clips = LocalClips(options.root)
    except OSError:
        parser.error("a --root does not exist")
    create_server(AsyncClient(options.service), clips).run()


if __name__ == "__main__":
    main()
