"""Several runs of one base in one process: each loaded for itself, or taking turns in the weights of one base.

    python benchmarks/shared_base.py --runs 1,2,4,8

For each number of runs and both ways a process of its own loads copies of a run whose adapters differ a little, and
asks each a question about a document that it has read, in rounds. So every question comes after one to another
run, which is the worst case for a shared base. Printed are the seconds to load, the memory of the process that no other
process shares (USS) and all that is resident (RSS), the median seconds of an answer with its switch, and of the switch
alone. Seconds are those of the processor, so with OMP_NUM_THREADS=1 a busy machine hardly changes them. All runs have
been loaded before, so that weights are merged and proofs kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file, save_file

from palmette.inference.names import resolve_answerer, run_path
from palmette.inference.together import open_together
from palmette.serving.documents import document_of
from palmette.serving.model_thread import open_models

DOCUMENT = "The ferry leaves at 7:40 from pier 3, but not in winter. The tower is granite, and white. " * 5
QUESTIONS = ("When does the ferry leave?", "What is the tower built of?", "Where does the ferry leave from?")
WEIGHTS = Path("adapter", "adapter_model.safetensors")
MIB = 2**20


def copies(run: Path, folder: Path, number: int) -> list[Path]:
    """Copies of a run whose adapters differ a little, without its calibration, which would not fit them."""
    made = []
    for index in range(number):
        copy = folder / f"run-{index}"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("calibration.json"))
        generator = torch.Generator().manual_seed(index)
        weights = {
            name: value * (1 + 0.01 * torch.randn(value.shape, generator=generator)).to(value.dtype)
            for name, value in load_file(run / WEIGHTS).items()
        }
        save_file(weights, copy / WEIGHTS, metadata={"format": "pt"})
        made.append(copy)
    return made


def one(folder: Path, number: int, *, shared: bool) -> dict[str, Any]:
    """What a number of runs cost in this process."""
    process, names = psutil.Process(), [str(folder / f"run-{index}") for index in range(number)]
    before = process.memory_full_info()
    started = time.process_time()
    opened = open_together({name: resolve_answerer(name) for name in names}, fewest=2 if shared else number + 1)
    loaded = time.process_time() - started
    models = open_models(opened, 16_384)
    document = document_of(DOCUMENT)
    said: list[Any] = []
    answers: list[float] = []
    switches: list[float] = []
    for question in QUESTIONS:
        for model in models.values():
            begun = time.process_time()
            model.place()
            placed = time.process_time()
            (prediction,) = model.reader.answer(document, [question])
            said.append([prediction.text, repr(prediction.probability), repr(prediction.no_answer_probability)])
            if question != QUESTIONS[0]:  # which reads the document
                switches.append(placed - begun)
                answers.append(time.process_time() - begun)
    memory = process.memory_full_info()
    return {
        "load": loaded,
        "uss": (memory.uss - before.uss) / MIB,
        "rss": (memory.rss - before.rss) / MIB,
        "answer": statistics.median(answers),
        "switch": statistics.median(switches),
        "said": said,
    }


def measured(folder: Path, number: int, *, shared: bool) -> dict[str, Any]:
    """The same, in a process of its own."""
    command = [sys.executable, __file__, "--one", str(folder), "--runs", str(number), *(["--shared"] if shared else [])]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="1,2,4,8", help="numbers of runs")
    parser.add_argument("--model", default="reader", help="the run that is copied")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shared", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.runs.split(",")]
    if arguments.one is not None:
        print(json.dumps(one(arguments.one, numbers[0], shared=arguments.shared)))
        return
    print("| runs | base | load s | USS MiB | RSS MiB | answer s | switch s |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies(run_path(arguments.model), folder, max(numbers))
        measured(folder, max(numbers), shared=False)  # what is made once for all later processes
        for number in numbers:
            said: list[Any] = []
            for shared in (False, True) if number > 1 else (False,):
                found = measured(folder, number, shared=shared)
                said.append(found["said"])
                how = "shared" if shared else "each its own"
                print(
                    f"| {number} | {how} | {found['load']:.1f} | {found['uss']:.0f} | {found['rss']:.0f} | "
                    f"{found['answer']:.2f} | {found['switch']:.2f} |",
                    flush=True,
                )
            if said[0] != said[-1]:
                raise SystemExit(f"{number} runs answer otherwise with a shared base")


if __name__ == "__main__":
    main()
