"""The outlines of the 16 shapes as signed distance fields, which scale to any resolution."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from service.arrays import Array

EXTENT = 1.3
"""Half the side of the square that a field covers; a shape's radius is about 1."""


@dataclass(frozen=True)
class Outlines:
    """Signed distance fields of the shapes, in units of a shape's radius; negative inside.

    Attributes:
        fields: float32 [n_shapes, side, side]; rows go down, columns go right, over -EXTENT..EXTENT.
    """

    fields: Array

    def sample(self, shape: int, x: Array, y: Array) -> Array:
        """Interpolate a shape's distance at points in its own coordinates.

        Args:
            shape: Index of the shape.
            x: float32, any shape, to the right.
            y: float32, same shape, downwards.

        Returns:
            float32 signed distance; points outside the field get that of its border.
        """
        side = self.fields.shape[1]
        column = np.clip((x + EXTENT) * ((side - 1) / (2 * EXTENT)), 0, side - 1.001)
        row = np.clip((y + EXTENT) * ((side - 1) / (2 * EXTENT)), 0, side - 1.001)
        left, top = column.astype(np.int32), row.astype(np.int32)
        fx, fy = column - left, row - top
        flat, corner = self.fields[shape].ravel(), top * side + left
        upper = flat[corner] * (1 - fx) + flat[corner + 1] * fx
        lower = flat[corner + side] * (1 - fx) + flat[corner + side + 1] * fx
        return np.asarray(upper * (1 - fy) + lower * fy, np.float32)


def trace_outlines(keys: tuple[str, ...], side: int = 128) -> Outlines:
    """Compute the distance field of every named shape on a grid of side x side points."""
    axis = np.linspace(-EXTENT, EXTENT, side, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return Outlines(np.stack([_FIELDS[key](x, y) for key in keys]).astype(np.float32))


def _polygon(x: Array, y: Array, points: Array) -> Array:
    """Exact signed distance to a closed polygon (even-odd rule)."""
    squared = np.full(x.shape, np.inf, np.float32)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        squared = np.minimum(squared, _to_segment(x, y, (ax, ay), (bx, by)))
        crosses = (ay > y) != (by > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return np.where(inside, -1, 1) * np.sqrt(squared)


def _to_segment(x: Array, y: Array, a: tuple[float, float], b: tuple[float, float]) -> Array:
    """Squared distance to the segment from a to b."""
    ex, ey = b[0] - a[0], b[1] - a[1]
    along = np.clip(((x - a[0]) * ex + (y - a[1]) * ey) / max(ex * ex + ey * ey, 1e-9), 0, 1)
    return np.asarray((x - a[0] - along * ex) ** 2 + (y - a[1] - along * ey) ** 2, np.float32)


def _circle(x: Array, y: Array, cx: float = 0.0, cy: float = 0.0, radius: float = 1.0) -> Array:
    return np.asarray(np.hypot(x - cx, y - cy) - radius, np.float32)


def _polar(x: Array, y: Array, radius: Callable[[Array], Array], n: int = 96) -> Array:
    """A shape given by its radius in each direction; angle 0 points up."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False, dtype=np.float32)
    r = radius(angle)
    return _polygon(x, y, np.stack([r * np.sin(angle), -r * np.cos(angle)], axis=1))


def _corners(x: Array, y: Array, *points: tuple[float, float]) -> Array:
    return _polygon(x, y, np.array(points, np.float32))


def _star(x: Array, y: Array) -> Array:
    angle = np.arange(10) * np.pi / 5
    radius = np.where(np.arange(10) % 2 == 0, 1.05, 0.45)
    return _polygon(x, y, np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1))


def _cross(x: Array, y: Array) -> Array:
    bar = np.maximum(np.abs(x) - 0.98, np.abs(y) - 0.32)
    return np.asarray(np.minimum(bar, np.maximum(np.abs(y) - 0.98, np.abs(x) - 0.32)), np.float32)


def _heart(x: Array, y: Array) -> Array:
    t = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    curve = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return _polygon(x, y, np.stack([np.sin(t) ** 3, -(curve + 2) / 15.5], axis=1).astype(np.float32))


def _drop(x: Array, y: Array) -> Array:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    width = np.sin(t) * np.sin(t / 2) ** 1.5
    return _polygon(x, y, np.stack([width, -np.cos(t)], axis=1).astype(np.float32))


def _cloud(x: Array, y: Array) -> Array:
    puffs = ((-0.6, 0.2, 0.42), (-0.15, -0.2, 0.52), (0.38, -0.05, 0.46), (0.7, 0.25, 0.36))
    base = np.maximum(np.abs(x - 0.05) - 0.66, np.abs(y - 0.4) - 0.22)
    field = np.minimum.reduce([base, *(_circle(x, y, *puff) for puff in puffs)])
    return np.asarray(field, np.float32)


def _leaf(x: Array, y: Array) -> Array:
    blade = np.maximum(_circle(x, y, -0.55, -0.15, 1.08), _circle(x, y, 0.55, -0.15, 1.08))
    stalk = np.sqrt(_to_segment(x, y, (0.0, 0.4), (0.14, 1.12))) - 0.07
    return np.asarray(np.minimum(blade, stalk), np.float32)


def _spiral(x: Array, y: Array) -> Array:
    t = np.linspace(0.12, 1, 60) * 4.6 * np.pi
    px, py = t / t[-1] * 0.92 * np.cos(t), t / t[-1] * 0.92 * np.sin(t)
    squared = np.full(x.shape, np.inf, np.float32)
    for i in range(len(t) - 1):
        squared = np.minimum(squared, _to_segment(x, y, (px[i], py[i]), (px[i + 1], py[i + 1])))
    return np.asarray(np.sqrt(squared) - 0.11, np.float32)


def _gear(x: Array, y: Array) -> Array:
    wheel = _polar(x, y, lambda a: (0.88 + 0.16 * np.tanh(5 * np.cos(9 * a))).astype(np.float32), 180)
    return np.maximum(wheel, -_circle(x, y, radius=0.34))


_FIELDS: dict[str, Callable[[Array, Array], Array]] = {
    "disc": lambda x, y: _circle(x, y, radius=0.95),
    "ring": lambda x, y: np.asarray(np.abs(_circle(x, y, radius=0.76)) - 0.22, np.float32),
    "square": lambda x, y: np.asarray(np.maximum(np.abs(x), np.abs(y)) - 0.84, np.float32),
    "triangle": lambda x, y: _corners(x, y, (0, -1.05), (1, 0.75), (-1, 0.75)),
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "moon": lambda x, y: np.maximum(_circle(x, y, radius=0.98), -_circle(x, y, 0.48, -0.1, 0.8)),
    "arrow": lambda x, y: _corners(
        x, y, (1.05, 0), (0.25, -0.75), (0.25, -0.28), (-1, -0.28), (-1, 0.28), (0.25, 0.28), (0.25, 0.75)
    ),
    "drop": _drop,
    "cloud": _cloud,
    "flower": lambda x, y: _polar(x, y, lambda a: (0.72 + 0.32 * np.cos(5 * a)).astype(np.float32)),
    "bolt": lambda x, y: _corners(
        x, y, (0.3, -1.1), (-0.6, 0.15), (-0.08, 0.15), (-0.3, 1.1), (0.62, -0.25), (0.1, -0.25), (0.6, -1.1)
    ),
    "leaf": _leaf,
    "spiral": _spiral,
    "gear": _gear,
}
