"""The client imports little, and has what the service has."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service import client
from service.api import forms, schemas
from service.api.jobs import schemas as job_schemas
from service.client import AsyncClient, Client, Receipt

ROOT = Path(__file__).resolve().parents[3]


def test_importing_it_loads_none_of_the_heavy_packages() -> None:
    """In a process in which they can't be imported at all."""
    code = """
import sys
heavy = {"onnxruntime", "av", "fastapi", "starlette", "uvicorn", "pydantic", "numpy", "rich", "typer"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in heavy:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
from service.client import AsyncClient, Client, Receipt
Client("http://127.0.0.1:1").close()
print(sorted(name for name in sys.modules if name.startswith("service")))
"""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.strip("[]\n").replace("'", "").split(", ")
    assert {name.partition(".")[2].partition(".")[0] for name in loaded} == {"", "client"}


PAIRS: list[tuple[Any, Any, set[str]]] = [
    (client.Answer, schemas.ClassifyResponse, {"document"}),
    (client.Prediction, schemas.Prediction, set()),
    (client.TrackScore, schemas.TrackScore, set()),
    (client.TrackUse, schemas.TrackUse, set()),
    (client.Tracks, schemas.Tracks, set()),
    (client.Segment, schemas.SegmentAnswer, set()),
    (client.Receipt, schemas.Receipt, set()),
    (client.SegmentReceipt, schemas.SegmentReceipt, set()),
    (client.Label, schemas.LabelBody, set()),
    (client.LabelSet, schemas.LabelSet, set()),
    (client.LabelSetSummary, schemas.LabelSetSummary, set()),
    (client.Metric, schemas.Metric, set()),
    (client.Model, schemas.Model, {"object"}),
    (client.Job, job_schemas.JobWithClips, {"links"}),
    (client.JobClip, job_schemas.JobClipBody, set()),
    (client.Limits, schemas.Limits, set()),
    (client.Info, schemas.Info, {"name"}),
]


@pytest.mark.parametrize(("value", "schema", "apart"), PAIRS, ids=lambda one: getattr(one, "__name__", ""))
def test_values_have_the_fields_that_the_service_sends(value: Any, schema: Any, apart: set[str]) -> None:
    """A field that is added to one of them is not forgotten in the other."""
    assert {one.name for one in dataclasses.fields(value)} ^ set(schema.model_fields) == apart


def test_classify_takes_the_fields_of_the_form() -> None:
    """By the same names, apart from the form of the answer: values are made of JSON."""
    form = {field.alias or name for name, field in forms.ClassifyForm.model_fields.items()}
    assert set(client.Question.__annotations__) == form - {"return"}
    with Client("http://127.0.0.1:1") as asking, pytest.raises(TypeError, match="'topk'"):
        asking.classify(b"clip", labels=["a"], topk=1)  # type: ignore[call-arg]


def test_a_receipt_keeps_the_order_of_its_fields() -> None:
    """Programs may make one by position, as they could at first."""
    assert [one.name for one in dataclasses.fields(Receipt)] == [
        *("clip_sha256", "frame_times_s", "audio_windows_s")
    ]


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    """Apart from those that open and close them."""

    def methods(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(one).parameters) for name, one in found if name[0] != "_"}

    waiting, awaiting = methods(Client), methods(AsyncClient)
    assert waiting.pop("close") == awaiting.pop("aclose")
    assert waiting == awaiting
