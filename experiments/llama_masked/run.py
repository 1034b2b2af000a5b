"""The experiment of docs/results/llama-masked.md: reasoning, learn masks and prompts by the cell, on part of SQuAD v2.

    python experiments/llama_masked/run.py --train train.json --data dev.json --output runs/llama_masked --jobs 2

It thins the data, writes rationales by rule, writes the sweeps from the templates beside this file, says what it will
take, and runs `palmette sweep` on them in several processes, each with its share of the cores. Stopped with Ctrl-C or
killed, the same command goes on. table.py then writes the tables.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from palmette import run
from palmette.config.recipes import read_settings
from palmette.data.source import read_source
from palmette.data.squad import dump_squad
from palmette.errors import PalmetteError, RunError
from palmette.studies.sweep.recipe import load_sweep
from palmette.synth.quotes import quote_rationales

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from steps import about, filled, run_side_by_side, thinned  # noqa: E402

SWEEPS = {"cells": "cells.yaml", "learning-rate": "learning_rate.yaml"}
PLAN = "plan.json"
_EVERYTHING = 10_000  # words of a rationale: all are kept, so that every cell learns from the same questions
# One process with one core of an AMD EPYC without AMX, for the budget only: questions a second; seconds a run for
# retention and loading.
_TRAINING, _ANSWERING, _REASONING, _REST = 4.3, {"greedy": 5.0, "span": 7.0}, 1.0, 45.0


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--train", required=True, help="SQuAD v2 JSON to learn from")
    parser.add_argument("--data", required=True, help="SQuAD v2 JSON to measure on")
    parser.add_argument("--output", type=Path, default=Path("runs/llama_masked"))
    parser.add_argument("--every", type=int, default=5, help="learn from every so manyth paragraph")
    parser.add_argument("--every-data", type=int, default=2, help="measure on every so manyth paragraph")
    parser.add_argument("--only", choices=list(SWEEPS), help="one of the two sweeps")
    parser.add_argument("--cells", nargs="+", metavar="NAME", help="these cells only, for now")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="these seeds of the cells only, for now")
    parser.add_argument("--model", help="another model to start from")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--retry-failed", action="store_true", help="try again what failed or was refused")
    parser.add_argument(
        "--plan", action="store_true", help="write the data and the sweeps, say what they will take, and stop"
    )
    return parser.parse_args(words)


def main() -> None:
    """Prepare and run."""
    given = parse()
    try:
        prepare(given)
        files = [given.output / SWEEPS[name] for name in SWEEPS if given.only in (None, name)]
        print(budget(files, given.jobs), flush=True)
        code = 0 if given.plan else max(run_sweep(file, given.jobs, retry_failed=given.retry_failed) for file in files)
    except PalmetteError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if not given.plan:
        print(f"for the tables: python {HERE / 'table.py'} {given.output}")
    sys.exit(code)


def prepare(given: argparse.Namespace) -> None:
    """Write the thinned data, the rationales and the sweeps.

    Raises:
        RunError: the folder holds the experiment on other data.
        DataError: data that cannot be read.
        RecipeError: no such cell.
    """
    folder: Path = given.output
    train, data = thinned(read_source(given.train), given.every), thinned(read_source(given.data), given.every_data)
    plan = {"train": about(train, given.every), "data": about(data, given.every_data), "model": given.model}
    if (folder / PLAN).is_file():
        begun = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        run.check_same(begun, plan, where=folder, way_out="Choose another --output.")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        rationales = quote_rationales(train.documents, max_words=_EVERYTHING)
        for name, documents in (
            ("train", train.documents),
            ("rationales", rationales.documents),
            ("dev", data.documents),
        ):
            run.write_text(folder / f"{name}.json", dump_squad(documents))
        run.write_json(folder / PLAN, plan)
    names = {name: str(folder / f"{name}.json") for name in ("train", "rationales", "dev")} | {"output": str(folder)}
    for template in SWEEPS.values():
        settings = filled(read_settings((HERE / template).read_text(encoding="utf-8"), template), names)
        if given.model:
            settings["base"]["model"] = {"name": given.model}
        if "cells" in settings:
            choose(settings, given.cells, given.seeds)
        run.write_text(folder / template, yaml.safe_dump(settings, sort_keys=False))


def choose(settings: dict[str, Any], cells: list[str] | None, seeds: list[int] | None) -> None:
    """Keep some of the cells and seeds; the others can be added later.

    Raises:
        RunError: there is no such cell.
    """
    known = settings["cells"]
    for name in cells or []:
        if name not in known:
            raise RunError(f"there is no cell {name!r}", f"Cells are: {', '.join(known)}.")
    settings["cells"] = {name: known[name] for name in known if not cells or name in cells}
    settings["seeds"] = seeds or settings["seeds"]
    if settings["reference"] not in settings["cells"]:
        del settings["reference"]


def budget(files: list[Path], jobs: int) -> str:
    """What the sweeps will take, in words; runs that are finished already are counted too."""
    lines, total = [], 0.0
    for file in files:
        sweep, cells = load_sweep(file)
        asked = read_source(sweep.evaluate.data).num_questions
        learned = {source: read_source(source).num_questions for cell in cells for source in cell.recipe.data.train}
        passes = [
            sum(learned[source] for source in cell.recipe.data.train)
            * (cell.recipe.train.epochs + cell.recipe.reasoning.embedding_epochs)
            for cell in cells
        ]
        training = sum(passes) / _TRAINING
        measuring = sum(
            _REST + sum(asked / _ANSWERING.get(decoder, _REASONING) for decoder in cell.decoders) for cell in cells
        )
        total += training + measuring
        lines.append(
            f"{file.stem}: {len(cells)} runs, {learned[cells[0].recipe.data.train[0]]} questions to learn from, "
            f"{asked} to answer; "
            f"about {training / 60:.0f} min of training, {measuring / 60:.0f} min of measuring"
        )
    return "\n".join([*lines, f"together about {total / jobs / 60:.0f} min with {jobs} processes of one core each"])


def run_sweep(file: Path, jobs: int, *, retry_failed: bool) -> int:
    """`palmette sweep` in several processes; the worst exit code."""
    return run_side_by_side(
        ["sweep", str(file), *(["--retry-failed"] if retry_failed else [])], file.with_suffix(""), jobs
    )


if __name__ == "__main__":
    main()
