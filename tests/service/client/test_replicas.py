"""The client at two services on one database, each answer lost once: every change is made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from service.client import Client, Label, ServiceError
from tests.service.postgres.server import why_absent
from tests.service.serving import serving

if reason := why_absent():
    pytest.skip(reason, allow_module_level=True)


class LosingBalancer(httpx2.BaseTransport):
    """Sends each request to the next service in turn, and loses the first answer to each change.

    Attributes:
        between: Called when an answer has been lost.
        n_lost: Answers that were lost.
    """

    def __init__(self, services: list[httpx2.Client]) -> None:
        self._services = services
        self._n_requests = 0
        self._known: set[str] = set()
        self.between: Callable[[], object] = lambda: None
        self.n_lost = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Pass one request on."""
        service = self._services[self._n_requests % len(self._services)]
        self._n_requests += 1
        answer = service.request(
            request.method, request.url.raw_path.decode(), content=request.read(), headers=request.headers
        )
        request_id = request.headers.get("X-Request-ID")
        if request_id is None or request_id in self._known:
            return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)
        self._known.add(request_id)
        self.n_lost += 1
        self.between()
        raise httpx2.ReadError("lost")


@pytest.fixture
def services(toy_bundle: Path, tmp_path: Path, store_url: str) -> Iterator[list[httpx2.Client]]:
    """Two processes of the service, with a data directory each."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(serving(toy_bundle, tmp_path / name, variables={"AHSE_STORE": store_url}))
            for name in ("one", "other")
        ]


@pytest.mark.slow
def test_every_change_whose_answer_is_lost_is_made_once(services: list[httpx2.Client]) -> None:
    """The second try reaches the other service: no 404, no 412, and nothing that others did is undone."""
    balancer = LosingBalancer(services)
    with (
        Client("http://127.0.0.1", transport=balancer, key="") as client,
        Client(str(services[0].base_url), key="") as another,
    ):
        client._sleep = lambda _: None
        made = client.put_label_set("s", ["a", "b"], is_new=True)
        added = client.add_labels("s", ["c"], if_match=made.etag)
        balancer.between = lambda: another.add_labels("s", ["d"])
        removed = client.remove_label("s", "a", if_match=added.etag)
        assert (made.n_labels, added.n_labels, removed.n_labels) == (2, 3, 2)
        balancer.between = lambda: another.add_labels("s", ["b"])
        assert client.remove_label("s", "b").n_labels == 2
        assert another.label_set("s").labels == tuple(map(Label, "cdb"))
        with pytest.raises(ServiceError) as caught:
            client.put_label_set("s", ["x"], if_match=removed.etag)
        assert caught.value.code == "precondition_failed"
        balancer.between = lambda: another.put_label_set("s", ["new"])
        client.delete_label_set("s", if_match=another.label_set("s").etag)
        assert another.label_set("s").labels == (Label("new"),)
    assert balancer.n_lost == 6
