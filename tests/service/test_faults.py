"""Validation faults are described in the service's own words, never in those of the validation library."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import ValidationError

from service.api import bodies
from service.api.embeddings import EmbeddingsBody
from service.api.problems import wrong_form
from service.api.schemas import LabelSetBody
from service.bundle.directory import read_manifest
from service.bundle.manifest import Manifest
from service.cli.serve import read_settings
from service.errors import BundleInvalidError, InvalidRequestError
from service.faults import describe_faults
from service.settings import Settings
from tests.toy import write_toy_bundle

LIBRARY_TEXTS = ("Input should", "Field required", "Extra inputs", "Value error", "pydantic", "valid string")


def _assert_own_words(text: str, library_text: str) -> None:
    assert library_text not in text
    assert not any(one in text for one in LIBRARY_TEXTS), text


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The manifest of the toy bundle, as JSON has it."""
    bundle = write_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy")
    return read_manifest(bundle).model_dump(mode="json")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.pop("audio"), "audio is missing"),
        (lambda m: m.update(tempreature=1), "tempreature is not a known field"),
        (lambda m: m["visual"].update(dim="many"), "visual.dim must be a whole number"),
        (lambda m: m["visual"].update(dim=1.5), "visual.dim must be a whole number"),
        (lambda m: m["visual"].update(dim=0), "visual.dim must be at least 1"),
        (lambda m: m["visual"].update(logit_scale=0), "visual.logit_scale must be more than 0"),
        (lambda m: m["visual"].update(sampling="some"), "visual.sampling must be 'uniform' or 'middle'"),
        (
            lambda m: m["visual"].update(sampling="middle"),
            "visual is not acceptable: sampling middle requires",
        ),
        (lambda m: m["visual"]["text"].update(templates=[]), "visual.text.templates has too few items"),
        (
            lambda m: m["visual"]["text"].update(templates=["no"]),
            "templates.0 does not have the documented form",
        ),
        (
            lambda m: m["head"].update(kind="other"),
            "head has an unknown kind; the kinds are 'ahse', 'similarity'",
        ),
        (lambda m: m["head"].pop("kind"), "head has no kind"),
        (lambda m: m.update(head=[]), "head must be an object"),
        (
            lambda m: m["files"].update({"README.md": "x"}),
            "files.README.md does not have the documented form",
        ),
        (lambda m: m["provenance"].update(created="today"), "provenance.created must be a date and time"),
        (lambda m: m.update(notice="n" * 501), "notice is too long"),
        (lambda m: m.update(version=3, metrics=1), "version must be a string; metrics must be a list"),
    ],
)
def test_a_faulty_manifest_is_described_in_our_own_words(
    change: Callable[[dict[str, Any]], object], says: str, manifest: dict[str, Any], tmp_path: Path
) -> None:
    """Every fault names its field; the text of the library is not in the message."""
    document = json.loads(json.dumps(manifest))
    change(document)
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BundleInvalidError) as refused:
        read_manifest(tmp_path)
    assert says in refused.value.message
    with pytest.raises(ValidationError) as invalid:
        Manifest.model_validate(document)
    _assert_own_words(refused.value.message, invalid.value.errors()[0]["msg"])


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("AHSE_PORT", "many", "port (AHSE_PORT): must be a whole number"),
        ("AHSE_PORT", "70000", "port (AHSE_PORT): must be at most 65535"),
        ("AHSE_DEVICE", "tpu", "device (AHSE_DEVICE): must be 'auto', 'cpu' or 'cuda'"),
        ("AHSE_BUNDLES", ",", "bundles (AHSE_BUNDLES): has too few items"),
        ("AHSE_UPLOAD_PAUSE_S", "0", "upload_pause_s (AHSE_UPLOAD_PAUSE_S): must be more than 0"),
        ("AHSE_UPLOAD_PAUSE_S", "long", "upload_pause_s (AHSE_UPLOAD_PAUSE_S): must be a number"),
    ],
)
def test_faulty_settings_are_described_in_our_own_words(
    variable: str,
    value: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line on the terminal for each setting, and exit code 2."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(typer.Exit) as ended:
        read_settings({})
    assert ended.value.exit_code == 2
    printed = capsys.readouterr().err
    assert f"setting {says}\n" in printed
    with pytest.raises(ValidationError) as invalid:
        Settings()
    _assert_own_words(printed, invalid.value.errors()[0]["msg"])


def test_a_faulty_body_is_described_in_our_own_words() -> None:
    """The alternatives of a union are one clause, without their names."""
    with pytest.raises(InvalidRequestError) as refused:
        bodies.parse_body(b'{"labels": [7], "colour": 1}', LabelSetBody)
    assert "labels.0 must be a string or must be an object" in refused.value.message
    assert "colour is not a known field" in refused.value.message
    _assert_own_words(refused.value.message, "Input")


_MANY = 10_000


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (LabelSetBody, {"labels": [0] * _MANY}),
        (LabelSetBody, {"labels": ["a"], "templates": [0] * _MANY}),
        (LabelSetBody, {"labels": [{"name": "a", "prompts": [0] * _MANY}]}),
        (LabelSetBody, {"labels": [{"name": "a", **dict.fromkeys(map(str, range(_MANY)), 0)}]}),
        (LabelSetBody, dict.fromkeys(map(str, range(_MANY)), 0)),
        (EmbeddingsBody, {"model": "m", "input": [0] * _MANY}),
        (EmbeddingsBody, {"model": "m", "input": [dict.fromkeys(map(str, range(_MANY)), 0)]}),
    ],
)
def test_a_body_of_many_faults_is_refused_at_the_first_few(
    form: type[LabelSetBody] | type[EmbeddingsBody], body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that is listed takes a thousand bytes: those of a body of 8 MB took gigabytes, and minutes."""
    listed: list[int] = []

    def counting(faults: Sequence[Mapping[str, Any]]) -> str:
        listed.append(len(faults))
        return wrong_form(faults)

    monkeypatch.setattr(bodies, "wrong_form", counting)
    with pytest.raises(InvalidRequestError) as refused:
        bodies.parse_body(json.dumps(body).encode(), form)
    assert listed[0] < 100
    assert len(refused.value.message) < 1000


def test_a_long_name_of_an_unknown_field_is_cut() -> None:
    """It is told, as far as it helps."""
    with pytest.raises(InvalidRequestError) as refused:
        bodies.parse_body(b'{"labels": [], "%s": 1}' % (b"x" * 10_000), LabelSetBody)
    assert f" {'x' * 80} is not a known field" in refused.value.message


def test_a_fault_of_an_unknown_type_is_still_described() -> None:
    """A type that a later version of the library may add has a general description."""
    fault = {"type": "brand_new", "loc": (), "msg": "Input should be newer"}
    assert describe_faults([fault], "the body") == "the body is not acceptable"
