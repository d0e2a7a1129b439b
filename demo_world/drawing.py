"""The picture: one large shape that moves over a background, with distractors, an occluder and noise."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from demo_world.outlines import EXTENT, Outlines
from demo_world.world import PictureClutter
from service.arrays import Array

Motion = Literal["still", "drifting", "swinging", "bouncing", "circling", "pulsing", "turning"]
Ground = Literal["plain", "shaded", "striped", "checked", "dotted", "clouded"]

MOTIONS: tuple[Motion, ...] = ("still", "drifting", "swinging", "bouncing", "circling", "pulsing", "turning")
GROUNDS: tuple[Ground, ...] = ("plain", "shaded", "striped", "checked", "dotted", "clouded")
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.20, 0.20),
    "orange": (0.95, 0.55, 0.15),
    "yellow": (0.95, 0.84, 0.25),
    "green": (0.25, 0.68, 0.32),
    "teal": (0.15, 0.62, 0.64),
    "blue": (0.22, 0.42, 0.86),
    "purple": (0.55, 0.32, 0.78),
    "pink": (0.94, 0.52, 0.70),
    "white": (0.94, 0.94, 0.92),
    "black": (0.12, 0.12, 0.15),
    "brown": (0.50, 0.34, 0.22),
    "grey": (0.55, 0.56, 0.58),
}


@dataclass(frozen=True)
class Body:
    """A shape in motion. Lengths are fractions of the shorter side; (0, 0) is the middle of the frame."""

    shape: int
    colour: Array
    radius: float
    position: tuple[float, float]
    tilt: float
    squash: float
    motion: Motion
    phase: float
    rate_hz: float
    reach: float

    def pose(self, t: float) -> tuple[float, float, float, float]:
        """Return x, y, tilt in radians and radius at a time in seconds."""
        x, y = self.position
        turn = 2 * np.pi * (self.rate_hz * t + self.phase)
        wave, quarter = float(np.sin(turn)), float(np.cos(turn))
        match self.motion:
            case "drifting":
                return x + self.reach * wave, y + 0.3 * self.reach * quarter, self.tilt, self.radius
            case "bouncing":
                return x, y + self.reach * (0.5 - abs(wave)) * 1.4, self.tilt, self.radius
            case "circling":
                return x + self.reach * quarter, y + self.reach * wave, self.tilt, self.radius
            case "swinging":
                return x + 0.3 * self.reach * wave, y, self.tilt + 0.3 * wave, self.radius
            case "turning":
                return x, y, self.tilt + 0.25 * wave, self.radius
            case "pulsing":
                return x, y, self.tilt, self.radius * (1 + 0.14 * wave)
        return x, y, self.tilt, self.radius


@dataclass(frozen=True)
class Scene:
    """Everything that is drawn in one clip.

    Attributes:
        colour: Name of the main shape's colour.
        ground: Kind of background.
        grounds: float32 [2, 3], the background's two colours.
        ground_scale: Period of the background's texture.
        ground_angle: Its direction in radians.
        bodies: The distractors, then the main shape last.
        occluder: Half width, angle, offset and drift per second of the bar in front; None without one.
        noise: Standard deviation of the pixel noise, of 1.
    """

    colour: str
    ground: Ground
    grounds: Array
    ground_scale: float
    ground_angle: float
    bodies: tuple[Body, ...]
    occluder: tuple[float, float, float, float] | None
    noise: float

    @property
    def main(self) -> Body:
        """The shape that the clip is about."""
        return self.bodies[-1]


def draw_scene(rng: Generator, shape: int, n_shapes: int, clutter: PictureClutter) -> Scene:
    """Draw a scene with the given main shape; every other choice is a nuisance."""
    grounds = _ground_colours(rng)
    colour = _contrasting(rng, grounds, clutter.contrast)
    n_distractors = int(rng.integers(clutter.n_distractors[0], clutter.n_distractors[1] + 1))
    distractors = [_distractor(rng, n_shapes, clutter) for _ in range(n_distractors)]
    occluder = None
    if rng.random() < clutter.occluder_probability:
        width = rng.uniform(*clutter.occluder_width) / 2
        occluder = (width, rng.uniform(0, np.pi), rng.uniform(-0.2, 0.2), rng.uniform(-0.06, 0.06))
    return Scene(
        colour=colour,
        ground=GROUNDS[rng.integers(len(GROUNDS))],
        grounds=grounds,
        ground_scale=float(rng.uniform(0.08, 0.3)),
        ground_angle=float(rng.uniform(0, np.pi)),
        bodies=(*distractors, _main(rng, shape, colour, clutter)),
        occluder=occluder,
        noise=float(rng.uniform(*clutter.noise)),
    )


def _ground_colours(rng: Generator) -> Array:
    """Two muted colours near each other."""
    names = list(COLOURS)
    base = np.array(COLOURS[names[rng.integers(len(names))]], np.float32)
    muted = 0.55 * base + 0.45 * np.float32(rng.uniform(0.15, 0.85))
    return np.clip(np.stack([muted, muted + rng.normal(0, 0.09, 3)]), 0.03, 0.97).astype(np.float32)


def _contrasting(rng: Generator, grounds: Array, contrast: float) -> str:
    middle = grounds.mean(axis=0)
    far = [name for name, rgb in COLOURS.items() if np.linalg.norm(rgb - middle) > contrast]
    return far[rng.integers(len(far))]


def _main(rng: Generator, shape: int, colour: str, clutter: PictureClutter) -> Body:
    radius = rng.uniform(*clutter.size) / 2
    reach = max(0.04, min(0.16, 0.47 - radius)) * rng.uniform(0.4, 1.0)
    room = max(0.02, 0.5 - radius - reach)
    return Body(
        shape=shape,
        colour=np.clip(np.array(COLOURS[colour]) + rng.normal(0, 0.03, 3), 0, 1).astype(np.float32),
        radius=radius,
        position=(rng.uniform(-room, room), rng.uniform(-room, room)),
        tilt=float(np.deg2rad(rng.uniform(-clutter.tilt_deg, clutter.tilt_deg))),
        squash=float(np.exp(rng.uniform(-clutter.squash, clutter.squash))),
        motion=MOTIONS[rng.integers(len(MOTIONS))],
        phase=rng.uniform(0, 1),
        rate_hz=rng.uniform(0.15, 0.5),
        reach=reach,
    )


def _distractor(rng: Generator, n_shapes: int, clutter: PictureClutter) -> Body:
    names = list(COLOURS)
    return Body(
        shape=int(rng.integers(n_shapes)),
        colour=np.array(COLOURS[names[rng.integers(len(names))]], np.float32),
        radius=rng.uniform(*clutter.distractor_size) / 2,
        position=(rng.uniform(-0.6, 0.6), rng.uniform(-0.45, 0.45)),
        tilt=rng.uniform(-np.pi, np.pi),
        squash=1.0,
        motion=MOTIONS[rng.integers(len(MOTIONS))],
        phase=rng.uniform(0, 1),
        rate_hz=rng.uniform(0.1, 0.4),
        reach=rng.uniform(0.02, 0.1),
    )


class Painter:
    """Renders the frames of one scene at one size."""

    def __init__(self, scene: Scene, outlines: Outlines, height: int, width: int) -> None:
        self._scene, self._outlines = scene, outlines
        self._unit = min(height, width)
        self._x = ((np.arange(width) + 0.5 - width / 2) / self._unit).astype(np.float32)
        self._y = ((np.arange(height) + 0.5 - height / 2) / self._unit).astype(np.float32)
        self._ground = _paint_ground(scene, self._x[None, :], self._y[:, None])

    def frame(self, t: float, rng: Generator) -> NDArray[np.uint8]:
        """Paint the frame at a time in seconds: uint8 [height, width, 3], RGB; `rng` makes its noise."""
        canvas = self._ground.copy()
        for body in self._scene.bodies:
            self._paint_body(canvas, body, t)
        if self._scene.occluder is not None:
            self._paint_occluder(canvas, self._scene.occluder, t)
        if self._scene.noise > 0:
            canvas += rng.standard_normal((*canvas.shape[:2], 1), np.float32) * self._scene.noise
        return np.asarray(np.clip(canvas * 255 + 0.5, 0, 255), np.uint8)

    def _paint_body(self, canvas: Array, body: Body, t: float) -> None:
        cx, cy, tilt, radius = body.pose(t)
        reach = radius * EXTENT * max(body.squash, 1 / body.squash) * 1.42
        columns = _between(self._x, cx - reach, cx + reach)
        rows = _between(self._y, cy - reach, cy + reach)
        x, y = self._x[None, columns] - cx, self._y[rows, None] - cy
        u = (x * np.cos(tilt) + y * np.sin(tilt)) / (radius * body.squash)
        v = (y * np.cos(tilt) - x * np.sin(tilt)) / (radius / body.squash)
        distance = self._outlines.sample(body.shape, *np.broadcast_arrays(u, v))
        pixels = distance * np.float32(radius * self._unit)
        shade = (1.06 - 0.1 * v)[..., None] * body.colour
        rim = np.clip(1.6 + distance * 14, 0, 1)[..., None] * 0.25
        alpha = np.clip(0.5 - pixels, 0, 1)[..., None]
        shadow = np.clip(0.35 - distance * 2.2, 0, 0.35)[..., None]
        area = canvas[rows, columns]
        canvas[rows, columns] = area * (1 - shadow) * (1 - alpha) + shade * (1 - rim) * alpha

    def _paint_occluder(self, canvas: Array, bar: tuple[float, float, float, float], t: float) -> None:
        half, angle, offset, drift = bar
        across = self._x[None, :] * np.cos(angle) + self._y[:, None] * np.sin(angle) - offset - drift * t
        alpha = np.clip((half - np.abs(across)) * self._unit + 0.5, 0, 1)[..., None]
        canvas += alpha * (self._scene.grounds[1] * np.float32(0.8) - canvas)


def _between(axis: Array, low: float, high: float) -> slice:
    return slice(int(np.searchsorted(axis, low)), int(np.searchsorted(axis, high)))


def _paint_ground(scene: Scene, x: Array, y: Array) -> Array:
    """Return the background, float32 [height, width, 3] in 0..1."""
    mix = np.broadcast_to(_texture(scene, x, y), np.broadcast_shapes(x.shape, y.shape))[..., None]
    return np.asarray(scene.grounds[0] * (1 - mix) + scene.grounds[1] * mix, np.float32)


def _texture(scene: Scene, x: Array, y: Array) -> Array:
    """Share of the second colour at each point, 0..1."""
    turn = 2 * np.pi / scene.ground_scale
    cos, sin = np.cos(scene.ground_angle), np.sin(scene.ground_angle)
    u, v = (x * cos + y * sin) * turn, (y * cos - x * sin) * turn
    match scene.ground:
        case "shaded":
            texture = 0.5 + (x * cos + y * sin) * 0.9
        case "striped":
            texture = 0.5 + 2.5 * np.sin(u)
        case "checked":
            texture = 0.5 + 6 * np.sin(u) * np.sin(v)
        case "dotted":
            texture = 4 * (np.cos(u) + np.cos(v)) - 4
        case "clouded":
            waves = np.sin(0.5 * u + 1.3 * np.sin(0.3 * v)) + np.sin(0.43 * v + np.sin(0.37 * u))
            texture = 0.5 + 0.3 * waves
        case _:
            texture = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    return np.asarray(np.clip(texture, 0, 1), np.float32)
