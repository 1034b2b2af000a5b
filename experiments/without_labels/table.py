"""Writes the tables of docs/results/unlabelled.md from what run.py left, so that no figure is typed by hand.

    python experiments/without_labels/table.py runs/without_labels [docs/results/unlabelled.md]

A table stands between `<!-- table: without-labels-NAME -->` and `<!-- end -->`. Without a page, the tables are printed.
A row is a run, with the mean over its seeds. Behind each measure stands its difference from the run that this one is
compared with, with a 95 % interval, or the interval of the measure itself where there is none. For SQuAD documents are
drawn with all of their questions. The other questions are about three documents only, so questions are drawn.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from measures import Measure, auroc, forced_f1, likelier_exact, mean_and_interval
from steps import table_command

from palmette.evaluate.squad import Evaluation
from palmette.numbers import fixed, interval

ANSWERS, SETS = "answers", ("squad", "asked")
READER = "reader"
MEASURES = (
    Measure("exact match", likelier_exact),
    Measure("F1 of the best span", forced_f1),
    Measure("AUROC", auroc),
)
Seeds = dict[int, Evaluation]


def tables(folder: Path) -> dict[str, list[str]]:
    """The tables by name, as lines of Markdown: runs from the reader and from the base, on each set of questions."""
    found: dict[str, list[str]] = {}
    for kind in SETS:
        runs = read_runs(folder, kind)
        for start in (READER, "base"):
            if own := {name: seeds for name, seeds in runs.items() if name.split("+")[0] == start}:
                found[f"without-labels-{start}-{kind}"] = table(own, by_question=kind == "asked")
    if not found:
        sys.exit(f"error: {folder} holds no answers. Give the folder that run.py wrote.")
    return found


def read_runs(folder: Path, kind: str) -> dict[str, Seeds]:
    """The evaluations of each run on a set of questions, by seed, runs with few stages first."""
    runs: dict[str, Seeds] = defaultdict(dict)
    for place in (folder / ANSWERS).glob(f"*/{kind}"):
        name, _, seed = place.parent.name.rpartition("-seed")
        runs[name][int(seed)] = Evaluation.read(place)
    return dict(sorted(runs.items(), key=lambda item: order(item[0])))


def order(name: str) -> tuple[int, int, str]:
    """Runs in the order of a table: by labels, then by stages."""
    stages = name.split("+")
    labels = int(stages[-1].removeprefix("labels-")) if stages[-1].startswith("labels-") else 0
    return labels, len(stages), name


def compared_with(name: str) -> str | None:
    """The run that a run is compared with: the reader, or the same labels from the base and nothing else."""
    start, *stages = name.split("+")
    other = READER if start == READER else f"{start}+{stages[-1]}"
    return None if other == name else other


def table(runs: dict[str, Seeds], *, by_question: bool) -> list[str]:
    """A table of runs."""
    lines = [f"| model | seeds | {' | '.join(measure.name for measure in MEASURES)} |"]
    lines.append("|---" * (2 + len(MEASURES)) + "|")
    for name, own in runs.items():
        other = runs.get(compared_with(name) or "", {})
        cells = [cell(measure, own, other, by_question=by_question) for measure in MEASURES]
        lines.append(f"| {name.replace('+', ' + ')} | {len(own)} | {' | '.join(cells)} |")
    return lines


def cell(measure: Measure, own: Seeds, other: Seeds, *, by_question: bool) -> str:
    """The mean of a measure over seeds, with its interval, or with its difference from another run.

    A seed is compared with the same seed of the other run, or with its first one if that is missing.
    """
    some = next(iter(own.values())).scored
    clusters = [one.question.id if by_question else one.document.id for one in some]
    alone, ends = mean_and_interval([lambda weight, e=one: measure.value(e, weight) for one in own.values()], clusters)
    if not other:
        return fixed(alone) + (f" ({shown})" if (shown := interval(ends)) else "")
    pairs = [(one, other.get(seed, other[min(other)])) for seed, one in own.items()]
    difference, ends = mean_and_interval(
        [lambda weight, p=pair: measure.value(p[0], weight) - measure.value(p[1], weight) for pair in pairs], clusters
    )
    shown = interval(ends, sign=True)
    return f"{fixed(alone)} ({fixed(difference, sign=True)}{f': {shown}' if shown else ''})"


if __name__ == "__main__":
    table_command(tables)
