"""What graphs are compared on has the form that they take, with and without the repository's clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import model_export
from model_export.encoders.encoder_types import AudioEncoder
from model_export.encoders.example_inputs import frame_batches, token_batches, waveform_batches
from tests.model_export.encoders.small_encoders import small_audio_encoder, small_image_encoder


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> AudioEncoder:
    """A small one."""
    return small_audio_encoder(tmp_path_factory.mktemp("clap"))


@pytest.mark.parametrize("installed", [False, True])
def test_frames_and_windows(
    sound: AudioEncoder, installed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Noise in two rows, then clips; an installed package has generated ones."""
    if installed:
        monkeypatch.setattr(model_export, "__file__", str(tmp_path / "model_export" / "__init__.py"))
    frames, windows = frame_batches(small_image_encoder()), waveform_batches(sound)
    n_clips = 1 if installed else 3
    assert [batch.shape for batch in frames] == [(2, 32, 32, 3), (n_clips, 32, 32, 3)]
    assert [batch.shape for batch in windows] == [(2, 16_000), (n_clips, 16_000)]
    assert all(batch.dtype == torch.uint8 for batch in frames)
    assert all(batch.dtype == torch.float32 and 0 < batch.abs().max() <= 1 for batch in windows)
    assert float(frames[1].float().std()) > 5


def test_token_rows_are_as_short_as_their_texts_and_as_long_as_the_context() -> None:
    """The same rows that the service makes."""
    text = small_image_encoder().text
    noise, full, *short = token_batches(text)
    assert noise.shape == (2, 9)
    assert full.shape == (4, 77)
    assert [batch.shape[1] for batch in short] == [3, 8, 16, 77]
    end = text.tokenizer.token_to_id("<end_of_text>")
    assert all(int(batch[0, -1]) == end for batch in short)


def test_a_text_graph_of_fixed_length_gets_full_rows_only() -> None:
    """Whatever the text."""
    text = replace(small_image_encoder().text, dynamic_length=False)
    assert {batch.shape[1] for batch in token_batches(text)} == {77}
    assert np.unique(token_batches(text)[1][0, 5:]).tolist() == [0]
