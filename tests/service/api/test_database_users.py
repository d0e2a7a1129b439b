"""Two users of the database, as docs/deployment.md makes them: one for its tables, one for the rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from tests.service.api.conftest import classify, wait_until_tried
from tests.service.postgres.server import PASSWORD, Server, why_absent

if reason := why_absent():
    pytest.skip(reason, allow_module_level=True)

import psycopg

from service.api.app import create_app
from service.errors import StoreUnavailableError
from service.postgres.upgrade import upgrade
from service.settings import Settings
from tests.service.api.jobs_client import ended, post_job, results_of

PAGE = Path(__file__).resolve().parents[3] / "docs" / "deployment.md"


@pytest.fixture
def urls(postgres: Server) -> tuple[str, str]:
    """Of the owner and of the service, after the statements of the document."""
    (statements,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    before, database, after = re.split(r"\\connect (\w+)\n", statements)
    for name, lines in (("postgres", before), (database, after)):
        with psycopg.connect(postgres.url(name), autocommit=True) as connection:
            for line in lines.splitlines():
                connection.execute(line.encode())

    def url(user: str) -> str:
        return postgres.url(database).replace(f"ahse:{PASSWORD}", f"{user}:PASSWORD")

    return url("ahse_owner"), url("ahse_service")


def test_the_service_needs_no_right_to_make_tables(
    urls: tuple[str, str], toy_bundle: Path, tmp_path: Path, clips: dict[str, Path]
) -> None:
    """Label sets, embeddings and jobs are stored by a user that can't run the upgrade."""
    owner, user = urls
    with pytest.raises(StoreUnavailableError):
        upgrade(user)
    upgrade(owner)
    settings = Settings(bundles=(toy_bundle,), store=SecretStr(user), data_dir=tmp_path, decode_workers=1)
    app = create_app(settings)
    with TestClient(app) as client:
        wait_until_tried(app)
        client.put("/v1/label-sets/colours", json={"labels": ["green", "blue"]})
        client.post("/v1/label-sets/colours/labels", json={"labels": ["red"]})
        client.delete("/v1/label-sets/colours/labels/blue")
        answer = classify(client, clips["red low"], label_set="colours").json()
        assert answer["predictions"][0]["label"] == "red"
        assert answer["n_labels"] == 2
        job = post_job(client, clips["red low"], labels=["red", "blue"]).json()
        assert ended(client, job)["state"] == "done"
        (result,) = results_of(client, job)
        assert result["predictions"][0]["label"] == "red"
        assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
        assert client.delete("/v1/label-sets/colours").status_code == 204
        assert client.get("/v2/health/ready").status_code == 200
