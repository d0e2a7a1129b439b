"""Example clips for people: larger, smoother and with less noise than the clips of training and test."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from numpy.random import Generator

from model_export.demo.clips import ClipFormat, Studio
from model_export.demo.corpus import clip_rng
from model_export.demo.world import ClassSpec, PictureClutter, SoundClutter, Split, World

GENTLE_PICTURE = PictureClutter(
    size=(0.34, 0.54), n_distractors=(2, 4), occluder_probability=0.3, contrast=0.45, noise=(0.0, 0.012)
)
GENTLE_SOUND = SoundClutter(
    snr_db=(9.0, 18.0),
    level_db=(-27.0, -23.0),
    pitch_semitones=4.0,
    tempo_octaves=0.3,
    intruder_probability=0.2,
)
SIZES = ((288, 384), (320, 320), (288, 512))

_STREAM = 5
_N_SEEN, _N_UNSEEN = 6, 8


@dataclass(frozen=True)
class Example:
    """One entry of examples.json.

    Attributes:
        file: Name of the clip.
        label: Name of its class.
        seen: Whether the head was trained on the class.
    """

    file: str
    label: str
    seen: bool


def write_examples(world: World, seed: int, folder: Path) -> list[Example]:
    """Records the example clips and examples.json into a folder.

    Besides the clips with both tracks there is one without sound and one without picture, listed apart.
    Older clips in the folder are removed. No clip is chosen or left out by what a model says of it.
    """
    studio = Studio(replace(world, picture=GENTLE_PICTURE, sound=GENTLE_SOUND))
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.mp4"):
        old.unlink()
    seen, unseen = _spread(world, "seen", _N_SEEN + 2), _spread(world, "test_unseen", _N_UNSEEN)
    clips = [
        _record(studio, folder, spec, seed, number) for number, spec in enumerate((*seen[:_N_SEEN], *unseen))
    ]
    silent = _record(studio, folder, seen[_N_SEEN], seed, 90, suffix="-silent", sound=False)
    sound_only = _record(studio, folder, seen[_N_SEEN + 1], seed, 91, suffix="-sound-only", picture=False)
    record = {
        "labels": [spec.name for spec in world.classes],
        "clips": [vars(example) for example in clips],
        "one_track": [
            {**vars(silent), "missing": "sound"},
            {**vars(sound_only), "missing": "picture"},
        ],
    }
    (folder / "examples.json").write_text(json.dumps(record, indent=2) + "\n")
    return clips


def _spread(world: World, split: Split, n: int) -> list[ClassSpec]:
    """Classes taken at even distances from a split."""
    specs = world.candidates((split,))
    return [specs[i * len(specs) // n] for i in range(n)]


def _record(
    studio: Studio,
    folder: Path,
    spec: ClassSpec,
    seed: int,
    number: int,
    *,
    suffix: str = "",
    picture: bool = True,
    sound: bool = True,
) -> Example:
    rng = clip_rng(seed, _STREAM, number)
    file = f"{spec.name.replace(' ', '-')}{suffix}.mp4"
    plan = studio.plan(rng, spec.shape, spec.sound, _format(rng))
    studio.record(plan, folder / file, picture=picture, sound=sound)
    return Example(file, spec.name, spec.split == "seen")


def _format(rng: Generator) -> ClipFormat:
    height, width = SIZES[rng.integers(len(SIZES))]
    return ClipFormat(float(rng.uniform(3.5, 5)), 25, height, width, rate_hz=44_100, crf=21, preset="medium")
