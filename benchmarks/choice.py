"""Multiple-choice items scored by Palmette and by lm-eval's hf backend, side by side: items a second, and memory.

Each side is a process of its own with its own copy of the model. They take turns, so both meet the same neighbours on
the machine. Texts are the same, both encode them, and loading the model is not counted. lm-eval gets the batch size and
the data type that are fastest on a few items. Both sides must choose the same for nearly every item (bfloat16 rounds),
or there is no result.

Three workloads: HellaSwag without examples, HellaSwag after five examples that all items share, and questions that are
answered with a letter after five examples, as in MMLU (made of OpenBookQA).

    python benchmarks/choice.py [--hellaswag FILE] [--shared FILE] [--openbookqa FILE] [--items 32] [--rounds 3]
        [--only WORKLOAD ...] [--batch-sizes 1 4 8 16] [--dtypes bfloat16 float32] [--tried 4] [--json PATH]

`--shared` takes OLMES' rendered requests of HellaSwag. Without files, the data sets come from the hub. It runs in the
environment that `make choice-oracle` makes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from palmette.choice.encoding import ItemEncoder
from palmette.choice.items import ChoiceItem
from palmette.choice.job import CHUNK, prepare, read_items
from palmette.choice.reading import read_rows
from palmette.choice.scoring import score_items
from palmette.choice.settings import ChoiceSettings
from palmette.choice.task import load_task
from palmette.model.embedded import DEFAULT_MODEL
from palmette.model.loading import load_model
from palmette.model.tokenizer import load_tokenizer, weights_folder
from palmette.run import write_json

WORKLOADS = ("hellaswag", "shared", "letters")
_BATCH_SIZES, _DTYPES = (1, 4, 8, 16), ("bfloat16", "float32")
_AGREE = 0.9  # the least share of items for which both sides choose the same
_MIB = 2**20


def items_of(workload: str, options: argparse.Namespace, tokenizer: Any) -> tuple[ChoiceItem, ...]:
    """The items of a workload, as they are scored."""
    if workload == "letters":
        return _letters(options.openbookqa, options.items)
    if workload == "shared" and options.shared:
        settings = ChoiceSettings(data=options.shared, limit=options.items)
    else:
        shots = 5 if workload == "shared" else 0
        settings = ChoiceSettings(data=options.hellaswag, limit=options.items, shots=shots)
    return prepare(read_items(load_task("hellaswag"), settings), tokenizer).items


def _letters(path: str | None, number: int) -> tuple[ChoiceItem, ...]:
    """Questions of OpenBookQA in the form of MMLU, after five that all share."""
    rows = read_rows(load_task("openbookqa"), path, limit=number + 5).rows
    reader = load_task("mmlu").reader("lm-eval")
    items = []
    for row in rows:
        choices = row["choices"]
        answer = choices["label"].index(row["answerKey"])
        made = {"id": row["id"], "question": row["question_stem"], "choices": choices["text"], "answer": answer}
        items.append(reader.item(made, str(row["id"])))
    shots = "".join(one.contexts[one.gold] + one.continuations[one.gold] + "\n\n" for one in items[:5])
    return tuple(replace(one, contexts=tuple(shots + text for text in one.contexts)) for one in items[5:])


class Palmette:
    """Scores items on trees."""

    def __init__(self, tokens_per_batch: int) -> None:
        loaded = load_model(DEFAULT_MODEL)
        self.model, self.tokenizer, self.tokens = loaded.model, loaded.tokenizer, tokens_per_batch

    def score(self, items: Sequence[ChoiceItem], batch_size: int) -> list[int]:  # noqa: ARG002  # as LmEval has it
        """The choice that is taken for each item."""
        encoder = ItemEncoder(self.tokenizer, "lm-eval")
        scores = []
        for start in range(0, len(items), CHUNK):
            encoded = encoder.encode(items[start : start + CHUNK])
            scores += score_items(self.model, encoded, tokens_per_batch=self.tokens)
        return [one.logprobs.index(max(one.logprobs)) for one in scores]


class LmEval:
    """Scores items with lm-eval, one row for each choice."""

    def __init__(self, dtype: str) -> None:
        from lm_eval.models.huggingface import HFLM

        self.lm = HFLM(pretrained=weights_folder(DEFAULT_MODEL), dtype=dtype, device="cpu", batch_size=1)

    def score(self, items: Sequence[ChoiceItem], batch_size: int) -> list[int]:
        """The choice that is taken for each item."""
        from lm_eval.api.instance import Instance

        self.lm.batch_size_per_gpu = batch_size
        requests = [
            Instance("loglikelihood", {}, pair, index)
            for item in items
            for index, pair in enumerate(zip(item.contexts, item.continuations, strict=True))
        ]
        found = iter(self.lm.loglikelihood(requests, disable_tqdm=True))
        taken = []
        for item in items:
            logprobs = [next(found)[0] for _ in item.choices]
            taken.append(logprobs.index(max(logprobs)))
        return taken


def work(options: argparse.Namespace) -> None:
    """A side: for each line on standard input, score the items and say how long it took."""
    items = items_of(options.work, options, load_tokenizer(DEFAULT_MODEL))
    with contextlib.redirect_stdout(sys.stderr):
        side = LmEval(options.dtype) if options.dtype else Palmette(options.tokens)
        side.score(items[:2], 1)
    for line in sys.stdin:
        number, batch_size = json.loads(line)
        started, busy = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(sys.stderr):
            taken = side.score(items[:number], batch_size)
        seconds, processor = time.perf_counter() - started, time.process_time() - busy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "processor": processor, "peak": peak, "taken": taken}), flush=True)


class Side:
    """A process that scores when it is told to."""

    def __init__(self, workload: str, given: Sequence[str], dtype: str = "") -> None:
        self.dtype, self.batch_size = dtype, 1
        command = [sys.executable, __file__, *given, "--work", workload, "--dtype", dtype]
        pipe = subprocess.PIPE
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # it lives as long as the process
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._said, text=True)

    def score(self, number: int) -> dict[str, Any]:
        """Score so many items."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"[{number}, {self.batch_size}]\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self._said.seek(0)
            last = (self._said.read().strip().splitlines() or ["without a word"])[-1]
            raise SystemExit(f"a side ended early: {last}. lm-eval 0.4.13 comes with: make choice-oracle")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def measure(workload: str, options: argparse.Namespace, given: Sequence[str]) -> dict[str, Any]:
    """Both sides in turns on a workload."""
    theirs = _fastest(workload, options, given)
    sides = {"palmette": Side(workload, given), "lm-eval": theirs}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for turn in range(options.rounds):
        for name in sorted(sides, reverse=turn % 2 == 0):
            found[name].append(sides[name].score(options.items))
    for side in sides.values():
        side.close()
    pairs = list(zip(found["palmette"][0]["taken"], found["lm-eval"][0]["taken"], strict=True))
    agree = sum(a == b for a, b in pairs) / len(pairs)
    if agree < _AGREE:
        raise SystemExit(f"{workload}: the sides choose the same for {agree:.0%} of the items only")
    ratios = [
        {key: other[key] / own[key] for key in ("seconds", "processor")}
        for own, other in zip(found["palmette"], found["lm-eval"], strict=True)
    ]
    setting = {"dtype": theirs.dtype, "batch_size": theirs.batch_size}
    return {"workload": workload, "items": len(pairs), "lm_eval": setting, "agree": agree, "ratios": ratios, **found}


