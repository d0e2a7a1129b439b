"""The two halves of a trained head as modules of their own, ready for ONNX."""

from torch import Tensor, nn

from model_export.head.network import HeadNetwork
from model_export.head.run import Run


class HeadAv(nn.Module):
    """Clip features -> theta_av, not standardised; the statistics are applied outside the graph."""

    def __init__(self, network: HeadNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, visual: Tensor, audio: Tensor) -> Tensor:
        """[n, n_visual], [n, n_audio], any length but zero -> float32 [n, 64]."""
        return self.network.embed_av(visual, audio)


class HeadText(nn.Module):
    """Text features -> theta_text, not standardised; the statistics are applied outside the graph."""

    def __init__(self, network: HeadNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, text_visual: Tensor, text_audio: Tensor) -> Tensor:
        """[c, n_visual], [c, n_audio], any length but zero -> float32 [c, 64]."""
        return self.network.embed_text(text_visual, text_audio)


def head_av_module(run: Run) -> HeadAv:
    """The audio-visual half of a run's head, in evaluation mode."""
    return HeadAv(run.network).eval()


def head_text_module(run: Run) -> HeadText:
    """The text half of a run's head, in evaluation mode."""
    return HeadText(run.network).eval()
