"""What planning takes at 10,000 to 1,000,000 trees: processor time, and memory beside that of the trees.

    python benchmarks/planning.py [--trees 10000 100000 1000000] [--trees-per-step 32] [--plot PATH]

Trees are documents of 60 to 600 tokens with one to four questions. Each number of trees is a process of its own. The
trees share their token ids, so a million of them take less than a gigabyte. Real ones take about 18 bytes a token.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

COLUMNS = {
    "plan": "making the plan, s",
    "order": "order of an epoch, ms",
    "step": "a step, ms",
    "largest": "largest batch of 3 epochs, s",
    "held": "the trees, MB",
    "more": "the plan, MB more",
}
EPOCHS, STEPS = 3, 100


def peak() -> float:
    """The peak of resident memory, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure(count: int, trees_per_step: int) -> dict[str, float]:
    """The figures of so many trees, by the keys of `COLUMNS`."""
    from palmette.train.steps.plan import StepPlan
    from palmette.tree.prefix_tree import Node, PrefixTree
    from palmette.tree.segments import Segment

    before = peak()
    draw, tokens = random.Random(0), tuple(range(1000))
    texts = [tokens[:length] for length in range(60, 601)]
    branch = Node((Segment(tokens[:25]), Segment(tokens[:9], learn=1.0)), name="a question")
    trees = [
        PrefixTree(
            Node((Segment(tokens[:15]), Segment(draw.choice(texts))), (branch,) * draw.randint(1, 4)), f"{number}"
        )
        for number in range(count)
    ]
    found = {"held": peak() - before}
    started = time.process_time()
    plan = StepPlan(trees, trees_per_step=trees_per_step, row_tokens=4096, tokens_per_batch=4096, seed=0, one_row=True)
    found["plan"] = time.process_time() - started
    started = time.process_time()
    plan.step_trees(0, 0)
    found["order"] = 1000 * (time.process_time() - started)
    taken = []
    for index in range(STEPS):
        started = time.process_time()
        plan.step_batches(0, index * plan.steps_per_epoch // STEPS)
        taken.append(time.process_time() - started)
    found["step"] = 1000 * statistics.median(taken)
    started = time.process_time()
    plan.largest_batch(EPOCHS)
    found["largest"] = time.process_time() - started
    found["more"] = peak() - before - found["held"]
    return found


def plot(path: Path, counts: Sequence[int], figures: Sequence[dict[str, float]]) -> None:
    """Draw times on the left and memory on the right, over the number of trees."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    times, memory = figure.subplots(1, 2)
    lines = {"plan": ("making the plan", 1), "largest": ("largest batch of 3 epochs", 1), "step": ("a step", 1000)}
    for (key, (name, unit)), color in zip(lines.items(), ("#1b7f5c", "#b4552d", "#5c6b7f"), strict=True):
        times.plot(counts, [one[key] / unit for one in figures], "o-", color=color, label=name)
    for key, name, color in (("held", "the trees", "#5c6b7f"), ("more", "the plan", "#1b7f5c")):
        memory.plot(counts, [one[key] for one in figures], "o-", color=color, label=name)
    for axis, label in ((times, "seconds of one core"), (memory, "MB")):
        axis.set(xscale="log", yscale="log", xlabel="trees", ylabel=label)
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trees", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--trees-per-step", type=int, default=32)
    parser.add_argument("--plot", type=Path, help="PNG file")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.trees_per_step)))
        return
    print(f"| trees | {' | '.join(COLUMNS.values())} |\n|{'---:|' * (1 + len(COLUMNS))}", flush=True)
    figures = []
    for count in options.trees:
        command = [sys.executable, __file__, "--one", str(count), "--trees-per-step", str(options.trees_per_step)]
        figures.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
        print(f"| {count:,} | {' | '.join(f'{figures[-1][key]:,.3g}' for key in COLUMNS)} |", flush=True)
    if options.plot:
        plot(options.plot, options.trees, figures)


if __name__ == "__main__":
    main()
