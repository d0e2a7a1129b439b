"""What each option of a request does and takes, in words, with its limits.

Apart from the model in service/options.py, since importing pydantic takes a quarter of a second, for which
`ahse classify --help` should not wait.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_TOP_K = 1_000_000
MAX_BETA = 1_000_000
MIN_GUARANTEE, MAX_GUARANTEE = 0.5, 0.99
MIN_SEGMENT_S, MAX_SEGMENT_S = 1.0, 600.0
MAX_AUDIO_WINDOWS = 1_000


@dataclass(frozen=True)
class OptionText:
    """One option.

    Attributes:
        description: What it does.
        takes: What it must be: the end of the sentence that a wrong value is answered with.
    """

    description: str
    takes: str


TEMPLATES = OptionText(
    "Prompt templates instead of the bundle's; `{}` stands for the name.", "a list of prompt templates"
)
TOP_K = OptionText("How many predictions.", f"a whole number from 1 to {MAX_TOP_K}")
BETA = OptionText(
    "Calibrated stacking of seen classes: auto (the bundle's beta), off or a number.",
    "auto, off, or a number such as 1.5",
)
GUARANTEE = OptionText(
    "Also name as few candidates as the bundle can, of which one is right about as often as this, as far as "
    "that was measured.",
    f"a number from {MIN_GUARANTEE:g} to {MAX_GUARANTEE:g}",
)
SEGMENT_S = OptionText(
    "Rank for segments of the clip too: their length in seconds, or auto (the window of the bundle's audio "
    "encoder). The last one is from half to one and a half times as long.",
    f"auto, or a number of seconds from {MIN_SEGMENT_S:g} to {MAX_SEGMENT_S:g}",
)
FRAMES = OptionText(
    "Which pictures of the clip are looked at: exact (those on screen at evenly spaced times) or key (the "
    "key frames nearest to them, which decode faster).",
    "exact, or key for the nearest key frames",
)
AUDIO_WINDOWS = OptionText(
    "How many pieces of longer sound are listened to, spread evenly over it, each as long as the window of "
    "the bundle's audio encoder. Sound that is no longer than so many is used whole.",
    f"a whole number from 1 to {MAX_AUDIO_WINDOWS}",
)
LABELS = OptionText(
    "Candidate names: the field repeated (`labels` or `labels[]`), or one field with a JSON array. Names may "
    "contain commas; nothing is split.",
    "a list of names",
)
LABEL_SET = OptionText("Name of a stored label set, instead of labels.", "the name of a label set")
RETURNED = OptionText(
    "Form of the answer: json, or the timeline alone as SubRip (srt), WebVTT (vtt) or a table (csv), with "
    "the best name of each segment; segment_s is then auto unless it is sent.",
    "json, srt, vtt or csv",
)
URL = OptionText(
    "URL of the clip (http or https, on the public internet) in place of `file`, where the deployment allows "
    "it (AHSE_URL_INPUT).",
    "the URL of a clip",
)
BUNDLE = OptionText("Name of a loaded bundle; default the first.", "the name of a loaded bundle")
