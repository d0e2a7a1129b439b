"""The straightforward service: what a competent user writes with FastAPI, torch, open_clip and laion_clap.

    python -m benchmarks.opponent --port 8901 --clap-tokenizer tokenizer.json [--threads 2] [--device cuda]

One request at a time; every frame of the clip is decoded, with FFmpeg's own threads, and n_frames of them are
prepared with PIL and encoded in one batch; the first ten seconds of sound are encoded; every name is encoded
in every request, one prompt for each model, CLAP's padded to the longest only. All in inference mode, fp32 on
a CPU and half precision on a GPU.

The torch models are those that `ahse export clip-clap --random-weights` exports, with the same weights, so
that its answers can be compared with the service's. Only decoding, preparing and serving are written anew.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, File, Form, UploadFile
from PIL import Image
from torch import Tensor

from model_export.encoders.audio_encoder import AudioChoice, load_audio_encoder
from model_export.encoders.encoder_types import TextEncoder
from model_export.encoders.image_encoder import ImageChoice, load_image_encoder
from service.process import n_processors

N_FRAMES = 8


class Straightforward:
    """Both models, and what leads from a file and names to similarities."""

    def __init__(self, clap_tokenizer: Path, device: str) -> None:
        self.device = device
        self.image = load_image_encoder(ImageChoice(), 0)
        self.audio = load_audio_encoder(AudioChoice(tokenizer=clap_tokenizer), 0)
        for part in (self.image, self.image.text, self.audio, self.audio.text):
            part.module.to(device)

    @torch.inference_mode()
    def answer(self, path: str, labels: list[str], template: str) -> list[dict[str, Any]]:
        """See `classify`; in half precision on a GPU, as anybody would there."""
        with torch.autocast(self.device, torch.float16, enabled=self.device == "cuda"):
            return self.classify(path, labels, template)

    def classify(self, path: str, labels: list[str], template: str) -> list[dict[str, Any]]:
        """Cosine similarity of each track to each name, and their softmax, fused half and half."""
        prompts = [template.replace("{}", label) for label in labels]
        frames = torch.from_numpy(_frames(path, self.image.size_px)).to(self.device)
        waveform = torch.from_numpy(_waveform(path, self.audio.sample_rate_hz)).to(self.device)
        visual = _unit(self.image.module(frames).mean(0))
        audio = _unit(self.audio.module(waveform).mean(0))
        seen = self.image.text.module(self._tokens(self.image.text, prompts, full=True)) @ visual
        heard = self.audio.text.module(self._tokens(self.audio.text, prompts, full=False)) @ audio
        scores = torch.softmax(50 * seen + 10 * heard, dim=0)
        return [
            {"label": label, "score": float(score), "visual": float(v), "audio": float(a)}
            for label, score, v, a in zip(labels, scores, seen, heard, strict=True)
        ]

    def _tokens(self, text: TextEncoder, prompts: list[str], *, full: bool) -> Tensor:
        """Token ids, padded to the context length or to the longest of them."""
        rows = [encoding.ids[: text.context_length] for encoding in text.tokenizer.encode_batch(prompts)]
        length = text.context_length if full else max(map(len, rows))
        return torch.tensor([row + [text.pad_id] * (length - len(row)) for row in rows], device=self.device)


def _frames(path: str, size: int) -> np.ndarray:
    """Decode all, keep N_FRAMES at the middle of as many equal parts: uint8 [n, size, size, 3]."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        step = stream.frames / N_FRAMES
        wanted = {int((i + 0.5) * step) for i in range(N_FRAMES)}
        frames = [frame for i, frame in enumerate(container.decode(stream)) if i in wanted]
        kept = [frame.to_image() for frame in frames]  # type: ignore[no-untyped-call]
    return np.stack([_square(image, size) for image in kept])


def _square(image: Image.Image, size: int) -> np.ndarray:
    """Shorter side to size, bicubic, and the centre: CLIP's own transform."""
    scale = size / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _waveform(path: str, rate_hz: int, seconds: int = 10) -> np.ndarray:
    """The first ten seconds of sound, repeated if there is less: float32 [1, samples], mono."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
    with av.open(path) as container:
        parts = [p.to_ndarray()[0] for f in container.decode(audio=0) for p in resampler.resample(f)]
        parts += [p.to_ndarray()[0] for p in resampler.resample(None)]
    return np.resize(np.concatenate(parts)[: seconds * rate_hz], (1, seconds * rate_hz))


def _unit(feature: Tensor) -> Tensor:
    unit: Tensor = feature / feature.norm()
    return unit


def create_app(models: Straightforward) -> FastAPI:
    """Two routes."""
    app, one_at_a_time = FastAPI(), threading.Lock()

    @app.get("/v2/health/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/v1/classify")
    def classify(
        file: Annotated[UploadFile, File()],
        labels: Annotated[list[str], Form()],
        templates: Annotated[str, Form()] = "a video of a {}.",
    ) -> dict[str, Any]:
        with tempfile.NamedTemporaryFile() as clip, one_at_a_time:
            clip.write(file.file.read())
            clip.flush()
            predictions = models.answer(clip.name, labels, templates)
        return {"predictions": sorted(predictions, key=lambda one: -one["score"])}

    return app


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clap-tokenizer", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=n_processors())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    app = create_app(Straightforward(options.clap_tokenizer, options.device))
    uvicorn.run(app, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
