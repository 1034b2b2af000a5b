"""Our numbers equal lm-eval's, item by item and measure by measure, in float64 on a tiny model.

lm-eval's numbers were recorded by benchmarks/choice_oracle.py (`make choice-oracle`), which runs lm-eval 0.4.13 with
its own task files on the items of data/rows.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palmette.choice.encoding import EncodedItem, ItemEncoder
from palmette.choice.job import prepare, read_items
from palmette.choice.measures import Outcome, figures
from palmette.choice.scoring import score_items
from palmette.choice.settings import ChoiceSettings
from palmette.choice.task import load_task
from palmette.model.attention import BACKENDS
from tests.support.choice import DATA, ROWS, tiny_model, tiny_tokenizer

RECORDED = json.loads((DATA / "lm_eval.json").read_text(encoding="utf-8"))
CASES = RECORDED["cases"]


def name_of(case: dict[str, Any]) -> str:
    return f"{case['task']}-{case['tokenizer']}-{case['shots']}{'-chat' if case['chat'] else ''}"


def write_rows(folder: Path, task: str) -> tuple[str, str]:
    paths = []
    for key in ("items", "shots"):
        path = folder / f"{key}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[task][key]), encoding="utf-8")
        paths.append(str(path))
    return paths[0], paths[1]


def scored(case: dict[str, Any], folder: Path, tokens_per_batch: int = 4096) -> tuple[list[EncodedItem], list[Outcome]]:
    data, shots = write_rows(folder, case["task"])
    mutual = case["task"] != "winogrande"
    settings = ChoiceSettings(
        data=data,
        shots=case["shots"],
        shots_data=shots if case["shots"] else None,
        chat_template=case["chat"],
        mutual_info=mutual,
    )
    tokenizer = tiny_tokenizer(case["tokenizer"])
    items = prepare(read_items(load_task(case["task"]), settings), tokenizer).items
    encoded = ItemEncoder(tokenizer, "lm-eval", mutual=mutual).encode(items)
    scores = score_items(tiny_model(case["tokenizer"], BACKENDS["sdpa"]), encoded, tokens_per_batch=tokens_per_batch)
    outcomes = [
        Outcome(item.id, item.subject, item.gold, item.choices, score.logprobs, score.alone)
        for item, score in zip(items, scores, strict=True)
    ]
    return encoded, outcomes


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_number_is_that_of_lm_eval(case: dict[str, Any], tmp_path: Path) -> None:
    _, outcomes = scored(case, tmp_path)
    assert len(outcomes) == len(case["items"]) > 3
    measured = figures(outcomes)
    for outcome, expected in zip(outcomes, case["items"], strict=True):
        assert outcome.logprobs == pytest.approx(expected["logprobs"], abs=1e-9)
        assert outcome.alone == pytest.approx(expected["alone"], abs=1e-9)
        for measure, right in expected["right"].items():
            assert outcome.right(measure) == bool(right), (outcome.id, measure)
    for measure, (value, stderr) in case["measures"].items():
        figure = measured["brier" if measure == "brier_score" else measure]
        assert figure.value == pytest.approx(value, abs=1e-12)
        if measure != "brier_score":  # lm-eval draws bootstrap samples for that
            assert figure.stderr == pytest.approx(stderr, abs=1e-12)


def test_the_recorded_cases_hold_what_is_hard(tmp_path: Path) -> None:
    """Tokens over the boundary, a first token before every text, several subjects, and measures that disagree."""
    joined = [case for case in CASES if case["tokenizer"] == "joined"]
    encoded = [item for case in joined for item in scored(case, tmp_path)[0]]
    assert any(item.merged for item in encoded)
    assert not all(item.merged for item in encoded)
    first = tiny_tokenizer("joined").bos_token_id
    assert all(choice.tokens[0] == first for item in encoded for choice in item.choices)
    right = [item["right"] for case in CASES for item in case["items"]]
    for measure in ("acc_norm", "acc_bytes", "acc_mutual_info"):
        assert any(one["acc"] != one.get(measure, one["acc"]) for one in right), measure


@pytest.mark.parametrize("tokens_per_batch", [32, 512])
def test_the_batch_does_not_matter(tokens_per_batch: int, tmp_path: Path) -> None:
    case = next(case for case in CASES if case["task"] == "mmlu" and case["shots"])
    _, outcomes = scored(case, tmp_path, tokens_per_batch)
    for outcome, expected in zip(outcomes, case["items"], strict=True):
        assert outcome.logprobs == pytest.approx(expected["logprobs"], abs=1e-9)
