"""Fine-tuning with Palmette and with TRL's SFTTrainer, side by side in one run: speed, memory, and the loss that they reach.

Each side trains in a process of its own, so that its memory is its own. They take turns; the one that waits is blocked on a pipe.
Both start from the same weights and take the same optimizer steps over the same tokens (checked by a hash), and the same code measures
on the same held-out documents what they have learned. `benchmarks/peers.py` says how TRL is set up; unless `--trl` names a
setting, each likely one is tried on a few steps and the fastest is kept.

Prints a table; the last line is the ratio alone: Palmette over TRL, questions per second, medians.

    python benchmarks/train.py [--documents 2] [--questions-per-document 9] [--steps 2] [--repeats 3] [--data builtin:train]
        [--trl auto] [--learned-head] [--sweep questions length branch] [--plot PATH]

`--sweep` adds a table each over questions per document, tokens of a document, and tokens of a question, one document a step.
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
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from peers import PALMETTE, Job

from palmette.data.records import Document
from palmette.data.source import read_source
from palmette.data.squad import dump_squad
from palmette.model.embedded import DEFAULT_MODEL
from palmette.model.loading import fast_dtype, load_tokenizer
from palmette.run import machine
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.chat import ChatTemplate

TRL_VERSION = "1.16.0"
MISSING = (
    f"this benchmark compares with TRL {TRL_VERSION}, which is not installed here: pip install --no-deps trl=={TRL_VERSION}\n"
    "(what it needs comes with palmette; in other versions its settings may mean something else)"
)
HERE = Path(__file__).resolve().parent
SWEEPS = {
    "questions": ("questions per document", (1, 2, 4, 8, 16, 32)),
    "length": ("tokens of the document", (128, 256, 512, 1024, 2048, 4096)),
    "branch": ("tokens of a question", (8, 16, 32, 64, 128, 256)),
}
GIB = 2**30
Documents = Sequence[Document]


@dataclass
class Result:
    """What one side showed: seconds from its start to its first step, its turns, and how it ended."""

    setup: float
    turns: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)

    def rates(self, name: str, seconds: str = "seconds") -> list[float]:
        """So many a second, turn by turn: "questions", "tokens", "learned" tokens, or "flops"."""
        return [turn[name] / turn[seconds] for turn in self.turns]

    def rate(self, name: str, seconds: str = "seconds") -> float:
        """The median of `rates`."""
        return statistics.median(self.rates(name, seconds))


class Worker:
    """The process of one side."""

    def __init__(self, job: Job) -> None:
        folder = Path(job.folder)
        folder.mkdir()
        self._log = folder / "log.txt"
        (folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
        command = [sys.executable, str(HERE / "peers.py"), str(folder / "job.json")]
        pipe, silent = subprocess.PIPE, {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1"}
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


class Match:
    """Sides that train on the same documents, all of them once, `step` of them in an optimizer step: one step first, then turns of
    `turn` steps. The folder is empty, and theirs.
    """

    def __init__(
        self, folder: Path, model: str, documents: Documents, held_out: Documents, step: int, turn: int
    ) -> None:
        self._folder, self._num_jobs, self._num_turns = folder, 0, (len(documents) // step - 1) // turn
        data, held = folder / "train.json", folder / "held_out.json"
        data.write_text(dump_squad(tuple(documents)), encoding="utf-8")
        held.write_text(dump_squad(tuple(held_out)), encoding="utf-8")
        self._job = Job("", model, str(data), str(held), "", documents=step, warmup=1, steps=turn)

    def worker(self, side: str) -> Worker:
        """Start a side."""
        self._num_jobs += 1
        return Worker(replace(self._job, side=side, folder=str(self._folder / f"side-{self._num_jobs}")))

    def play(self, sides: Sequence[str]) -> dict[str, Result]:
        """Train with all sides, turn about.

        Raises:
            RuntimeError: a side failed, or the sides did not train on the same tokens in the same dtype.
        """
        with ExitStack() as stack:
            workers, results = {}, {}
            for side in sides:
                workers[side] = stack.enter_context(closing(self.worker(side)))
                results[side] = Result(workers[side].receive()["setup"])
            for number in range(self._num_turns):
                for side in sides if number % 2 == 0 else reversed(sides):
                    results[side].turns.append(workers[side].go_on())
            for side in sides:
                results[side].end = workers[side].go_on()
        learned = {side: (result.end["rows_sha256"], result.end["dtype"]) for side, result in results.items()}
        if len(set(learned.values())) > 1:
            raise RuntimeError(f"the sides did not train on the same tokens in the same dtype: {learned}")
        return results


class Task:
    """The documents of one measurement: so many, each with so many questions; and the tokens that they make."""

    def __init__(self, model: str, documents: Documents) -> None:
        self._tokenizer = load_tokenizer(model)
        self._qa = ExtractiveQa(ChatTemplate(self._tokenizer))
        self._documents = documents

    def documents(self, num: int, num_questions: int) -> list[Document]:
        """Documents, evenly spread over the data, with exactly so many questions: cut off where they have more; begun anew only
        where too few documents have enough.

        Raises:
            SystemExit: the data holds fewer documents.
        """
        asked = [document for document in self._documents if document.questions]
        if len(asked) < num:
            raise SystemExit(f"{num} documents are needed, {len(asked)} have questions: lower --steps or --repeats")
        enough = [document for document in asked if len(document.questions) >= num_questions]
        if len(enough) < num:
            few = f"{num - len(enough)} documents have fewer than {num_questions} questions: some are asked twice"
            print(few, file=sys.stderr)
            enough = sorted(asked, key=lambda document: -len(document.questions))[:num]
        return [with_questions(enough[index * len(enough) // num], num_questions) for index in range(num)]

    def longest(self, documents: Documents) -> int:
        """Tokens of the longest example."""
        return max(int(self._qa.training_tree(document).num_positions) for document in documents)

    def with_length(self, document: Document, num_tokens: int) -> Document:
        """The document lengthened by others, or cut, to so many tokens; questions whose answer is cut off lose it."""
        others = "\n\n".join(other.text for other in self._documents if other.id != document.id)
        text = self._cut(document.text + "\n\n" + " ".join([others] * (1 + 20 * num_tokens // len(others))), num_tokens)
        questions = tuple(
            replace(q, answers=tuple(a for a in q.answers if a.start + len(a.text) <= len(text)), plausible=())
            for q in document.questions
        )
        return replace(document, text=text, questions=questions)

    def with_branches(self, document: Document, num_tokens: int) -> Document:
        """The document, with each question cut, or lengthened by its text, to so many tokens."""
        filler = " ".join([document.text] * (1 + 20 * num_tokens // len(document.text)))
        questions = tuple(replace(q, text=self._cut(f"{q.text} {filler}", num_tokens)) for q in document.questions)
        return replace(document, questions=questions)

    def _cut(self, text: str, num_tokens: int) -> str:
        found = self._tokenizer(text[: 20 * num_tokens], add_special_tokens=False, return_offsets_mapping=True)
        return text[: found["offset_mapping"][:num_tokens][-1][1]].rstrip()


def with_questions(document: Document, num: int) -> Document:
    """The document with exactly so many questions, beginning anew where it has fewer."""
    questions = islice(cycle(document.questions), num)
    return replace(document, questions=tuple(replace(q, id=f"{q.id}#{i}") for i, q in enumerate(questions)))


def settings_of_trl(num_examples: int, longest: int, budget: int) -> list[str]:
    """The settings of TRL worth a try for a step of so many examples, in micro-batches of at most `budget` tokens.

    >>> settings_of_trl(18, 350, 4096)
    ['padded:9', 'padded:6', 'padded:3', 'free:9', 'free:3']
    """
    sizes = [n for n in range(num_examples, 0, -1) if num_examples % n == 0 and (n == 1 or n * longest <= budget)]
    several = [n for n in sizes if n > 1]
    flat = dict.fromkeys([*several[:1], *[n for n in several if n <= 4][:1]])
    return [f"padded:{n}" for n in sizes[:3]] + [f"free:{n}" for n in flat]


def fastest(match: Match, settings: Sequence[str]) -> str:
    """The setting with the quickest turn; one that fails is left out, and said to be."""
    seconds: dict[str, float] = {}
    for setting in settings:
        with closing(match.worker(setting)) as worker:
            try:
                worker.receive()
                seconds[setting] = worker.go_on()["seconds"]
                print(f"  TRL {setting}: {seconds[setting]:.1f} s", flush=True)
            except RuntimeError as error:
                print(f"  TRL {setting} is left out: {error}", flush=True)
    if not seconds:
        raise SystemExit("TRL runs in none of these settings here")
    return min(seconds, key=lambda setting: seconds[setting])


def matmul_peak(dtype: torch.dtype) -> float:
    """The most operations per second that square matrix products of this dtype reach here, in about 2 seconds."""
    best, started = 0.0, time.perf_counter()
    for size in (1024, 1024, *[2048] * 4, *[4096] * 8):
        a, b = torch.rand(2, size, size, device="cuda" if torch.cuda.is_available() else "cpu").to(dtype)
        before = time.perf_counter()
        float((a @ b)[0, 0])
        best = max(best, 2 * size**3 / (time.perf_counter() - before))
        if time.perf_counter() - started > 2:
            break
    return best


def print_setting() -> None:
    """Print versions, commit, machine, and those of the processor's flags that matter to matrix products."""
    packages = ("palmette", "trl", "torch", "transformers", "peft", "accelerate", "datasets")
    print(", ".join(f"{name} {metadata.version(name)}" for name in packages))
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout if shutil.which("git") else ""
    cpu = Path("/proc/cpuinfo")
    words = sorted(set(cpu.read_text(encoding="utf-8").split())) if cpu.is_file() else []
    flags = [word for word in words if word.startswith(("amx", "avx2", "avx512f", "avx512_bf16", "avx512_vnni"))]
    print(f"commit {commit.strip() or 'unknown'}; flags {' '.join(flags) or 'unknown'}\n{machine()}", flush=True)


