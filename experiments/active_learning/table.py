"""Writes the tables of docs/results/review.md from what run.py left, so that no figure is typed by hand.

    python experiments/active_learning/table.py runs/active_learning [docs/results/review.md]

A table stands between `<!-- table: active-NAME -->` and `<!-- end -->`. Without a page, the tables are printed. A row
is a budget of verdicts, a column a strategy: the mean over seeds with the number of seeds. Behind it stands the
difference from `random` with its 95 % interval, for `random` the interval itself. Documents are drawn with all of their
questions, and seeds with all of theirs.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from measures import Measure, auroc, exact, mean_and_interval
from steps import table_command

from palmette.evaluate.squad import Evaluation
from palmette.numbers import duration, fixed, interval

RANDOM = "random"


MEASURES = (Measure("exact", exact), Measure("auroc", auroc))


def tables(folder: Path) -> dict[str, list[str]]:
    """The tables by name, as lines of Markdown: for each starting model, share of wrong verdicts, and measure.

    A budget that not all cells have reached that reached the first one is left out.
    """
    records = [json.loads(path.read_text(encoding="utf-8")) | {"place": path.parent} for path in _finished(folder)]
    if not records:
        sys.exit(f"error: {folder} holds no finished round. Give the folder that run.py wrote.")
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        found = Evaluation.read(record["place"] / "test")
        groups[Path(record["start"]).name, record["wrong"]].append({**record, "found": found})
    return {
        f"active-{start}-wrong{100 * wrong:g}-{measure.name}": _table(
            group, Evaluation.read(folder / start / "test"), measure
        )
        for (start, wrong), group in sorted(groups.items())
        for measure in MEASURES
    }


def _finished(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/round-*/verdicts.json") if (path.parent / "test").is_dir())


def _table(records: Sequence[Mapping[str, Any]], before: Evaluation, measure: Measure) -> list[str]:
    strategies = sorted({record["strategy"] for record in records}, key=lambda name: (name != RANDOM, name))
    lines = [f"| verdicts | {' | '.join(f'{name} | seeds | time' for name in strategies)} |"]
    lines.append("|---" * (1 + 3 * len(strategies)) + "|")
    start = fixed(float(measure.value(before, np.ones((1, len(before.scored))))[0]))
    lines.append(f"| 0 | {' | '.join([start, '', ''] * len(strategies))} |")
    begun: dict[str, set[int]] = {}
    for budget in sorted({record["budget"] for record in records}):
        of_strategy = {
            name: {one["seed"]: one for one in records if (one["strategy"], one["budget"]) == (name, budget)}
            for name in strategies
        }
        seeds = {name: set(own) for name, own in of_strategy.items()}
        if (begun := begun or seeds) != seeds:
            continue
        cells = []
        for name in strategies:
            own = of_strategy[name]
            seconds = [one["seconds"] for one in own.values()]
            cells += [_cell(own, of_strategy.get(RANDOM, {}), measure), str(len(own) or "")]
            cells.append(duration(float(np.mean(seconds))) if seconds else "")
        lines.append(f"| {budget} | {' | '.join(cells)} |")
    return lines


def _cell(own: Mapping[int, Mapping[str, Any]], random: Mapping[int, Mapping[str, Any]], measure: Measure) -> str:
    """The mean of a measure, and how far it is from that of `random` with the same seeds."""
    if not own:
        return ""
    some = next(iter(own.values()))
    documents = [one.document.id for one in some["found"].scored]
    evaluations = [one["found"] for one in own.values()]
    alone, ends = mean_and_interval([lambda weight, e=one: measure.value(e, weight) for one in evaluations], documents)
    if some["strategy"] == RANDOM:
        return f"{fixed(alone)} ({interval(ends)})"
    seeds = sorted(set(own) & set(random))
    if not seeds:
        return fixed(alone)
    pairs = [(own[seed]["found"], random[seed]["found"]) for seed in seeds]
    difference, ends = mean_and_interval(
        [lambda weight, p=pair: measure.value(p[0], weight) - measure.value(p[1], weight) for pair in pairs], documents
    )
    return f"{fixed(alone)} ({fixed(difference, sign=True)}: {interval(ends, sign=True)})"


if __name__ == "__main__":
    table_command(tables)
