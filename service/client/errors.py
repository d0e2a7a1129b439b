"""Everything the client raises on purpose.

    ClientError
    ├── ServiceError          the service answered with an error; its code says which (service/errors.py)
    ├── UnreachableError      unreachable       no connection could be made
    ├── ConnectionLostError   connection_lost   the connection ended or fell silent before the answer came
    └── InvalidArgumentError  invalid_argument  an argument that no service would accept

A clip that can't be read raises the OSError of opening it.
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of all errors of the client.

    Attributes:
        code: Stable snake_case name of the kind of error.
        message: What is wrong and what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ServiceError(ClientError):
    """The service answered with an error (problem+json, RFC 9457), or something between answered for it.

    Attributes:
        status: HTTP status.
        detail: The service's own words; the same as `message`.
        request_id: Names the request in the service's log; empty when the answer has none.
        retry_after_s: Seconds after which the service asks to try again; None: it does not say.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int,
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.detail = detail
        self.status = status
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class UnreachableError(ClientError):
    """No connection to the service could be made."""

    def __init__(self, message: str) -> None:
        super().__init__("unreachable", message)


class ConnectionLostError(ClientError):
    """The connection ended, or was silent for too long, before the whole answer was there."""

    def __init__(self, message: str) -> None:
        super().__init__("connection_lost", message)


class InvalidArgumentError(ClientError, ValueError):
    """An address, a key or a clip that can't be meant."""

    def __init__(self, message: str) -> None:
        super().__init__("invalid_argument", message)
