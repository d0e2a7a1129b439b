"""Measure a bundle on 87 real photos with recorded sounds, which anyone can get from Debian's archive.

    python -m benchmarks.answers.stamps [--bundle weights/everyday] [--package FILE.deb]
        [--keep NEW [--make-only]] [--lists ...] [--distractors FILE [--column NAME]] [--verbose] [--json OUT]

The package tuxpaint-stamps-default (GPL-2, 161 MB) has photos of animals, instruments, tools and vehicles
with a sound of the same thing beside them. Each pair becomes a clip of 4 s: the photo, slowly growing, on a
plain ground, with its sound, repeated. `apt-get download` takes the package from the distribution, unless a
file is given. --keep leaves the clips in a new folder, with labels.csv and the package's licence; --make-only
leaves it at that. `python -m benchmarks.answers.real_clips --help` says how clips are measured, and what the
other options do. Nothing here needs torch, but ImageNet's names as distractors need open_clip.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from benchmarks.answers.clip_measure import CannotMeasureError
from benchmarks.answers.real_clips import CAN_FAIL, LABELS_FILE, add_options, run
from service.process import n_processors

PACKAGE: Final = "tuxpaint-stamps-default"
MEASURED_SHA256: Final = "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"
"""Of the version (2022.06.04-1) that published figures were measured with; it gives 87 clips of 84 names."""

# Most of what has a sound there is a sign or a drawing, or sounds of something else.
_LEFT_OUT: Final = ("symbols", "seasonal", "town", "military")
# By the first line of the description, where dropping the article and the full stop leaves no name.
_NAMES: Final = {
    "Remember to flush the toilet and wash your hands with soap!": "toilet",  # advice
    "A pair of closed scissors.": "scissors",  # nothing to be heard tells them from open ones
    "A pair of open scissors.": "scissors",
    "A baby sheep (a lamb).": "lamb",  # the name is what stands in brackets
    "UB2006 “Penguin II” deep sea research vessel.": "deep sea research vessel",  # a ship's own name
}

_WIDTH, _HEIGHT, _FPS, _SECONDS, _RATE_HZ = 480, 360, 10, 4, 44_100
_GROUND: Final = 230
_FIRST_SHARE, _LAST_SHARE = 0.75, 0.95
_SAMPLES_PER_FRAME: Final = 1024
_FILTER: Final = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


@dataclass(frozen=True)
class Stamp:
    """A photo and the sound of what it shows.

    Attributes:
        name: What it is.
        picture: PNG file.
        sound: Ogg file.
    """

    name: str
    picture: Path
    sound: Path


def main() -> None:
    """Make the clips, and print what the bundle makes of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--package", type=Path, metavar="FILE.deb", help="the package, already downloaded")
    parser.add_argument("--keep", type=Path, metavar="NEW", help="leave the clips in this new folder")
    parser.add_argument("--make-only", action="store_true", help="with --keep: measure nothing")
    add_options(parser)
    options = parser.parse_args()
    if options.make_only and options.keep is None:
        parser.error("--make-only goes with --keep NEW")
    try:
        with tempfile.TemporaryDirectory() as work:
            _make_and_measure(Path(work), options)
    except CAN_FAIL as error:
        parser.exit(2, f"{error}\n")


def _make_and_measure(work: Path, options: argparse.Namespace) -> None:
    folder: Path = options.keep or work / "clips"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CannotMeasureError(
            f"{folder} has something in it. Give a new folder to --keep, or, if that has the clips, measure "
            f"them again with python -m benchmarks.answers.real_clips {folder}."
        )
    package = options.package or download(work)
    root = unpack(package, work / "unpacked")
    sys.stderr.write("making clips ...\n")
    make_clips(find_stamps(root), folder)
    if options.keep is not None:
        shutil.copyfile(root.parents[1] / "doc" / PACKAGE / "copyright", folder / "COPYRIGHT")
        sys.stdout.write(f"clips, with {LABELS_FILE}: {folder}\n")
    if not options.make_only:
        run(folder, options, _remarks(package))


def _remarks(package: Path) -> list[str]:
    with package.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    version = (
        "the version that published figures are of"
        if found == MEASURED_SHA256
        else f"another version than published figures are of ({MEASURED_SHA256})"
    )
    return [
        f"real photos and sounds, no real video: made from Debian's {PACKAGE}",
        f"sha256 of the package: {found}, {version}",
    ]


def download(folder: Path) -> Path:
    """Take the package from the distribution that this machine runs.

    Raises:
        CannotMeasureError: there is no apt-get here, or it can't get the package.
    """
    sys.stderr.write(f"downloading {PACKAGE} (161 MB) ...\n")
    advice = (
        "Refresh its lists (apt-get update) if it knows no such package. Without a network, get "
        f"{PACKAGE} elsewhere and give the file to --package."
    )
    _call("apt-get", "download", PACKAGE, folder=folder, advice=advice)
    return next(folder.glob("*.deb"))


def unpack(package: Path, folder: Path) -> Path:
    """Unpack the package and find its stamps: the folder that has a folder for each kind.

    Raises:
        CannotMeasureError: there is no dpkg-deb here, or the file is not the package.
    """
    if not package.is_file():
        raise CannotMeasureError(
            f"{package}: there is no such file. Give one to --package, or leave that out."
        )
    words = "-x", str(package.resolve()), str(folder)
    _call(
        "dpkg-deb", *words, folder=folder.parent, advice=f"Give the file of {PACKAGE}, whole, to --package."
    )
    root = folder / "usr" / "share" / "tuxpaint" / "stamps"
    if not root.is_dir():
        raise CannotMeasureError(f"{package} has no stamps in it. Give {PACKAGE} to --package.")
    return root