def table(results: dict[str, Result], peak: float) -> str:
    """The results as Markdown; `peak` in operations per second."""
    rows = []
    for side, result in results.items():
        rates, memory = result.rates("questions"), [turn["memory"] / GIB for turn in result.turns]
        cells = {
            "side": "Palmette" if side == PALMETTE else f"TRL {side}",
            "questions/s (least to most)": f"{statistics.median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f})",
            "learned tokens/s": f"{result.rate('learned'):.1f}",
            "tokens/s": f"{result.rate('tokens'):.0f}",
            "share of matmul peak": f"{100 * result.rate('flops', 'forward_backward') / peak:.0f} %",
            "peak GiB": f"{result.end['peak'] / GIB:.2f}",
            "GiB after first, last turn": f"{memory[0]:.2f}, {memory[-1]:.2f}",
            "seconds to first step": f"{result.setup:.1f}",
            "held-out loss": f"{result.end['loss']:.4f}",
        }
        rows.append(cells)
    lines = [list(rows[0]), ["---", *["---:"] * (len(rows[0]) - 1)], *[list(row.values()) for row in rows]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def sweep(what: str, task: Task, options: argparse.Namespace, kind: str, budget: int) -> list[dict[str, Any]]:
    """Measure both sides over one quantity, one document a step, with TRL's micro-batches of a kind and of so many tokens at
    most; print a table line by line.
    """
    title, values = SWEEPS[what]
    print(f"\n| {title} | tokens | TRL | questions/s | TRL | ratio | us/token | TRL |\n{'|---:' * 8}|", flush=True)
    points = []
    for value in values:
        num_questions = value if what == "questions" else options.questions_per_document
        documents = task.documents(1 + options.repeats, num_questions)
        if what != "questions":
            change = task.with_length if what == "length" else task.with_branches
            documents = [change(document, value) for document in documents]
        settings = settings_of_trl(num_questions, task.longest(documents), budget)
        setting = next((s for s in settings if s.startswith(kind)), settings[0])
        with tempfile.TemporaryDirectory() as name:
            results = Match(Path(name), options.model, documents, documents[:1], 1, 1).play([PALMETTE, setting])
        sides = [results[PALMETTE], results[setting]]
        tokens = [statistics.median(turn["tokens"] for turn in side.turns) for side in sides]
        rates, costs = [side.rate("questions") for side in sides], [1e6 / side.rate("tokens") for side in sides]
        cells = [value, *[f"{t:.0f}" for t in tokens], *[f"{r:.2f}" for r in rates], f"{rates[0] / rates[1]:.1f}"]
        print(f"| {' | '.join(map(str, [*cells, *[f'{c:.0f}' for c in costs]]))} |", flush=True)
        points.append({"value": value, "rates": rates, "costs": costs})
    return points


def plot(path: Path, swept: dict[str, list[dict[str, Any]]]) -> None:
    """Draw what was swept: questions per second above, time per token below."""
    quantities = {"rates": "questions per second", "costs": "microseconds per token"}
    figure = Figure(figsize=(4.2 * len(swept), 6.4), layout="constrained")
    axes = figure.subplots(2, len(swept), squeeze=False)
    for column, (what, points) in enumerate(swept.items()):
        title, values = SWEEPS[what]
        for axis, (key, label) in zip(axes[:, column], quantities.items(), strict=True):
            for side, (name, color) in enumerate((("Palmette", "#1b7f5c"), ("TRL", "#b4552d"))):
                axis.plot(values, [point[key][side] for point in points], "o-", color=color, label=name)
            axis.set(xscale="log", yscale="log", xlabel=title, ylabel=label)
            axis.set_xticks(values, [str(value) for value in values])
            axis.minorticks_off()
    axes[0, 0].legend()
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=2, help="of an optimizer step")
    parser.add_argument("--questions-per-document", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2, help="optimizer steps of a turn")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side")
    parser.add_argument("--held-out", type=int, default=4, help="documents that the loss is measured on")
    parser.add_argument("--data", default="builtin:train")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--trl", default="auto", help="padded:N or free:N (see peers.py); auto tries some of these")
    parser.add_argument("--micro-batch-tokens", type=int, default=4096, help="the most that auto tries")
    parser.add_argument("--learned-head", action="store_true", help="add a patched TRL as a third side (see peers.py)")
    parser.add_argument("--sweep", nargs="+", choices=list(SWEEPS), default=[])
    parser.add_argument("--plot", type=Path, help="PNG file for what was swept")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = arguments()
    if TRL_VERSION not in {found.version for found in metadata.distributions(name="trl")}:
        raise SystemExit(MISSING)
    dtype = fast_dtype()
    print_setting()
    peaks = {name: matmul_peak(name) for name in (torch.bfloat16, torch.float32)}
    task = Task(options.model, read_source(options.data).documents)
    step, chosen = options.documents, options.trl
    num, examples = step * (1 + options.steps * options.repeats), step * options.questions_per_document
    documents = task.documents(num + options.held_out, options.questions_per_document)
    longest, held_out = task.longest(documents), documents[num:]
    print(f"{options.model}, {dtype}, {options.data}: steps of {step} documents, {examples} questions", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen == "auto":
            (folder / "trial").mkdir()
            trial = Match(folder / "trial", options.model, documents[: 2 * step], held_out, step, 1)
            chosen = fastest(trial, settings_of_trl(examples, longest, options.micro_batch_tokens))
        match = Match(folder, options.model, documents[:num], held_out, step, options.steps)
        patched = [f"{chosen}:learned-head"] if options.learned_head else []
        results = match.play([PALMETTE, chosen, *patched])
    peaks = {name: max(peak, matmul_peak(name)) for name, peak in peaks.items()}
    print("matmul peak: " + ", ".join(f"{str(name)[6:]} {peak / 1e9:.0f} GFLOP/s" for name, peak in peaks.items()))
    print(table(results, peaks[dtype]))
    print(f"held-out loss before training: {results[PALMETTE].end['untouched']:.4f}")
    kind, size = chosen.split(":")[:2]
    swept = {what: sweep(what, task, options, kind, int(size) * longest) for what in options.sweep}
    if options.plot and swept:
        plot(options.plot, swept)
    print(f"ratio {results[PALMETTE].rate('questions') / results[chosen].rate('questions'):.1f}")


if __name__ == "__main__":
    main()
