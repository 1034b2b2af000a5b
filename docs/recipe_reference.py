"""The page docs/reference/recipes.md: every key of every recipe, from the classes that read them and their
docstrings.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from palmette.config.recipes import Recipe
from palmette.config.sections import Section
from palmette.extraction.schema import FieldSection, SchemaSection
from palmette.studies.chain.recipe import Chain, FinishedRun
from palmette.studies.recipe_keys import Key, keys_of_dataclass, keys_of_section
from palmette.studies.sweep.recipe import Sweep
from palmette.synth.preference_settings import PreferenceSettings
from palmette.tasks.qa_prompt import QaPrompt
from palmette.train.recipes.masked import MlmRecipe
from palmette.train.recipes.preferences import DpoRecipe, KtoRecipe, RewardRecipe
from palmette.train.recipes.rollouts import GrpoRecipe, PpoRecipe
from palmette.train.recipes.texts import PretrainRecipe

INTRODUCTION = """\
# Recipes

For people who write recipes. A recipe is a YAML file. A command reads it, and a key that does not
exist is an error that names the nearest one. This page is written by `make docs` from the code.

A dot stands for a level of indentation: `train.epochs` is the key `epochs` below `train`. A default
of `null` means that nothing is set. Keys without a default must be given.
"""


@dataclass(frozen=True)
class Chapter:
    """A kind of file, or what one stage adds to the recipe of `palmette train sft`.

    Attributes:
        title: its heading.
        about: what it is for, as Markdown.
        kind: the class that reads it.
        base: the class whose keys another chapter has shown.
    """

    title: str
    about: str
    kind: type[Any]
    base: type[Section] | None = None


def _stage(name: str, kind: type[Recipe]) -> Chapter:
    about = f"These keys come on top of those of all stages, or differ from them. `palmette train {name}` reads them."
    return Chapter(f"Stage {name}", about, kind, Recipe)


CHAPTERS = (
    Chapter(
        "All stages", "`palmette train sft` reads these keys. The recipes of all other stages have them too.", Recipe
    ),
    _stage("reward", RewardRecipe),
    _stage("dpo", DpoRecipe),
    _stage("kto", KtoRecipe),
    _stage("grpo", GrpoRecipe),
    _stage("ppo", PpoRecipe),
    _stage("pretrain", PretrainRecipe),
    _stage("mlm", MlmRecipe),
    Chapter("Sweeps", "`palmette sweep` reads these keys.", Sweep),
    Chapter("Chains", "`palmette chain` reads these keys.", Chain),
    Chapter(
        "Stages of a chain that train nothing: run",
        "In a chain, a stage with `kind: run` is a finished run that the other stages can build on.",
        FinishedRun,
    ),
    Chapter(
        "Stages of a chain that train nothing: preferences",
        "In a chain, a stage with `kind: preferences` makes preferences, as `palmette synth preferences` does.",
        PreferenceSettings,
    ),
    Chapter(
        "Prompt files",
        (
            "`prompt.name` takes a YAML file with these keys. "
            "`palmette prompts` lists the prompts that come with the package."
        ),
        QaPrompt,
    ),
    Chapter("Schemas", "`palmette extract` takes a YAML file with these keys.", SchemaSection),
    Chapter("Schemas: fields", "Each field below `fields` has these keys.", FieldSection),
)


def recipes() -> str:
    """The whole page."""
    lines = [INTRODUCTION]
    for chapter in CHAPTERS:
        lines.extend(
            [f"## {chapter.title}", "", chapter.about, "", "| key | type | default | meaning |", "|---|---|---|---|"]
        )
        for key in keys_of(chapter):
            cells = (f"`{key.name}`", key.kind, key.default, key.meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def keys_of(chapter: Chapter) -> list[Key]:
    """The keys of a chapter.

    Raises:
        ValueError: the docstring of a key's class says nothing about it.
    """
    if dataclasses.is_dataclass(chapter.kind):
        return list(keys_of_dataclass(chapter.kind))
    return list(keys_of_section(chapter.kind, base=chapter.base))
