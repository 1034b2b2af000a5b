"""Writes the tables of docs/results.md from what run.py left, so that no figure is typed by hand.

    python experiments/active_learning/table.py runs/active_learning [docs/results.md]

A table stands between `<!-- table: active-NAME -->` and `<!-- end -->`. Without a page, the tables are printed. A row
is a budget of verdicts, a column a strategy: the mean over seeds with the number of seeds. Behind it stands the
difference from `random` with its 95 % interval, for `random` the interval itself. Documents are drawn with all of their
questions, and seeds with all of theirs.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """A measure of an evaluation under weights of its questions.

    Attributes:
        name: its name, for the name of the table.
        value: of an evaluation and weights [B, N] of its questions, the measure [B], in percent.
    """

    name: str
    value: Callable[[Evaluation, Values], Values]


def exact(found: Evaluation, weight_BN: Values) -> Values:
    """The exact match."""
    value: Values = weight_BN @ np.array([100 * one.exact for one in found.scored]) / weight_BN.sum(1)
    return value


def auroc(found: Evaluation, weight_BN: Values) -> Values:
    """How often an unanswerable question has a higher probability of no answer than an answerable one."""
    no_answer_N = np.array([one.prediction.no_answer_probability for one in found.scored])
    answerable_N = np.array([one.question.answerable for one in found.scored])
    absent_N, present_N = no_answer_N[~answerable_N][:, None], no_answer_N[answerable_N]
    wins = (absent_N > present_N) + 0.5 * (absent_N == present_N)
    weight_BU, weight_BA = weight_BN[:, ~answerable_N], weight_BN[:, answerable_N]
    total_B = weight_BU.sum(1) * weight_BA.sum(1)
    value: Values = 100 * np.einsum("bu,ua,ba->b", weight_BU, wins, weight_BA, optimize=True) / total_B
    return value


MEASURES = (Measure("exact", exact), Measure("auroc", auroc))


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


def mean_and_interval(
    of_seed: Sequence[Callable[[Values], Values]], documents: Sequence[str]
) -> tuple[float, tuple[float, float]]:
    """The mean of a measure over seeds, and its 95 % interval, both seeds and documents being drawn.

    Args:
        of_seed: for each seed what gives the measure [B] under weights [B, N] of the questions.
        documents: the document of each question.
    """
    generator = np.random.default_rng(0)
    names = {name: number for number, name in enumerate(dict.fromkeys(documents))}
    cluster_N = np.array([names[name] for name in documents])
    draw_BD = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=_SAMPLES)
    weight_BN = draw_BD[:, cluster_N].astype(np.float64)
    value_SB = np.array([value(weight_BN) for value in of_seed])
    seed_BS = generator.integers(len(of_seed), size=(_SAMPLES, len(of_seed)))
    drawn_B = np.take_along_axis(value_SB, seed_BS.T, axis=0).mean(0)
    low, high = np.nanquantile(drawn_B, [0.025, 0.975])  # a draw may hold no question of one kind
    whole = [float(value(np.ones((1, len(documents))))[0]) for value in of_seed]
    return float(np.mean(whole)), (float(low), float(high))


if __name__ == "__main__":
    main()
