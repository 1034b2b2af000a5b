"""What a sweep found: figures of each run, their mean and spread over seeds, as a table, as JSON, and as a plot."""

from __future__ import annotations

import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from palmette import run
from palmette.cli.retention import RESULT as RETENTION
from palmette.evaluate.plots import SweepPoint, plot_forgetting
from palmette.evaluate.squad import METRICS
from palmette.train.sweep import RUN, Cell, Sweep, show

ERROR = "error.json"
# Columns: percent, the loss in nats per learned token, a ratio, KL in nats per token, seconds.
MEASURES = {
    "exact": "EM",
    "f1": "F1",
    "HasAns_exact": "EM answerable",
    "correct_no_answer": "abstention right",
    "valid_json": "valid JSON",
    "final_loss": "final loss",
    "perplexity_ratio": "perplexity elsewhere",
    "kl": "KL elsewhere",
    "training_seconds": "training s",
    "answering_seconds": "answering s",
}
_DIGITS = {"final_loss": 3, "perplexity_ratio": 3, "kl": 3}
_COLOURS = ("#3b6b2e", "#b5651d", "#2f5d8a", "#8a2f5d", "#6b6b2e", "#2e6b6b")


@dataclass(frozen=True)
class Outcome:
    """What is known of a cell so far.

    Attributes:
        cell: the cell.
        measures: for each decoder that was asked, the values of `MEASURES` that exist.
        error: why it failed, if it did.
    """

    cell: Cell
    measures: Mapping[str, Mapping[str, float]]
    error: str | None = None


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of `count` values; no deviation of a single one."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """That of one value or more.

        >>> Spread.of([1.0, 3.0])
        Spread(mean=2.0, deviation=1.4142135623730951, count=2)
        """
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Row:
    """One cell under one decoder, over its seeds."""

    name: str
    varied: Mapping[str, Any]
    learning_rate: float
    decoder: str
    seeds: tuple[int, ...]
    spreads: Mapping[str, Spread]


def read_outcome(cell: Cell, decoders: Sequence[str]) -> Outcome:
    """What a cell's folder holds."""
    folder = cell.folder
    if (folder / ERROR).is_file():
        return Outcome(cell, {}, json.loads((folder / ERROR).read_text(encoding="utf-8"))["error"])
    found = {}
    kept = folder / RETENTION
    elsewhere = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    for decoder in decoders:
        if (folder / decoder).is_dir():
            values = json.loads((folder / decoder / METRICS).read_text(encoding="utf-8"))
            values = {**elsewhere, **values, **_training(folder / RUN), "answering_seconds": values["seconds"]}
            found[decoder] = {name: float(values[name]) for name in MEASURES if values.get(name) is not None}
    return Outcome(cell, found)


