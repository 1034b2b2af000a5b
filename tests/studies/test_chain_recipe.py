"""Recipes of chains: what contradicts itself is named before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palmette.errors import RecipeError
from palmette.studies.chain.measuring import inputs
from palmette.studies.chain.recipe import load_chain
from tests.support.recipes import chain_file

DPO = {"kind": "dpo", "start": "stage:a", "data": {"train": ["stage:p"]}}
PAIRS = {"kind": "preferences", "model": "stage:a", "data": "builtin:dev"}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no stages": ({"stages": {}}, "stages = {}"),
    "kind": ({"stages": {"a": {"kind": "dop"}}}, "stage a: kind = 'dop'. Give one of: run, preferences, sft"),
    "later stage": (
        {"stages": {"d": DPO, "a": {"kind": "sft"}}},
        "start = 'stage:a' names no stage before it. .*: none",
    ),
    "not a policy": (
        {"stages": {"a": {"kind": "sft"}, "p": PAIRS, "d": {**DPO, "start": "stage:p"}}},
        "start = 'stage:p' asks for a policy, and that stage is of kind preferences",
    ),
    "no reader of comparisons": (
        {"stages": {"a": {"kind": "sft"}, "p": PAIRS, "k": {**DPO, "kind": "kto"}}},
        "data.train = 'stage:p' holds comparisons, which kto does not read. Set kto.pairs: true",
    ),
    "not preferences": (
        {"stages": {"a": {"kind": "sft"}, "d": {**DPO, "data": {"train": ["stage:a"]}}}},
        "data.train = 'stage:a' asks for preferences, and that stage is of kind sft",
    ),
    "not a reward model": (
        {"stages": {"a": {"kind": "sft"}, "g": {"kind": "grpo", "rollouts": {"reward_model": "stage:a"}}}},
        "rollouts.reward_model = 'stage:a' asks for a reward model",
    ),
    "output": ({"stages": {"a": {"kind": "sft", "output": "x"}}}, "stage a: output is not a setting of a stage"),
    "seed": ({"stages": {"a": {"kind": "sft", "train": {"seed": 1}}}}, "stage a: the seed is not a setting of a stage"),
    "seed twice": ({"seeds": [1, 1], "stages": {"a": {"kind": "sft"}}}, "has a seed twice"),
    "name": ({"stages": {"../a": {"kind": "sft"}}}, "the name is no name of a folder"),
    "key": ({"stages": {"a": {"kind": "sft", "trian": {}}}}, "stage a: unknown key 'trian'. Did you mean 'train'"),
    "no map": ({"stages": {"a": {"kind": "sft", "train": 3}}}, "stage a: train = 3 is not a map of settings"),
    "reference": ({"reference": "p", "stages": {"a": {"kind": "sft"}, "p": PAIRS}}, "no stage that makes a policy"),
    "comparisons": (
        {"stages": {"a": {"kind": "sft"}}, "evaluate": {"comparisons": "stage:a"}},
        "evaluate.comparisons = 'stage:a' names no stage that makes preferences",
    ),
}


def test_files_and_runs_among_the_settings_are_watched_and_words_are_not(tmp_path: Path) -> None:
    """By sha256sum of the file; a prompt's words are longer than any file's name may be, or begin like a home."""
    data = tmp_path / "data.jsonl"
    data.write_text("1\n")
    prompt = {"system": "Answer. " * 100, "before_question": "~nobody at all"}
    stages = {"a": {"kind": "sft", "prompt": prompt, "data": {"train": [str(data), "builtin:train"]}}}
    _, (stage,) = load_chain(chain_file(tmp_path / "c.yaml", {"stages": stages}))
    digest = "4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865"
    assert inputs(stage, {}) == {str(data): digest}


@pytest.mark.parametrize("case", sorted(BAD))
def test_mistakes_are_named_before_anything_runs(tmp_path: Path, case: str) -> None:
    values, message = BAD[case]
    with pytest.raises(RecipeError, match=message) as caught:
        load_chain(chain_file(tmp_path / "c.yaml", values))
    assert "\n" not in str(caught.value)
