"""How commands end that fail."""

from __future__ import annotations

import pytest

from service.cli.command_app import CommandApp
from service.errors import BundleInvalidError


def _failing(error: Exception) -> CommandApp:
    app = CommandApp()

    @app.command()
    def fail() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (BundleInvalidError("no manifest"), "ahse: no manifest [bundle_invalid]\n"),
        (OSError("no such file"), "ahse: no such file\n"),
        (
            BundleInvalidError("\x1b[31m.mp4 is none"),
            "ahse: \N{REPLACEMENT CHARACTER}[31m.mp4 is none [bundle_invalid]\n",
        ),
    ],
)
def test_an_expected_error_is_one_line_and_exit_code_2(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a traceback, and without what would steer the terminal in the name of a file."""
    with pytest.raises(SystemExit) as caught:
        _failing(error)([])
    assert caught.value.code == 2
    assert capsys.readouterr().err == line


def test_a_name_of_a_file_makes_no_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody else can speak in the program's name."""
    for error in (BundleInvalidError("a\nahse: all is well is none"), OSError("a\nahse: all is well")):
        with pytest.raises(SystemExit):
            _failing(error)([])
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_cause_of_a_library_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing else that steers a terminal."""
    error = BundleInvalidError("no graph")
    error.__cause__ = RuntimeError("first\n\x1b[2Jsecond")
    with pytest.raises(SystemExit):
        _failing(error)([])
    assert capsys.readouterr().err.splitlines()[1:] == [
        "cause: RuntimeError: first",
        "\N{REPLACEMENT CHARACTER}[2Jsecond",
    ]


@pytest.mark.parametrize(("package", "extra"), [("torch", ".[cpu,export]"), ("onnxruntime", "ahse[cpu]")])
def test_a_package_that_is_not_installed_is_named_with_how_to_install_it(
    package: str, extra: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands import what they need when they run."""
    with pytest.raises(SystemExit) as caught:
        _failing(ModuleNotFoundError(package, name=f"{package}.nn"))([])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert f"needs {package}," in said
    assert f"'{extra}'" in said


def test_a_missing_module_of_our_own_is_no_missing_package() -> None:
    """It is a mistake, and shows as one."""
    with pytest.raises(ModuleNotFoundError):
        _failing(ModuleNotFoundError("service.gone", name="service.gone"))([])
