"""The rebuilt networks with random weights, against numpy and cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertModel

from model_export.encoders.encoder_modules import fourier_kernels
from model_export.everyday.rebuilt_networks import SentenceEncoder, Yamnet, _mel, _SameConv

Floats = NDArray[np.float64]
RATE, WINDOW, HOP, N_FFT, N_MELS = 16_000, 400, 160, 512, 64


def _triangles() -> Floats:
    """HTK's mel filters, a bin and a filter at a time: [257, 64]."""

    def mel(hz: float) -> float:
        return float(2595 * np.log10(1 + hz / 700))

    edges = np.linspace(mel(125), mel(7500), N_MELS + 2)
    filters = np.zeros((N_FFT // 2 + 1, N_MELS))
    for row in range(1, N_FFT // 2 + 1):
        at = mel(row * RATE / N_FFT)
        for column, (low, centre, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
            if low < at <= centre:
                filters[row, column] = (at - low) / (centre - low)
            elif centre < at < high:
                filters[row, column] = (high - at) / (high - centre)
    return filters


def _log_mel(wave: Floats) -> Floats:
    """Of whole windows, by numpy's own transform: [frames, 64]."""
    starts = range(0, len(wave) - WINDOW + 1, HOP)
    hann = np.hanning(WINDOW + 1)[:-1]
    magnitude = np.abs([np.fft.rfft(wave[start : start + WINDOW] * hann, N_FFT) for start in starts])
    log_mel: Floats = np.log(magnitude @ _triangles() + 0.001)
    return log_mel


def test_the_transform_is_numpys() -> None:
    """Cosines first, windowed, zeros after the window."""
    wave = np.random.default_rng(0).normal(size=WINDOW)
    kernels = fourier_kernels(WINDOW, N_FFT)
    assert kernels.shape == (2 * 257, 1, WINDOW)
    real, imaginary = np.split(kernels[:, 0].numpy() @ wave, 2)
    wanted = np.fft.rfft(wave * np.hanning(WINDOW + 1)[:-1], N_FFT)
    np.testing.assert_allclose(real, wanted.real, atol=1e-4)
    np.testing.assert_allclose(imaginary, -wanted.imag, atol=1e-4)


def test_the_filters_are_htks() -> None:
    """Another formula of the same scale, one bin at a time; none at 0 Hz or outside 125 to 7500 Hz."""
    found = _mel(N_MELS, N_FFT // 2 + 1, RATE, 125.0, 7500.0).numpy()
    np.testing.assert_allclose(found, _triangles(), atol=1e-5)
    assert not found[:4].any()
    assert not found[241:].any()


class _Heard(torch.nn.Module):
    """In place of the convolutions: keeps what it is given."""

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        self.patches = patches
        return torch.zeros(len(patches), 1024, 1, 1)


def test_yamnets_front_is_the_log_mel_spectrogram_in_patches() -> None:
    """Of 96 frames, every 48; only whole ones; rows of a batch stay apart."""
    waves = np.random.default_rng(1).normal(0, 0.1, (2, 15_600 + 2 * 7_680 + 500))
    network = Yamnet().eval()
    network.body = heard = _Heard()  # type: ignore[assignment]
    assert network(torch.from_numpy(waves.astype(np.float32))).shape == (2, 3, 521)
    wanted = [_log_mel(wave)[start : start + 96] for wave in waves for start in (0, 48, 96)]
    np.testing.assert_allclose(heard.patches[:, 0].numpy(), np.stack(wanted), atol=2e-3)


def test_yamnet_has_as_many_numbers_as_its_authors_say() -> None:
    """3,751,369: kernels, the classifier, and of each batch norm its shift, moving mean and variance.

    Its batch norms have no scale: theirs stay at 1 here. The spectrogram is not counted.
    """
    network = Yamnet()
    norms = [one for one in network.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    moments = sum(2 * one.num_features for one in norms)
    scales = [one.weight for one in norms]
    learned = sum(one.numel() for one in network.parameters()) - sum(one.numel() for one in scales)
    assert learned + moments == 3_751_369
    assert all((one == 1).all() for one in scales)


@pytest.mark.parametrize(("length", "patches"), [(15_600, 1), (23_279, 1), (23_280, 2), (77_040, 9)])
def test_only_whole_patches_count(length: int, patches: int) -> None:
    """0.975 s are one, 4.815 s nine."""
    with torch.no_grad():
        assert Yamnet().eval()(torch.zeros(1, length)).shape == (1, patches, 521)


def test_same_padding_goes_below_and_to_the_right() -> None:
    """TensorFlow's SAME: of one row too many after the picture, of two one on each side."""
    layer = _SameConv(1, 1, 3, 2, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1)
        even = layer(torch.arange(16.0).reshape(1, 1, 4, 4))
        odd = layer(torch.arange(9.0).reshape(1, 1, 3, 3))
    # 4 wide, stride 2: ceil(4 / 2) = 2 windows over 5 columns, the fifth is zero. Sums of 3 x 3, 3 x 2 ...
    np.testing.assert_allclose(even[0, 0].numpy(), [[45, 39], [66, 50]])
    # 3 wide, stride 2: 2 windows over 5 columns, zeros on both sides.
    np.testing.assert_allclose(odd[0, 0].numpy(), [[8, 12], [20, 24]])


@pytest.fixture(scope="module")
def sentences() -> SentenceEncoder:
    """A small one with random weights."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        pad_token_id=0,
    )
    return SentenceEncoder(BertModel(config, add_pooling_layer=False)).eval()


@torch.no_grad()
def test_padding_changes_no_embedding(sentences: SentenceEncoder) -> None:
    """Alone, and beside a longer one; each has unit length."""
    short, long = torch.randint(1, 100, (1, 5)), torch.randint(1, 100, (1, 12))
    padded = torch.nn.functional.pad(short, (0, 7))
    together = sentences(torch.cat([padded, long]))
    torch.testing.assert_close(together[:1], sentences(short), atol=1e-6, rtol=0)
    torch.testing.assert_close(together[1:], sentences(long), atol=1e-6, rtol=0)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(2))


@torch.no_grad()
def test_an_embedding_is_the_mean_over_what_is_no_padding(sentences: SentenceEncoder) -> None:
    """Bert's own states, averaged."""
    tokens = torch.randint(1, 100, (1, 6))
    mean = sentences.bert(input_ids=tokens).last_hidden_state.mean(dim=1)
    torch.testing.assert_close(sentences(tokens), torch.nn.functional.normalize(mean, dim=-1))


@torch.no_grad()
def test_a_row_of_padding_gives_zeros(sentences: SentenceEncoder) -> None:
    """Not NaN, which would spread."""
    tokens = torch.tensor([[0, 0, 0], [5, 6, 7]])
    found = sentences(tokens)
    assert not found[0].any()
    assert torch.isfinite(found).all()
