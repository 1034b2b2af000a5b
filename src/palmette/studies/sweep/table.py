"""The results of a sweep as a table, as JSON and as plots: the figures of each run, with mean and spread over seeds."""

from __future__ import annotations

import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from palmette import run
from palmette.evaluate.retention.run import RESULT as RETENTION
from palmette.evaluate.seeds import Seeds, pooled_difference, pooled_intervals
from palmette.evaluate.squad import METRICS
from palmette.pages.plots import SweepPoint, plot_forgetting
from palmette.studies.measuring import DIVERGENCE, ERROR, refusal
from palmette.studies.sweep.recipe import Cell, Sweep, format_value
from palmette.studies.tables import (
    MEANINGS,
    MEASURES,
    CellFigures,
    Spread,
    definitions,
    format_measure,
    markdown,
    tables_of,
)

_COLOURS = ("#3b6b2e", "#b5651d", "#2f5d8a", "#8a2f5d", "#6b6b2e", "#2e6b6b")


@dataclass(frozen=True)
class Outcome:
    """The results of a cell so far.

    Attributes:
        cell: the cell.
        measures: for each decoder, the values of `MEASURES` that exist.
        error: why it failed. None if it did not fail.
        refused: the messages of decoders that refused its model.
    """

    cell: Cell
    measures: Mapping[str, Mapping[str, float]]
    error: str | None = None
    refused: Mapping[str, str] = field(default_factory=dict)


def read_outcome(cell: Cell) -> Outcome:
    """Read the results from a cell's folder."""
    folder = cell.folder
    if (folder / ERROR).is_file():
        return Outcome(cell, {}, _read(folder / ERROR)["error"])
    found, refused = {}, {}
    besides = _read(folder / RETENTION) if (folder / RETENTION).is_file() else {}
    if (folder / DIVERGENCE).is_file():
        sampled = _read(folder / DIVERGENCE)
        besides |= {key: 100 * value if key.startswith("sampled_") else value for key, value in sampled.items()}
    for decoder in cell.decoders:
        if (folder / decoder).is_dir():
            values = _read(folder / decoder / METRICS)
            values = {**besides, **values, **_training(cell.run), "answering_seconds": values["seconds"]}
            found[decoder] = {name: float(values[name]) for name in MEASURES if values.get(name) is not None}
        elif (folder / refusal(decoder)).is_file():
            refused[decoder] = _read(folder / refusal(decoder))["error"]
    return Outcome(cell, found, refused=refused)


