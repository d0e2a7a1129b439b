"""What all commands share: plain help, no completion but of the root, errors that end in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from service.cli.answer_text import printable
from service.errors import AhseError

_EXTRAS = {
    "onnxruntime": "cpu",
    **dict.fromkeys(("alembic", "psycopg", "sqlalchemy"), "cpu,postgres"),
    "ray": "cpu,bulk,ray",
}


class CommandApp(typer.Typer):
    """A typer app whose expected errors end in plain lines on stderr and exit code 2.

    Its help is drawn without rich, whose import takes longer than all the rest of it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **{
                "pretty_exceptions_enable": False,
                "add_completion": False,
                "rich_markup_mode": None,
                **options,
            }
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line."""
        with errors_in_words():
            return super().__call__(*args, **kwargs)


@contextmanager
def errors_in_words() -> Iterator[None]:
    """End the program with plain lines on stderr and exit code 2 where an expected error is raised inside."""
    try:
        yield
    except AhseError as error:
        lines = list(error.lines)
        lines[0] = f"ahse: {lines[0]}"
        lines[-1] += f" [{error.code}]"
        for line in (*lines, *_root_cause(error).splitlines()):
            _say(line)
    except OSError as error:
        _say(f"ahse: {error}")
    except ModuleNotFoundError as error:
        _explain_missing(error)
    except typer.Exit as ended:  # raised outside the command line itself, which takes its own
        raise SystemExit(ended.exit_code) from None
    else:
        return
    raise SystemExit(2)


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Name a file in what goes wrong with it once it is open: the system does not say which is cut off."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _say(line: str) -> None:
    """Print to standard error. A name of a file in it may not look like a line of its own."""
    typer.echo(printable(line), err=True)


def _root_cause(error: BaseException) -> str:
    """The text of a library's error, often of several lines; for a terminal, never sent to a client."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    return "" if isinstance(root, AhseError) else f"cause: {type(root).__name__}: {root}"


def _explain_missing(error: ModuleNotFoundError) -> None:
    package = (error.name or "").partition(".")[0]
    if package in (
        "",
        "service",
        "model_export",
        "demo_world",
    ):  # no package that could be installed, but a mistake in ours
        raise error
    extra = _EXTRAS.get(package)
    # pip would take laion-clap's old numpy for training and export.
    how = (
        f"pip install 'ahse[{extra}]'"
        if extra
        else "uv pip install --constraint constraints.txt '.[cpu,export]' in a checkout"
    )
    typer.echo(
        f"ahse: this command needs {package}, which is not installed. Install what it needs with: {how}",
        err=True,
    )
