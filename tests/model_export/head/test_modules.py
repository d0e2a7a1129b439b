"""The two exported halves: ONNX gives what torch gives, for any number of rows."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from model_export.head.modules import head_av_module, head_text_module
from model_export.head.run import Run
from tests.model_export.head.small_world import N_AUDIO, N_VISUAL


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own internals
@pytest.mark.parametrize("make", [head_av_module, head_text_module])
def test_onnx_says_what_torch_says(make: object, small_run: Run, tmp_path: Path) -> None:
    """Exported with five rows; compared with one and with seventeen, to 1e-5."""
    assert callable(make)
    module = make(small_run)
    rows = torch.export.Dim.DYNAMIC
    path = tmp_path / "half.onnx"
    names = ["a", "b"]
    torch.onnx.export(
        module,
        (torch.randn(5, N_VISUAL), torch.randn(5, N_AUDIO)),
        path,
        input_names=names,
        dynamo=True,
        dynamic_shapes=({0: rows}, {0: rows}),
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 17):
        features = torch.randn(n, N_VISUAL), torch.randn(n, N_AUDIO)
        expected = module(*features).detach().numpy()
        (found,) = session.run(None, dict(zip(names, (f.numpy() for f in features), strict=True)))
        np.testing.assert_allclose(found, expected, atol=1e-5)
