"""EncoderError under its former module name; it is defined in model_export/errors.py."""

from __future__ import annotations

from model_export.errors import EncoderError

__all__ = ["EncoderError"]
