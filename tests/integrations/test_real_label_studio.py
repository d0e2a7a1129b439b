"""The ML backend behind a real Label Studio, which `make test-integrations` installs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from benchmarks.servers import free_port
from tests.integrations.readme import blocks, filled
from tests.integrations.servers import ROOT, started

COMMAND = ROOT / ".venv-label_studio" / "bin" / "label-studio"
CONFIG = blocks("label_studio", "xml")[0]
USER = {"email": "annotator@example.org", "password": "a long password"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not COMMAND.exists(), reason="no Label Studio; install it: make test-integrations"),
]


@pytest.fixture(scope="module")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of Label Studio with one user and an empty SQLite database."""
    folder = tmp_path_factory.mktemp("label-studio")
    port = free_port()
    env = {
        "HOME": str(folder),
        "PATH": f"{COMMAND.parent}:{os.environ['PATH']}",
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "LABEL_STUDIO_HOST": f"http://127.0.0.1:{port}",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    user = f"--init trial --no-browser --username {USER['email']} --password '{USER['password']}'"
    command = filled(blocks("label_studio", "sh")[0], {"--port 8080": f"--port {port} {user}"})
    url = f"http://127.0.0.1:{port}"
    with started(command, port, folder / "log", env):
        yield url


@pytest.fixture(scope="module")
def session(label_studio: str) -> Iterator[httpx2.Client]:
    """A browser's session, logged in."""
    with httpx2.Client(base_url=label_studio, timeout=180, follow_redirects=True) as client:
        client.get("/user/login/")
        form = USER | {"csrfmiddlewaretoken": client.cookies["csrftoken"]}
        client.post("/user/login/", data=form).raise_for_status()
        client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
        yield client


@pytest.fixture(scope="module")
def backend(
    label_studio: str, session: httpx2.Client, service_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The ML backend, with a personal access token that was made as its README says."""
    token = session.post("/api/token/").raise_for_status().json()["token"]
    port = free_port()
    values = {
        "YOUR-TOKEN": token,
        "python": sys.executable,
        "http://127.0.0.1:8080": label_studio,
        "http://127.0.0.1:8000": service_url,
        "--port 9090": f"--port {port} --segment-s 1",
    }
    command = filled(blocks("label_studio", "sh")[1], values)
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("backend") / "log"
    env = {"BASIC_AUTH_USER": "ls", "BASIC_AUTH_PASS": "secret"}
    with started(command, port, log, env):
        yield url


def test_label_studio_stores_the_right_regions(session: httpx2.Client, backend: str, changing: Path) -> None:
    """From project to prediction over HTTP only: connect, import a video, retrieve predictions."""
    project = _post(session, "/api/projects", {"title": "scenes", "label_config": CONFIG})["id"]
    connection = {
        "url": backend,
        "project": project,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": "ls",
        "basic_auth_pass": "secret",
    }
    connected = _post(session, "/api/ml", connection)
    assert connected["readable_state"] == "Connected"
    with changing.open("rb") as file:
        imported = session.post(
            f"/api/projects/{project}/import", files={"file": ("changing.mp4", file, "video/mp4")}
        )
    assert imported.raise_for_status().json()["task_count"] == 1

    action = f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}"
    _post(session, action, {"selectedItems": {"all": True, "excluded": []}, "project": project})
    predictions = session.get("/api/predictions", params={"project": project}).raise_for_status().json()

    assert [_ranges(one) for one in predictions] == [
        [("red with a low tone", 1, 20), ("blue", 21, 40)]  # the rest may be none of the names
    ]
    assert predictions[0]["model_version"].startswith("ahse toy 1 ")
    assert 0 < predictions[0]["score"] <= 1
    version = session.get("/api/ml", params={"project": project}).json()[0]["model_version"]
    assert version == predictions[0]["model_version"]


def _post(session: httpx2.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = session.post(path, json=body)
    assert response.is_success, response.text
    found: dict[str, Any] = response.json()
    return found


def _ranges(prediction: dict[str, Any]) -> list[tuple[str, int, int]]:
    values = [region["value"] for region in prediction["result"]]
    return [
        (one["timelinelabels"][0], span["start"], span["end"]) for one in values for span in one["ranges"]
    ]
