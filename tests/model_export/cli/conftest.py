"""The commands as functions: words in; exit code, standard output and standard error out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.cli.command_app import CommandApp

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command; exit code, standard output, standard error."""

    def run(app: CommandApp, *words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            app(args=[str(word) for word in words], prog_name="ahse")
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
