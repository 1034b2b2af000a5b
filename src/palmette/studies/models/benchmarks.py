"""Multiple-choice benchmarks as a part of a comparison of models, as plain text and without examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from palmette.choice.compare import compare_results
from palmette.choice.job import TaskItems, measure_choice, prepare, read_items
from palmette.choice.results import Result
from palmette.choice.settings import ChoiceSettings
from palmette.choice.task import load_task
from palmette.errors import DataError
from palmette.studies.models.opening import OpenedModel


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark that models are compared on.

    Attributes:
        task: its name, or a YAML file that describes it.
        data: a file with its items. Its data set on the hub if None.
        limit: use only the first so many items.
    """

    task: str
    data: str | None = None
    limit: int | None = None

    def read(self) -> TaskItems:
        """Read its items, once for all models, so that mistakes show before a model is loaded.

        Raises:
            DataError: there is no such task, or its items cannot be read.
        """
        settings = ChoiceSettings(data=self.data, limit=self.limit)
        return read_items(load_task(self.task), settings, option="--choice TASK=FILE")


def measure_benchmark(given: TaskItems, opened: OpenedModel) -> Result:
    """Run a benchmark on a model.

    Raises:
        DataError: the model's tokenizer would read an item as a control token.
    """
    return measure_choice(opened.loaded, opened.source, prepare(given, opened.loaded.tokenizer))


def read_benchmarks(given: Sequence[str], limit: int | None) -> tuple[Benchmark, ...]:
    """Benchmarks as the command line names them: TASK, or TASK=FILE for items in a file.

    >>> read_benchmarks(["piqa", "hellaswag=val.jsonl"], 9)[1]
    Benchmark(task='hellaswag', data='val.jsonl', limit=9)

    Raises:
        DataError: one of them is given twice.
    """
    found = [Benchmark(task, data or None, limit) for task, _, data in (text.partition("=") for text in given)]
    tasks = [one.task for one in found]
    twice = next((task for index, task in enumerate(tasks) if task in tasks[:index]), None)
    if twice is not None:
        raise DataError(f"the benchmark {twice!r} is named twice", "Name each benchmark once.")
    return tuple(found)


def benchmark_record(task: str, result: Result) -> dict[str, Any]:
    """The result of a model for its record. Its value and interval are shares from 0 to 1."""
    settings, headline = result.settings, result.headline
    return {
        "task": task,
        **{key: settings[key] for key in ("title", "headline", "rule", "data", "limit")},
        "items": len(result.outcomes),
        **asdict(result.figures[headline]),
        "seconds": result.seconds,
    }


def benchmark_differences(first: Mapping[str, Result], other: Mapping[str, Result]) -> list[dict[str, Any]]:
    """The benchmarks that two models have done, the second model less the first, in shares.

    Args:
        first: the results of the first model, by task.
        other: those of another one.
    """
    found = []
    for task, result in other.items():
        if task not in first:
            continue
        comparison = compare_results(first[task], result)
        headline = next(one for one in comparison.compared if one.name == result.headline)
        better = {"A": "first", "B": "other"}.get(headline.better, headline.better)
        found.append({"task": task, "title": result.settings["title"], **asdict(headline), "better": better})
    return found
