"""The options of a question, as `ahse classify` and `ahse bulk plan` both have them."""

from __future__ import annotations

from typing import Annotated

import typer

from service import option_texts as texts

Templates = Annotated[
    list[str] | None,
    typer.Option("--template", help=f"{texts.TEMPLATES.description} Repeat for several."),
]
Guarantee = Annotated[str | None, typer.Option(help=texts.GUARANTEE.description, metavar="0.9")]
SegmentS = Annotated[str | None, typer.Option(help=texts.SEGMENT_S.description, metavar="auto|SECONDS")]
Frames = Annotated[str | None, typer.Option(help=texts.FRAMES.description, metavar="exact|key")]
AudioWindows = Annotated[str | None, typer.Option(help=texts.AUDIO_WINDOWS.description, metavar="N")]
TopK = Annotated[str, typer.Option(help=texts.TOP_K.description, metavar="N")]
