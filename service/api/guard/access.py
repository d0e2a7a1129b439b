"""Middleware: who may send a request, decided before any of its body is read."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from starlette.datastructures import Headers
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import hosts
from service.access.key_ring import KeyRing
from service.access.keys import ApiKey
from service.access.rates import Rates
from service.api.guard.guarded_store import Requester, current_requester
from service.api.guard.scopes import HEALTH, METRICS, need_of, place_of
from service.api.headers import declared_length
from service.api.middleware import refuse
from service.errors import (
    AccessError,
    ForbiddenError,
    HostNotAllowedError,
    OriginNotAllowedError,
    RateLimitedError,
    UnauthenticatedError,
    WrongPortError,
)

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class AccessRules:
    """Facts of the deployment.

    Attributes:
        allowed_hosts: Names that Host may have besides local ones; empty: any where keys are needed.
        origins: Origins of other sites whose pages may send requests.
        admin_port: Port that alone answers reload and metrics; None: there is none.
        admin_needs_key: Whether requests to the admin port need a key.
    """

    allowed_hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    admin_port: int | None = None
    admin_needs_key: bool = False


class Access:
    """Checks port, host, origin, rate, key and scope of each request, in this order.

    Args:
        app: The application behind.
        ring: The keys.
        rates: Counts requests and bytes.
        rules: Facts of the deployment.
        routes: All routes.
    """

    def __init__(
        self, app: ASGIApp, ring: KeyRing, rates: Rates, rules: AccessRules, routes: Sequence[BaseRoute]
    ) -> None:
        self._app = app
        self._ring = ring
        self._rates = rates
        self._rules = rules
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        place = place_of(scope, self._routes)
        try:
            key = self._admit(scope, place)
            body = _CountedBody(self._rates, key, scope, receive, send)
        except AccessError as error:
            await refuse(scope, receive, send, error)
            return
        with _as_current(Requester(key, client_of(scope))):
            await body.answer(self._app)

    def _admit(self, scope: Scope, place: str) -> ApiKey | None:
        """The key of a request that may go on; None where it needs none."""
        headers, is_health = Headers(scope=scope), scope["path"].startswith(HEALTH)
        is_admin_port = self._is_admin_port(scope, place, is_health=is_health)
        needs_key = self._ring.needs_key and (not is_admin_port or self._rules.admin_needs_key)
        if not is_health:  # which probes ask by whatever address they know, and tells nothing
            self._check_host(headers, needs_key=needs_key)
        self._check_origin(scope, headers)
        # Below health nothing is hidden, so another method is answered 405 and another address 404.
        need = "nothing" if is_health and not place else need_of(place)
        if need == "nothing":
            return None
        key = self._identify(scope, headers) if needs_key else None
        # Where no rate holds it does for whoever has no valid key, so that none can be found by trying.
        if (needs_key and key is None) or not (is_admin_port or place == METRICS):
            self._count(scope, key)
        if not needs_key:
            return None
        if key is None:
            raise UnauthenticatedError(
                "This address needs a valid API key: Authorization: Bearer KEY, or X-API-Key: KEY."
            )
        if key.has_expired(datetime.now(UTC)):
            raise UnauthenticatedError("This API key has expired; ask for a new one.")
        if need != "any key" and not key.permits(need):
            raise ForbiddenError(f"This address needs a key with the scope {need}, which this key lacks.")
        return key

    def _is_admin_port(self, scope: Scope, place: str, *, is_health: bool) -> bool:
        """Whether the request came to the admin port, which answers what needs admin, and health."""
        if self._rules.admin_port is None:
            return False
        is_admin_port = (scope.get("server") or ("", None))[1] == self._rules.admin_port
        if not is_health and is_admin_port != (need_of(place) == "admin"):
            raise WrongPortError(
                "This port answers reload, metrics and health only."
                if is_admin_port
                else "Reload and metrics are answered on the admin port only."
            )
        return is_admin_port

    def _check_host(self, headers: Headers, *, needs_key: bool) -> None:
        allowed = self._rules.allowed_hosts or (("*",) if needs_key else ())
        # Whoever sends no Host is no browser; HTTP/1.1 requires it.
        for host in headers.getlist("host"):
            if not hosts.is_allowed(host, allowed):
                raise HostNotAllowedError(
                    f"The service does not answer to the host {hosts.name_in(host)[:100]!r}; its operator "
                    "can allow the name with AHSE_ALLOWED_HOSTS."
                )

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse what pages of other sites send (CSRF).

        Browsers say whose page it is: in Sec-Fetch-Site, which holds behind proxies too, or in Origin.
        """
        if scope["method"] in _SAFE_METHODS:
            return
        origin, site = headers.get("origin", "").lower(), headers.get("sec-fetch-site", "")
        own = f"{scope['scheme']}://{headers.get('host', '').lower()}"
        is_own = site in ("same-origin", "none") if site else origin in ("", own)
        if not is_own and origin not in self._rules.origins:
            raise OriginNotAllowedError(
                "A page of another site sent this request; the operator of the service can allow the site "
                "with AHSE_CORS_ORIGINS."
            )

    def _identify(self, scope: Scope, headers: Headers) -> ApiKey | None:
        scheme, _, text = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            text = headers.get("x-api-key", "")
        key = self._ring.identify(text.strip())
        if key is not None:
            scope["state"]["key"] = key.id  # for the log line of the request
        return key

    def _count(self, scope: Scope, key: ApiKey | None) -> None:
        if key is None:
            self._rates.count_address(client_of(scope))
        else:
            self._rates.count_key(key.id, key.rate)


