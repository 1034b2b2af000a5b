"""The documents are true: generated parts are current, examples parse, and links lead somewhere."""

from __future__ import annotations

import importlib.util
import itertools
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from palmette.config import Recipe, read_recipe
from palmette.studies.chain.recipe import load_chain
from palmette.studies.sweep.recipe import load_sweep
from palmette.train.recipes.preferences import DpoRecipe, KtoRecipe, RewardRecipe
from palmette.train.recipes.rollouts import GrpoRecipe, PpoRecipe
from tests.support.layers import MAY_IMPORT
from tests.support.paths import ROOT

# Recipes of stages that have sections of their own, by file.
KINDS: dict[str, type[Recipe]] = {
    "dpo": DpoRecipe,
    "grpo": GrpoRecipe,
    "kto": KtoRecipe,
    "ppo": PpoRecipe,
    "reward": RewardRecipe,
}
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_reference_is_current(generate: ModuleType) -> None:
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == generate.commands(), "run `make docs`"


def test_the_picture_of_the_tree_is_current(generate: ModuleType) -> None:
    assert (ROOT / "docs" / "tree.svg").read_bytes() == generate.picture(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("sweep", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.name)
def test_sweeps_are_valid(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert len(load_sweep(sweep)[1]) > 1


@pytest.mark.parametrize("chain", [ROOT / "recipes" / "rlhf.yaml", *(ROOT / "experiments").glob("*/chain.yaml")])
def test_chains_are_valid(chain: Path) -> None:
    """All of their stages' recipes too, and every stage is built on, or makes a policy."""
    _, stages = load_chain(chain)
    built_on = {name for stage in stages for name in stage.needs}
    assert {stage.kind for stage in stages} >= {"dpo", "ppo", "grpo"}
    measured_with = {"held-out"}  # what reward models are measured on
    assert {stage.name for stage in stages if not stage.makes_policy} <= built_on | measured_with


RECIPES = sorted(set((ROOT / "recipes").glob("*.yaml")) - {ROOT / "recipes" / "rlhf.yaml"})


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_recipes_are_valid(recipe: Path) -> None:
    assert read_recipe(KINDS.get(recipe.stem, Recipe), recipe).output.startswith("runs/")
    assert yaml.safe_load(recipe.read_text())["output"]


def _permitted(rule: str, above: list[str], everything: list[str]) -> set[str]:
    """What a cell of the layer table says: a list of layers, or a rule with exceptions."""
    kind, _, exceptions = rule.partition(" but ")
    known = {"nothing": [], "all above": above, "everything": everything}
    return {*known.get(kind, kind.split(", "))} - {*filter(None, exceptions.split(", "))}


def test_the_layer_table_of_the_architecture_is_the_tested_one() -> None:
    """Row by row. "All above" are the layers of earlier rows; what a row excepts must have been permitted by its rule."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w, ]+) \| [^|]+ \| ([\w, .]+) \|$", text, flags=re.MULTILINE)
    names = [names.split(", ") for names, _ in rows]
    everything = list(itertools.chain.from_iterable(names))
    assert everything == list(MAY_IMPORT)
    for index, (group, (_, rule)) in enumerate(zip(names, rows, strict=True)):
        above = list(itertools.chain.from_iterable(names[:index]))
        assert {*rule.partition(" but ")[2].split(", ")} <= {"", *everything}
        for name in group:
            assert _permitted(rule, above, everything) - {name} == MAY_IMPORT[name], name


def test_the_files_of_the_table_of_laws_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"\btests/[\w/.]*\w/?", text)
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_documents_exist(page: Path, generate: ModuleType) -> None:
    known = set(re.findall(r"^## palmette (.+)$", generate.commands(), flags=re.MULTILINE))
    for words in re.findall(
        r"^ {4}(?:.*\| )?palmette ([a-z]+(?:-[a-z]+)*(?: [a-z]+)*)",
        page.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    ):
        assert any(words == name or words.startswith(name + " ") for name in known), words