def _training(folder: Path) -> dict[str, float]:
    """The loss over the last tenth of a run's steps, and the seconds that it trained, interruptions left out."""
    lines = run.read_log(folder / run.METRICS_LOG)
    last = lines[-max(1, len(lines) // 10) :]
    return {"final_loss": statistics.fmean(line["loss"] for line in last), "training_seconds": lines[-1]["seconds"]}


def rows_of(outcomes: Iterable[Outcome]) -> list[Row]:
    """Finished runs, grouped over seeds, in the order of the cells."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        for decoder in outcome.measures:
            groups.setdefault((outcome.cell.name, decoder), []).append(outcome)
    rows = []
    for (name, decoder), members in groups.items():
        first, seeds = members[0].cell, tuple(member.cell.seed for member in members)
        values = {key: [m.measures[decoder][key] for m in members if key in m.measures[decoder]] for key in MEASURES}
        spreads = {key: Spread.of(found) for key, found in values.items() if found}
        rows.append(Row(name, first.varied, first.recipe.train.learning_rate, decoder, seeds, spreads))
    return rows


def write_results(folder: Path, sweep: Sweep, outcomes: Sequence[Outcome], measured_on: Mapping[str, Any]) -> None:
    """Write sweep.md, sweep.json and, where the learning rate varies, sweep.png into a folder; and forgetting.png, if retention was
    measured too.
    """
    rows = rows_of(outcomes)
    record = {
        "sweep": sweep.model_dump(),
        "measured_on": dict(measured_on),
        "runs": [_run_record(outcome) for outcome in outcomes],
        "cells": [asdict(row) for row in rows],
    }
    run.write_json(folder / "sweep.json", record)
    pictures = []
    if plot_learning_rates(rows, folder / "sweep.png", f"{folder.name}, {measured_on['data']}"):
        pictures.append("![EM against the learning rate](sweep.png)")
        if points := _sweep_points(outcomes, sweep.evaluate.decoders[0]):
            plot_forgetting(points, folder / "forgetting.png")
            pictures.append("![EM, and what it cost elsewhere, against the learning rate](forgetting.png)")
    run.write_text(folder / "sweep.md", _page(folder.name, sweep, rows, outcomes, measured_on, pictures))


def _sweep_points(outcomes: Iterable[Outcome], decoder: str) -> list[SweepPoint]:
    """The runs whose retention was measured, by their exact match under one decoder."""
    measured = [(o.cell.recipe.train.learning_rate, o.measures[decoder]) for o in outcomes if decoder in o.measures]
    return [
        SweepPoint(rate, values["exact"], values["kl"], values["perplexity_ratio"])
        for rate, values in measured
        if "kl" in values
    ]


def _run_record(outcome: Outcome) -> dict[str, Any]:
    cell = outcome.cell
    return {
        "cell": cell.name,
        "varied": dict(cell.varied),
        "seed": cell.seed,
        "folder": cell.folder.name,
        "measures": {name: dict(values) for name, values in outcome.measures.items()},
        "error": outcome.error,
    }


def _page(
    name: str,
    sweep: Sweep,
    rows: Sequence[Row],
    outcomes: Sequence[Outcome],
    measured_on: Mapping[str, Any],
    pictures: Sequence[str],
) -> str:
    told = (
        f"Measured on {measured_on['data']}, {measured_on['questions']} questions, in percent. Where a cell has several seeds: mean ± "
        "sample standard deviation. Abstention right: of the questions without an answer, those refused. Final loss: nats per learned "
        "token, mean over the last tenth of the steps. Elsewhere: general text and chat prompts, see `palmette eval retention`; perplexity "
        "as a multiple of the untouched model's, KL from it in nats per token."
    )
    lines = [f"# Sweep {name}", "", told, "", *_markdown(*table_of(sweep, rows)), ""]
    lines += [f"- {cell}: {settings(varied)}" for cell, varied in sweep.cells.items()] + ([""] if sweep.cells else [])
    lines += [*pictures, ""] if pictures else []
    lines += ["## Every run", "", *_markdown(*_runs_table(outcomes)), ""]
    failed = [outcome for outcome in outcomes if outcome.error]
    lines += ["## Failed", "", *(f"- {o.cell.folder.name}: {o.error}" for o in failed), ""] if failed else []
    return "\n".join(lines)


def settings(varied: Mapping[str, Any]) -> str:
    """Settings in words."""
    return ", ".join(f"{key} = {show(value)}" for key, value in varied.items()) or "the base"


def table_of(sweep: Sweep, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings, and one line of cells for each row: what varied, the decoder, the seeds, the measures."""
    keys = [] if sweep.cells else list(sweep.vary)
    used = [measure for measure in MEASURES if any(measure in row.spreads for row in rows)]
    headings = [*(["cell"] if sweep.cells else keys), "decoder", "seeds", *(MEASURES[measure] for measure in used)]
    lines = [
        [
            *([row.name] if sweep.cells else [show(row.varied[key]) for key in keys]),
            row.decoder,
            str(len(row.seeds)),
            *(_number(measure, row.spreads.get(measure)) for measure in used),
        ]
        for row in rows
    ]
    return headings, lines


def _runs_table(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    lines = []
    for outcome in outcomes:
        for decoder, measures in outcome.measures.items():
            spreads = {key: Spread.of([value]) for key, value in measures.items()}
            lines.append([outcome.cell.folder.name, decoder, *(_number(key, spreads.get(key)) for key in MEASURES)])
        if not outcome.measures:
            lines.append([outcome.cell.folder.name, "failed" if outcome.error else "not yet", *("-" for _ in MEASURES)])
    return ["run", "decoder", *MEASURES.values()], lines


def _number(measure: str, spread: Spread | None) -> str:
    if spread is None:
        return "-"
    digits = _DIGITS.get(measure, 1)
    deviation = "" if spread.deviation is None else f" ± {spread.deviation:.{digits}f}"
    return f"{spread.mean:.{digits}f}{deviation}"


def _markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    rows = [headings, ["---" for _ in headings], *lines]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def rich_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    """The same for a terminal."""
    table = Table(show_edge=False, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in MEASURES.values() else "left", overflow="fold")
    for line in lines:
        table.add_row(*line)
    return table


def plot_learning_rates(rows: Sequence[Row], out: Path, title: str) -> bool:
    """EM against the learning rate as a PNG, one line for each decoder and each combination of what else varied.

    Bars are standard deviations over seeds.

    Returns:
        Whether the learning rate varies at all; else nothing is written.
    """
    lines: dict[str, list[Row]] = {}
    for row in rows:
        rest = {key: value for key, value in row.varied.items() if key != "train.learning_rate"}
        lines.setdefault(f"{row.decoder}, {settings(rest)}" if rest else row.decoder, []).append(row)
    if not any(len({row.learning_rate for row in line}) > 1 for line in lines.values()):
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, (label, members) in enumerate(lines.items()):
        line = sorted(members, key=lambda row: row.learning_rate)
        axes.errorbar(
            [row.learning_rate for row in line],
            [row.spreads["exact"].mean for row in line],
            yerr=[row.spreads["exact"].deviation or 0.0 for row in line],
            color=_COLOURS[index % len(_COLOURS)],
            linestyle=("-", "--", ":")[index // len(_COLOURS) % 3],
            marker="o",
            capsize=3,
            label=label,
        )
    axes.set(xlabel="learning rate", ylabel="exact match (%)", title=title, xscale="log")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    run.write_bytes(out, stream.getvalue())
    return True
