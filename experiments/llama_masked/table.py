"""Writes the tables of docs/results/llama-masked.md from what run.py left, so that no figure is typed by hand.

    python experiments/llama_masked/table.py runs/llama_masked [docs/results/llama-masked.md]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; what stands there before is replaced, everything else
stays. Evaluations under the folder's baselines/ make a table of their own. The plot of the learning rates is copied
beside the page.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palmette import run
from palmette.config.recipes import read_section
from palmette.evaluate.bootstrap import Difference
from palmette.evaluate.squad import METRICS
from palmette.studies.sweep.recipe import CELLS, RUN, Sweep
from palmette.studies.sweep.table import format_settings, varied_keys
from palmette.studies.tables import ANSWERS, CellFigures, Spread, Table, markdown, tables_of

sys.path.append(str(Path(__file__).parents[1]))
from steps import ordinal, written

PAGE, PLAN, PLOT, BASELINES = "docs/results/llama-masked.md", "plan.json", "forgetting.png", "baselines"
Record = Mapping[str, Any]


def main() -> None:
    """Replace the tables of a page."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: table.py FOLDER [PAGE]")
    folder, page = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) == 3 else PAGE)
    plot = folder / "learning_rate" / PLOT
    if plot.is_file():
        shutil.copyfile(plot, page.with_name(PLOT))
    run.write_text(page, written(page.read_text(encoding="utf-8"), tables(folder)))


def tables(folder: Path) -> dict[str, list[str]]:
    """The tables of all sweeps that have results, by name, as lines of Markdown."""
    if not (folder / PLAN).is_file():
        sys.exit(f"error: {folder} holds no {PLAN}. Give the folder that run.py wrote.")
    found: dict[str, list[str]] = {}
    plan = _read(folder / PLAN)
    records = {
        name: _read(path) for name in ("cells", "learning_rate") if (path := folder / name / "sweep.json").is_file()
    }
    if "cells" in records:
        sweep, rows = _rows(records["cells"])
        for decoder in sweep.evaluate.decoders:
            asked = [row for row in rows if row.decoder.partition("-free-")[0] == decoder]
            found[decoder] = markdown(*_tables(sweep, asked)[0])
        found["costs"] = markdown(*_tables(sweep, rows)[-1])
        found["settings"] = [f"- {name}: {format_settings(varied)}" for name, varied in sweep.cells.items()]
        found["failed"] = _failed(records["cells"]) or ["Nothing failed, and no decoder refused."]
    if "learning_rate" in records:
        answers, costs = _tables(*_rows(records["learning_rate"]))
        found["learning-rate"] = [*markdown(*answers), "", *markdown(*costs)]
    measured = sorted((folder / BASELINES).glob(f"*/{METRICS}"))
    if measured:
        found["baselines"] = _baselines([(path.parent.name, _read(path)) for path in measured])
    if records:
        found["budget"] = _budget(plan, records, folder)
    return found


def _tables(sweep: Sweep, rows: Sequence[CellFigures]) -> list[Table]:
    return tables_of(rows, varied_keys(sweep), sweep.reference)


def _baselines(measured: Sequence[tuple[str, Record]]) -> list[str]:
    """Evaluations of other models on the same questions, a line each; what an evaluation does not have is a dash."""
    names = {key: label for key, label in ANSWERS.items() if key != "exact_of_valid_json"}
    lines = [f"| baseline | {' | '.join(names.values())} |", "|---" * (len(names) + 1) + "|"]
    for folder, metrics in measured:
        cells = []
        for key in names:
            value, interval = metrics.get(key), metrics["intervals"].get(key)
            shown = "-" if value is None else f"{value:.1f}"
            cells.append(
                f"{shown} ({interval[0]:.1f} to {interval[1]:.1f})" if value is not None and interval else shown
            )
        lines.append(f"| {folder.replace('_', ' ')} | {' | '.join(cells)} |")
    return lines


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _rows(record: Record) -> tuple[Sweep, list[CellFigures]]:
    """What sweep.json holds, as `palmette sweep` had it."""
    rows = []
    for row in record["cells"]:
        spreads = {name: Spread(**spread) for name, spread in row["spreads"].items()}
        difference = Difference(**row["difference"]) if row["difference"] else None
        rows.append(CellFigures(**{**row, "seeds": tuple(row["seeds"]), "spreads": spreads, "difference": difference}))
    return read_section(Sweep, record["sweep"], "sweep.json"), rows


def _failed(record: Record) -> list[str]:
    lines = [f"- {one['folder']}: failed: {one['error']}" for one in record["runs"] if one["error"]]
    for one in record["runs"]:
        lines += [f"- {one['folder']}, {decoder}: refused: {text}" for decoder, text in one["refused"].items()]
    return lines


def _budget(plan: Record, records: Mapping[str, Record], folder: Path) -> list[str]:
    """What was run, and how long it took."""
    lines = ["| part | source | taken | articles | documents | questions | answerable |", "|---" * 7 + "|"]
    for name in ("train", "data"):
        part = plan[name]
        numbers = [str(part[key]) for key in ("articles", "documents", "questions", "answerable")]
        lines.append(
            f"| {name} | {part['source']} | every {ordinal(part['every'])} paragraph | {' | '.join(numbers)} |"
        )
    lines += ["", "| sweep | runs | finished | training, min | answering, min |", "|---|---|---|---|---|"]
    for name, record in records.items():
        runs = [one for one in record["runs"] if one["measures"]]
        training = sum(next(iter(one["measures"].values()))["training_seconds"] for one in runs)
        answering = sum(values["answering_seconds"] for one in runs for values in one["measures"].values())
        lines.append(f"| {name} | {len(record['runs'])} | {len(runs)} | {training / 60:.0f} | {answering / 60:.0f} |")
    return [*lines, "", *_machine(folder)]


def _machine(folder: Path) -> list[str]:
    """Where the first run was trained."""
    manifests = sorted(folder.glob(f"*/{CELLS}/*/{RUN}/{run.MANIFEST}"))
    if not manifests:
        return []
    manifest = _read(manifests[0])
    machine, versions = manifest["machine"], manifest["versions"]
    return [
        f"Machine: {machine['processor']}, {machine['cores']} cores, each process with {machine['threads']} threads; "
        f"AMX: {'yes' if machine['amx'] else 'no'}; "
        + ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "peft") if name in versions)
        + "."
    ]


if __name__ == "__main__":
    main()