def _fastest(workload: str, options: argparse.Namespace, given: Sequence[str]) -> Side:
    """lm-eval with the settings that take the least processor time on a few items."""
    best: tuple[float, Side, int] | None = None
    for dtype in options.dtypes:
        side = Side(workload, given, dtype)
        for side.batch_size in options.batch_sizes:
            took = side.score(options.tried)["processor"]
            if best is None or took < best[0]:
                if best and best[1] is not side:
                    best[1].close()
                best = (took, side, side.batch_size)
        if best and best[1] is not side:
            side.close()
    assert best is not None
    _, side, side.batch_size = best
    return side


def show(found: dict[str, Any]) -> None:
    """Print a workload's figures."""
    print(f"\n{found['workload']}: {found['items']} items, lm-eval with {found['lm_eval']}, agree {found['agree']:.0%}")
    for name in ("palmette", "lm-eval"):
        rates = [found["items"] / one["seconds"] for one in found[name]]
        busy = [found["items"] / one["processor"] for one in found[name]]
        peak = max(one["peak"] for one in found[name]) / _MIB
        print(
            f"  {name:9} {statistics.median(rates):6.2f} items a second ({min(rates):.2f} to {max(rates):.2f}), "
            f"{statistics.median(busy):6.2f} a second of processor time, peak {peak:.0f} MiB"
        )
    for key in ("seconds", "processor"):
        ratios = [one[key] for one in found["ratios"]]
        print(f"  ratio by {key}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def main() -> None:
    """Measure the workloads and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hellaswag")
    parser.add_argument("--shared")
    parser.add_argument("--openbookqa")
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--only", nargs="*", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=list(_BATCH_SIZES))
    parser.add_argument("--dtypes", nargs="+", choices=_DTYPES, default=list(_DTYPES))
    parser.add_argument("--tried", type=int, default=4, help="items on which lm-eval's settings are tried")
    parser.add_argument("--json")
    parser.add_argument("--work", choices=WORKLOADS, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options)
        return
    results = []
    for workload in options.only:
        results.append(measure(workload, options, sys.argv[1:]))
        show(results[-1])
    if options.json:
        write_json(Path(options.json), results)


if __name__ == "__main__":
    main()
