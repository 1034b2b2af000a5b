"""Templates of recipes: every key with its default, below a comment that says what it does.

A template is made from the classes that read recipes. Read back, it is the recipe with every setting at its default.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from palmette.config.sections import Section
from palmette.errors import RecipeError
from palmette.studies.chain.recipe import Chain
from palmette.studies.recipe_keys import meaning_of, section_of, type_of
from palmette.studies.sweep.recipe import Sweep
from palmette.train.stages import STAGES, Stage, resolve

_WIDTH = 100
_PREFERENCES, _VERDICTS = "preferences.jsonl", "verdicts.jsonl"
_EXAMPLE_OF_SWEEP = """\
Give `vary`, for every combination of the values, such as
  vary: {train.learning_rate: [3e-4, 1e-3], lora.rank: [8, 16]}
or `cells`, for combinations that you name, such as
  cells: {small: {lora.rank: 4}, large: {lora.rank: 32, train.epochs: 1}}"""
_EXAMPLE_OF_CHAIN = """\
A stage has a `kind`: a training stage, `run` for a finished run, or `preferences`.
`stage:NAME` means the result of an earlier stage.
`palmette recipe STAGE` lists the keys of the training stages."""
_STAGES: dict[str, Any] = {
    "fine-tuned": {"kind": "run", "run": "runs/quickstart"},
    "pairs": {"kind": "preferences", "model": "stage:fine-tuned", "data": "builtin:train"},
    "dpo": {"kind": "dpo", "start": "stage:fine-tuned", "data": {"train": ["stage:pairs"]}},
}


@dataclass(frozen=True)
class Template:
    """A kind of recipe that can be printed.

    Attributes:
        name: its name in `palmette recipe NAME`.
        about: what it is for, in a sentence.
        command: what reads it, without `palmette`.
        kind: the class that reads it.
        required: values of the keys that have no default, by dotted key. They are examples.
        note: more to say at its beginning.
    """

    name: str
    about: str
    command: str
    kind: type[Section]
    required: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def templates() -> dict[str, Template]:
    """The kinds of recipes, by name, in the order in which they are listed."""
    others = (
        Template(
            "sweep",
            "Train and measure a recipe under varied settings.",
            "sweep",
            Sweep,
            {"output": "runs/sweep"},
            _EXAMPLE_OF_SWEEP,
        ),
        Template(
            "chain",
            "Run training stages that build on one another.",
            "chain",
            Chain,
            {"output": "runs/chain", "stages": _STAGES},
            _EXAMPLE_OF_CHAIN,
        ),
    )
    return {one.name: one for one in (*map(_of_stage, STAGES.values()), *others)}


def template_text(name: str) -> str:
    """The template of a kind of recipe, as YAML with comments.

    Args:
        name: "sft" or another training stage, "sweep" or "chain".

    Raises:
        RecipeError: there is no such kind.
    """
    known = templates()
    if name not in known:
        raise RecipeError(f"there is no kind of recipe {name!r}", f"Give one of: {', '.join(known)}.")
    template = known[name]
    lines = [
        *_comment(template.about),
        *_comment(f"Save it, change it, and run it: palmette {template.command} FILE"),
        *_comment("Every key stands at its default. Keys that stay as they are can be left out."),
    ]
    if template.required:
        lines += _comment(f"These have no default, and show an example: {', '.join(template.required)}.")
    lines += [f"# {line}".rstrip() for line in template.note.splitlines()]
    return "\n".join([*lines, "", *_section(template.kind, template.required)]) + "\n"


def _of_stage(stage: Stage) -> Template:
    required: dict[str, Any] = {"output": f"runs/{stage.name}"}
    if stage.learns == "comparisons":
        required["data.train"] = [_PREFERENCES]
    elif stage.learns == "verdicts":
        required["data.train"] = [_VERDICTS]
    return Template(stage.name, stage.help, f"train {stage.name}", resolve(stage.recipe), required)


def _section(kind: type[BaseModel], required: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The lines of a section's own keys, then those of the sections in it, indented by their depth."""
    schema = kind.model_json_schema()
    indent = "  " * prefix.count(".")
    sections = {name: section_of(found.annotation) for name, found in kind.model_fields.items()}
    for name, found in kind.model_fields.items():
        if sections[name] is None:
            default = found.get_default(call_default_factory=True)
            value = required[prefix + name] if default is PydanticUndefined else default
            values = type_of(schema["properties"][name]).replace("`", "")
            yield from _comment(f"{meaning_of(kind, name)} ({values})", indent)
            yield from _value(name, value, indent)
    for name, inner in sections.items():
        if inner is not None:
            yield from ["", *_comment(_first_line(inner), indent), f"{indent}{name}:"]
            yield from _section(inner, required, f"{prefix}{name}.")


def _first_line(kind: type[BaseModel]) -> str:
    """What a section is for: the first line of its docstring."""
    return (kind.__doc__ or "").strip().splitlines()[0]


def _value(name: str, value: Any, indent: str) -> list[str]:
    """A key with its value. A map of maps takes several lines, anything else one."""
    deep = isinstance(value, dict) and any(isinstance(item, dict) for item in value.values())
    if not deep:
        return [f"{indent}{name}: {_flow(value)}"]
    below = [f"{indent}  {key}: {_flow(item)}" for key, item in value.items()]
    return [f"{indent}{name}:", *below]


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def _comment(text: str, indent: str = "") -> list[str]:
    """A text as comment lines."""
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_on_hyphens=False
    )
