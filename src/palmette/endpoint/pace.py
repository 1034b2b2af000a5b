"""Decides when the next request may be sent: rate limit, Retry-After, and growing pauses after failures."""

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
        requests_per_minute: limit on the requests sent in a minute. No limit if None.
    """

    def __init__(self, requests_per_minute: float | None = None) -> None:
        self._gap = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        """Wait until the next request may be sent.

        A cancelled task ends here, even if there is nothing to wait for.
        """
        await checkpoint()
        while (seconds := self._next - time.monotonic()) > 0:
            await anyio.sleep(seconds)
        self._next = time.monotonic() + self._gap

    def hold(self, seconds: float) -> None:
        """Hold back the requests of all tasks for some seconds."""
        self._next = max(self._next, time.monotonic() + seconds)


def backoff(attempt: int, first: float) -> float:
    """Seconds to pause before another attempt.

    The longest pause doubles with each attempt, up to one minute. The actual pause is drawn between half of it and all
    of it, so that tasks that failed together do not try again together.

    Args:
        attempt: the number of attempts that failed, from 1.
        first: the longest pause after the first failed attempt, in seconds.

    >>> [0.5 <= backoff(1, 1.0) <= 1.0, 4.0 <= backoff(4, 1.0) <= 8.0, 30.0 <= backoff(50, 1.0) <= 60.0]
    [True, True, True]
    """
    return min(LONGEST_BACKOFF, first * 2.0 ** min(attempt - 1, 30)) * random.uniform(0.5, 1.0)


def retry_after(value: str | None) -> float | None:
    """The seconds that a Retry-After header asks for. None if it cannot be read.

    The header holds a number or a date (RFC 9110, section 10.2.3).

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