class _QuotaSpent(Exception):  # noqa: N818  (a signal to _CountedBody.answer, not an error)
    """Ends the reading of a body."""


class _CountedBody:
    """Counts the bytes of a body against the day's quota of its key.

    Raises:
        RateLimitedError: The length that the body declares is more than what is left.
        QuotaExceededError: It is more than the whole quota.
    """

    def __init__(self, rates: Rates, key: ApiKey | None, scope: Scope, receive: Receive, send: Send) -> None:
        self._rates, self._key = rates, key
        self._scope, self._receive, self._send = scope, receive, send
        self._quota = None if key is None else key.quotas.bytes_per_day
        self._error: RateLimitedError | None = None
        self._is_answered = False
        declared = declared_length(Headers(scope=scope))
        if key is not None and self._quota is not None and declared is not None:
            rates.check_bytes(key.id, self._quota, declared)

    async def answer(self, app: ASGIApp) -> None:
        """Answer the request, or refuse it once its body is more than what is left."""
        try:
            await app(self._scope, self._receive if self._quota is None else self._counted, self.send)
        except _QuotaSpent:
            if self._error is not None and not self._is_answered:
                await refuse(self._scope, self._receive, self._send, self._error)

    async def send(self, message: Message) -> None:
        """Pass the answer on."""
        self._is_answered = True
        await self._send(message)

    async def _counted(self) -> Message:
        message = await self._receive()
        if self._key is not None and self._quota is not None and message.get("body"):
            try:
                self._rates.count_bytes(self._key.id, self._quota, len(message["body"]))
            except RateLimitedError as error:
                self._error = error
                raise _QuotaSpent from None
        return message


@contextmanager
def _as_current(requester: Requester) -> Iterator[None]:
    """Tell routes, log lines and the threads that work for this request whose it is."""
    token = current_requester.set(requester)
    try:
        with structlog.contextvars.bound_contextvars(**({"key": requester.key.id} if requester.key else {})):
            yield
    finally:
        current_requester.reset(token)


def client_of(scope: Scope) -> str:
    """Address of the client, behind trusted proxies too; `unknown` for what is no address."""
    address = str((scope.get("client") or ("unknown", 0))[0])
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return "unknown"
