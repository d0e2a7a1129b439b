"""Real and hostile files over HTTP: an answer or a clear refusal, never a 5xx."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.service.api.conftest import classify
from tests.toy import CLASSES

MEDIA = Path(__file__).resolve().parents[4] / "shared" / "media"
FILES = sorted(path for path in MEDIA.rglob("*") if path.is_file() and path.suffix != ".csv")
# What their index says of them: no decoder for the only track, a playlist, or nothing at all.
REFUSED = {
    "androidx_sample_ac4.mp4": "no_usable_tracks",
    "androidx_sample_mpegh_mhm1.mp4": "no_usable_tracks",
    "androidx_Twinkle.mid": "not_media",
    "moviepy_empty.webm": "empty_file",
    "read_passwd.avi": "no_usable_tracks",
    "playlist.m3u8": "not_media",
}
# The quick part sends those and every fourth of the others.
CASES = [
    path if index % 4 == 0 or path.name in REFUSED else pytest.param(path, marks=pytest.mark.slow)
    for index, path in enumerate(FILES)
]


@pytest.mark.skipif(not FILES, reason="the collection of real and hostile media lies beside the checkout")
@pytest.mark.parametrize("path", CASES or [None], ids=lambda path: path.name if path else "none")
def test_every_file_gets_an_answer(client: TestClient, path: Path) -> None:
    """200 with a track that was used, or 4xx with a code; no path of the server in the body."""
    response = classify(client, path.read_bytes()[:1_900_000], labels=CLASSES)
    body = response.json()
    if response.status_code == 200:
        assert body["tracks"]["visual"]["used"] or body["tracks"]["audio"]["used"]
        assert sum(one["score"] for one in body["predictions"]) == pytest.approx(1, abs=1e-4)
    else:
        assert 400 <= response.status_code < 500
        assert body["code"]
    assert "/tmp" not in response.text  # noqa: S108  (looked for, not used)
    if path.name in REFUSED:
        assert body["code"] == REFUSED[path.name]
