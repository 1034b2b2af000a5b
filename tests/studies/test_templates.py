"""Templates of recipes: every key with its default, so that the template is the recipe of defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from palmette.config.recipes import Recipe, read_section, read_settings
from palmette.config.sections import Section
from palmette.errors import RecipeError
from palmette.studies.chain.recipe import Chain
from palmette.studies.recipe_keys import keys_of_section
from palmette.studies.sweep.recipe import Sweep, load_sweep
from palmette.studies.templates import template_text, templates
from palmette.train.recipes.masked import MlmRecipe
from palmette.train.recipes.preferences import DpoRecipe, KtoRecipe, RewardRecipe
from palmette.train.recipes.rollouts import GrpoRecipe, PpoRecipe
from palmette.train.recipes.texts import PretrainRecipe
from palmette.train.stages import STAGES, read_recipe

# The least that each class takes. All else is its default.
LEAST: dict[str, tuple[type[Section], dict[str, object]]] = {
    "sft": (Recipe, {"output": "runs/sft"}),
    "reward": (RewardRecipe, {"output": "runs/reward", "data": {"train": ["preferences.jsonl"]}}),
    "dpo": (DpoRecipe, {"output": "runs/dpo", "data": {"train": ["preferences.jsonl"]}}),
    "kto": (KtoRecipe, {"output": "runs/kto", "data": {"train": ["verdicts.jsonl"]}}),
    "grpo": (GrpoRecipe, {"output": "runs/grpo"}),
    "ppo": (PpoRecipe, {"output": "runs/ppo"}),
    "pretrain": (PretrainRecipe, {"output": "runs/pretrain"}),
    "mlm": (MlmRecipe, {"output": "runs/mlm"}),
    "sweep": (Sweep, {"output": "runs/sweep"}),
}


def test_every_stage_has_a_template() -> None:
    assert list(templates()) == [*STAGES, "sweep", "chain"]
    assert set(templates()) == {*LEAST, "chain"}


@pytest.mark.parametrize("name", LEAST)
def test_a_template_reads_back_as_the_defaults(name: str) -> None:
    kind, least = LEAST[name]
    assert read_section(kind, read_settings(template_text(name), name), name) == kind.model_validate(least)


@pytest.mark.parametrize("name", STAGES)
def test_the_command_reads_the_template(name: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(template_text(name))
    assert read_recipe(tmp_path / "r.yaml", name).stage == name


def test_the_templates_of_studies_are_read(tmp_path: Path) -> None:
    """A chain's stages are an example. All its other keys are the defaults."""
    (tmp_path / "sweep.yaml").write_text(template_text("sweep"))
    assert len(load_sweep(tmp_path / "sweep.yaml")[1]) == 1
    chain = read_section(Chain, read_settings(template_text("chain"), "chain"), "chain")
    assert chain == Chain(output="runs/chain", stages=chain.stages)
    assert [values["kind"] for values in chain.stages.values()] == ["run", "preferences", "dpo"]


@pytest.mark.parametrize("name", [*LEAST, "chain"])
def test_a_template_has_a_comment_for_every_key(name: str) -> None:
    """The meaning of each key stands above it, and no key of the class is left out."""
    text = template_text(name)
    kind = templates()[name].kind
    values = yaml.safe_load(text)
    keys = list(keys_of_section(kind))
    assert len(keys) > 10
    joined = " ".join(line.strip().removeprefix("# ") for line in text.splitlines())
    for key in keys:
        place = values
        for part in key.name.split("."):
            assert part in place, key.name
            place = place[part]
        assert re.sub(r"\s+", " ", key.meaning) in joined, key.name


@pytest.mark.parametrize("name", [*LEAST, "chain"])
def test_no_line_of_a_template_is_longer_than_a_wide_terminal(name: str) -> None:
    assert max(map(len, template_text(name).splitlines())) <= 120


def test_an_unknown_kind_is_told_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"no kind of recipe 'lora'. Give one of: sft, reward, .*chain"):
        template_text("lora")
