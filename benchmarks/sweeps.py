"""Sweeps of `benchmarks/train.py`: both sides over one quantity, as a table and as a plot.

A plot is drawn anew, without measuring, from what `--json` kept; points of several files are put together:

    python benchmarks/sweeps.py RESULTS.json [MORE.json ...] PLOT.png
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from match import Match
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from settings import Limits
from side import PALMETTE
from workload import Workload

SWEEPS = {
    "questions": ("questions per document", (1, 2, 4, 8, 16, 32)),
    "length": ("tokens of the document", (128, 256, 512, 1024, 2048, 4096)),
    "branch": ("tokens of a question", (8, 16, 32, 64, 128, 256)),
}
COLUMNS = ("tokens", "TRL", "TRL's setting", "questions/s", "TRL", "ratio", "us/token", "TRL")
Point = dict[str, Any]


def sweep(
    what: str,
    values: Sequence[int],
    task: Workload,
    *,
    model: str,
    num_questions: int,
    repeats: int,
    trl: tuple[str, int] | None,
    memory_tokens: Callable[[], int],
) -> list[Point]:
    """Measure both sides over one quantity, one document a step; print a table line by line.

    Args:
        what: one of SWEEPS.
        values: what the quantity is set to.
        task: the documents.
        model: the model's name.
        num_questions: questions per document, where it is not these that change.
        repeats: turns of each side, of one step each.
        trl: the kind of TRL's setting ("padded" or "free") and the tokens of a micro-batch aimed at; None: Palmette
            alone.
        memory_tokens: tokens of the largest micro-batch that fits into memory now.

    Returns:
        For each value, of Palmette and (or None) of TRL: tokens of a step, questions a second, microseconds per token.
    """
    print(f"\n| {SWEEPS[what][0]} | {' | '.join(COLUMNS)} |\n{'|---:' * (1 + len(COLUMNS))}|", flush=True)
    points = []
    for value in values:
        asked = value if what == "questions" else num_questions
        documents = task.documents(1 + repeats, asked)
        if what != "questions":
            change = task.with_length if what == "length" else task.with_branches
            documents = [change(document, value) for document in documents]
        settings: list[str] = []
        if trl is not None:
            kind, tokens = trl
            settings = Limits(asked, asked, task.longest(documents), memory_tokens()).worth_a_try(tokens)
            settings = [setting for setting in settings if setting.startswith(kind)][:1] or settings[:1]
            if not settings:
                print("TRL is left out: not even one question fits into memory", file=sys.stderr)
        with tempfile.TemporaryDirectory() as name:
            results = Match(Path(name), model, documents, task.held_out[:1], 1, 1).play([PALMETTE, *settings])
        sides = [results[side] for side in (PALMETTE, *settings)]
        point: Point = {"value": value, "setting": settings[0] if settings else None}
        point["tokens"] = _both([statistics.median(turn["tokens"] for turn in side.turns) for side in sides])
        point["rates"] = _both([side.rate("questions") for side in sides])
        point["costs"] = _both([1e6 / side.rate("tokens") for side in sides])
        print(line(point), flush=True)
        points.append(point)
    print(growth(points), flush=True)
    return points


def _both(values: list[float]) -> list[float | None]:
    return [*values, None][:2]


def line(point: Point) -> str:
    """One point as a line of the table.

    >>> line({"value": 8, "setting": "padded:8", "tokens": [900, 2700], "rates": [4.5, 0.5], "costs": [1975.3, 5925.9]})
    '| 8 | 900 | 2700 | padded:8 | 4.50 | 0.50 | 9.0 | 1975 | 5926 |'
    """

    def cells(key: str, form: str) -> list[str]:
        return ["-" if value is None else format(value, form) for value in point[key]]

    palmette, trl = point["rates"]
    ratio = "-" if trl is None else f"{palmette / trl:.1f}"
    rates, costs = cells("rates", ".2f"), cells("costs", ".0f")
    shown = [str(point["value"]), *cells("tokens", ".0f"), point["setting"] or "-", *rates, ratio, *costs]
    return f"| {' | '.join(shown)} |"


def growth(points: Sequence[Point]) -> str:
    """How evenly the cost grows with the tokens: the dearest token over the cheapest, side by side."""
    words = []
    for side, name in enumerate(("Palmette", "TRL")):
        costs = [point["costs"][side] for point in points if point["costs"][side] is not None]
        words += [f"{name} {max(costs) / min(costs):.2f}"] if costs else []
    return f"dearest token over cheapest: {', '.join(words)}"


def plot(path: Path, swept: dict[str, list[Point]]) -> None:
    """Draw what was swept: questions per second above, time per token below."""
    quantities = {"rates": "questions per second", "costs": "microseconds per token"}
    figure = Figure(figsize=(4.2 * len(swept), 6.4), layout="constrained")
    axes = figure.subplots(2, len(swept), squeeze=False)
    for column, (what, unsorted) in enumerate(swept.items()):
        points = sorted(unsorted, key=lambda point: int(point["value"]))
        for axis, (key, label) in zip(axes[:, column], quantities.items(), strict=True):
            for side, (name, color) in enumerate((("Palmette", "#1b7f5c"), ("TRL", "#b4552d"))):
                shown = [(point["value"], point[key][side]) for point in points if point[key][side] is not None]
                if shown:
                    axis.plot(*zip(*shown, strict=True), "o-", color=color, label=name)
            values = sorted({point["value"] for point in points})
            axis.set(xscale="log", yscale="log", xlabel=SWEEPS[what][0], ylabel=label)
            axis.set_xticks(values, [str(value) for value in values])
            axis.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].legend()
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def main() -> None:
    """Draw a plot from kept results."""
    files, out = sys.argv[1:-1], sys.argv[-1]
    swept: dict[str, list[Point]] = {}
    for file in files:
        for what, points in json.loads(Path(file).read_text(encoding="utf-8"))["swept"].items():
            swept.setdefault(what, []).extend(points)
    if not swept:
        raise SystemExit(f"nothing was swept in {', '.join(files) or 'no file'}.\n{__doc__}")
    plot(Path(out), swept)


if __name__ == "__main__":
    main()
