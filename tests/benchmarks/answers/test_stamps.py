"""`python -m benchmarks.answers.stamps` on a folder tree and a package made here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.answers import stamps
from benchmarks.answers.clip_measure import CannotMeasureError
from benchmarks.answers.real_clips import read_clips
from benchmarks.answers.stamps import PACKAGE, Stamp, find_stamps, make_clips, name_of, unpack, write_clip
from service.decode import decode_clip
from service.media import Clip, DecodeLimits, DecodeSpec
from tests.toy import COLOURS, TONES_HZ

RATE_HZ = 16_000
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stamps as they lie in the package. Don't change them."""
    root = tmp_path_factory.mktemp("tree") / "usr" / "share" / "tuxpaint" / "stamps"
    write_stamp(root / "animals" / "red", "A red with a low tone.", "red", "low")
    write_stamp(root / "animals" / "big" / "blue", "A blue with a high tone.", "blue", "high")
    write_stamp(root / "animals" / "big" / "other", "The blue with a high tone.", "blue", "high")
    write_stamp(root / "symbols" / "one", "A one.", "red", "low")
    write_stamp(root / "town" / "sign", "A sign.", "red", "low")
    write_stamp(root / "animals" / "silent", "A fish.", "green", None)
    shutil.copy(root / "animals" / "red.ogg", root / "animals" / "silent_desc.ogg")
    write_stamp(root / "animals" / "nameless", None, "green", "high")
    copyright_file = root.parents[1] / "doc" / PACKAGE / "copyright"
    copyright_file.parent.mkdir(parents=True)
    copyright_file.write_text("License: GPL-2\n")
    return root