def failures_of(outcome: Outcome) -> list[str]:
    """Messages about what failed in a cell."""
    name = outcome.cell.folder.name
    lines = [f"failed: {name}: {outcome.error}"] if outcome.error else []
    return lines + [f"refused: {name}, {decoder}: {text}" for decoder, text in outcome.refused.items()]


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _training(folder: Path) -> dict[str, float]:
    """A run's loss over the last tenth of its steps, and its training time in seconds without interruptions."""
    lines = run.read_log(folder / run.METRICS_LOG)
    last = lines[-max(1, len(lines) // 10) :]
    return {"final_loss": statistics.fmean(line["loss"] for line in last), "training_seconds": lines[-1]["seconds"]}


def rows_of(outcomes: Iterable[Outcome], reference: str | None = None) -> list[CellFigures]:
    """The finished runs, grouped over seeds, in the order of the cells.

    Args:
        outcomes: the results of each cell.
        reference: the name of the cell that the others are compared with.
    """
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        for decoder in [*outcome.measures, *outcome.refused]:
            groups.setdefault((outcome.cell.name, decoder), []).append(outcome)
    rows = []
    for (name, decoder), group in groups.items():
        members = [outcome for outcome in group if decoder in outcome.measures]
        answers = _answers(members, decoder)
        other = _reference(groups, reference, decoder) if name != reference else ()
        compared = pooled_difference(answers, other) if answers and other else {}
        values = {key: [m.measures[decoder][key] for m in members if key in m.measures[decoder]] for key in MEASURES}
        rows.append(
            CellFigures(
                name,
                group[0].cell.varied,
                group[0].cell.recipe.train.learning_rate,
                decoder,
                seeds=tuple(member.cell.seed for member in members),
                spreads={key: Spread.of(found) for key, found in values.items() if found},
                intervals=pooled_intervals(answers),
                difference=compared.get("exact"),
            )
        )
    return rows


def _reference(groups: Mapping[tuple[str, str], Sequence[Outcome]], reference: str | None, decoder: str) -> Seeds:
    """The reference's answers under the same decoder. If it has none, those without free reasoning."""
    for name in (decoder, decoder.partition("-free-")[0]):
        members = [outcome for outcome in groups.get((reference or "", name), []) if name in outcome.measures]
        if members:
            return _answers(members, name)
    return ()


def _answers(members: Iterable[Outcome], decoder: str) -> Seeds:
    return tuple((member.cell.seed, member.cell.folder / decoder) for member in members)


def write_results(folder: Path, sweep: Sweep, outcomes: Sequence[Outcome], measured_on: Mapping[str, Any]) -> None:
    """Write sweep.md and sweep.json into a folder.

    If the learning rate varies, sweep.png is written too. If retention was measured, forgetting.png is written.
    """
    rows = rows_of(outcomes, sweep.reference)
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
        if points := _sweep_points(outcomes):
            plot_forgetting(points, folder / "forgetting.png")
            pictures.append("![EM, and the cost on general text and chats, against the learning rate](forgetting.png)")
    run.write_text(folder / "sweep.md", _page(folder.name, sweep, rows, outcomes, measured_on, pictures))


def _sweep_points(outcomes: Iterable[Outcome]) -> list[SweepPoint]:
    """A point for each run whose retention was measured, with its exact match under its first decoder."""
    measured = [
        (one.cell.recipe.train.learning_rate, one.measures[one.cell.decoders[0]])
        for one in outcomes
        if one.cell.decoders[0] in one.measures
    ]
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
        "refused": dict(outcome.refused),
    }


def _page(
    name: str,
    sweep: Sweep,
    rows: Sequence[CellFigures],
    outcomes: Sequence[Outcome],
    measured_on: Mapping[str, Any],
    pictures: Sequence[str],
) -> str:
    facts = {"questions": f"{measured_on['questions']:,} of {measured_on['data']}"}
    lines = [f"# Sweep {name}", "", *definitions({**facts, **MEANINGS}), ""]
    for table in tables_of(rows, varied_keys(sweep), sweep.reference):
        lines += [*markdown(*table), ""]
    for cell, varied in sweep.cells.items():
        settings = {key: format_value(value) for key, value in varied.items()} or {"settings": "those of the base"}
        lines += [f"### {cell}", "", *definitions(settings), ""]
    lines += [*pictures, ""] if pictures else []
    lines += ["## Every run", "", *markdown(*_runs_table(outcomes)), ""]
    failed = [f"- {text}" for outcome in outcomes for text in failures_of(outcome)]
    lines += ["## Failed or refused", "", *failed, ""] if failed else []
    return "\n".join(lines)


def format_settings(varied: Mapping[str, Any]) -> str:
    """Settings as text."""
    return ", ".join(f"{key} = {format_value(value)}" for key, value in varied.items()) or "the base"


def varied_keys(sweep: Sweep) -> list[str] | None:
    """The settings that identify a cell in tables. None if the cells have names."""
    return None if sweep.cells else list(sweep.vary)


def _runs_table(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    lines = []
    for outcome in outcomes:
        for decoder, measures in outcome.measures.items():
            spreads = {key: Spread.of([value]) for key, value in measures.items()}
            lines.append(
                [outcome.cell.folder.name, decoder, *(format_measure(key, spreads.get(key)) for key in MEASURES)]
            )
        if not outcome.measures:
            state = "failed" if outcome.error else "refused" if outcome.refused else "not yet"
            lines.append([outcome.cell.folder.name, state, *("-" for _ in MEASURES)])
    return ["run", "decoder", *MEASURES.values()], lines


def plot_learning_rates(rows: Sequence[CellFigures], out: Path, title: str) -> bool:
    """Plot EM against the learning rate, with one line for each decoder and each combination of the other settings.

    The plot is a PNG. Its error bars are standard deviations over seeds.

    Returns:
        Whether the learning rate varies. If it does not, nothing is written.
    """
    lines: dict[str, list[CellFigures]] = {}
    for row in rows:
        if not row.seeds:
            continue
        rest = {key: value for key, value in row.varied.items() if key != "train.learning_rate"}
        lines.setdefault(f"{row.decoder}, {format_settings(rest)}" if rest else row.decoder, []).append(row)
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
