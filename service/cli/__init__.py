"""The command line `ahse`."""

from service.cli.main import main

__all__ = ["main"]
