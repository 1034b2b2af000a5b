"""Resident memory over a training run, from the metrics.jsonl of its run folder.

    python benchmarks/memory.py RUN [--plot PATH]

Prints what was resident at the end of the first optimizer step at or after minute 3, 10, 20 and 30, the most from
minute 3 on, and at the end. The last line is the growth from minute 3 to the end, in percent. A resumed run begins anew
with its memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from palmette.run import METRICS_LOG, read_log

BEGIN, MINUTES = 3, (3, 10, 20, 30)


def moments(steps: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """What to look at: each moment in words, with the index of its step.

    Args:
        steps: lines of metrics.jsonl, in order.

    Raises:
        SystemExit: the run ends before minute 3.
    """
    seconds = [step["seconds"] for step in steps]
    if not steps or seconds[-1] < 60 * BEGIN:
        reached = f"{seconds[-1] / 60:.1f} minutes" if steps else "no step"
        raise SystemExit(f"the run has {reached}: memory is compared from minute {BEGIN} on, so train for longer")
    found = [
        (f"minute {minute}", next(index for index, second in enumerate(seconds) if second >= 60 * minute))
        for minute in MINUTES
        if seconds[-1] >= 60 * minute
    ]
    begin = found[0][1]
    most = max(range(begin, len(steps)), key=lambda index: int(steps[index]["resident_mib"]))
    return [*found, (f"most from minute {BEGIN} on", most), ("the end", len(steps) - 1)]


def growth(steps: Sequence[dict[str, Any]]) -> float:
    """Percent by which resident memory grew from minute 3 to the end."""
    found = moments(steps)
    begin, end = steps[found[0][1]]["resident_mib"], steps[found[-1][1]]["resident_mib"]
    return float(100 * (end / begin - 1))


def table(steps: Sequence[dict[str, Any]]) -> str:
    """The moments as Markdown."""
    lines = ["| | at minute | step | resident MiB |", "|---|---:|---:|---:|"]
    for words, index in moments(steps):
        step = steps[index]
        lines.append(f"| {words} | {step['seconds'] / 60:.1f} | {step['step']} | {step['resident_mib']} |")
    return "\n".join(lines)


def plot(path: Path, steps: Sequence[dict[str, Any]]) -> None:
    """Draw resident memory over time."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axis = figure.subplots()
    axis.plot(
        [step["seconds"] / 60 for step in steps], [step["resident_mib"] / 1024 for step in steps], color="#1b7f5c"
    )
    axis.axvline(BEGIN, color="#999999", linewidth=0.8)
    axis.set(xlabel="minute", ylabel="resident memory, GiB")
    axis.set_ylim(bottom=0)
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def main() -> None:
    """Read, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--plot", type=Path, help="PNG file")
    options = parser.parse_args()
    log = options.run / METRICS_LOG
    if not log.is_file():
        raise SystemExit(f"there is no {log}: give a folder that `palmette train` made")
    steps = read_log(log)
    print(table(steps))
    if options.plot:
        plot(options.plot, steps)
    print(f"growth {growth(steps):.1f} %")


if __name__ == "__main__":
    main()
