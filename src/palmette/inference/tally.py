"""Counts of what a job has answered so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palmette.numbers import count, duration, rate


@dataclass
class Tally:
    """Counts what is in the output so far.

    Attributes:
        answered: rows with an answer.
        absent, unsure: rows that were refused, by the reason.
        broken: rows whose completion was not in the required format.
        errors: rows that could not be answered.
        first_error: the input line of the first row that could not be answered.
        earlier: how many rows were finished before this start.
        seconds: time spent on the rows since this start.
        interrupted: whether Ctrl-C came before the end.
        windows: how many rows have a document of so many windows. Rows of earlier versions did not say it.
    """

    answered: int = 0
    absent: int = 0
    unsure: int = 0
    broken: int = 0
    errors: int = 0
    first_error: int | None = None
    earlier: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    windows: Counter[int] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """The number of all rows."""
        return self.answered + self.absent + self.unsure + self.broken + self.errors

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Count lines of the output."""
        for record in records:
            refusal = record.get("refusal")
            if "num_windows" in record:
                self.windows[record["num_windows"]] += 1
            if "error" in record:
                self.errors += 1
                self.first_error = self.first_error or record["line"]
            elif record.get("answer") is not None:
                self.answered += 1
            else:
                self.absent += refusal == "absent"
                self.unsure += refusal == "unsure"
                self.broken += refusal not in ("absent", "unsure")

    def summary(self, out: Path) -> str:
        """The message to the user at the end of the job."""
        refused = f"{self.absent + self.unsure} refused ({self.absent} absent, {self.unsure} unsure)"
        counts = f"{self.answered} answered, {refused}"
        counts += f", {self.broken} with a broken completion" if self.broken else ""
        counts += f", {self.errors} with an error" + (f", the first in line {self.first_error}" if self.errors else "")
        rows, new = count(self.rows, "row"), self.rows - self.earlier
        if self.interrupted:
            safe = "is" if self.rows == 1 else "are"
            return f"stopped: {rows} {safe} safe in {out}: {counts}. Give the same command again to continue."
        if self.earlier and not new:
            return f"{out} is finished already, nothing to do: {rows}, {counts}"
        speed = f"{count(new, 'row')} in {duration(self.seconds)}, {rate(new / max(self.seconds, 1e-9))}"
        return f"done: {rows} in {out}: {counts}. {speed}"
