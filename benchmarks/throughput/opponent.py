"""The straightforward service: what a competent user writes with FastAPI, torch, open_clip and laion_clap.

    python -m benchmarks.throughput.opponent --port 8901 --clap-tokenizer tokenizer.json [--keep-names]
        [--device cuda]
    python -m benchmarks.throughput.opponent --port 8901 --bundle weights/everyday [--keep-names]

One request at a time; every frame of the clip is decoded, with FFmpeg's own threads, and n_frames of them are
prepared with PIL and encoded in one batch; the first ten seconds of sound are encoded; every name is encoded
in every request, 256 at once. Segments have some frames of the same pass and the sound of their own, and are
ranked one after the other. All in inference mode, fp32 on a CPU and half precision on a GPU. With `--bundle`
it runs the graphs of a bundle in place of torch models, as they are.

With `--keep-names` it is a careful user's: the features of a name are kept in a dict when it comes first. It
then also has random features for very many names, as if they had come before, and the matrix of all of them
for requests that name the label set.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, File, Form, UploadFile
from PIL import Image

from benchmarks.names import N_KEPT, kept_names
from benchmarks.throughput.opponent_models import Features, GraphModels, Models, TorchModels, read_names, unit
from service.process import n_processors

N_FRAMES, N_SEGMENT_FRAMES = 8, 4
SOUND_S = 10.0

Predictions = list[dict[str, Any]]


class EveryTime:
    """Encodes names whenever they come."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def features(self, names: Sequence[str], templates: Sequence[str]) -> tuple[Sequence[str], Features]:
        """The names, and their features."""
        return names, read_names(self._models, names, templates)


class Kept:
    """Encodes names when they come first.

    Args:
        models: Encode them.
        n_made_up: How many names it has random features of.
    """

    def __init__(self, models: Models, n_made_up: int) -> None:
        self._models = models
        self._set = kept_names(n_made_up)
        draw = torch.Generator().manual_seed(0)
        visual, audio = (
            unit(torch.randn(n_made_up, any_name.shape[-1], generator=draw)).to(any_name)
            for any_name in models.read(["any"], [])
        )
        self._matrices = visual, audio
        self._known = dict(zip(self._set, zip(visual, audio, strict=True), strict=True))

    def features(self, names: Sequence[str], templates: Sequence[str]) -> tuple[Sequence[str], Features]:
        """The names, and their features; without names, those of the set. Templates never change."""
        if not names:
            return self._set, self._matrices
        missing = [name for name in names if name not in self._known]
        if missing:
            features = read_names(self._models, missing, templates)
            self._known |= zip(missing, zip(*features, strict=True), strict=True)
        visual, audio = zip(*(self._known[name] for name in names), strict=True)
        return names, (torch.stack(visual), torch.stack(audio))


class Straightforward:
    """Models, and what leads from a file and names to similarities.

    Args:
        models: Encode.
        names: Finds the features of names.
        device: Of the models.
    """

    def __init__(self, models: Models, names: EveryTime | Kept, device: str) -> None:
        self._models = models
        self._names = names
        self._device = device

    @torch.inference_mode()
    def answer(
        self, path: str, names: Sequence[str], templates: Sequence[str], top_k: int, segment_s: float | None
    ) -> tuple[Predictions, list[Predictions]]:
        """The best names of the clip, and of each segment; in half precision on a GPU, as anybody would."""
        with torch.autocast(self._device, torch.float16, enabled=self._device == "cuda"):
            models = self._models
            found = self._names.features(names, templates)
            sound = _sound(path, models.rate_hz)
            n_segments = 0 if segment_s is None else math.ceil(len(sound) / models.rate_hz / segment_s)
            whole, of_segments = _frames(path, models.size_px, n_segments)
            best = self._rank(whole, sound[: round(SOUND_S * models.rate_hz)], found, top_k)
            n_samples = round((segment_s or 0) * models.rate_hz)
            parts = [sound[i * n_samples : (i + 1) * n_samples] for i in range(n_segments)]
            return best, [
                self._rank(frames, part, found, top_k)
                for frames, part in zip(of_segments, parts, strict=True)
            ]

    def _rank(
        self, frames: np.ndarray, sound: np.ndarray, found: tuple[Sequence[str], Features], top_k: int
    ) -> Predictions:
        """The best names by the softmax of both cosine similarities, which are fused half and half."""
        models, (names, (of_pictures, of_sound)) = self._models, found
        visual = unit(models.see(frames).mean(0))
        audio = unit(models.hear(_windows(sound, models.rate_hz, models.window_s)).mean(0))
        seen, heard = of_pictures @ visual, of_sound @ audio
        scores = torch.softmax(50 * seen + 10 * heard, dim=0)
        best = scores.topk(min(top_k, len(names))).indices.tolist()
        return [
            {
                "label": names[i],
                "score": float(scores[i]),
                "visual": {"similarity": float(seen[i])},
                "audio": {"similarity": float(heard[i])},
            }
            for i in best
        ]


