"""Why a model can't become an encoder of a bundle."""

from __future__ import annotations

from service.errors import AhseError


class EncoderError(AhseError):
    """A model, its weights or its tokenizer is not what the export needs; the message says what to do."""

    code = "encoder_refused"