@pytest.fixture(scope="module")
def package(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with these stamps."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("there is no dpkg-deb here to make a package with")
    tree, file = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("deb") / "stamps.deb"
    shutil.copytree(root.parents[2], tree / "usr")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {PACKAGE}\nVersion: 0\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n"
        "Description: three stamps\n"
    )
    build = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(file)]
    subprocess.run(build, check=True, capture_output=True)  # noqa: S603  (our own words)
    return file


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process: words in; exit code, standard output and standard error out."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["stamps", *(str(word) for word in words)])
        code = 0
        try:
            stamps.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def write_stamp(path: Path, description: str | None, colour: str, tone: str | None) -> None:
    """Write a round photo, its sound and its description; None leaves the file out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[-1:1:60j, -1:1:60j]
    rgba = np.zeros((60, 60, 4), np.uint8)
    rgba[..., :3] = np.where((x**2 + y**2 < 1.02)[..., None], np.array(COLOURS[colour], np.uint8), 0)
    rgba[..., 3] = 255 * (x**2 + y**2 < 1.02)
    write_png(path.with_suffix(".png"), rgba)
    if tone is not None:
        time_s = np.arange(RATE_HZ // 2) / RATE_HZ
        wave = np.sin(2 * np.pi * TONES_HZ[tone] * time_s)
        write_ogg(path.with_suffix(".ogg"), wave)
    if description is not None:
        path.with_suffix(".txt").write_text(f"{description}\nde.utf8=Etwas.\n", encoding="utf-8")


def write_png(path: Path, rgba: NDArray[np.uint8]) -> None:
    """Write a PNG: uint8 [height, width, 4]."""
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width = rgba.shape[:2]
    encoder.pix_fmt, encoder.framerate = "rgba", Fraction(1)
    packets = [*encoder.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")), *encoder.encode()]
    path.write_bytes(b"".join(bytes(packet) for packet in packets))


def write_ogg(path: Path, wave: NDArray[np.float64]) -> None:
    """Write a sound: [n_samples], mono, -1..1."""
    with av.open(str(path), "w", format="ogg") as out:
        stream = out.add_stream("flac", rate=RATE_HZ, layout="mono")
        samples = (wave * 20_000).astype(np.int16)[None]
        for start in range(0, samples.shape[1], 1024):
            part = samples[:, start : start + 1024]
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def decoded(path: Path) -> Clip:
    """A clip as the service sees it."""
    spec = DecodeSpec(n_frames=4, image_size_px=360, sample_rate_hz=RATE_HZ, max_audio_s=60)
    return decode_clip(path, spec, DecodeLimits())


def test_stamps_have_photo_sound_and_name(root: Path) -> None:
    """Not those of the left-out folders, nor those with a spoken description only, nor without a name."""
    found = [(stamp.name, stamp.picture.stem, stamp.sound.suffix) for stamp in find_stamps(root)]
    assert found == [
        ("blue with a high tone", "blue", ".ogg"),
        ("blue with a high tone", "other", ".ogg"),
        ("red with a low tone", "red", ".ogg"),
    ]


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("A frog.", "frog"),
        ("An owl.\r", "owl"),
        ("The Apollo lunar lander module.", "Apollo lunar lander module"),
        ("A Tamworth pig.", "Tamworth pig"),
        ("Antelope", "Antelope"),
        ("A pair of open scissors.", "scissors"),
        ("A pair of closed scissors.", "scissors"),
        ("A baby sheep (a lamb).", "lamb"),
        ("Remember to flush the toilet and wash your hands with soap!", "toilet"),
        ("UB2006 “Penguin II” deep sea research vessel.", "deep sea research vessel"),
    ],
)
def test_names_lose_article_and_full_stop(description: str, name: str) -> None:
    """Or stand in the table."""
    assert name_of(description) == name


def test_the_clip_shows_the_photo_growing_on_a_plain_ground(root: Path, tmp_path: Path) -> None:
    """Four seconds at 10 frames a second; a round photo, from 75 to 95 % of the height."""
    write_clip(find_stamps(root)[2], tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
        assert clip.streams.video[0].average_rate == 10
        assert (clip.streams.video[0].codec_context.name, clip.streams.audio[0].codec_context.name) == (
            "h264",
            "aac",
        )
    assert np.array(frames).shape == (40, 360, 480, 3)
    heights = [int((frame[:, 240, 1] < 120).sum()) for frame in frames]
    assert heights[0] == pytest.approx(0.75 * 360, abs=6)
    assert heights[-1] == pytest.approx(0.95 * 360, abs=6)
    assert (np.diff(heights[::10]) > 0).all()
    for frame in (frames[0], frames[-1]):
        assert frame[0, 0] == pytest.approx([230] * 3, abs=4)
        assert frame[180, 240] == pytest.approx(COLOURS["red"], abs=12)


def test_what_transparent_parts_hide_is_not_seen(tmp_path: Path) -> None:
    """Black under full transparency is the ground; half of it is half of both."""
    rgba = np.zeros((40, 80, 4), np.uint8)
    rgba[:, 40:60] = (30, 30, 30, 128)
    write_png(tmp_path / "a.png", rgba)
    write_ogg(tmp_path / "a.ogg", np.zeros(RATE_HZ))
    write_clip(Stamp("a", tmp_path / "a.png", tmp_path / "a.ogg"), tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as clip:
        frame = next(clip.decode(video=0)).to_ndarray(format="rgb24")
    assert frame[180, 245:320] == pytest.approx(np.full((75, 3), 130), abs=12)
    assert frame[180, :230] == pytest.approx(np.full((230, 3), 230), abs=6)


def test_the_sound_is_repeated_to_four_seconds(root: Path, tmp_path: Path) -> None:
    """Half a second of a tone: as loud in the last second as in the first, and the tone is the same."""
    write_clip(find_stamps(root)[2], tmp_path / "clip.mp4")
    wave = decoded(tmp_path / "clip.mp4").waveform
    assert wave is not None
    assert len(wave) / RATE_HZ == pytest.approx(4, abs=0.05)
    for second in (wave[:RATE_HZ], wave[3 * RATE_HZ : 4 * RATE_HZ - 2000]):
        spectrum = np.abs(np.fft.rfft(second, RATE_HZ))
        assert int(spectrum.argmax()) == pytest.approx(TONES_HZ["low"], abs=4)
        assert float(second.std()) == pytest.approx(20_000 / 2**15 / np.sqrt(2), rel=0.1)


def test_clips_are_listed_with_their_names(root: Path, tmp_path: Path) -> None:
    """Files after the names, two of one name apart; readable as any folder of labelled clips."""
    make_clips(find_stamps(root), tmp_path / "new" / "clips")
    clips = [(clip.name, clip.label) for clip in read_clips(tmp_path / "new" / "clips")]
    assert clips == [
        ("blue-with-a-high-tone.mp4", "blue with a high tone"),
        ("blue-with-a-high-tone-2.mp4", "blue with a high tone"),
        ("red-with-a-low-tone.mp4", "red with a low tone"),
    ]


def test_a_damaged_photo_is_named(root: Path, tmp_path: Path) -> None:
    """Whoever has half a package must know."""
    (tmp_path / "a.png").write_bytes(b"no picture")
    stamp = Stamp("a", tmp_path / "a.png", root / "animals" / "red.ogg")
    with pytest.raises(CannotMeasureError, match=r"a\.png or its sound is damaged"):
        write_clip(stamp, tmp_path / "a.mp4")


def test_the_command_measures_and_keeps_the_clips(
    command: Command, package: Path, toy_bundle: Path, tmp_path: Path
) -> None:
    """It says what these clips are, and that this is not the pinned package."""
    kept = tmp_path / "kept"
    code, said, complaint = command(
        "--package", package, "--keep", kept, "--bundle", toy_bundle, "--lists", 2
    )
    assert code == 0, complaint
    assert f"real photos and sounds, no real video: made from Debian's {PACKAGE}" in said
    assert "another version than published figures are of (6db6c1bf" in said
    assert "# toy 1: 3 clips of 2 names" in said
    assert "fused top-1, of 3" in said
    assert sorted(file.name for file in kept.iterdir()) == [
        "COPYRIGHT",
        "blue-with-a-high-tone-2.mp4",
        "blue-with-a-high-tone.mp4",
        "labels.csv",
        "red-with-a-low-tone.mp4",
    ]


def test_making_the_clips_only(command: Command, package: Path, tmp_path: Path) -> None:
    """No bundle is needed; a folder that has something in it is left alone."""
    words = "--package", package, "--make-only", "--keep", tmp_path / "kept", "--bundle", tmp_path / "none"
    assert command(*words)[0] == 0
    assert len(read_clips(tmp_path / "kept")) == 3
    code, _, complaint = command(*words)
    assert code == 2
    assert "has something in it" in complaint
    assert command("--make-only")[0] == 2


def test_files_that_are_not_the_package_are_refused(tmp_path: Path) -> None:
    """No file, and no package."""
    with pytest.raises(CannotMeasureError, match="no such file"):
        unpack(tmp_path / "none.deb", tmp_path / "out")
    if shutil.which("dpkg-deb") is not None:
        (tmp_path / "text.deb").write_text("no package")
        with pytest.raises(CannotMeasureError, match=r"dpkg-deb failed and said: .*\nGive the file"):
            unpack(tmp_path / "text.deb", tmp_path / "out")


def test_machines_without_apt_are_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The clips can be made elsewhere."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(CannotMeasureError, match="There is no apt-get here"):
        stamps.download(tmp_path)


def test_a_download_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With apt-get's own last words, and what to do."""
    fake = tmp_path / "apt-get"
    fake.write_text("#!/bin/sh\necho 'W: something' >&2\necho 'E: Unable to locate package' >&2\nexit 100\n")
    fake.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(fake))
    with pytest.raises(CannotMeasureError, match=r"said: E: Unable to locate package\nRefresh its lists"):
        stamps.download(tmp_path)
