"""CLAP's log-mel spectrogram as a module: weights in transformers' format leave it to code outside."""

from __future__ import annotations

from torch import Tensor, nn
from torchlibrosa.stft import LogmelFilterBank, Spectrogram


class LogMel(nn.Module):
    """waveform float32 [batch, samples] to log-mel float32 [batch, 1, time, mels], in dB.

    Hann window, centred with reflection, power, Slaney's mel scale and norm: what transformers'
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
