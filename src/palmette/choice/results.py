"""The folder of a benchmark's results: settings.json, items.jsonl, results.json and report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from palmette import run
from palmette.choice.items import ChoiceItem
from palmette.choice.measures import Figure, Outcome, by_subject, figures, measures_of
from palmette.errors import RunError, reason_of

SETTINGS, ITEMS, TEXTS, REPORT = "settings.json", "items.jsonl", "texts.jsonl", "report.html"


@dataclass(frozen=True)
class Result:
    """The results of a benchmark.

    Attributes:
        settings: everything that the numbers depend on.
        outcomes: what the model makes of each item, in the order of the data.
        seconds: the time that scoring took. None for a job that was stopped in between.
        odd: the ids of items whose context and choice share a token ("merged"), and of those that were cut ("cut").
        made_by: versions, machine and command.
    """

    FILE: ClassVar[str] = "results.json"

    settings: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]
    seconds: float | None = None
    odd: Mapping[str, Sequence[str]] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Every measure over all items."""
        return figures(self.outcomes)

    @cached_property
    def subjects(self) -> Mapping[str, dict[str, Figure]]:
        """Every measure by subject. Empty if there is only one."""
        return by_subject(self.outcomes)

    @property
    def headline(self) -> str:
        """The measure that the task is reported by."""
        return str(self.settings["headline"])

    @cached_property
    def ties(self) -> dict[str, int]:
        """In how many items the best score is shared, by measure."""
        names = (name for name in measures_of(self.outcomes) if name.startswith("acc"))
        return {name: sum(outcome.tied(name) for outcome in self.outcomes) for name in names}

    def to_json(self) -> dict[str, Any]:
        """What results.json holds."""
        rate = len(self.outcomes) / self.seconds if self.seconds else None
        return {
            **self.settings,
            "items": len(self.outcomes),
            "measures": {name: asdict(one) for name, one in self.figures.items()},
            "ties": self.ties,
            "odd": {name: list(ids) for name, ids in self.odd.items()},
            "subjects": {
                name: {key: asdict(one) for key, one in measured.items()} for name, measured in self.subjects.items()
            },
            "seconds": self.seconds,
            "items_per_second": rate,
            "made_by": dict(self.made_by),
        }

    def write(self, folder: Path, items: Sequence[ChoiceItem]) -> None:
        """Write texts.jsonl with the texts as they were scored, and results.json, which makes the folder complete.

        Raises:
            RunError: a file cannot be written.
        """
        run.write_json_lines(folder / TEXTS, map(asdict, items))
        run.write_json(folder / self.FILE, self.to_json())

    @classmethod
    def read(cls, folder: Path) -> Result:
        """Read the results of a folder.

        Raises:
            RunError: the folder holds no results that can be read.
        """
        try:
            values = json.loads((folder / cls.FILE).read_text(encoding="utf-8"))
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            outcomes = tuple(read_outcome(record) for record in run.read_log(folder / ITEMS))
            return cls(settings, outcomes, values["seconds"], dict(values["odd"]), values["made_by"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{folder} holds no results that can be read: {reason_of(error)}",
                "Give a folder that `palmette eval choice` wrote.",
            ) from error


def read_texts(folder: Path) -> dict[str, ChoiceItem]:
    """The texts of a folder's items as they were scored, by id.

    Raises:
        RunError: they cannot be read.
    """
    try:
        found = {}
        for record in run.read_log(folder / TEXTS):
            lists = {key: tuple(record[key]) for key in ("contexts", "continuations", "choices")}
            found[record["id"]] = ChoiceItem(**{**record, **lists})
        return found
    except (OSError, KeyError, TypeError) as error:
        raise RunError(f"{folder / TEXTS} cannot be read: {reason_of(error)}", "Run the benchmark again.") from error


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """A line of items.jsonl."""
    return {
        "id": outcome.id,
        "subject": outcome.subject,
        "gold": outcome.gold,
        "choices": list(outcome.choices),
        "logprobs": list(outcome.logprobs),
        "alone": list(outcome.alone),
    }


def read_outcome(record: Mapping[str, Any]) -> Outcome:
    """A line of items.jsonl, read."""
    lists = {key: tuple(record[key]) for key in ("choices", "logprobs", "alone")}
    return Outcome(str(record["id"]), str(record["subject"]), int(record["gold"]), **lists)
