"""What a run measures: one base case, and from it one axis at a time.

The base case is a 10 s clip at 360p with a key frame every second, ten names that the services know, 32
clients, and random weights of ViT-B/32 and HTSAT-tiny.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final, Literal

Service = Literal["ahse", "ahse, clips kept", "ahse, 8 workers", "straightforward", "names kept"]
"""`names kept`: the straightforward one that keeps the embeddings of its names; `clips kept`: this one, which
then has the features of a clip that it has seen; in all other points it decodes and encodes each clip;
`8 workers`: so many processes of it behind one port, which share the GPU."""
Names = Literal["known", "new"]
"""`known`: the same in all requests, and seen before; `new`: no request had them before."""
Fields = tuple[tuple[str, str], ...]
BenchmarkDevice = Literal["cpu", "cuda"]
"""what the services run on."""
Extent = Literal["quick", "usual", "full"]
"""`quick`: one or two requests a point, few new names, no 1080p, only to see that everything works; `full`:
opponents are asked by as many clients as this service in every case, and very many names are new."""

REAL, EVERYDAY, DEMO = "real architecture", "everyday", "demo"
"""Bundles; the first has random weights."""
BUNDLES: Final = (REAL, EVERYDAY, DEMO)
OPPONENTS: Final[tuple[Service, ...]] = ("straightforward", "names kept")
DECODING: Final[tuple[Service, ...]] = ("ahse", "ahse, 8 workers")
"""This service where it decodes and encodes each clip, as the limits do."""
KEY_FRAMES: Final[Fields] = (("frames", "key"),)
SEGMENTS: Final[Fields] = (("segment_s", "10"),)


@dataclass(frozen=True)
class ClipKind:
    """A generated clip, H.264 and AAC.

    Attributes:
        height: Of the picture, 16:9.
        gop: Frames from one key frame to the next.
        seconds: Length of what is generated.
        n_times: How often that is in the clip, one after the other. With seven times, none of the eight
            frames that are chosen of the clip shows the same as another.
    """

    height: int
    gop: int
    seconds: float = 10.0
    n_times: int = 1

    @property
    def length_s(self) -> float:
        """Of the whole clip."""
        return self.seconds * self.n_times


BASE = "360p GOP 30, 10 s"
MIDDLING = "360p GOP 250, 10 s"
HARD = "1080p GOP 30, 10 s"
HARDEST = "1080p GOP 250, 10 s"
MINUTE = "360p GOP 30, 1 min"
TEN_MINUTES = "360p GOP 30, 10 min"
CLIPS: Final[dict[str, ClipKind]] = {
    BASE: ClipKind(360, 30),
    MIDDLING: ClipKind(360, 250),
    HARD: ClipKind(1080, 30),
    HARDEST: ClipKind(1080, 250),
    # A key frame begins each repetition, and a service refuses clips of more than ten minutes.
    MINUTE: ClipKind(360, 30, 8.5, 7),
    TEN_MINUTES: ClipKind(360, 30, 85.5, 7),
}


@dataclass(frozen=True)
class Point:
    """One service under one load.

    Attributes:
        part: Which question it answers; a part is a table of the report.
        service: Who is asked.
        clients: Requests under way at a time.
        n_requests: Of all clients together.
        seconds: About how long it takes on two cores (for a GPU: beside one), for telling how much is left.
        clip: One of CLIPS.
        n_names: Candidates in a request.
        names: Whether the service knows them.
        bundle: Of what models.
        fields: Options of the request.
    """

    part: str
    service: Service
    clients: int
    n_requests: int
    seconds: float
    clip: str = BASE
    n_names: int = 10
    names: Names = "known"
    bundle: str = REAL
    fields: Fields = ()

    @property
    def options(self) -> str:
        """The options in words; empty: none."""
        return ", ".join(f"{name}={value}" for name, value in self.fields)

    @property
    def case(self) -> tuple[object, ...]:
        """What is asked, of whomever and by however many clients."""
        return self.bundle, self.clip, self.n_names, self.names, self.fields

    def __str__(self) -> str:
        """One line for people."""
        names = f"{self.n_names:,} names {self.names}"
        words = [self.bundle, self.clip, names, f"{self.clients} clients", self.service, self.options]
        return ", ".join(word for word in words if word)


def all_points(device: BenchmarkDevice, extent: Extent) -> list[Point]:
    """Every point of a run, services that are compared next to each other.

    Args:
        device: On a GPU there are fewer points, and no bundles with 8-bit graphs.
        extent: How much is measured.
    """
    points = [*_on_gpu()] if device == "cuda" else [*_real_architecture(), *_everyday(), *_demo()]
    match extent:
        case "quick":
            return [_quick(point) for point in points if CLIPS[point.clip].height < 1080]
        case "usual":
            return points
        case "full":
            return [*_with_very_many_new_names(_as_many_clients(points))]


def _real_architecture() -> Iterator[Point]:
    yield from _clips()
    yield Point("clients", "ahse", 1, 8, 3)
    yield Point("clients", "ahse", 1, 6, 4, names="new")
    yield Point("clients", "names kept", 1, 5, 7)
    yield Point("clients", "straightforward", 1, 5, 10)
    yield Point("clients", "ahse", 8, 32, 9)
    yield Point("clients", "names kept", 8, 12, 16)
    yield Point("clients", "straightforward", 8, 8, 14)
    yield Point("names", "ahse", 32, 64, 17, n_names=1_000)
    yield Point("names", "names kept", 1, 3, 5, n_names=1_000)
    yield Point("names", "ahse", 32, 64, 25, n_names=100_000)
    yield Point("names", "names kept", 1, 3, 6, n_names=100_000)
    yield Point("names", "ahse", 1, 1, 12, n_names=1_000, names="new")
    yield Point("names", "straightforward", 1, 1, 50, n_names=1_000, names="new")
    yield Point("length", "ahse", 1, 3, 3, clip=MINUTE)
    yield Point("length", "straightforward", 1, 1, 4, clip=MINUTE)
    yield Point("length", "names kept", 1, 1, 3, clip=MINUTE)
    yield Point("length", "ahse", 1, 3, 8, clip=TEN_MINUTES)
    yield Point("length", "straightforward", 1, 1, 21, clip=TEN_MINUTES)
    yield Point("length", "names kept", 1, 1, 18, clip=TEN_MINUTES)
    yield Point("segments", "ahse", 1, 3, 5, clip=MINUTE, fields=SEGMENTS)
    yield Point("segments", "straightforward", 1, 1, 8, clip=MINUTE, fields=SEGMENTS)
    yield Point("segments", "names kept", 1, 1, 7, clip=MINUTE, fields=SEGMENTS)
    yield Point("segments", "ahse", 1, 3, 6, clip=MINUTE, fields=SEGMENTS, n_names=100_000)
    yield Point("segments", "names kept", 1, 1, 7, clip=MINUTE, fields=SEGMENTS, n_names=100_000)
    yield Point("segments", "ahse", 1, 1, 13, clip=TEN_MINUTES, fields=SEGMENTS, n_names=100_000)
    yield Point("again", "ahse, clips kept", 1, 20, 6)


def _clips() -> Iterator[Point]:
    """A service that works on one request at a time is usually asked by 32 clients in the base case only."""
    yield Point("clips", "ahse", 32, 96, 24)
    yield Point("clips", "straightforward", 32, 32, 58)
    yield Point("clips", "names kept", 32, 32, 28)
    yield Point("clips", "ahse", 32, 48, 25, names="new")
    yield Point("clips", "ahse", 32, 48, 10, fields=KEY_FRAMES)
    yield Point("clips", "ahse", 32, 64, 19, MIDDLING)
    yield Point("clips", "straightforward", 4, 6, 12, MIDDLING)
    yield Point("clips", "names kept", 4, 6, 7, MIDDLING)
    yield Point("clips", "ahse", 32, 48, 25, MIDDLING, names="new")
    yield Point("clips", "ahse", 32, 32, 21, HARD)
    yield Point("clips", "straightforward", 4, 4, 13, HARD)
    yield Point("clips", "names kept", 4, 4, 10, HARD)
    yield Point("clips", "ahse", 32, 48, 32, HARDEST)
    yield Point("clips", "names kept", 8, 8, 22, HARDEST)
    yield Point("clips", "straightforward", 8, 8, 24, HARDEST)
    yield Point("clips", "ahse", 32, 32, 28, HARDEST, names="new")
    yield Point("clips", "ahse", 32, 48, 10, HARDEST, fields=KEY_FRAMES)


def _everyday() -> Iterator[Point]:
    return _of_bundle(
        EVERYDAY,
        [
            *_one_and_many(128),
            Point("bundles", "ahse", 8, 48, 7),
            Point("bundles", "ahse", 32, 96, 14, n_names=1_000),
            Point("bundles", "names kept", 1, 3, 2, n_names=1_000),
            Point("bundles", "ahse", 32, 64, 30, n_names=100_000),
            Point("bundles", "names kept", 1, 3, 4, n_names=100_000),
            Point("bundles", "ahse", 1, 1, 4, n_names=1_000, names="new"),
            Point("bundles", "straightforward", 1, 1, 5, n_names=1_000, names="new"),
            Point("bundles", "ahse", 1, 3, 2, clip=MINUTE),
            *(Point("bundles", one, 1, 1, 1, clip=MINUTE) for one in OPPONENTS),
            Point("bundles", "ahse", 1, 3, 6, clip=TEN_MINUTES),
            *(Point("bundles", one, 1, 1, 5, clip=TEN_MINUTES) for one in OPPONENTS),
            Point("bundles", "ahse", 1, 1, 8, clip=TEN_MINUTES, fields=SEGMENTS),
            *(Point("bundles", one, 1, 1, 15, clip=TEN_MINUTES, fields=SEGMENTS) for one in OPPONENTS),
        ],
    )


def _demo() -> Iterator[Point]:
    many = (
        Point("bundles", "ahse", 32, 128, 15, n_names=100_000),
        Point("bundles", "names kept", 1, 3, 2, n_names=100_000),
    )
    return _of_bundle(DEMO, [*_one_and_many(192), *many])


def _one_and_many(n_requests: int) -> Iterator[Point]:
    """The base case with one client and with many, with known names and with new ones."""
    yield Point("bundles", "ahse", 32, n_requests, 16)
    yield Point("bundles", "names kept", 8, 16, 7)
    yield Point("bundles", "straightforward", 8, 16, 8)
    yield Point("bundles", "ahse", 32, n_requests // 2, 11, names="new")
    yield Point("bundles", "ahse", 1, 10, 3)
    yield Point("bundles", "names kept", 1, 5, 3)
    yield Point("bundles", "straightforward", 1, 5, 3)


def _of_bundle(bundle: str, points: Iterable[Point]) -> Iterator[Point]:
    return (replace(point, bundle=bundle) for point in points)


def _on_gpu() -> Iterator[Point]:
    """Fewer points with more clients and requests, since a machine with a GPU is rarely had for long."""
    yield Point("clips", "ahse", 64, 768, 30)
    yield Point("clips", "ahse, 8 workers", 64, 1536, 35)
    yield Point("clips", "straightforward", 64, 64, 35)
    yield Point("clips", "names kept", 64, 64, 35)
    yield Point("clips", "ahse, 8 workers", 64, 768, 12, names="new")
    yield Point("clips", "ahse, 8 workers", 64, 1024, 12, fields=KEY_FRAMES)
    yield Point("clips", "ahse", 64, 384, 10, names="new")
    yield Point("clips", "ahse, 8 workers", 64, 192, 18, HARDEST)
    yield Point("clips", "straightforward", 8, 8, 9, HARDEST)
    yield Point("clips", "names kept", 8, 8, 9, HARDEST)
    yield Point("clips", "ahse, 8 workers", 64, 384, 10, HARDEST, fields=KEY_FRAMES)
    yield Point("clients", "ahse", 1, 20, 3)
    yield Point("clients", "straightforward", 1, 10, 4)
    yield Point("clients", "names kept", 1, 10, 3)
    yield Point("clients", "ahse", 8, 160, 4)
    yield Point("length", "ahse", 1, 3, 6, clip=TEN_MINUTES)
    yield Point("length", "straightforward", 1, 1, 15, clip=TEN_MINUTES)
    yield Point("names", "ahse", 64, 256, 15, n_names=100_000)
    yield Point("names", "names kept", 1, 10, 2, n_names=100_000)
    yield Point("names", "ahse", 1, 3, 3, n_names=1_000, names="new")
    yield Point("names", "straightforward", 1, 2, 3, n_names=1_000, names="new")


def _as_many_clients(points: list[Point]) -> Iterator[Point]:
    """All points, and after an opponent's first one of a case another with the most clients of that case."""
    for point in points:
        yield point
        alike = [other for other in points if other.case == point.case]
        asked = [other for other in alike if other.service == point.service]
        n = max(other.clients for other in alike)
        if point.service in OPPONENTS and point == asked[0] and max(one.clients for one in asked) < n:
            yield replace(point, clients=n, n_requests=n, seconds=n * point.seconds / point.n_requests)


def _quick(point: Point) -> Point:
    n, few = min(2, point.n_requests), min(50, point.n_names)
    return replace(
        point,
        clients=min(point.clients, n),
        n_requests=n,
        n_names=point.n_names if point.names == "known" else few,
        seconds=2 * n,
    )


def _with_very_many_new_names(points: Iterable[Point]) -> Iterator[Point]:
    """All points, and after those of a bundle 100,000 new names, as many a request as the service takes.

    With the real architectures a tenth of them, since their encoders take the straightforward service twelve
    minutes for that.
    """
    asked = {
        REAL: _very_many_new_names(5, 2_000, 130, 730),
        EVERYDAY: _very_many_new_names(10, 10_000, 200, 490),
        DEMO: _very_many_new_names(10, 10_000, 105, 250),
    }
    for bundle, some in groupby(points, key=lambda point: point.bundle):
        yield from some
        yield from _of_bundle(bundle, asked[bundle])


def _very_many_new_names(n_requests: int, n_names: int, ours_s: float, theirs_s: float) -> Iterator[Point]:
    yield Point("new names", "ahse", 1, n_requests, ours_s, n_names=n_names, names="new")
    yield Point("new names", "straightforward", 1, n_requests, theirs_s, n_names=n_names, names="new")
