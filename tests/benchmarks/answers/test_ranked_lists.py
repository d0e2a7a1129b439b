"""Lists of names: what is in them, and that ranking among them is the service's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.answers.ranked_lists import N_DRAWS, NameLists, answer, draw_lists
from service.classifier import decode_spec, rank_names
from service.decode import decode_clip
from service.embed.embedder import LabelEmbedder
from service.encode.clip_features import encode_clip
from service.labels.label import Candidates, make_label
from service.media import DecodeLimits
from service.registry import load_bundle
from service.runtime.providers import Runtime
from tests.toy import CLASSES

OWN, OTHERS = np.arange(0, 40, 2), np.arange(1, 61, 2)
RIGHT = np.array([0, 38, 4, 4])


@pytest.fixture(scope="module")
def lists() -> dict[int, NameLists]:
    """20 own names and 30 distractors, by length."""
    return {one.n_names: one for one in draw_lists(RIGHT, OWN, OTHERS, [1, 5, 20, 35, 50, 51, 5])}


def test_impossible_lengths_are_left_out(lists: dict[int, NameLists]) -> None:
    """One name is no choice, there are 50 in all, and no length comes twice."""
    assert list(lists) == [5, 20, 35, 50]


@pytest.mark.parametrize("n", [5, 20, 35, 50])
def test_each_list_has_the_clips_name_and_none_twice(lists: dict[int, NameLists], n: int) -> None:
    """In every draw, for every clip; in rising order, so that no name's place tells what it is."""
    for draw in lists[n].draws:
        assert draw.shape == (len(RIGHT), n)
        assert (np.diff(draw, axis=1) > 0).all()
        assert (draw == RIGHT[:, None]).any(axis=1).all()


def test_short_lists_are_drawn_from_own_names_and_long_ones_have_them_all(
    lists: dict[int, NameLists],
) -> None:
    """Distractors are for lists that are longer than the own names."""
    assert all(np.isin(draw, OWN).all() for draw in lists[5].draws)
    assert np.array_equal(lists[20].draws[0][0], OWN)
    assert all(np.isin(OWN, row).all() for draw in lists[35].draws for row in draw)


def test_lists_are_drawn_where_there_is_a_choice(lists: dict[int, NameLists]) -> None:
    """Each draw another list, and the next time the same."""
    assert [len(one.draws) for one in lists.values()] == [N_DRAWS, 1, N_DRAWS, 1]
    assert len({draw.tobytes() for draw in lists[35].draws}) == N_DRAWS
    (again,) = draw_lists(RIGHT, OWN, OTHERS, [35])
    assert all(np.array_equal(*pair) for pair in zip(again.draws, lists[35].draws, strict=True))


def test_answers_are_those_of_the_service(toy_bundle: Path, clips: dict[str, Path]) -> None:
    """For every list: the name, the score and `unknown` that the service gives to these names alone."""
    bundle = load_bundle(toy_bundle, Runtime(device="cpu"))
    labels, embedder = tuple(make_label(name) for name in sorted(CLASSES)), LabelEmbedder(10**6)
    features = [
        encode_clip(bundle.encoders, decode_clip(path, decode_spec(bundle.manifest), DecodeLimits()))
        for path in (clips["red low"], clips["green"], clips["blue high"])
    ]
    right = np.array([7, 5, 0])
    (drawn,) = draw_lists(right, np.arange(9), np.array([], np.int64), [4])
    (found,) = answer(bundle, embedder.embed(bundle, Candidates(labels)), features, right, [drawn], "fused")
    for draw, rows in enumerate(drawn.draws):
        for clip, row in enumerate(rows):
            served = rank_names(
                bundle,
                features[clip],
                embedder.embed(bundle, Candidates(tuple(labels[i] for i in row))),
                "auto",
            ).ranking
            assert found.predicted[clip, draw] == row[served.best(1)[0]]
            assert found.score[clip, draw] == pytest.approx(float(served.score.max()), rel=1e-5)
            assert served.unknown is not None
            assert found.unknown[clip, draw] == pytest.approx(served.unknown, rel=1e-5)


def test_unknown_is_higher_where_the_right_name_is_left_out(toy_bundle: Path, clips: dict[str, Path]) -> None:
    """A clip that fits its name exactly."""
    bundle = load_bundle(toy_bundle, Runtime(device="cpu"))
    features = encode_clip(
        bundle.encoders, decode_clip(clips["red low"], decode_spec(bundle.manifest), DecodeLimits())
    )
    names = LabelEmbedder(10**6).embed(bundle, Candidates(tuple(make_label(name) for name in CLASSES)))
    own = np.arange(len(CLASSES))
    lists = draw_lists(np.array([0]), own, own[:0], [9])
    (found,) = answer(bundle, names, [features], np.array([0]), lists, "fused")
    assert found.is_first.all()
    assert found.unknown_left_out[0, 0] > found.unknown[0, 0] + 0.1


def test_only_clips_that_have_the_track_are_answered(toy_bundle: Path, clips: dict[str, Path]) -> None:
    """One clip has no sound, one no picture."""
    bundle = load_bundle(toy_bundle, Runtime(device="cpu"))
    features = [
        encode_clip(bundle.encoders, decode_clip(clips[name], decode_spec(bundle.manifest), DecodeLimits()))
        for name in ("red low", "green", "middle")
    ]
    names = LabelEmbedder(10**6).embed(bundle, Candidates(tuple(make_label(name) for name in CLASSES)))
    right, own = np.array([0, 3, 1]), np.arange(len(CLASSES))
    lists = draw_lists(right, own, own[:0], [9])
    n_clips = [
        answer(bundle, names, features, right, lists, track)[0].n_clips
        for track in ("picture", "sound", "fused")
    ]
    assert n_clips == [2, 2, 3]
