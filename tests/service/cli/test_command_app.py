"""Expected errors of a training command end in one line."""

from __future__ import annotations

import pytest

from model_export.errors import HubError, RunError
from service.cli.command_app import CommandApp


@pytest.mark.parametrize("kind", [HubError, RunError, OSError])
def test_an_expected_error_is_one_line_and_exit_code_2(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a traceback."""
    app = CommandApp()

    @app.command()
    def fail() -> None:
        raise kind("no such file")

    with pytest.raises(SystemExit) as caught:
        app([])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "ahse: no such file\n"
