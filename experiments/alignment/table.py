"""Writes the tables of docs/results/preferences.md from what run.py left, so that no figure is typed by hand.

    python experiments/alignment/table.py runs/alignment [docs/results/preferences.md]

The plot of what was earned against how far the policies went is copied beside the page.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palmette import run
from palmette.studies.chain.table import FRONTIER, PAGE

sys.path.append(str(Path(__file__).parents[1]))
from steps import PLACE, ordinal, written

RESULTS, PLAN, PLOT = "docs/results/preferences.md", "plan.json", "alignment.png"


def main() -> None:
    """Replace the tables of a page."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: table.py FOLDER [PAGE]")
    folder, page = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) == 3 else RESULTS)
    if not (folder / "chain" / PAGE).is_file():
        sys.exit(f"error: {folder} holds no chain/{PAGE}. Give the folder that run.py wrote.")
    plot = folder / "chain" / FRONTIER
    if plot.is_file():
        shutil.copyfile(plot, page.with_name(PLOT))
    chain = (folder / "chain" / PAGE).read_text(encoding="utf-8").splitlines()
    plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    found = {"alignment-data": data_table(plan), "alignment": tables_in(chain)}
    text = page.read_text(encoding="utf-8")
    for name in found.keys() - {match[2] for match in PLACE.finditer(text)}:
        sys.exit(f"error: {page} has no place for the table {name}. Write <!-- table: {name} --> and <!-- end -->.")
    run.write_text(page, written(text, found))


def data_table(plan: dict[str, Any]) -> list[str]:
    """What each part of the data is."""
    lines = [
        "| part | source | taken | articles | documents | questions | answerable |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, part in plan.items():
        if name == "model":
            continue
        taken = f"every {ordinal(part['every'])} paragraph" + (
            f", from number {part['first']}" if "first" in part else ""
        )
        figures = [part[key] for key in ("articles", "documents", "questions", "answerable")]
        lines.append(f"| {name} | {part['source']} | {taken} | {' | '.join(map(str, figures))} |")
    return lines


def tables_in(lines: Sequence[str]) -> list[str]:
    """The tables among a page's lines, with an empty line between them; and what failed, if anything did."""
    found: list[str] = []
    for line in lines:
        if line.startswith("|"):
            found.append(line)
        elif found and found[-1]:
            found.append("")
    failed = [line for line in lines if line.startswith(("- failed: ", "- refused: "))]
    while found and not found[-1]:
        found.pop()
    return [*found, *(["", *failed] if failed else [])]


if __name__ == "__main__":
    main()
