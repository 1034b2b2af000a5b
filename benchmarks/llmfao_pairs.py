"""Pairs of answers and people's votes on them, drawn from LLMFAO, to try a judge on.

    python benchmarks/llmfao_pairs.py --data llmfao --out pairs
    palmette judge pairs pairs/pairs.jsonl --judge HuggingFaceTB/SmolLM2-135M-Instruct --out pairs/verdicts.jsonl
    palmette judge validate pairs/verdicts.jsonl pairs/votes.jsonl

LLMFAO (Ustalov, 2023, CC BY 4.0, github.com/dustalov/llmfao) holds votes of crowd workers on answers of 59 models. The
folder needs its prompts.jsonl, its answers as results.jsonl, and its votes as llmfao.csv, which come with Evalica. Five
of the thirteen prompts are used, and as many pairs as are asked for, each with all of its votes.

With --held-out, pairs are drawn among the votes on so many of the prompts, and all votes on the other prompts are
written too, with their answers, to train a reward model on:

    python benchmarks/llmfao_pairs.py --data llmfao --out held-out --held-out 2
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROMPTS = ("2", "4", "5", "6", "7")
_WINNERS = {"left": "model_a", "right": "model_b", "tie": "tie"}


@dataclass(frozen=True)
class Rows:
    """Rows to write.

    Attributes:
        pairs: the pairs that were drawn.
        votes: the votes on them.
        training: the votes on prompts that are not held out, with prompt and answers.
    """

    pairs: list[dict[str, Any]]
    votes: list[dict[str, Any]]
    training: list[dict[str, Any]]


def draw(folder: Path, number: int, seed: int, num_held_out: int | None = None) -> Rows:
    """The rows of the pairs and of the votes.

    Args:
        folder: LLMFAO's files.
        number: how many pairs.
        seed: seed of the draw.
        num_held_out: of how many prompts, drawn too. All if None, and then nothing is left to train on.
    """
    held_out = PROMPTS if num_held_out is None else random.Random(seed).sample(PROMPTS, num_held_out)
    texts = {str(row["id"]): row["text"] for row in _lines(folder / "prompts.jsonl")}
    answers = {(str(row["prompt"]), str(row["model"])): row["result"] for row in _lines(folder / "results.jsonl")}
    with (folder / "llmfao.csv").open(encoding="utf-8", newline="") as file:
        votes = [row for row in csv.DictReader(file) if row["prompt"] in PROMPTS]
    shown = {row["id"]: row for row in votes if row["prompt"] in held_out}
    names = sorted(shown, key=int)
    drawn = sorted(random.Random(seed).sample(names, min(number, len(names))), key=int)

    def both(row: dict[str, str]) -> dict[str, str]:
        one, other = (answers[row["prompt"], row[key]] for key in ("model_x", "model_y"))
        return {"answer_a": one, "answer_b": other}

    def vote(row: dict[str, str]) -> dict[str, str]:
        return {**_models(row), "judge": row["worker"], "winner": _WINNERS[row["winner"]]}

    pairs = [{**_models(shown[name]), "question": texts[shown[name]["prompt"]], **both(shown[name])} for name in drawn]
    training = [
        {**vote(row), "prompt": texts[row["prompt"]], **both(row)} for row in votes if row["prompt"] not in held_out
    ]
    return Rows(pairs, [vote(row) for row in votes if row["id"] in set(drawn)], training)


def _models(row: dict[str, str]) -> dict[str, str]:
    return {"question_id": row["prompt"], "model_a": row["left"], "model_b": row["right"]}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description="Pairs of answers and people's votes on them, drawn from LLMFAO.")
    parser.add_argument("--data", type=Path, required=True, help="The folder of LLMFAO's files.")
    parser.add_argument("--out", type=Path, required=True, help="Folder for pairs.jsonl and votes.jsonl.")
    parser.add_argument("--number", type=int, default=150, help="How many pairs.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the draw.")
    parser.add_argument("--held-out", type=int, help="Write the votes on all but so many prompts for training.")
    given = parser.parse_args()
    rows = draw(given.data, given.number, given.seed, given.held_out)
    given.out.mkdir(parents=True)
    _write(given.out / "pairs.jsonl", rows.pairs)
    _write(given.out / "votes.jsonl", rows.votes)
    if rows.training:
        _write(given.out / "training.jsonl", rows.training)
    print(f"{len(rows.pairs)} pairs, {len(rows.votes)} votes: {given.out}")


if __name__ == "__main__":
    main()
