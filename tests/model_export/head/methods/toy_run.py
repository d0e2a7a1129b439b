"""A run on features of the toy bundle's encoders, and the bundle that is made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from model_export.data.gzsl_data import GzslData, SplitFeatures
from model_export.export.bundle_parts import BundleFacts, export_bundle
from model_export.export.existing_bundle import encoders_of
from model_export.export.head_parts import trained_head
from model_export.head.distances import embedding_distances
from model_export.head.run_folder import Run
from model_export.head.stage_tensors import Clips, Texts
from service.encode.features import ClipFeatures, TextFeatures
from service.head.head import cosines_of
from service.registry import load_bundle
from service.runtime.providers import Runtime
from tests.model_export.head.small_world import small_world

N_DIMS = 3
FACTS = BundleFacts("mine", "1", "For a test.", (), (), "pytest", 0, "toys", "# card")


def toy_world() -> GzslData:
    """The small world, cut to the dims of the toy encoders."""
    data = small_world()
    splits = {
        name: SplitFeatures(clips.visual[:, :N_DIMS], clips.audio[:, :N_DIMS], clips.class_index)
        for name, clips in data.named_splits()
    }
    texts = (np.ascontiguousarray(text[:, :N_DIMS]) for text in (data.text_visual, data.text_audio))
    return replace(data, text_visual=next(texts), text_audio=next(texts), splits=splits)


def served_and_torch_distances(run: Run, toy_bundle: Path, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Distances [6, 9] of clips to names, served from a bundle and computed by torch.

    The last two clips have one track only.
    """
    export_bundle(out, encoders_of(toy_bundle)[1], trained_head(run, ungated=True), FACTS)
    head = load_bundle(out, Runtime(device="cpu")).head
    random = np.random.default_rng(1)

    def unit(n: int) -> np.ndarray:
        rows = random.normal(size=(n, N_DIMS)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)  # type: ignore[no-any-return]

    visual, audio, texts = unit(6), unit(6), TextFeatures(unit(9), unit(9))
    visual[4], audio[5] = 0, 0
    names, served = head.embed_names(texts), []
    for row in range(6):
        clip = ClipFeatures(*(side[row] if side[row].any() else None for side in (visual, audio)))
        served.append(head.distances(head.embed_clip(clip), cosines_of(clip, texts), names))
    clips = Clips(torch.from_numpy(visual), torch.from_numpy(audio), torch.zeros(6, dtype=torch.int64))
    of_names = Texts(torch.from_numpy(texts.visual), torch.from_numpy(texts.audio))
    mode = run.config.head.standardisation
    expected = embedding_distances(run.network, mode, run.statistics, clips, of_names)
    return np.stack(served), expected.numpy()
