"""Memory and time of data on disk (`data.stream`) beside data in memory, at 10,000 to 1,000,000 questions.

    python benchmarks/streaming.py [--questions 10000 100000 1000000] [--most-held 100000] [--plot PATH]

Documents are synthetic: 80 words and four questions each. Words become tokens by a table, since a tokenizer would take
most of the time. Reading, checking, trees, the plan and 200 steps are those of training, without a model. Each cell is
a process of its own. Memory is what the process holds itself (RssAnon), at its peak, above what it held after its
imports. Pages of the files do not count, since the system takes them back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

WORDS, QUESTIONS, STEPS = 80, 4, 200


def rows(questions: int) -> Iterator[dict[str, object]]:
    """Rows about documents of words that are drawn at random, four about each."""
    draw = random.Random(0)
    words = [f"word{number}" for number in range(40_000)]
    for document in range(questions // QUESTIONS):
        text = " ".join(draw.choices(words, k=WORDS))
        for question in range(QUESTIONS):
            start = text.index(" ", draw.randrange(len(text) // 2)) + 1
            answer = {"text": text[start : text.index(" ", start)], "answer_start": start}
            asked = f"Which word is number {question}?"
            yield {"id": f"{document}-{question}", "context": text, "question": asked, "answers": [answer]}


def write(path: Path, questions: int) -> None:
    """Write an Arrow stream, as `datasets` does, in batches of 1,000 rows."""
    import pyarrow

    schema = pyarrow.Table.from_pylist(list(rows(QUESTIONS))).schema
    waiting: list[dict[str, object]] = []
    with pyarrow.ipc.new_stream(str(path), schema) as writer:
        for row in rows(questions):
            waiting.append(row)
            if len(waiting) == 1000:
                writer.write_batch(pyarrow.RecordBatch.from_pylist(waiting, schema=schema))
                waiting = []
        writer.write_batch(pyarrow.RecordBatch.from_pylist(waiting, schema=schema))


def held() -> float:
    """What this process holds itself, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon"))


def measure(path: Path, *, stream: bool) -> dict[str, float]:
    """The figures of one cell."""
    from palmette.data.records import Document
    from palmette.data.source import read_source
    from palmette.data.streamed import stream_source
    from palmette.train.steps.plan import StepPlan
    from palmette.train.tree_store import StoredTrees
    from palmette.tree.prefix_tree import Node, PrefixTree
    from palmette.tree.segments import Segment

    table: dict[str, int] = {}

    def segment(text: str, learn: float = 0.0) -> Segment:
        tokens = tuple(int(f"{table.setdefault(word, len(table))}") for word in text.split())
        return Segment(tokens, text=text, learn=learn)

    def tree(document: Document) -> PrefixTree:
        branches = (Node((segment(q.text), segment(q.answers[0].text, 1.0)), name=q.id) for q in document.questions)
        return PrefixTree(Node((segment(document.text),), tuple(branches)), document.id)

    peak, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, held())

    read_source("builtin:test")  # imports
    before, watcher = held(), threading.Thread(target=watch)
    watcher.start()
    started = time.process_time()
    data = (stream_source if stream else read_source)(str(path))
    read = time.process_time() - started
    trees = StoredTrees() if stream else []
    trees.extend(tree(document) for document in data.documents)
    if isinstance(trees, StoredTrees):
        trees.finish()
    built = time.process_time() - started - read
    plan = StepPlan(trees, trees_per_step=8, row_tokens=4096, tokens_per_batch=4096, seed=0, one_row=True)
    planned = time.process_time()
    total = sum(batch.learn_weight for step in range(STEPS) for batch in plan.step_batches(0, step))
    stepped = (time.process_time() - planned) / STEPS
    done.set()
    watcher.join()
    return {"memory": peak - before, "read": read, "trees": built, "step": 1000 * stepped, "weight": total}


def table_of(found: dict[tuple[int, bool], dict[str, float]]) -> str:
    """A Markdown table of all cells."""
    lines = ["| questions | data | memory, MB | reading, s | trees, s | a step, ms |", "|---|---|---|---|---|---|"]
    for (questions, stream), one in sorted(found.items()):
        where = "on disk" if stream else "in memory"
        figures = f"{one['memory']:,.0f} | {one['read']:.1f} | {one['trees']:.1f} | {one['step']:.2f}"
        lines.append(f"| {questions:,} | {where} | {figures} |")
    return "\n".join(lines)


def plot(found: dict[tuple[int, bool], dict[str, float]], path: Path) -> None:
    """Memory over the number of questions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for stream, name in ((False, "in memory"), (True, "on disk")):
        points = [(count, one["memory"]) for (count, kind), one in sorted(found.items()) if kind is stream]
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel="questions", ylabel="memory, MB")
    axes.legend()
    figure.savefig(path, dpi=150)


def main(words: Sequence[str] | None = None) -> None:
    """Measure every cell in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--most-held", type=int, default=100_000, help="most questions that are held in memory")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args(words)
    if chosen.cell:
        print(json.dumps(measure(Path(chosen.cell[0]), stream=chosen.cell[1] == "disk")))
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for questions in chosen.questions:
            path = Path(folder) / f"{questions}.arrow"
            write(path, questions)
            for stream in (True, False) if questions <= chosen.most_held else (True,):
                command = [sys.executable, __file__, "--cell", str(path), "disk" if stream else "memory"]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found[questions, stream] = json.loads(output.splitlines()[-1])
                print(questions, stream, found[questions, stream], file=sys.stderr, flush=True)
            path.unlink()
            weights = {one["weight"] for (count, _), one in found.items() if count == questions}
            assert len(weights) == 1, "the batches differ"
    print(table_of(found))
    if chosen.plot:
        plot(found, chosen.plot)


if __name__ == "__main__":
    main()
