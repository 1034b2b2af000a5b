"""Recipes: read strictly, with the nearest key named."""

from __future__ import annotations

from pathlib import Path

import pytest

from palmette.config.recipes import Recipe
from palmette.errors import RecipeError
from palmette.train.stages import read_recipe
from tests.support.recipes import parse_recipe

BAD = {
    "unknown key": ("output: r\ntrain: {epoch: 3}", "unknown key 'train.epoch'. Did you mean 'epochs'"),
    "unknown section": ("output: r\nmodle: {}", "unknown key 'modle'. Did you mean 'model'"),
    "missing": ("train: {}", "'output' is missing"),
    "bound": ("output: r\ntrain: {epochs: 0}", "train.epochs = 0: .*greater than or equal to 1"),
    "choice": ("output: r\ndata: {on_bad_record: ignore}", "data.on_bad_record = 'ignore'"),
    "type": ("output: r\nlora: {rank: high}", "lora.rank = 'high'"),
    "not yaml": ("output: [", "is not YAML"),
    "empty": ("", "holds no settings"),
    "not a map": ("output: r\ntrain:", "train = null is not a map of settings"),
    "twice": ("output: r\ntrain: {epochs: 3}\ntrain: {seed: 1}", "the key 'train' stands twice"),
    "truth value": ("output: r\ntrain: {epochs: yes}", "train.epochs = true: it should be a whole number"),
    "infinite": ("output: r\ntrain: {learning_rate: .inf}", "finite number"),
    "no such day": ("output: 2024-13-45", "is not YAML: month"),
    "nothing near": ("output: r\nzzz: 1", "unknown key 'zzz'. Known: data"),
    "full and few bits": (
        "output: r\nmodel: {quantization: 8bit}\ntrain: {method: full}",
        "quantization = 8bit keeps weights that train.method = full would train. Use train.method: lora",
    ),
    "bits": ("output: r\nmodel: {quantization: 2bit}", "model.quantization = '2bit'"),
    "pattern": ("output: r\nlora: {rank_pattern: {q_proj: 0}}", "lora.rank_pattern.q_proj = 0"),
    "columns of questions": (
        "output: r\ndata: {columns: {question: frage}}",
        r"columns = .*'frage'.* renames no column of questions about documents \(data\.kind = qa\)\. Rename",
    ),
    "no data": ("output: r\ndata: {train: []}", "data.train"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_recipes_are_explained_in_one_line(case: str) -> None:
    text, message = BAD[case]
    with pytest.raises(RecipeError, match=message) as caught:
        parse_recipe(text, "recipe.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("recipe.yaml")


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*none\.yaml"):
        read_recipe(tmp_path / "none.yaml")


def test_the_resolved_recipe_reads_back_as_itself() -> None:
    recipe = parse_recipe("output: runs/x\ntrain: {epochs: 3}\nmodel: {overrides: {attention_dropout: 0.0}}", "r")
    assert parse_recipe(recipe.to_yaml(), "r") == recipe
    assert recipe.train.epochs == 3


def test_powers_of_ten_are_numbers() -> None:
    assert parse_recipe("output: r\ntrain: {learning_rate: 2e-4}", "r").train.learning_rate == 0.0002


def test_the_default_model_has_one_name() -> None:
    from palmette.cli.options import DEFAULT_MODEL
    from palmette.model import embedded

    assert Recipe(output="r").model.name == DEFAULT_MODEL == embedded.DEFAULT_MODEL
