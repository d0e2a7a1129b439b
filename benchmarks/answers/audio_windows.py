"""Whether a few windows of long sound, spread evenly over it, rank names as all of its sound does.

    python -m benchmarks.answers.audio_windows DIR [DIR ...] [--bundle weights/everyday]
        [--minutes 5] [--share 0.4]

Each DIR has labelled clips as for benchmarks.answers.real_clips. Recordings of many minutes with labels are
rare, so they are made: for each clip with sound a long sound of pieces of five seconds, of which a share
comes from it and the rest from others, in random order. Ranked by the sound alone, among the clips' own
names.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.answers.clip_measure import CannotMeasureError
from benchmarks.answers.real_clips import CAN_FAIL, read_clips
from service.arrays import Array
from service.classifier import decode_spec, rank_names
from service.decode import decode_clip
from service.decode.sound import window_starts_s
from service.embed.embedder import LabelEmbedder
from service.embed.embeddings import LabelEmbeddings
from service.encode.features import ClipFeatures, pool
from service.errors import BundleError, MediaError
from service.labels.label import Candidates, make_label
from service.media import DecodeLimits, DecodeSpec
from service.options import ClassifyOptions
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from service.settings import EVERYDAY_BUNDLE

_PIECE_S = 5.0
_N_WINDOWS = (4, 8, 13)
_BATCH = 16


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--bundle", type=Path, default=EVERYDAY_BUNDLE, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--share", type=float, default=0.4, help="of the labelled clip in each long sound")
    options = parser.parse_args()
    try:
        lines = _table(options)
    except CAN_FAIL as error:
        parser.exit(2, f"{error}\n")
    except BundleError as error:
        parser.exit(2, f"{options.bundle}: {error.message}\n")
    sys.stdout.write("\n".join([*lines, ""]))


def _table(options: argparse.Namespace) -> list[str]:
    """The lines of the table.

    Raises:
        CannotMeasureError: The clips can't be read, or there are not two names with sound.
    """
    bundle = load_bundle(options.bundle, Runtime(device="cpu"))
    spec = decode_spec(bundle.manifest)
    sounds = [sound for folder in options.folders for sound in _sounds(folder, spec)]
    labels = sorted({label for label, _ in sounds})
    if len(labels) < 2:
        raise CannotMeasureError("There are not two names with clips that have sound. Add some.")
    names = LabelEmbedder(2**30).embed(bundle, Candidates(tuple(map(make_label, labels))))
    firsts = [
        _firsts(bundle, names, _long_sound(index, sounds, spec, options.minutes, options.share))
        for index in range(len(sounds))
    ]
    right = np.array([labels.index(label) for label, _ in sounds])
    lines = [
        f"{len(sounds)} sounds of {options.minutes:g} minutes made of labelled clips, {len(labels)} names, "
        f"{bundle.manifest.name} {bundle.manifest.version}, {100 * options.share:g} % of each of its label.",
        "",
        "| windows | same first name as with all | right |",
        "|---|---|---|",
    ]
    every = np.array([first["all"] for first in firsts])
    for key in firsts[0]:
        found = np.array([first[key] for first in firsts])
        lines.append(f"| {key} | {(found == every).sum()} | {(found == right).sum()} |")
    return lines


def _sounds(folder: Path, spec: DecodeSpec) -> list[tuple[str, Array]]:
    """The label and the sound of each clip that has any."""
    found = []
    for clip in read_clips(folder):
        try:
            decoded = decode_clip(clip.path, replace(spec, max_audio_s=600.0), DecodeLimits())
        except MediaError:
            continue
        if decoded.waveform is not None:
            found.append((clip.label, decoded.waveform))
    return found


def _long_sound(
    index: int, sounds: Sequence[tuple[str, Array]], spec: DecodeSpec, minutes: float, share: float
) -> Array:
    """Pieces of one sound among pieces of sounds with other labels, float32 [n_samples]."""
    chance = np.random.default_rng(index)
    label, own = sounds[index]
    others = [sound for other, sound in sounds if other != label]
    n_pieces, n_samples = round(60 * minutes / _PIECE_S), round(_PIECE_S * spec.sample_rate_hz)
    is_own = chance.permutation(n_pieces) < round(share * n_pieces)
    pieces = [own if mine else others[chance.integers(len(others))] for mine in is_own]
    return np.concatenate([np.resize(np.roll(p, -chance.integers(len(p))), n_samples) for p in pieces])


def _firsts(bundle: Bundle, names: LabelEmbeddings, sound: Array) -> dict[str, int]:
    """The name that comes first, by how many windows were used."""
    audio = bundle.manifest.audio
    length_s = len(sound) / audio.sample_rate_hz
    found = {}
    for n_windows in (*_N_WINDOWS, round(length_s / audio.window_s)):
        spec = decode_spec(bundle.manifest, ClassifyOptions(audio_windows=n_windows))
        firsts = [round(start * spec.sample_rate_hz) for start in window_starts_s(spec, length_s)]
        windows = np.stack([sound[first : first + spec.window_samples] for first in firsts])
        rows = [
            bundle.encoders.audio(waveform=windows[start : start + _BATCH])
            for start in range(0, len(windows), _BATCH)
        ]
        ranked = rank_names(bundle, ClipFeatures(None, pool(np.concatenate(rows))), names, "auto")
        found[str(n_windows) if n_windows in _N_WINDOWS else "all"] = int(ranked.ranking.best(1)[0])
    return found


if __name__ == "__main__":
    main()
