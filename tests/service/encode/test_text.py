"""Names encoded: by one graph for both tracks as by two, and how near they are to what is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.encode.encoders import Encoder
from service.encode.text import encode_labels
from service.encode.tokens import Tokens
from service.labels.label import Label, make_label
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from tests.toy import CLASSES

CPU = Runtime(device="cpu", n_threads=1)


class _Counted:
    """An encoder that writes down how many rows each run has."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.provider = encoder.provider
        self.n_rows: list[int] = []

    def __call__(self, **inputs: NDArray[Any]) -> NDArray[np.float32]:
        self.n_rows.append(len(inputs["tokens"]))
        return self._encoder(**inputs)


class _Lengthened:
    """A graph of one length that takes shorter rows too."""

    def __init__(self, encoder: Encoder, length: int) -> None:
        self._encoder, self._length = encoder, length
        self.provider = encoder.provider

    def __call__(self, **inputs: NDArray[Any]) -> NDArray[np.float32]:
        ids = inputs["tokens"]
        return self._encoder(tokens=np.pad(ids, ((0, 0), (0, self._length - ids.shape[1]))))


@pytest.fixture(scope="module")
def shared(shared_bundle: Path) -> Bundle:
    """One text graph, which tells nearness."""
    return load_bundle(shared_bundle, CPU)


@pytest.fixture(scope="module")
def separate(toy_bundle: Path) -> Bundle:
    """Two text graphs with the same weights."""
    return load_bundle(toy_bundle, CPU)


def _labels(*names: str) -> list[Label]:
    return [make_label(name) for name in names]


def test_a_shared_text_graph_gives_the_same_features_as_two_graphs(shared: Bundle, separate: Bundle) -> None:
    """With the templates of the bundle, with templates of a request, and with prompts of a label."""
    labels = [*_labels(*CLASSES, "nothing"), make_label("sunset", ("red", "red and blue", "a low one"))]
    for templates in (None, ("{}", "red {}", "{} high")):
        ours, theirs = (encode_labels(bundle.encoders, labels, templates) for bundle in (shared, separate))
        np.testing.assert_allclose(ours.visual, theirs.visual, atol=1e-6)
        np.testing.assert_allclose(ours.audio, theirs.audio, atol=1e-6)
        assert ours.nearness is not None
        assert theirs.nearness is None


def test_a_shared_text_graph_runs_once_for_both_tracks(shared: Bundle, separate: Bundle) -> None:
    """One run per 256 prompts, where two graphs have one each."""
    labels = _labels(*(f"name {index}" for index in range(300)))
    counted = _Counted(shared.encoders.text_visual)
    encode_labels(replace(shared.encoders, text_visual=counted, text_audio=counted), labels)
    assert counted.n_rows == [256, 44]
    visual, audio = _Counted(separate.encoders.text_visual), _Counted(separate.encoders.text_audio)
    encode_labels(replace(separate.encoders, text_visual=visual, text_audio=audio), labels)
    assert visual.n_rows == audio.n_rows == [256, 44]


def test_labels_of_different_lengths_keep_their_order(separate: Bundle, toy_bundle: Path) -> None:
    """Their texts are encoded in the order of their lengths, where the graph takes shorter rows."""
    text, graph = separate.manifest.visual.text, separate.encoders.text_visual
    shorter = replace(
        separate.encoders,
        text_visual=_Lengthened(graph, text.context_length),
        tokens_visual=Tokens(toy_bundle, text.model_copy(update={"dynamic_length": True})),
    )
    labels = _labels("red low and so on and on", "red", "blue and no more", *CLASSES, "piano " * 9)
    templates = ("{}", "{} or something else")
    found, expected = (encode_labels(one, labels, templates) for one in (shorter, separate.encoders))
    np.testing.assert_allclose(found.visual, expected.visual, atol=1e-6)


def test_the_nearness_of_a_label_is_that_of_its_nearest_prompt(shared: Bundle) -> None:
    """One familiar prompt is enough."""
    prompts = ("filler0", "piano", "red")
    labels = [make_label("piano"), *(make_label("piano", prompts[:n]) for n in (1, 2, 3))]
    nearness = encode_labels(shared.encoders, labels).nearness
    np.testing.assert_allclose(nearness, [0, 0.5, 0.5, 0.9], atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["red и blue", "красный red", "赤 red", "red αβγ", "أحمر red"])
def test_labels_in_unknown_alphabets_have_the_lowest_nearness(shared: Bundle, name: str) -> None:
    """Cosines mean nothing for letters that the text encoder was not trained with."""
    assert encode_labels(shared.encoders, _labels(name)).nearness == pytest.approx([-1])


@pytest.mark.parametrize("name", ["red 42", "red 🙂", "red - (low!)", "red é", "red ² №", "red Hawai\u02bbi"])
def test_digits_signs_and_accents_do_not_change_nearness(shared: Bundle, name: str) -> None:
    """Only letters have an alphabet, and letters with accents have that of the plain letter."""
    assert encode_labels(shared.encoders, _labels(name)).nearness == pytest.approx([0.9])


def test_labels_without_letters_have_the_nearness_of_the_graph(shared: Bundle) -> None:
    """They belong to no alphabet, so to no unknown one."""
    assert encode_labels(shared.encoders, _labels("42", "🙂🙂")).nearness == pytest.approx([0, 0])


def test_all_alphabets_are_known_when_the_bundle_lists_none(shared: Bundle) -> None:
    """So it is for text encoders of many languages."""
    known = shared.manifest.known_names
    assert known is not None
    manifest = shared.manifest.model_copy(update={"known_names": known.model_copy(update={"alphabets": ()})})
    nearness = encode_labels(replace(shared.encoders, manifest=manifest), _labels("красный red")).nearness
    assert nearness == pytest.approx([0.9])
