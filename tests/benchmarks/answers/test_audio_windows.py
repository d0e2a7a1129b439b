"""`benchmarks.answers.audio_windows`: what it can't measure."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.answers import audio_windows
from tests.toy import write_clip, write_toy_bundle


def test_what_can_not_be_measured_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No such folder, clips of one name with sound, and no bundle."""
    bundle, one = write_toy_bundle(tmp_path / "toy"), tmp_path / "one"
    for colour, tone in (("red", "low"), ("blue", None)):
        (one / colour).mkdir(parents=True)
        write_clip(one / colour / "a.mp4", colour, tone, seconds=0.6)
    cases = [
        (tmp_path / "none", bundle, "there is no such folder"),
        (one, bundle, "There are not two names with clips that have sound. Add some."),
        (one, tmp_path / "no bundle", "no bundle: there is no"),
    ]
    for folder, used, what in cases:
        monkeypatch.setattr("sys.argv", ["audio_windows", str(folder), "--bundle", str(used)])
        with pytest.raises(SystemExit) as ended:
            audio_windows.main()
        assert ended.value.code == 2
        assert what in capsys.readouterr().err