def _frames(path: str, size: int, n_segments: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode all, keep those at the middle of equal parts.

    Returns:
        N_FRAMES of the clip, uint8 [n, size, size, 3], and N_SEGMENT_FRAMES of each segment, [segment, n,
        size, size, 3].
    """
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        whole, parts = (_middles(stream.frames, n) for n in (N_FRAMES, n_segments * N_SEGMENT_FRAMES))
        wanted, kept = {*whole, *parts}, dict[int, np.ndarray]()
        for i, frame in enumerate(container.decode(stream)):
            if i in wanted:
                kept[i] = _square(frame.to_image(), size)  # type: ignore[no-untyped-call]
    of_segments = np.array([kept[i] for i in parts], np.uint8)
    return np.stack([kept[i] for i in whole]), of_segments.reshape(-1, N_SEGMENT_FRAMES, size, size, 3)


def _middles(n_frames: int, n_parts: int) -> list[int]:
    """Of so many equal parts."""
    return [int((i + 0.5) * n_frames / n_parts) for i in range(n_parts)]


def _square(image: Image.Image, size: int) -> np.ndarray:
    """Shorter side to size, bicubic, and the centre: CLIP's own transform."""
    scale = size / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _sound(path: str, rate_hz: int) -> np.ndarray:
    """All of it: float32 [samples], mono."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
    with av.open(path) as container:
        parts = [p.to_ndarray()[0] for f in container.decode(audio=0) for p in resampler.resample(f)]
        parts += [p.to_ndarray()[0] for p in resampler.resample(None)]
    return np.concatenate(parts)


def _windows(sound: np.ndarray, rate_hz: int, window_s: float) -> np.ndarray:
    """Sound in as many windows as it fills, at least one, repeated if there is less: float32 [n, samples]."""
    n_samples = round(window_s * rate_hz)
    return np.resize(sound, (max(1, round(len(sound) / n_samples)), n_samples))


def create_app(service: Straightforward) -> FastAPI:
    """Two routes."""
    app, one_at_a_time = FastAPI(), threading.Lock()

    @app.get("/v2/health/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/v1/classify")
    def classify(
        file: Annotated[UploadFile, File()],
        labels: Annotated[str, Form()] = "[]",
        templates: Annotated[list[str] | None, Form()] = None,
        top_k: Annotated[int, Form()] = 10,
        segment_s: Annotated[float | None, Form()] = None,
    ) -> dict[str, Any]:
        with tempfile.NamedTemporaryFile() as clip, one_at_a_time:
            clip.write(file.file.read())
            clip.flush()
            asked = json.loads(labels), templates or [], top_k, segment_s
            predictions, segments = service.answer(clip.name, *asked)
            return {"predictions": predictions, "segments": segments}

    return app


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument("--clap-tokenizer", type=Path, help="for torch models with random weights")
    of.add_argument("--bundle", type=Path, help="whose graphs are run instead")
    parser.add_argument("--keep-names", action="store_true")
    parser.add_argument("--threads", type=int, default=n_processors())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    models: Models = (
        GraphModels(options.bundle, options.threads)
        if options.bundle
        else TorchModels(options.clap_tokenizer, options.device)
    )
    with torch.inference_mode():
        names = Kept(models, N_KEPT) if options.keep_names else EveryTime(models)
    app = create_app(Straightforward(models, names, options.device))
    uvicorn.run(app, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
