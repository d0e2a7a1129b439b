"""Log lines: what happened, without what was in the request."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from service.log import configure_logging


@pytest.fixture(autouse=True)
def _restore() -> object:
    yield
    structlog.reset_defaults()
    logging.basicConfig(force=True)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_logged_traceback_shows_no_values_of_variables(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Local variables may hold data of clients, which must not get into a log."""
    configure_logging(form, "info")  # type: ignore[arg-type]  # parametrised literals
    secret = "what a client " + "sent"
    known: dict[str, int] = {}
    try:
        known[secret.upper()]
    except KeyError as error:
        structlog.get_logger().error("unforeseen", exc_info=error)
    printed = capsys.readouterr().err
    assert "KeyError" in printed
    assert secret not in printed
    assert len(printed) < 3000
    if form == "json":
        assert json.loads(printed)["event"] == "unforeseen"
