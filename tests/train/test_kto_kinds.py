"""KTO on verdicts of one kind, and on kinds of unequal weight."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palmette.config.recipes import read_section
from palmette.errors import DataError
from palmette.train.preferences.kto import describe_balance
from palmette.train.recipes.preferences import KtoRecipe, KtoSection
from palmette.train.run import train
from tests.support.runs import quiet


def recipe(tiny_folder: Path, folder: Path, labels: list[bool], **section: float) -> KtoRecipe:
    rows = [{"prompt": f"Say {n}.", "completion": "abc" * (n + 1), "label": label} for n, label in enumerate(labels)]
    data = folder / "verdicts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "output": str(folder / "run"),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [str(data)]},
        "lora": {"rank": 2},
        "train": {"epochs": 1, "trees_per_step": 9},
        "kto": section,
    }
    return read_section(KtoRecipe, values, "test")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (True, r"all 3 verdicts are good and none is bad, .* fine-tune on the good completions"),
        (
            False,
            r"all 3 verdicts are bad and none is good, but KTO learns from both. Add verdicts of the other kind\.$",
        ),
    ],
)
def test_verdicts_of_one_kind_are_refused(tiny_folder: Path, tmp_path: Path, label: bool, message: str) -> None:
    with pytest.raises(DataError, match=message):
        train(recipe(tiny_folder, tmp_path, [label] * 3), quiet)
    assert not (tmp_path / "run").exists()


def test_both_kinds_are_counted_before_training(tiny_folder: Path, tmp_path: Path) -> None:
    news: list[str] = []
    train(recipe(tiny_folder, tmp_path, [True, False, False]), news.append)
    (line,) = [line for line in news if "2 bad completions" in line]
    assert line.startswith("1 good and 2 bad completions, which weigh 1 and 2 in all.")


@pytest.mark.parametrize(
    ("good", "bad", "weights", "warns"),
    [
        (10, 10, {}, False),
        (4, 3, {}, False),  # 4/3
        (3, 4, {}, True),
        (3, 4, {"desirable_weight": 1.5}, False),  # 4.5 to 4
        (7, 5, {}, True),  # 1.4
        (30, 3, {"undesirable_weight": 10.0}, False),
        (5, 5, {"undesirable_weight": 0.0}, True),
    ],
)
def test_unequal_weights_are_reported(good: int, bad: int, weights: dict[str, float], warns: bool) -> None:
    """Ethayarajh et al. (2024) advise a ratio from 1 to 4/3, as TRL's warning does."""
    text = describe_balance(KtoSection(**weights), good, bad)
    assert text.startswith(f"{good} good and {bad} bad completions")
    assert ("kto.desirable_weight" in text) == warns
