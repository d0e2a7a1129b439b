"""`ahse export`: write bundles."""

from __future__ import annotations

from model_export.cli.app import TrainingApp
from model_export.cli.export_clip_clap import export_clip_clap
from model_export.cli.export_custom import export_custom
from model_export.cli.export_head import export_head

app = TrainingApp(no_args_is_help=True)
app.command("clip-clap")(export_clip_clap)
app.command("custom")(export_custom)
app.command("head")(export_head)
