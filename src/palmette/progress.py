"""Progress of long jobs on standard error: how much is done, the pace, and an estimate of the time left.

The first unit of a job takes longer than the others: kernels are compiled, memory is touched for the first time, the
largest batch is rehearsed. And units often come in groups: a document's questions are answered together. So the pace is
counted from the end of the first group, and there is no estimate before the second one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from palmette import numbers, processes

Say = Callable[[str], None]  # called with a line of news
Clock = Callable[[], float]

_TOGETHER = 0.02  # seconds: units that follow each other faster belong to one group
_DRAWN = 500  # units of a group that are drawn at once, which takes some milliseconds
_LONGEST = 1.0  # seconds: a group that goes on for longer is a steady flow, and another group begins
_PASSING_AFTER = 2.0  # seconds after which a bar is shown that leaves no line
_LINE = "{desc} |{bar:8}| {n_fmt} of {total_fmt}{unit}{pace}{postfix}"  # 80 characters in a training run
_NARROW_LINE = "{desc}: {n_fmt} of {total_fmt}{unit}{pace}{postfix}"  # where that would be cut off
_OPEN_LINE = "{desc} {n_fmt}{unit}{pace}{postfix}"  # where it is not known how many units there are


class Pace:
    """How many units a job does a second, without its first group of units.

    Six questions in groups of three, of which the first group took 10 seconds and the second one second:

    >>> seconds = iter([0.0, 10.0, 10.0, 10.0, 11.0, 11.0, 11.0, 12.0])
    >>> pace = Pace(lambda: next(seconds))
    >>> for done in range(1, 8):
    ...     _ = pace.note(done)
    >>> pace.per_second
    3.0

    Args:
        clock: gives the time in seconds.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._began = self._last = self._opened = clock()
        self._done = 0
        self._first: tuple[float, int] | None = None  # when the first group ended, and the units done by then
        self._group: tuple[float, int] | None = None  # the same of the last complete group
        self._started = False

    @property
    def elapsed(self) -> float:
        """Seconds from the start to the last unit."""
        return self._last - self._began

    def note(self, done: int) -> bool:
        """Note that so many units are done by now. The result is whether they belong to the group before."""
        now, together = self._clock(), self._started
        if self._started and (now - self._last >= _TOGETHER or now - self._opened >= _LONGEST):
            self._group = (self._last, self._done)
            self._first = self._first or self._group
            self._opened, together = now, False
        elif not self._started:
            self._started, self._opened = True, now
        self._last, self._done = now, done
        return together

    @property
    def per_second(self) -> float | None:
        """Units a second. None while only one group has been seen.

        The group that is coming in may not be complete, and the groups before it lack its time. Both ways to count are
        too slow, so the faster one is nearer. While the second group is coming in, the pace of the first one counts
        too.
        """
        if self._first is None or self._group is None:
            return None
        counted = [((self._last, self._done), self._first), (self._group, self._first)]
        if self._group == self._first:
            counted.append((self._first, (self._began, 0)))
        paces = []
        for (now, done), (then, before) in counted:
            if now > then and done > before:
                paces.append((done - before) / (now - then))
        return max(paces, default=None)


class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A progress bar in words. Its pace leaves out the first group of units.

    Args:
        clock: gives the time in seconds.
        eager: whether every unit of a group is drawn.
        options: as for `tqdm`.
    """

    def __init__(self, *, clock: Clock = time.monotonic, eager: bool = False, **options: Any) -> None:
        self._pace, self._eager, self._in_group = Pace(clock), eager, 0
        super().__init__(bar_format=_LINE if options.get("total") else _OPEN_LINE, **options)

    def update(self, n: float | None = 1) -> bool | None:
        """Note that `n` more units are done, and draw the bar if it is time.

        A terminal shows every unit of a group, since a long time may pass until the next one. It would show the first
        one for all that time otherwise.
        """
        if self.disable:
            return None
        if n:
            self._in_group = self._in_group + 1 if self._pace.note(int(self.n - self.initial + n)) else 0
        drawn: bool | None = super().update(n)
        if self._eager and not drawn and 0 < self._in_group <= _DRAWN and self._pace.elapsed >= self.delay:
            self.refresh()
        return drawn

    @property
    def per_second(self) -> float | None:
        """Units a second. None before it can be told."""
        return self._pace.per_second

    @property
    def format_dict(self) -> Any:
        """What the line shows."""
        shown = dict(super().format_dict)
        shown["pace"] = self._in_words(shown["n"], shown["total"])
        if shown["bar_format"] == _LINE and shown["ncols"]:
            done = f"{shown['prefix']} |{8 * ' '}| {shown['n']} of {shown['total']}{shown['unit']}{shown['pace']}"
            room = len(done) + (len(f", {shown['postfix']}") if shown["postfix"] else 0)
            shown["bar_format"] = _LINE if room <= shown["ncols"] else _NARROW_LINE
        return shown

    def _in_words(self, done: float, total: float | None) -> str:
        """The pace and the time left. After the last unit, the time that all of them took.

        A job that shows other figures too, as training does, has no room for its pace.
        """
        if total and done >= total:
            return f" in {numbers.duration(self._pace.elapsed)}"
        pace = self._pace.per_second
        if pace is None:
            return ""
        left = f"{numbers.duration(max(1, round((total - done) / pace)))} left" if total else ""
        if self.postfix:
            return f", {left}" if left else ""
        return f", {numbers.rate(pace)}" + (f", about {left}" if left else "")


def progress(total: int, what: str, unit: str, *, done: int = 0, passing: bool = False) -> Any:
    """A progress bar. Where standard error is no terminal, it prints a line about every ten seconds.

    Of several processes that do a job together, only the main one shows it.

    Args:
        total: how many units there are. 0 if that is not known.
        what: a word for the job.
        unit: the name of a unit, for the pace.
        done: units that were done before, and count for nothing in the pace.
        passing: whether it is shown after two seconds only, and leaves no line behind.
    """
    interactive = sys.stderr.isatty()
    stream: Any = sys.stderr if interactive else _Lines()
    return Bar(
        total=total,
        initial=done,
        eager=interactive,
        desc=what,
        unit=f" {unit}",
        file=stream,
        dynamic_ncols=interactive,
        ncols=None if interactive else 100,
        mininterval=0.2 if interactive else 10.0,
        miniters=0 if interactive else 1,
        ascii=None if interactive else True,
        disable=not processes.is_main(),
        delay=_PASSING_AFTER if passing else 0.0,
        leave=not passing,
    )


class _Lines:
    """Standard error, with every redrawing of a bar on a line of its own, unless it looks as it did before."""

    _last = ""

    def write(self, text: str) -> int:
        line = text.strip("\r\n").rstrip()
        if line and line != self._last:
            self._last = line
            sys.stderr.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()
