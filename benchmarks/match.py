"""Sides of a benchmark against each other: each trains in a process of its own, turn about, on the same documents."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from side import Job

from palmette.data.records import Document
from palmette.data.squad import dump_squad
from palmette.progress import progress

HERE = Path(__file__).resolve().parent
Documents = Sequence[Document]


@dataclass
class Result:
    """What one side showed: seconds from its start to its first step, its turns, how it ended, and the training loss
    of the warm-up.
    """

    setup: float
    turns: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)
    warmup_loss: float = math.nan

    def rates(self, name: str, seconds: str = "seconds") -> list[float]:
        """So many a second, turn by turn: "questions", "tokens", "learned" tokens, or "flops"."""
        return [turn[name] / turn[seconds] for turn in self.turns]

    def rate(self, name: str, seconds: str = "seconds") -> float:
        """The median over the turns."""
        return statistics.median(self.rates(name, seconds))


class Worker:
    """The process of one side: a script that is given its job."""

    def __init__(self, script: str, job: Job) -> None:
        folder = Path(job.folder)
        folder.mkdir()
        self._log = folder / "log.txt"
        (folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
        command = [sys.executable, str(HERE / script), str(folder / "job.json")]
        # Both sides wait for their threads as the command line does.
        pipe, silent = subprocess.PIPE, {"GOMP_SPINCOUNT": "3000", **os.environ, "HF_HUB_DISABLE_TELEMETRY": "1"}
        with self._log.open("w") as log:
            self._process: Any = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=silent)

    def receive(self, said: str = "") -> dict[str, Any]:
        """Say something to it, if anything, and wait for its next message.

        Raises:
            RuntimeError: the process has ended instead; the message holds the last lines that it wrote.
        """
        with suppress(BrokenPipeError):  # it has ended: seen below
            self._process.stdin.write(said)
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            tail = "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise RuntimeError(f"a side ended with status {self._process.wait()}:\n{tail}")
        return dict(json.loads(line))

    def go_on(self) -> dict[str, Any]:
        """Let it go on to its next message."""
        return self.receive("go on\n")

    def close(self) -> None:
        """End it, wherever it is."""
        self._process.kill()
        self._process.communicate()


class Contest:
    """Sides that do one job: a warm-up, then turns.

    Args:
        folder: empty, and theirs.
        script: what runs a side, in this folder.
        job: what they are asked to do; its side and folder are filled in.
        num_turns: turns of each side.
    """

    def __init__(self, folder: Path, script: str, job: Job, num_turns: int) -> None:
        self._folder, self._script, self._job = folder, script, job
        self._num_jobs, self._num_turns = 0, num_turns

    def worker(self, side: str) -> Worker:
        """Start a side."""
        self._num_jobs += 1
        job = replace(self._job, side=side, folder=str(self._folder / f"side-{self._num_jobs}"))
        return Worker(self._script, job)

    def play(self, sides: Sequence[str]) -> dict[str, Result]:
        """Train with all sides, turn about.

        Raises:
            RuntimeError: a side failed, or the sides did not train on the same tokens in the same dtype.
        """
        with ExitStack() as stack:
            workers, results = {}, {}
            for side in sides:
                workers[side] = stack.enter_context(closing(self.worker(side)))
                ready = workers[side].receive()
                results[side] = Result(ready["setup"], warmup_loss=ready["training_loss"])
            bar = stack.enter_context(closing(progress(self._num_turns * len(sides), "training", "turns")))
            for number in range(self._num_turns):
                for side in sides if number % 2 == 0 else reversed(sides):
                    results[side].turns.append(workers[side].go_on())
                    bar.update()
            for side in sides:
                results[side].end = workers[side].go_on()
        learned = {side: (result.end["rows_sha256"], result.end["dtype"]) for side, result in results.items()}
        if len(set(learned.values())) > 1:
            raise RuntimeError(f"the sides did not train on the same tokens in the same dtype: {learned}")
        return results


class Match(Contest):
    """Sides that are fine-tuned on the same documents, all of them once, `step` of them in an optimizer step: one step
    first, then turns of `turn` steps. The folder is empty, and theirs.
    """

    def __init__(
        self, folder: Path, model: str, documents: Documents, held_out: Documents, step: int, turn: int
    ) -> None:
        data, held = folder / "train.json", folder / "held_out.json"
        data.write_text(dump_squad(tuple(documents)), encoding="utf-8")
        held.write_text(dump_squad(tuple(held_out)), encoding="utf-8")
        job = Job("", model, str(data), str(held), "", documents=step, warmup=1, steps=turn)
        super().__init__(folder, "peers.py", job, (len(documents) // step - 1) // turn)
