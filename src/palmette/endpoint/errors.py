"""The errors of requests to a server."""

from __future__ import annotations

from palmette.errors import PalmetteError


class EndpointError(PalmetteError):
    """A server cannot be used: it is missing, it refuses the key or the model, or it keeps failing."""


class RequestError(EndpointError):
    """The server did not answer a request. Other requests may succeed.

    Args:
        problem: see `PalmetteError`.
        way_out: see `PalmetteError`.
        refused: whether the server refuses this request, so that it makes no sense to send it again.
    """

    def __init__(self, problem: str, way_out: str, *, refused: bool = False) -> None:
        super().__init__(problem, way_out)
        self.refused = refused


class TransientError(Exception):
    """A temporary failure. Another attempt at the same request may succeed.

    Args:
        problem: what happened, for a message.
        retry_after: the server's Retry-After header, if it sent one.
        unreachable: whether nothing listens at the address. Another attempt makes sense only if the server was reached
            before.
    """

    def __init__(self, problem: str, *, retry_after: str | None = None, unreachable: bool = False) -> None:
        self.problem, self.retry_after, self.unreachable = problem, retry_after, unreachable
        super().__init__(problem)
