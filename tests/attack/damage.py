"""Damage to bytes and to JSON documents, by a seed: the same again for the same arguments."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutate(media: Sequence[bytes], seed: int, number: int, maximum: int = 6) -> bytes:
    """One of the files with one mutation or more, up to a maximum; the same for the same arguments."""
    chance = random.Random(f"{seed}-{number}")  # noqa: S311  (repeatable, not secret)
    content = bytearray(chance.choice(media))
    for _ in range(chance.randint(1, maximum)):
        if content:
            chance.choice(_MUTATIONS)(chance, content, media)
    return bytes(content)


def _place(chance: random.Random, content: bytearray) -> int:
    """Half of the places lie in the first bytes, where most containers say what follows."""
    end = len(content) - 1
    return chance.randint(0, min(end, 400) if chance.random() < 0.5 else end)


def _flip_bits(chance: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    for bit in [1 << chance.randrange(8) for _ in range(chance.randint(1, 16))]:
        content[_place(chance, content)] ^= bit


def _write_noise(chance: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    start = _place(chance, content)
    length = min(chance.randint(1, 64), len(content) - start)
    content[start : start + length] = chance.randbytes(length)


def _write_number(chance: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    """A boundary value, as sizes, counts and times in headers are written."""
    width = chance.choice((1, 2, 4, 8))
    number = (chance.choice(_NUMBERS) % (1 << 8 * width)).to_bytes(width, chance.choice(("big", "little")))
    start = _place(chance, content)
    content[start : start + width] = number


def _cut(chance: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    del content[chance.randint(0, len(content)) :]


def _remove(chance: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    start = _place(chance, content)
    del content[start : start + chance.randint(1, 256)]


def _repeat(chance: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    start = _place(chance, content)
    part = content[start : start + chance.randint(1, 512)]
    content[start:start] = part * chance.randint(1, 4)


def _clear(chance: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    start = _place(chance, content)
    length = min(chance.randint(1, 512), len(content) - start)
    content[start : start + length] = bytes(length)


def _splice(chance: random.Random, content: bytearray, media: Sequence[bytes]) -> None:
    """The rest of another file, often of another container."""
    other = chance.choice(media)
    del content[_place(chance, content) :]
    content += other[chance.randint(0, len(other)) :]


# Some are named twice: those after which most of a file can still be read.
_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits, _flip_bits, _write_number, _write_number, _write_noise, _cut, _remove, _repeat, _clear,
    _splice,
)  # fmt: skip


_ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "0", "\u00b2",
    "\0", "\ud800", "a" * 2_000, "{}" * 50, [], [[]], {}, {"": None}, [None] * 100,
)  # fmt: skip


def damaged_json(chance: random.Random, value: Any) -> Any:
    """One value in it replaced by an odd one, removed, or repeated."""
    place = value
    while chance.random() < 0.8 and isinstance(place, dict | list) and place:
        key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
        if not (isinstance(place[key], dict | list) and place[key] and chance.random() < 0.8):
            _damage_at(chance, place, key)
            return value
        place = place[key]
    return chance.choice(_ODD_VALUES) if chance.random() < 0.1 else value


def _damage_at(chance: random.Random, place: Any, key: Any) -> None:
    how = chance.randrange(4)
    if how == 0:
        del place[key]
    elif how == 1 and isinstance(place, list):
        place.append(place[key])
    elif how == 1:
        place[f"{key}2"] = place[key]
    else:
        place[key] = chance.choice(_ODD_VALUES)
