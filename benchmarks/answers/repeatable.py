"""Whether the same clip gets the same ranking, whatever the service is doing beside it.

    python -m benchmarks.answers.repeatable [DIR] [--bundle weights/everyday] [--requests 1000]

Clips (those in DIR, else the examples) are posted to servers with other sizes of batches, numbers of threads
and of clients, as they are and in other containers with the same coded streams, with the same names in
another order each time; each server has met the names in other groups of one to five. Each answer is compared
with the one that a server with the default settings gave to a lone request with the clip as it is, and those
about TS and FLV with that about MKV too: where an MP4 has an edit list that hides its beginning (of AAC the
first 0.02 s), these three show and play it. Prints how many answers have all names in the same order, how
many the same first name, and by how much scores, times of frames and pieces of sound differ at most; once by
server, without the effect of edit lists, and once by container.
"""

from __future__ import annotations

import argparse
import http.client
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, cast

from benchmarks.answers.differences import Answer, Differences, table
from benchmarks.answers.remux import remux
from benchmarks.load import form, post
from benchmarks.machine import describe_machine
from benchmarks.servers import free_port, running, serve_command

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
ENDINGS: Final = frozenset({".avi", ".mkv", ".mov", ".mp4", ".webm"})
NAMES: Final = (
    "dog barking",
    "cat",
    "rooster",
    "bird singing",
    "horse",
    "cow",
    "frog",
    "insects",
    "person talking",
    "crowd cheering",
    "child laughing",
    "baby crying",
    "people dancing",
    "playing the guitar",
    "playing the piano",
    "playing the drums",
    "playing the violin",
    "orchestra",
    "singing",
    "speech",
    "football match",
    "basketball",
    "swimming",
    "skateboarding",
    "cooking",
    "food frying",
    "rain",
    "thunderstorm",
    "waves at the sea",
    "river",
    "wind in trees",
    "fire",
    "fireworks",
    "train",
    "airplane",
    "helicopter",
    "car engine",
    "motorcycle",
    "siren",
    "bicycle",
    "chainsaw",
    "hammer",
    "typing on a keyboard",
    "telephone ringing",
    "church bells",
    "clock ticking",
    "applause",
    "gunshot",
    "video game",
    "weather forecast",
)
AS_IT_IS: Final = "as it is"
WITHOUT_EDIT_LISTS: Final = ("mkv", "ts", "flv")
_TIMEOUT_S: Final = 300

Row = tuple[str, str]
"""Name of a setting, and a container."""


@dataclass(frozen=True)
class Setting:
    """How a server runs, and how many clients it has at once.

    Attributes:
        name: For the report.
        n_clients: Requests at once.
        environment: Settings of the service.
        n_times: How often each file is asked about.
    """

    name: str
    n_clients: int = 8
    environment: Mapping[str, str | int] = field(default_factory=dict)
    n_times: int = 1


def _sizes(frames: int, windows: int, tokens: int) -> dict[str, str | int]:
    return {"AHSE_BATCH_FRAMES": frames, "AHSE_BATCH_WINDOWS": windows, "AHSE_BATCH_TOKENS": tokens}


ALONE: Final = Setting("default, 1 client", 1)
SETTINGS: Final = (
    ALONE,
    Setting("default, 8 clients"),
    Setting("default, 32 clients", 32),
    Setting("batches of 1, 8 clients", 8, _sizes(1, 1, 50)),
    Setting("batches of 32 frames and 16 windows, 32 clients", 32, _sizes(32, 16, 20_000)),
    Setting("2 threads a run, 8 clients", 8, {"AHSE_INFERENCE_THREADS": 2}),
    Setting(
        "threads by onnxruntime, 4 runs at once, 8 clients",
        8,
        {"AHSE_INFERENCE_THREADS": 0, "AHSE_PARALLEL_RUNS": 4},
    ),
    Setting("1 decoding process, 8 clients", 8, {"AHSE_DECODE_WORKERS": 1}),
    Setting("features kept on disk, 8 clients", 8, {"AHSE_CLIP_STORE_BYTES": 10**8}, n_times=2),
)


