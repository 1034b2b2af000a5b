"""When the next request may be sent: the rate limit, Retry-After, and growing pauses after failures."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import anyio
from anyio.lowlevel import checkpoint

LONGEST_BACKOFF = 60.0


class Pace:
    """Spaces the requests of several tasks evenly.

    Args:
        requests_per_minute: limit on the requests sent. None for no limit.
    """

    def __init__(self, requests_per_minute: float | None = None) -> None:
        self._gap = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        """Wait until the next request may be sent.

        This is where a cancelled task ends, even if there is nothing to wait for.
        """
        await checkpoint()
        while (seconds := self._next - time.monotonic()) > 0:
            await anyio.sleep(seconds)
        self._next = time.monotonic() + self._gap

    def hold(self, seconds: float) -> None:
        """Let no task send a request for some seconds."""
        self._next = max(self._next, time.monotonic() + seconds)


def backoff(attempt: int, first: float) -> float:
    """Seconds to pause before another attempt.

    The pause doubles up to one minute. It is drawn from its upper half, so that tasks which failed together do not
    return together.

    Args:
        attempt: number of attempts that failed, from 1.
        first: the longest pause after the first of them, in seconds.

    >>> [0.5 <= backoff(1, 1.0) <= 1.0, 4.0 <= backoff(4, 1.0) <= 8.0, 30.0 <= backoff(50, 1.0) <= 60.0]
    [True, True, True]
    """
    return min(LONGEST_BACKOFF, first * 2.0 ** min(attempt - 1, 30)) * random.uniform(0.5, 1.0)


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date (RFC 9110, section 10.2.3). None if it cannot be
    read.

    >>> retry_after("3"), retry_after("Thu, 01 Jan 1970 00:00:00 GMT"), retry_after("soon"), retry_after("nan")
    (3.0, 0.0, None, None)
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if seconds < float("inf") else None
