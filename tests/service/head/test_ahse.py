"""Distances of the embedding and of the raw features, worked out by hand on the toy bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.arrays import Array
from service.bundle.head_specs import AhseSpec
from service.encode.features import ClipFeatures, TextFeatures
from service.head.ahse import AhseHead
from service.head.head import cosines_of
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from tests.toy import write_toy_bundle

EYE = np.eye(3, dtype=np.float32)
# red with low, red with high, blue with high
TEXTS = TextFeatures(visual=EYE[[0, 0, 2]], audio=EYE[[0, 2, 2]])


def _bundle(folder: Path, raw_weight: float, visual_share: float = 0.5) -> Bundle:
    path = write_toy_bundle(folder / "toy", raw_weight=raw_weight, visual_share=visual_share)
    return load_bundle(path, Runtime(device="cpu"))


def _distances(bundle: Bundle, clip: ClipFeatures) -> Array:
    head = bundle.head
    found: Array = head.distances(head.embed_clip(clip), cosines_of(clip, TEXTS), head.embed_names(TEXTS))
    return found


def test_the_embedding_alone(tmp_path: Path) -> None:
    """The toy head puts both features side by side, so distances are those of corners of a cube."""
    found = _distances(_bundle(tmp_path, 0.0), ClipFeatures(EYE[0], EYE[0]))
    np.testing.assert_allclose(found, [0, np.sqrt(2), 2], atol=1e-6)


def test_the_raw_features_alone(tmp_path: Path) -> None:
    """sqrt(6) times the chord; the cosine of two axes about the toy's centre (1,1,1)/sqrt(3) by hand."""
    found = _distances(_bundle(tmp_path, 1.0), ClipFeatures(EYE[0], EYE[0]))
    centred = np.eye(3) - np.full(3, 1 / np.sqrt(3))
    between = centred[0] @ centred[2] / (centred[0] @ centred[0])
    cosine = np.array([1, (1 + between) / 2, between])
    np.testing.assert_allclose(found, np.sqrt(6 * (2 - 2 * cosine)), rtol=1e-4, atol=2e-3)


def test_both_are_added_with_their_weights(tmp_path: Path) -> None:
    """A quarter raw, three quarters embedding."""
    clip = ClipFeatures(EYE[0], EYE[2])
    parts = [_distances(_bundle(tmp_path / str(w), w), clip) for w in (0.0, 1.0, 0.25)]
    np.testing.assert_allclose(parts[2], 0.75 * parts[0] + 0.25 * parts[1], rtol=1e-5)


def test_distances_of_the_parts_of_an_embedding_are_added(tmp_path: Path) -> None:
    """The toy's parts are its tracks, each of them right or a corner of a cube away."""
    bundle = _bundle(tmp_path, 0.0)
    assert isinstance(bundle.head, AhseHead)
    head = replace(bundle.head, spec=bundle.head.spec.model_copy(update={"parts": 2}))
    clip, names = ClipFeatures(EYE[0], EYE[0]), head.embed_names(TEXTS)
    found = head.distances(head.embed_clip(clip), cosines_of(clip, TEXTS), names)
    np.testing.assert_allclose(found, [0, np.sqrt(2), 2 * np.sqrt(2)], atol=1e-6)
    empty = head.empty_names(2)
    assert (empty.z.shape, empty.z_square.shape) == ((2, 6), (2, 2))
    spec = bundle.head.spec.model_dump() | {"parts": 4}
    with pytest.raises(ValueError, match="6 can't be cut into 4"):
        AhseSpec.model_validate(spec)


@pytest.mark.parametrize("visual_share", [0.25, 0.5])
def test_a_missing_track_has_no_say_in_the_raw_distance(tmp_path: Path, visual_share: float) -> None:
    """Names with the same sound are equally far without picture, and the other way round."""
    bundle = _bundle(tmp_path, 1.0, visual_share)
    heard = _distances(bundle, ClipFeatures(None, EYE[2]))
    assert heard[1] == heard[2] < heard[0]
    seen = _distances(bundle, ClipFeatures(EYE[0], None))
    assert seen[0] == seen[1] < seen[2]


def test_each_set_of_tracks_has_its_own_calibration(toy_bundle: Path) -> None:
    """Distances of clips with one track spread differently, so their numbers were chosen apart."""
    bundle = load_bundle(toy_bundle, Runtime(device="cpu"))
    assert isinstance(bundle.head, AhseHead)
    stored = bundle.head.spec.calibrations
    apart = stored.model_copy(
        update={
            name: stored.both.model_copy(update={"beta": beta})
            for name, beta in (("visual", 1.0), ("audio", 2.0))
        }
    )
    spec = bundle.head.spec.model_copy(update={"calibrations": apart})
    head = replace(bundle.head, spec=spec)
    betas = [
        head.scoring(ClipFeatures(visual, audio), head.empty_names(1)).beta
        for visual, audio in ((EYE[0], EYE[0]), (EYE[0], None), (None, EYE[0]))
    ]
    assert betas == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(("scale", "tells"), [(0.4, True), (3.5, True), (3.7, False), (46.0, False)])
def test_unknown_is_null_where_the_calibration_cannot_tell(
    toy_bundle: Path, scale: float, tells: bool
) -> None:
    """At a threshold of 5 a distance of 0 gives sigmoid(-5 / scale): below 0.2 up to a scale of 5 / ln 4."""
    head = load_bundle(toy_bundle, Runtime(device="cpu")).head
    assert isinstance(head, AhseHead)
    both = head.spec.calibrations.both.model_copy(update={"unknown_threshold": 5.0, "unknown_scale": scale})
    spec = head.spec.model_copy(
        update={"calibrations": head.spec.calibrations.model_copy(update={"both": both})}
    )
    scoring = replace(head, spec=spec).scoring(ClipFeatures(EYE[0], EYE[0]), head.empty_names(1))
    assert (scoring.unknown is not None) is tells
