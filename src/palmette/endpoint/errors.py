"""What can go wrong when a server is asked."""

from __future__ import annotations

from palmette.errors import PalmetteError


class EndpointError(PalmetteError):
    """A server that cannot be used: it is missing, refuses the key or the model, or fails again and again."""


class RequestError(EndpointError):
    """A request that the server did not answer. Other requests may succeed."""


class TransientError(Exception):
    """A failure that may pass, so that the same request is worth another attempt.

    Args:
        problem: what happened, for a message.
        retry_after: the server's Retry-After header, if it sent one.
        unreachable: whether nothing listens at the address. Another attempt makes sense only if the server was reached
            before.
    """

    def __init__(self, problem: str, *, retry_after: str | None = None, unreachable: bool = False) -> None:
        self.problem, self.retry_after, self.unreachable = problem, retry_after, unreachable
        super().__init__(problem)
