"""The documents are true: generated parts are current, examples parse, and links lead somewhere."""

from __future__ import annotations

import importlib.util
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
from tests.test_layers import MAY_IMPORT

ROOT = Path(__file__).parents[1]
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
    assert (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8") == generate.commands(), "run `make docs`"


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


def test_the_layer_table_of_the_architecture_is_the_tested_one() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w, ]+) \| [^|]+ \| ([\w, ]+) \|$", text, flags=re.MULTILINE)
    table = {name.strip(): rule.strip() for names, rule in rows for name in names.split(",")}
    assert table.keys() == MAY_IMPORT.keys()
    for name, rule in table.items():
        if rule not in ("nothing", "everything") and not rule.startswith("all above"):
            assert set(rule.split(", ")) == MAY_IMPORT[name], name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_documents_exist(page: Path, generate: ModuleType) -> None:
    known = set(re.findall(r"^## palmette (.+)$", generate.commands(), flags=re.MULTILINE))
    for words in re.findall(
        r"^ {4}(?:.*\| )?palmette ([a-z]+(?:-[a-z]+)*(?: [a-z]+)*)",
        page.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    ):
        assert any(words == name or words.startswith(name + " ") for name in known), words
