"""Writes the tables of docs/results.md from what run.py left, so that no figure is typed by hand.

    python experiments/active_learning/table.py runs/active_learning [docs/results.md]

A table stands between `<!-- table: active-NAME -->` and `<!-- end -->`. Without a page, the tables are printed. A row
is a budget of verdicts, a column a strategy: the exact match, as a mean over seeds. Behind it stands the difference
from `random` with its 95 % interval. Documents are drawn with all of their questions, and seeds with all of theirs.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1]))
from steps import written

from palmette import run
from palmette.evaluate.squad import Evaluation
from palmette.numbers import duration, fixed, interval

RANDOM = "random"
_SAMPLES = 2000
Scores = NDArray[np.float64]  # [S seeds, N questions]


def main() -> None:
    """Print the tables, or replace those of a page."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: table.py FOLDER [PAGE]")
    found = tables(Path(sys.argv[1]))
    if len(sys.argv) == 2:
        print("\n\n".join("\n".join([f"## {name}", "", *lines]) for name, lines in found.items()))
        return
    page = Path(sys.argv[2])
    run.write_text(page, written(page.read_text(encoding="utf-8"), found))


def tables(folder: Path) -> dict[str, list[str]]:
    """The tables by name, as lines of Markdown: one for each starting model and share of wrong verdicts."""
    records = [json.loads(path.read_text(encoding="utf-8")) | {"place": path.parent} for path in _finished(folder)]
    if not records:
        sys.exit(f"error: {folder} holds no finished round. Give the folder that run.py wrote.")
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        groups[record["start"], record["wrong"]].append(record)
    return {
        f"active-{Path(start).name}-wrong{100 * wrong:g}": _table(group)
        for (start, wrong), group in sorted(groups.items())
    }


def _finished(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/round-*/verdicts.json") if (path.parent / "test").is_dir())


def _table(records: Sequence[Mapping[str, Any]]) -> list[str]:
    strategies = sorted({record["strategy"] for record in records}, key=lambda name: (name != RANDOM, name))
    lines = [f"| verdicts | {' | '.join(f'{name} | time' for name in strategies)} |"]
    lines.append("|---" * (1 + 2 * len(strategies)) + "|")
    before = Evaluation.read(records[0]["place"].parent / "round-0" / "test")
    lines.append(f"| 0 | {' | '.join([fixed(before.metrics['exact']), ''] * len(strategies))} |")
    for budget in sorted({record["budget"] for record in records}):
        of_strategy = {
            name: [one for one in records if (one["strategy"], one["budget"]) == (name, budget)] for name in strategies
        }
        cells = []
        for name in strategies:
            cells += [_cell(of_strategy[name], of_strategy.get(RANDOM, [])), _time(of_strategy[name])]
        lines.append(f"| {budget} | {' | '.join(cells)} |")
    return lines


def _cell(own: Sequence[Mapping[str, Any]], random: Sequence[Mapping[str, Any]]) -> str:
    """The mean exact match, and how far it is from that of `random` with the same seeds."""
    if not own:
        return ""
    mean = fixed(float(np.mean([_scores(one)[0].mean() for one in own])))
    seeds = sorted({one["seed"] for one in own} & {one["seed"] for one in random})
    if own[0]["strategy"] == RANDOM or not seeds:
        return mean
    pairs = [[next(one for one in side if one["seed"] == seed) for side in (own, random)] for seed in seeds]
    documents = _scores(pairs[0][0])[1]
    difference_SN = np.array([_scores(one)[0] - _scores(other)[0] for one, other in pairs])
    ends = difference_interval(difference_SN, documents)
    return f"{mean} ({fixed(float(difference_SN.mean()), sign=True)}: {interval(ends, sign=True)})"


def difference_interval(difference_SN: Scores, documents: Sequence[str]) -> tuple[float, float]:
    """The 95 % interval of a mean over seeds and questions, both seeds and documents being drawn.

    Args:
        difference_SN: the differences, in percent.
        documents: the document of each question.
    """
    generator = np.random.default_rng(0)
    names = {name: number for number, name in enumerate(dict.fromkeys(documents))}
    cluster_N = np.array([names[name] for name in documents])
    sum_SD = np.array([np.bincount(cluster_N, row, len(names)) for row in difference_SN])
    size_D = np.bincount(cluster_N, minlength=len(names))
    num_seeds = len(difference_SN)
    found = []
    for _ in range(_SAMPLES):
        seed_S = generator.integers(num_seeds, size=num_seeds)
        draw_D = generator.multinomial(len(names), np.full(len(names), 1 / len(names)))
        found.append((sum_SD[seed_S] @ draw_D).mean() / (size_D @ draw_D))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _scores(record: Mapping[str, Any]) -> tuple[NDArray[np.float64], list[str]]:
    """The exact match of each question, in percent, and its document."""
    scored = Evaluation.read(record["place"] / "test").scored
    return np.array([100 * one.exact for one in scored]), [one.document.id for one in scored]


def _time(own: Sequence[Mapping[str, Any]]) -> str:
    return duration(float(np.mean([one["seconds"] for one in own]))) if own else ""


if __name__ == "__main__":
    main()
