"""Parts of a check, each in a process of its own that is stopped at its limit. What one had measured by then is kept.

A process of its own also keeps faults apart: after an illegal access, or out of memory, a GPU's context is lost.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal

Status = Literal["ok", "failed", "stopped", "skipped"]


class Skipped(Exception):
    """A part that cannot run here, with the reason."""


@dataclass(frozen=True)
class Row:
    """A figure.

    Attributes:
        what: what was measured.
        value: the figure. None where it could not be measured.
        unit: its unit.
        beside: what it is compared with, or why there is no figure.
        ok: whether it is as it should be. None where nothing is asked of it.
    """

    what: str
    value: float | None
    unit: str
    beside: str = ""
    ok: bool | None = None


Measure = Callable[[bool], Iterable[Row]]


@dataclass(frozen=True)
class Part:
    """A part of a check.

    Attributes:
        name: its name in the table.
        seconds: after so many it is stopped.
        measure: measures, given whether the shapes are tiny.
    """

    name: str
    seconds: float
    measure: Measure


@dataclass
class Outcome:
    """What came of a part.

    Attributes:
        name: name of the part.
        status: "ok", "failed" (an error, or a figure that is not as it should be), "stopped" at its limit, or
            "skipped".
        reason: why it is not "ok".
        seconds: how long it took.
        rows: what it measured.
    """

    name: str
    status: Status = "ok"
    reason: str = ""
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """It as JSON."""
        return asdict(self)


def reason_of(error: BaseException) -> str:
    """The first line of an error, with its class."""
    line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {line}"[:300]


def each(cases: Iterable[tuple[str, Callable[[], Iterable[Row]]]]) -> Iterator[Row]:
    """The rows of all cases. One that fails is a row with the reason, and the next one follows."""
    for name, measure in cases:
        try:
            yield from measure()
        except Exception as error:
            yield Row(name, None, "", reason_of(error), ok=False)
        free_memory()


def free_memory() -> None:
    """Give back what nothing holds any more."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def run_part(part: Part, tiny: bool, limit: float) -> Outcome:
    """Measure a part in a process of its own.

    Args:
        part: the part.
        tiny: whether its shapes are tiny. Then the process is a fork of this one, which has loaded the libraries.
        limit: seconds after which it is stopped.
    """
    outcome, started = Outcome(part.name), time.monotonic()
    # A GPU cannot be used in a fork of a process that has used it.
    context: Any = multiprocessing.get_context("fork" if tiny else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(part.measure, tiny, sender))
    process.start()
    sender.close()
    ended = False
    while not ended and receiver.poll(max(0.0, started + limit - time.monotonic())):
        try:
            message = receiver.recv()
        except EOFError:
            break
        if isinstance(message, Row):
            outcome.rows.append(message)
        else:
            outcome.status, outcome.reason = message
            ended = True
    else:
        if not ended:
            outcome.status, outcome.reason = "stopped", f"not done after {limit:.0f} s"
    _end(process, wait=10 if ended or outcome.status == "ok" else 0)
    if not ended and outcome.status == "ok":
        outcome.status, outcome.reason = "failed", f"its process ended with {process.exitcode}"
    bad = [row.what for row in outcome.rows if row.ok is False]
    if bad and outcome.status == "ok":
        outcome.status, outcome.reason = "failed", f"{len(bad)} of {len(outcome.rows)} figures, first: {bad[0]}"
    outcome.seconds = round(time.monotonic() - started, 1)
    return outcome


def _measure(measure: Measure, tiny: bool, sender: Connection) -> None:
    os.setsid()  # so that what it starts, such as compilers, can be stopped with it
    os.dup2(2, 1)  # what libraries print
    status: tuple[Status, str] = ("ok", "")
    try:
        for row in measure(tiny):
            sender.send(row)
    except Skipped as skipped:
        status = "skipped", str(skipped)
    except BaseException as error:
        status = "failed", reason_of(error)
    sender.send(status)


def _end(process: Any, wait: float) -> None:
    """Let a process end, or end it with all that it started."""
    process.join(wait)
    if process.is_alive():
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not come to its own group yet
            process.kill()
        process.join()


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as Markdown.

    >>> good = Outcome("a", rows=[Row("rate", 1234.5, "tokens/s"), Row("peak", 2.0, "GiB", "planned 1.9", ok=True)])
    >>> print(table([good, Outcome("b", "skipped", "no file")]))
    | part | what | figure | beside |
    |---|---|---:|---|
    | a | rate | 1,234 tokens/s |  |
    | a | peak | 2 GiB | planned 1.9 |
    | b | skipped: no file |  |  |
    """
    lines = ["| part | what | figure | beside |", "|---|---|---:|---|"]
    for outcome in outcomes:
        for row in outcome.rows:
            figure = "" if row.value is None else f"{_figure(row.value)} {row.unit}"
            mark = "FAILED " if row.ok is False else ""
            lines.append(f"| {outcome.name} | {row.what} | {figure} | {mark}{row.beside} |")
        if outcome.status != "ok":
            lines.append(f"| {outcome.name} | {outcome.status}: {outcome.reason} |  |  |")
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
