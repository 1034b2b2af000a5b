"""The page docs/reference/recipes.md: every key of every recipe, from the classes that read them and their
docstrings.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from palmette.config import Recipe, Section
from palmette.studies.chain.recipe import Chain, FinishedRun
from palmette.studies.sweep.recipe import Sweep
from palmette.synth.preference_settings import PreferenceSettings
from palmette.tasks.qa_prompt import QaPrompt
from palmette.train.recipes.preferences import DpoRecipe, KtoRecipe, RewardRecipe
from palmette.train.recipes.rollouts import GrpoRecipe, PpoRecipe

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
)


@dataclass(frozen=True)
class Key:
    """A key of a recipe.

    Attributes:
        name: its dotted name.
        kind: its type and bounds.
        default: its default as YAML, or "required".
        meaning: what it does.
    """

    name: str
    kind: str
    default: str
    meaning: str


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
        return list(_keys_of_dataclass(chapter.kind))
    return list(_keys_of_section(chapter.kind, "", chapter.base))


def _keys_of_section(kind: type[BaseModel], prefix: str, base: type[BaseModel] | None) -> Iterator[Key]:
    schema = kind.model_json_schema()
    for name, field in kind.model_fields.items():
        shown = base.model_fields.get(name) if base is not None else None
        if shown is not None and shown.annotation == field.annotation and shown.default == field.default:
            continue
        if section := _section_of(field.annotation):
            inside = _section_of(shown.annotation) if shown is not None else None
            yield from _keys_of_section(section, f"{prefix}{name}.", inside)
            continue
        default = field.get_default(call_default_factory=True)
        yield Key(
            prefix + name,
            _type_of(schema["properties"][name]),
            "required" if default is PydanticUndefined else f"`{json.dumps(default, ensure_ascii=False)}`",
            _meaning(kind, name),
        )


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds, if it holds one."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _keys_of_dataclass(kind: type[Any]) -> Iterator[Key]:
    words = {"str": "text", "bool": "true or false"}
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING
        default = "required" if required else f"`{json.dumps(field.default)}`"
        yield Key(field.name, words[str(field.type)], default, _meaning(kind, field.name))


_WORDS = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}


def _type_of(schema: dict[str, Any]) -> str:
    """The type and bounds of a JSON schema, in words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type_of, schema["anyOf"])))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema.get("enum", [schema.get("const")]))
    if "type" not in schema:
        return "anything"
    if schema["type"] == "array":
        fewest = f", at least {schema['minItems']}" if "minItems" in schema else ""
        return f"list of {_type_of(schema['items'])}{fewest}"
    if schema["type"] == "object":
        held = schema.get("additionalProperties", True)
        return "map of settings" if held is True else f"map from names to {_type_of(held)}"
    bounds = [f"{words} {schema[name]:g}" for name, words in _BOUNDS.items() if name in schema]
    return " ".join([_WORDS[schema["type"]], " and ".join(bounds)]).strip()


def _meaning(kind: type[Any], name: str) -> str:
    """What the docstrings of a class and its bases say of an attribute; the first of them that says anything."""
    for one in kind.__mro__:
        said = attributes(inspect.getdoc(one) or "").get(name) if "__doc__" in vars(one) else None
        if said:
            return said[0].upper() + said[1:]
    raise ValueError(f"the docstring of {kind.__name__} says nothing about {name!r}")


def attributes(docstring: str) -> dict[str, str]:
    """What the section "Attributes" of a docstring says, by name.

    >>> attributes("A box.\\n\\nAttributes:\\n    width, height: its size\\n        in metres.\\n    lid: what closes it.\\n\\nMore.")
    {'width': 'its size in metres.', 'height': 'its size in metres.', 'lid': 'what closes it.'}
    """
    _, _, rest = docstring.partition("Attributes:\n")
    block = re.split(r"\n(?=\S)", rest)[0]
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", "\n" + block):
        names, colon, text = entry.strip().partition(": ")
        if colon and re.fullmatch(r"\w+(, \w+)*", names):
            found.update(dict.fromkeys(names.split(", "), " ".join(text.split())))
    return found