@dataclass(frozen=True)
class File:
    """A clip in a container.

    Attributes:
        clip: Name of the clip.
        container: Ending of the container, or AS_IT_IS.
        content: The bytes.
    """

    clip: str
    container: str
    content: bytes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR", nargs="?", default=EXAMPLES)
    parser.add_argument("--bundle", type=Path, default=Path("weights/everyday"))
    parser.add_argument("--requests", type=int, default=1000)
    options = parser.parse_args()
    clips = [path for path in sorted(options.folder.iterdir()) if path.suffix in ENDINGS]
    if not clips:
        parser.exit(2, f"no clips are in {options.folder}\n")
    _print(", ".join([*describe_machine().values(), str(options.bundle)]))
    with tempfile.TemporaryDirectory() as folder:
        files = all_files(clips, Path(folder))
        _print(f"{len(clips)} clips in {len(files)} files, {len(NAMES)} names")
        found = compare(options.bundle, files, SETTINGS, options.requests, Path(folder))
    _print(_report(found))


def all_files(clips: Iterable[Path], folder: Path) -> list[File]:
    """Each clip as it is, and in every container that takes its streams."""
    files = []
    for path in clips:
        found = {AS_IT_IS: path, **remux(path, folder)}
        files += [File(path.name, container, one.read_bytes()) for container, one in found.items()]
    return files


def compare(
    bundle: Path, files: Sequence[File], settings: Sequence[Setting], n_requests: int, folder: Path
) -> dict[Row, Differences]:
    """Differences by setting and container.

    Args:
        bundle: Of the servers.
        files: What is asked about.
        settings: Of the servers, one after the other; they share the requests.
        n_requests: Of all servers together.
        folder: For their data.
    """
    alone = [one for one in files if one.container in (AS_IT_IS, WITHOUT_EDIT_LISTS[0])]
    answers = _ask(bundle, folder / "expected", ALONE, alone)
    expected = {(file.clip, file.container): one for file, one in zip(alone, answers, strict=True)}
    mixed, found = random.Random(0), dict[Row, Differences]()  # noqa: S311  (no secret)
    for number, setting in enumerate(settings):
        n_files = n_requests // len(settings) // setting.n_times
        some = [files[place % len(files)] for place in range(number * n_files, (number + 1) * n_files)]
        mixed.shuffle(some)
        some *= setting.n_times
        for file, answer in zip(some, _ask(bundle, folder / str(number), setting, some), strict=True):
            for container, other in _compared_with(file):
                row = found.setdefault((setting.name, container), Differences())
                row.add(answer, expected[file.clip, other])
    return found


def _compared_with(file: File) -> Iterator[tuple[str, str]]:
    """Containers that a file is compared with, each after what that is called."""
    first, *others = WITHOUT_EDIT_LISTS
    yield file.container, AS_IT_IS
    if file.container in others:
        yield f"{file.container} beside {first}", first


def _ask(bundle: Path, data: Path, setting: Setting, files: Sequence[File]) -> list[Answer]:
    """The answers of a server of its own, in the order of the files."""
    port = free_port()
    environment = [f"{name}={value}" for name, value in setting.environment.items()]
    command = ["env", *environment, *serve_command(bundle, port, data)]

    def ask(file: File, names: Sequence[str]) -> Answer:
        body = form(file.content, [("labels", name) for name in names])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        with closing(connection):
            _, answer = post(connection, body)
        return cast("Answer", answer)

    shuffles = [random.Random(number).sample(NAMES, len(NAMES)) for number in range(len(files))]  # noqa: S311
    with running(command, port), ThreadPoolExecutor(setting.n_clients) as clients:
        list(clients.map(partial(ask, files[0]), _groups(setting)))
        return list(clients.map(ask, files, shuffles))


def _groups(setting: Setting) -> Iterator[list[str]]:
    """All names in small groups, other ones for each setting: a name must not depend on its neighbours."""
    mixed = random.Random(setting.name)  # noqa: S311  (no secret)
    names = mixed.sample(NAMES, len(NAMES))
    while names:
        size = mixed.randint(1, 5)
        yield names[:size]
        names = names[size:]


def _report(found: Mapping[Row, Differences]) -> str:
    """By setting, of what shows and plays the same, and by container."""
    by_setting, by_container = dict[str, Differences](), dict[str, Differences]()
    for (name, container), one in found.items():
        by_container.setdefault(container, Differences()).include(one)
        if container not in WITHOUT_EDIT_LISTS:
            by_setting.setdefault(name, Differences()).include(one)
    by_container = dict(sorted(by_container.items()))
    return f"{table('server', by_setting)}\n\n{table('container', by_container)}"


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