def _call(*words: str, folder: Path, advice: str) -> None:
    command = shutil.which(words[0])
    if command is None:
        raise CannotMeasureError(
            f"There is no {words[0]} here, which Debian and Ubuntu have. Make the clips on such a machine, "
            "with --keep, and measure them anywhere with python -m benchmarks.answers.real_clips."
        )
    done = subprocess.run(  # noqa: S603  (fixed words and a file's name)
        [command, *words[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise CannotMeasureError(f"{words[0]} failed and said: {said}\n{advice}")


def find_stamps(root: Path) -> list[Stamp]:
    """Photos with a sound and a description beside them, in the order of their paths.

    Raises:
        CannotMeasureError: there is none.
    """
    stamps = list(_stamps(root))
    if not stamps:
        raise CannotMeasureError(f"The package has no photo with a sound. Give {PACKAGE} to --package.")
    return stamps


def _stamps(root: Path) -> Iterator[Stamp]:
    for picture in sorted(root.rglob("*.png")):
        sound, text = picture.with_suffix(".ogg"), picture.with_suffix(".txt")
        if picture.relative_to(root).parts[0] not in _LEFT_OUT and sound.is_file() and text.is_file():
            yield Stamp(name_of(text.read_text(encoding="utf-8").partition("\n")[0]), picture, sound)


def name_of(description: str) -> str:
    """The name in the first line of a description: without article and full stop, or as the table has it."""
    line = description.strip()
    return _NAMES.get(line) or re.sub(r"^(An?|The) ", "", line).removesuffix(".")


def make_clips(stamps: Sequence[Stamp], folder: Path) -> None:
    """Write a clip for each stamp, and labels.csv when all are there.

    Raises:
        CannotMeasureError: a photo or a sound can't be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = _file_names(stamps)
    with ThreadPoolExecutor(n_processors()) as threads:
        list(threads.map(write_clip, stamps, [folder / file for file in files]))
    with (folder / LABELS_FILE).open("w", encoding="utf-8", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(("file", "label"))
        rows.writerows((file, stamp.name) for file, stamp in zip(files, stamps, strict=True))


def _file_names(stamps: Sequence[Stamp]) -> list[str]:
    """After the names: dog.mp4, cow.mp4, cow-2.mp4."""
    used: Counter[str] = Counter()
    files = []
    for stamp in stamps:
        word = re.sub(r"[^a-z0-9]+", "-", stamp.name.lower()).strip("-")
        used[word] += 1
        files.append(f"{word}.mp4" if used[word] == 1 else f"{word}-{used[word]}.mp4")
    return files


def write_clip(stamp: Stamp, path: Path) -> None:
    """Write a clip of 4 s, H.264 and AAC: the photo growing on a plain ground, the sound repeated.

    Raises:
        CannotMeasureError: the photo or the sound can't be read.
    """
    try:
        picture, wave = _read_picture(stamp.picture), _read_sound(stamp.sound)
    except (FFmpegError, StopIteration, IndexError, ValueError):
        raise CannotMeasureError(
            f"{stamp.picture.name} or its sound is damaged. Get the package again."
        ) from None
    with av.open(str(path), "w", format="mp4") as out:
        video = out.add_stream("libx264", rate=_FPS, options={"preset": "veryfast", "crf": "20"})
        video.width, video.height, video.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        video.thread_count = 1  # the file depends on their number, and clips are made side by side anyway
        audio = out.add_stream("aac", rate=_RATE_HZ, layout="mono")
        for frame in _frames(picture):
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for start in range(0, len(wave), _SAMPLES_PER_FRAME):
            part = wave[None, start : start + _SAMPLES_PER_FRAME]
            sound = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = _RATE_HZ, start, Fraction(1, _RATE_HZ)
            out.mux(audio.encode(sound))
        out.mux(audio.encode())


def _read_picture(file: Path) -> NDArray[np.uint8]:
    """A photo on the ground, at its own size: uint8 [height, width, 3], RGB.

    Its edges are soft. Blending before scaling keeps what the transparent parts hide out of them.
    """
    with av.open(str(file)) as source:
        rgba = next(source.decode(video=0)).reformat(format="rgba").to_ndarray().astype(np.float32)
    alpha = rgba[..., 3:] / 255
    return np.rint(rgba[..., :3] * alpha + _GROUND * (1 - alpha)).astype(np.uint8)


def _frames(picture: NDArray[np.uint8]) -> Iterator[av.VideoFrame]:
    """The photo in the middle of the frame, from its first share of it up to its last."""
    height, width = picture.shape[:2]
    fits = min(_WIDTH / width, _HEIGHT / height)
    for share in np.linspace(_FIRST_SHARE, _LAST_SHARE, _SECONDS * _FPS):
        view = round(_HEIGHT / (fits * share)), round(_WIDTH / (fits * share))
        top, left = (view[0] - height) // 2, (view[1] - width) // 2
        seen = np.full((*view, 3), _GROUND, np.uint8)
        seen[top : top + height, left : left + width] = picture
        frame = av.VideoFrame.from_ndarray(seen, format="rgb24")
        yield frame.reformat(_WIDTH, _HEIGHT, "yuv420p", interpolation=_FILTER)


def _read_sound(file: Path) -> NDArray[np.float32]:
    """The sound, repeated or cut: float32 [n_samples], mono."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=_RATE_HZ)
    with av.open(str(file)) as source:
        frames = [*source.decode(audio=0), None]
        parts = [part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)]
    return np.resize(np.concatenate(parts), _SECONDS * _RATE_HZ).astype(np.float32)


if __name__ == "__main__":
    main()
