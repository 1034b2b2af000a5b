"""Pairs of answers and people's votes on them, drawn from LLMFAO, to try a judge on.

    python benchmarks/llmfao_pairs.py --data llmfao --out pairs
    palmette judge pairs pairs/pairs.jsonl --judge HuggingFaceTB/SmolLM2-135M-Instruct --out pairs/verdicts.jsonl
    palmette judge validate pairs/verdicts.jsonl pairs/votes.jsonl

LLMFAO (Ustalov, 2023, CC BY 4.0, github.com/dustalov/llmfao) holds votes of crowd workers on answers of 59 models. The
folder needs its prompts.jsonl, its answers as results.jsonl, and its votes as llmfao.csv, which come with Evalica. Five
of the thirteen prompts are used, and as many pairs as are asked for, each with all of its votes.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PROMPTS = ("2", "4", "5", "6", "7")
_WINNERS = {"left": "model_a", "right": "model_b", "tie": "tie"}


def draw(folder: Path, number: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of the pairs and of the votes.

    Args:
        folder: LLMFAO's files.
        number: how many pairs.
        seed: seed of the draw.
    """
    texts = {str(row["id"]): row["text"] for row in _lines(folder / "prompts.jsonl")}
    answers = {(str(row["prompt"]), str(row["model"])): row["result"] for row in _lines(folder / "results.jsonl")}
    with (folder / "llmfao.csv").open(encoding="utf-8", newline="") as file:
        votes = [row for row in csv.DictReader(file) if row["prompt"] in PROMPTS]
    shown = {row["id"]: row for row in votes}
    drawn = sorted(random.Random(seed).sample(sorted(shown, key=int), number), key=int)
    pairs = []
    for name in drawn:
        row = shown[name]
        one, other = (answers[row["prompt"], row[key]] for key in ("model_x", "model_y"))
        pairs.append({**_models(row), "question": texts[row["prompt"]], "answer_a": one, "answer_b": other})
    chosen = [row for row in votes if row["id"] in set(drawn)]
    return pairs, [{**_models(row), "judge": row["worker"], "winner": _WINNERS[row["winner"]]} for row in chosen]


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
    given = parser.parse_args()
    pairs, votes = draw(given.data, given.number, given.seed)
    given.out.mkdir(parents=True)
    _write(given.out / "pairs.jsonl", pairs)
    _write(given.out / "votes.jsonl", votes)
    print(f"{len(pairs)} pairs, {len(votes)} votes: {given.out}")


if __name__ == "__main__":
    main()
