"""What ends a run at a service, what concerns one clip only, and what belongs to the question."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.cli.rankers import ClipFailedError, LocalRanker, RankingStoppedError, RemoteRanker, read_question
from service.client import Client, Limits, Model
from service.errors import NoLabelsError
from tests.conftest import Ahse


def _ranker(status: int, code: str, headers: Mapping[str, str], label_set: str | None = None) -> RemoteRanker:
    """A ranker at a service that answers every clip with a problem, and whose label sets are empty."""
    limits = {one.name: 9 for one in dataclasses.fields(Limits)}
    info = {"version": "1", "default_bundle": "a", "bundles": ["a"], "limits": limits}
    model: dict[str, object] = {one.name: "a" for one in dataclasses.fields(Model)}
    model |= {"seen_classes": [], "metrics": []}
    empty: dict[str, object] = {
        "name": "s",
        "labels": [],
        "n_labels": 0,
        "templates": None,
        "guarantee": None,
    }
    empty |= {"etag": "e", "created": "2026-01-01T00:00:00+00:00", "updated": "2026-01-01T00:00:00+00:00"}
    of_path = {"/v1/info": info, "/v1/label-sets/s": empty}

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return httpx2.Response(200, json=of_path.get(request.url.path, model))
        return httpx2.Response(status, json={"code": code, "detail": "So it is."}, headers=dict(headers))

    client = Client(transport=httpx2.MockTransport(answer))
    names = () if label_set else ("red", "blue")
    return RemoteRanker(read_question(names, label_set, None), client, None)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A file to send."""
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    return tmp_path / "clip.mp4"


def test_a_clip_above_the_quota_of_a_day_fails_alone(clip: Path) -> None:
    """Others are smaller; a run that ended there would end there again when it is resumed."""
    with pytest.raises(ClipFailedError) as failed:
        _ranker(403, "quota_exceeded", {}).rank(clip, lambda *_: None)
    assert failed.value.code == "quota_exceeded"
    with pytest.raises(RankingStoppedError, match=r"So it is\. \[forbidden\]"):
        _ranker(403, "forbidden", {}).rank(clip, lambda *_: None)


def test_a_key_that_is_no_longer_valid_ends_the_run_in_words_of_the_command_line(clip: Path) -> None:
    """The service's own are about headers."""
    with pytest.raises(RankingStoppedError, match=r"give it with --key or, .* AHSE_API_KEY\. \[unauthent"):
        _ranker(401, "unauthenticated", {}).rank(clip, lambda *_: None)


def test_a_spent_rate_ends_the_run_and_names_the_time(clip: Path) -> None:
    """Every other clip would be refused too, until then."""
    with pytest.raises(RankingStoppedError, match=r"takes more from \d{4}-\d\d-\d\d \d\d:\d\d on\. \[rate"):
        _ranker(429, "rate_limited", {"Retry-After": "3600"}).rank(clip, lambda *_: None)
    with pytest.raises(ClipFailedError):  # any other wait is the service's own affair
        _ranker(429, "overloaded", {"Retry-After": "3600"}).rank(clip, lambda *_: None)


@pytest.mark.parametrize("code", ["no_labels", "too_much_text", "invalid_template"])
def test_names_that_are_refused_end_the_run(clip: Path, code: str) -> None:
    """They would be refused with every other clip, each of which would be sent for nothing."""
    with pytest.raises(RankingStoppedError, match=rf"So it is\. \[{code}\]") as stopped:
        _ranker(422, code, {}).rank(clip, lambda *_: None)
    assert stopped.value.is_final
    with pytest.raises(ClipFailedError):
        _ranker(422, "no_usable_tracks", {}).rank(clip, lambda *_: None)


def test_an_empty_label_set_is_told_before_any_clip() -> None:
    """As it is told here."""
    with pytest.raises(NoLabelsError, match="label set 's' is empty; add labels to it"):
        _ranker(200, "", {}, label_set="s")


def test_a_clip_that_can_not_be_opened_is_told_as_it_is_here(clip: Path) -> None:
    """With the same code and words."""
    with pytest.raises(ClipFailedError, match="can't be read now") as failed:
        _ranker(200, "", {}).rank(clip.with_name("gone.mp4"), lambda *_: None)
    assert failed.value.code == "clip_unavailable"


def test_a_label_set_that_changes_ends_the_run(
    ahse: Ahse,
    toy_service: str,
    clips: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Answers to both would be in one file; it can't be resumed, and that is not offered."""
    here = ("--url", toy_service)
    assert ahse("labels", "put", "changes-in-mid-run", "red", "blue", *here)[0] == 0
    whole, n_asked = Client.classify, []

    def classify(self: Client, *clip: Any, **question: Any) -> Any:
        n_asked.append(1)
        if len(n_asked) == 2:
            self.add_labels("changes-in-mid-run", ["green"])
        return whole(self, *clip, **question)

    monkeypatch.setattr(Client, "classify", classify)
    words = (
        *(clips[name] for name in ("red low", "blue high", "green")),
        "--label-set",
        "changes-in-mid-run",
    )
    file = tmp_path / "r.jsonl"
    code, _, complaint = ahse("classify", *words, *here, "-o", file, "--jobs", "1")
    assert code == 1
    assert "label set of the service has changed since this run began" in complaint
    assert complaint.endswith(" 1 of 3 clips are done.\n")
    assert [json.loads(line)["n_labels"] for line in file.read_text().splitlines()] == [2]


def test_frames_of_the_settings_belong_to_the_question(
    ahse: Ahse, toy_bundle: Path, clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers by key frames and by exact ones are not mixed, whichever way they were asked for."""
    file = tmp_path / "r.jsonl"
    words = ("classify", clips["green"], "--label", "a", "--label", "b", "--bundle", toy_bundle, "-o", file)
    assert ahse(*words)[0] == 0
    monkeypatch.setenv("AHSE_FRAMES", "key")
    code, _, complaint = ahse(*words, "--resume")
    assert (code, "other names, options or another bundle" in complaint) == (2, True)
    assert ahse(*words, "--overwrite")[0] == 0
    monkeypatch.delenv("AHSE_FRAMES")
    code, _, complaint = ahse(*words, "--frames", "key", "--resume")
    assert (code, complaint) == (0, "1 of 1 clips have their answer already\n")


def test_what_nobody_foresaw_costs_one_clip(
    ahse: Ahse, toy_bundle: Path, clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU without memory, say: its cause is on standard error, and the others have their answers."""
    whole = LocalRanker.rank

    def rank(self: LocalRanker, path: Path, progress: Any) -> Any:
        if path == clips["green"]:
            raise RuntimeError("CUDA out of memory")
        return whole(self, path, progress)

    monkeypatch.setattr(LocalRanker, "rank", rank)
    file = tmp_path / "r.jsonl"
    words = (*clips.values(), "--label", "red", "--label", "blue", "--bundle", toy_bundle, "-o", file)
    code, _, complaint = ahse("classify", *words)
    assert code == 1
    assert f"{clips['green']}: RuntimeError: CUDA out of memory\n" in complaint
    assert "Traceback" not in complaint
    errors = [json.loads(line).get("error", {}).get("code") for line in file.read_text().splitlines()]
    assert sorted(errors, key=str) == [None, None, None, "internal_error"]
