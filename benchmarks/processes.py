"""One process against two, on one machine: training under torchrun, and predictions on a Ray cluster.

    python benchmarks/processes.py --model reader --documents 48 --rounds 3

Ways take turns, and each turn is a whole command in new processes: one process of one thread, one process of two, and
two processes of one thread each. Training is `palmette train sft` on the first documents of the built-in corpus, and
its seconds are those of its steps without the first. Prediction is `palmette predict` of their questions, where two
processes are two workers of a Ray cluster that is started for it. Its seconds are those of the whole command. Memory is
the most that all processes of the command held together, where what several share counts once (PSS).

The losses of all ways, and the answers, are compared: they should be the same up to rounding.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from palmette.data.source import read_data

WAYS = {"one process, one thread": (1, 1), "one process, two threads": (1, 2), "two processes, one thread each": (2, 1)}
SAMPLED = 0.25  # seconds between two looks at the memory


@dataclass(frozen=True)
class Turn:
    """What a command took.

    Attributes:
        seconds: of the steps, or of the command.
        mib: the most memory, in MiB.
        result: what should not depend on the way: losses, or the lines of the answers.
    """

    seconds: float
    mib: float
    result: list[float] | list[str]


def measured(words: Sequence[str], threads: int) -> tuple[float, float]:
    """Run a command: its seconds, and the most memory of its processes in MiB.

    Raises:
        SystemExit: it failed.
    """
    started, most = time.perf_counter(), 0.0
    with tempfile.TemporaryFile() as told:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen(words, env=environment, stdout=told, stderr=subprocess.STDOUT)
        while process.poll() is None:
            most = max(most, held(psutil.Process(process.pid)))
            time.sleep(SAMPLED)
        if process.returncode:
            told.seek(0)
            raise SystemExit(f"{' '.join(words)} failed:\n{told.read().decode(errors='replace')[-2000:]}")
    return time.perf_counter() - started, most


def held(process: psutil.Process) -> float:
    """The memory of a process and all that it started, in MiB."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_full_info().pss
    except psutil.Error:  # one of them has just ended
        pass
    return total / 2**20


def trained(processes: int, threads: int, folder: Path, model: str, documents: int) -> Turn:
    """A training of one epoch."""
    recipe = folder / "recipe.yaml"
    settings = {
        "output": str(folder / "run"),
        "start": model,
        "data": {"train": ["builtin:train"], "limit_documents": documents},
        "train": {"epochs": 1, "trees_per_step": 4},
    }
    recipe.write_text(yaml.safe_dump(settings), encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    _, mib = measured([sys.executable, *launcher, "-m", "palmette", "train", "sft", str(recipe)], threads)
    lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [one for one in map(json.loads, lines) if "loss" in one]
    return Turn(steps[-1]["seconds"] - steps[0]["seconds"], mib, [one["loss"] for one in steps])


def predicted(processes: int, threads: int, folder: Path, model: str, documents: int) -> Turn:
    """The predictions for the questions of the documents."""
    questions, answers = folder / "questions.jsonl", folder / "answers.jsonl"
    with questions.open("w", encoding="utf-8") as out:
        for document in read_data("builtin:train").documents[:documents]:
            for one in document.questions:
                row = {"id": one.id, "document": document.text, "question": one.text}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    cluster = ["--ray", "local", "--workers", str(processes)] if processes > 1 else []
    words = [sys.executable, "-m", "palmette", "predict", str(questions), str(answers), "--model", model, *cluster]
    seconds, mib = measured(words, threads)
    texts = [json.loads(line)["answer"] for line in answers.read_text(encoding="utf-8").splitlines()]
    return Turn(seconds, mib, texts)


def row(job: str, way: str, turns: Sequence[Turn], first: Sequence[Turn]) -> str:
    """A line of the table."""
    seconds = [one.seconds for one in turns]
    faster = [base.seconds / one.seconds for base, one in zip(first, turns, strict=True)]
    spread = f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
    times = f"{statistics.median(faster):.2f} ({min(faster):.2f} to {max(faster):.2f})"
    return f"| {job} | {way} | {spread} | {times} | {max(one.mib for one in turns):,.0f} | {alike(turns, first)} |"


def alike(turns: Sequence[Turn], first: Sequence[Turn]) -> str:
    """How far the results are from those of the first way."""
    pairs = [pair for one, base in zip(turns, first, strict=True) for pair in zip(one.result, base.result, strict=True)]
    if all(isinstance(ours, float) for ours, _ in pairs):
        return f"losses within {max(abs(float(ours) - float(theirs)) for ours, theirs in pairs):.1e}"
    return f"{sum(ours == theirs for ours, theirs in pairs)} of {len(pairs)} answers the same"


def main() -> None:
    """Measure all ways in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="reader", help="the run that is trained on, and that answers")
    parser.add_argument("--documents", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    jobs = {"training": trained, "prediction": predicted}
    turns: dict[tuple[str, str], list[Turn]] = {(job, way): [] for job in jobs for way in WAYS}
    for number in range(options.rounds):
        for job, do in jobs.items():
            for way, (processes, threads) in WAYS.items():
                folder = Path(tempfile.mkdtemp())
                turns[job, way].append(do(processes, threads, folder, options.model, options.documents))
                shutil.rmtree(folder)
                print(f"round {number}, {job}, {way}: {turns[job, way][-1].seconds:.1f} s", flush=True)
    print("\n| job | way | seconds (least to most) | times as fast | memory, MiB | beside the first way |")
    print("|---|---|---:|---:|---:|---|")
    for (job, way), found in turns.items():
        print(row(job, way, found, turns[job, next(iter(WAYS))]))


if __name__ == "__main__":
    main()
