"""What the commands share: an expected error ends in one line for each problem and exit code 2."""

from __future__ import annotations

from typing import Any

import typer

from model_export.errors import DatasetError, HubError, RunError


class TrainingApp(typer.Typer):
    """A typer app that says data, run and download errors plainly and ends with exit code 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(pretty_exceptions_enable=False, add_completion=False, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line."""
        try:
            return super().__call__(*args, **kwargs)
        except (DatasetError, HubError, RunError, OSError) as error:
            typer.echo(f"ahse: {error}", err=True)
            raise SystemExit(2) from None
