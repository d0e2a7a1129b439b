"""Spectrograms inside a graph: CLAP's as a module, and the Fourier transform as a convolution's kernels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torchlibrosa.stft import LogmelFilterBank, Spectrogram


class LogMel(nn.Module):
    """waveform float32 [batch, samples] to log-mel float32 [batch, 1, time, mels], in dB.

    A module of its own, since weights in transformers' format leave the spectrogram to code outside. Hann
    window, centred with reflection, power, Slaney's mel scale and norm: what transformers'
    ClapFeatureExtractor computes for models without feature fusion, and laion_clap inside its network.
    """

    def __init__(
        self, *, sample_rate_hz: int, n_fft: int, hop: int, n_mels: int, f_min: float, f_max: float
    ) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(n_fft=n_fft, hop_length=hop, win_length=n_fft, freeze_parameters=True)
        self.log_mel = LogmelFilterBank(
            sr=sample_rate_hz,
            n_fft=n_fft,
            n_mels=n_mels,
            fmin=f_min,
            fmax=f_max,
            ref=1.0,
            amin=1e-10,
            top_db=None,
            freeze_parameters=True,
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """The spectrogram of each waveform."""
        log_mel: Tensor = self.log_mel(self.spectrogram(waveform))
        return log_mel


def fourier_kernels(window: int, n_fft: int) -> Tensor:
    """The windowed discrete Fourier transform as kernels of a convolution, cosines first.

    Args:
        window: Samples under the periodic Hann window, at most `n_fft`.
        n_fft: Length of the transform.

    Returns:
        float32 [2 * (n_fft // 2 + 1), 1, window].
    """
    phase = 2 * np.pi / n_fft * np.outer(np.arange(n_fft // 2 + 1), np.arange(window))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    kernels = np.concatenate([np.cos(phase), np.sin(phase)]) * hann
    return torch.from_numpy(kernels[:, None].astype(np.float32))
