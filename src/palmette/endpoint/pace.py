"""When the next request may go out: the rate limit, pauses that the server asks for, and growing pauses after failures."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_BACKOFF = 60.0


class Stopped(Exception):
    """The work was stopped while a thread waited for its turn."""


class Pace:
    """Spaces requests of several threads evenly in time.

    Args:
        requests_per_minute: at most so many; None for no limit.
    """

    def __init__(self, requests_per_minute: float | None = None) -> None:
        self._gap = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._next = 0.0

    @property
    def stopped(self) -> bool:
        """Whether no further request may go out."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Let no further request out, and wake all who wait."""
        self._stop.set()

    def wait(self) -> None:
        """Wait for a turn.

        Raises:
            Stopped: there will be none.
        """
        while True:
            with self._lock:
                now = time.monotonic()
                if now >= self._next and not self._stop.is_set():
                    self._next = now + self._gap
                    return
                seconds = self._next - now
            self.sleep(seconds)

    def hold(self, seconds: float) -> None:
        """Let nothing out for some seconds: what the server asks of one thread holds for all."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        """Sleep, unless stopped.

        Raises:
            Stopped: stopped before or meanwhile.
        """
        if self._stop.wait(max(0.0, seconds)):
            raise Stopped


def backoff(attempt: int, first: float) -> float:
    """Seconds before another try: doubling, up to a minute, and drawn from the upper half so that threads do not march in step.

    Args:
        attempt: how many tries have failed, from 1.
        first: the longest pause after the first of them.

    >>> [0.5 <= backoff(1, 1.0) <= 1.0, 4.0 <= backoff(4, 1.0) <= 8.0, 30.0 <= backoff(50, 1.0) <= 60.0]
    [True, True, True]
    """
    longest = min(LONGEST_BACKOFF, first * 2.0 ** min(attempt - 1, 30))
    return longest * random.uniform(0.5, 1.0)


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date (RFC 9110, section 10.2.3); None if there is none to be read.

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
