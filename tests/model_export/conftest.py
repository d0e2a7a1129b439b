"""One small data set and one small finished run, shared by the tests that only look at them."""

from pathlib import Path

import pytest

from model_export.data.gzsl_data import GzslData
from model_export.head.head_config import HeadConfig
from model_export.head.run_folder import Run
from model_export.head.training import train
from tests.model_export.head.small_world import small_world

SMALL = HeadConfig(
    standardisation="stored_then_sample",
    align_semantic=True,
    align_class=True,
    align_batch=True,
    logit_scale="inverse_sqrt",
    geometry_weight=1.0,
    distil_weight=1.0,
    modality_dropout=0.3,
    raw_fusion=True,
    lr=1e-3,
    n_epochs=3,
    n_batches_per_epoch=6,
    batch_size=12,
)


@pytest.fixture(scope="session")
def small_data() -> GzslData:
    """The small world."""
    return small_world()


@pytest.fixture(scope="session")
def small_run(small_data: GzslData, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on it, with every switch of the product on."""
    out: Path = tmp_path_factory.mktemp("runs") / "small"
    return train(small_data, SMALL, out, n_threads=1)
