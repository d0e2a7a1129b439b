"""`ahse export`: write bundles."""

from __future__ import annotations

from model_export.cli.app import TrainingApp
from model_export.cli.export_head import export_head

app = TrainingApp(no_args_is_help=True)
app.command("head")(export_head)


@app.callback()
def _export() -> None:
    """Write bundles."""  # with one command alone, typer would leave its name out
