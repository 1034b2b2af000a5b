"""The memory that `palmette plan` computes, against measured peaks of resident memory on a CPU.

    python benchmarks/plan.py [--model NAME] [--words 300 1000 1500] [--jobs answer]

Each case is a command in a process of its own, on documents of random words: `palmette ask`, and `palmette train sft`
with an adapter and with all weights, with and without gradient checkpointing. The last line is the largest difference.
The largest case needs 5 GB. All take about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

WORDS = "the river water mill town house garden winter stone bridge letter music iron market field autumn light paper"
QUESTIONS = 5


@dataclass(frozen=True)
class Case:
    """A case: what is done, on documents of how many words."""

    method: str
    checkpointing: bool
    words: int

    @property
    def name(self) -> str:
        """Its name in the table."""
        return f"{self.method}{', checkpointing' if self.checkpointing else ''}"


def documents(words: int, number: int) -> dict[str, object]:
    """Documents of random words in SQuAD's format, each with a few questions about words at a place."""
    entries = []
    for index in range(number):
        chosen = random.Random(index).choices(WORDS.split(), k=words)
        questions = [
            {
                "id": f"{index}-{place}",
                "question": f"Which word comes at place {place}?",
                "is_impossible": False,
                "answers": [{"text": chosen[place], "answer_start": len(" ".join([*chosen[:place], ""]))}],
            }
            for place in range(QUESTIONS)
        ]
        paragraph = {"context": " ".join(chosen), "qas": questions}
        entries.append({"title": f"document {index}", "paragraphs": [paragraph]})
    return {"version": "v2.0", "data": entries}


def command(case: Case, model: str, folder: Path) -> list[str]:
    """The words after `palmette`."""
    source = documents(case.words, 2)
    if case.method == "answer":
        paragraph = source["data"][0]["paragraphs"][0]  # type: ignore[index]
        (folder / "document.txt").write_text(paragraph["context"], encoding="utf-8")
        return ["ask", str(folder / "document.txt"), paragraph["qas"][0]["question"], "--model", model]
    (folder / "data.json").write_text(json.dumps(source), encoding="utf-8")
    recipe = {
        "output": str(folder / "run"),
        "model": {"name": model},
        "data": {"train": [str(folder / "data.json")]},
        "train": {
            "method": case.method,
            "gradient_checkpointing": case.checkpointing,
            "epochs": 1,
            "trees_per_step": 1,
            "tokens_per_batch": 1,
            "row_tokens": 1 << 20,
            "learning_rate": 1e-6,
        },
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    return ["train", "sft", str(folder / "recipe.yaml")]


def measured_peak(words: list[str], log: Path) -> int:
    """The peak of resident memory of a command, in bytes.

    On Linux a process begins with its parent's peak, so this process imports nothing large.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-m", "palmette", *words], stdout=stream, stderr=stream)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"palmette {' '.join(words)} failed:\n{log.read_text(encoding='utf-8')}")
    return usage.ru_maxrss * 1024


def row_sizes(model: str, case: Case, folder: Path) -> tuple[int, int]:
    """Tokens of the longest row, and learned tokens of it, from the log of `palmette inspect`."""
    data = folder / "data.json"
    data.write_text(json.dumps(documents(case.words, 2)), encoding="utf-8")
    words = ["inspect", "--data", str(data), "--model", model, "--limit-questions", str(QUESTIONS)]
    done = subprocess.run([sys.executable, "-m", "palmette", *words], capture_output=True, text=True, check=True)
    last = done.stdout.strip().replace("\n", " ").rpartition("tokens packed")
    return int(last[0].split()[-1]), int(last[2].partition("learned")[0].split(". ")[-1])


def planned(model: str, case: Case, tokens: int, learned: int) -> int:
    """The peak that `palmette plan` states, in bytes."""
    words = ["plan", model, "--json", "--device", "cpu", "--context", str(tokens), "--learned", str(learned)]
    done = subprocess.run([sys.executable, "-m", "palmette", *words], capture_output=True, text=True, check=True)
    (plan,) = json.loads(done.stdout)["plans"]
    for way in plan["ways"]:
        if (way["method"], way["checkpointing"]) == (case.method, case.checkpointing):
            return int(way["bytes"][str(tokens)]["total"])
    raise SystemExit(f"palmette plan has no line for {case.name}")


def main() -> None:
    """Measure every case, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--words", type=int, nargs="+", default=[300, 1000, 1500])
    parser.add_argument("--jobs", nargs="+", default=["answer", "lora", "full"], help="which of answer, lora, full")
    options = parser.parse_args()
    kinds = [("answer", False), ("lora", False), ("lora", True), ("full", False), ("full", True)]
    kinds = [kind for kind in kinds if kind[0] in options.jobs]
    print("| job | tokens | planned, MB | measured, MB | difference |\n|---|---:|---:|---:|---:|", flush=True)
    worst = 0.0
    for case in (Case(method, again, words) for words in options.words for method, again in kinds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            tokens, learned = row_sizes(options.model, case, folder)
            expected = planned(options.model, case, tokens, learned)
            words = command(case, options.model, folder)
            if case.method == "answer":
                measured_peak(words, folder / "log")  # the first time, weights are cast and kept in the cache
            peak = measured_peak(words, folder / "log")
        difference = 100 * (expected / peak - 1)
        worst = max(worst, abs(difference))
        figures = f"{expected / 1e6:,.0f} | {peak / 1e6:,.0f} | {difference:+.1f} %"
        print(f"| {case.name} | {tokens:,} | {figures} |", flush=True)
    print(f"largest difference {worst:.1f} %")


if __name__ == "__main__":
    main()
