"""The keys of recipes, with types, bounds, defaults and meanings, from the classes that read them and their docstrings.

The page of recipes in the reference and the templates of `palmette recipe` are made of these, so neither can differ
from what is read.
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


def keys_of_section(kind: type[BaseModel], prefix: str = "", base: type[BaseModel] | None = None) -> Iterator[Key]:
    """The keys of a section of settings, and of the sections in it.

    Args:
        kind: the class that reads the section.
        prefix: what stands before the names of its keys.
        base: a class whose keys are known. Keys that are the same there are left out.

    Raises:
        ValueError: the docstring of a key's class says nothing about it.
    """
    schema = kind.model_json_schema()
    for name, field in kind.model_fields.items():
        shown = base.model_fields.get(name) if base is not None else None
        if shown is not None and shown.annotation == field.annotation and shown.default == field.default:
            continue
        if section := section_of(field.annotation):
            inside = section_of(shown.annotation) if shown is not None else None
            yield from keys_of_section(section, f"{prefix}{name}.", inside)
            continue
        default = field.get_default(call_default_factory=True)
        yield Key(
            prefix + name,
            type_of(schema["properties"][name]),
            "required" if default is PydanticUndefined else f"`{json.dumps(default, ensure_ascii=False)}`",
            meaning_of(kind, name),
        )


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds, if it holds one."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def keys_of_dataclass(kind: type[Any]) -> Iterator[Key]:
    """The keys of a file whose class is a dataclass of texts and truth values."""
    words = {"str": "text", "bool": "true or false"}
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING
        default = "required" if required else f"`{json.dumps(field.default)}`"
        yield Key(field.name, words[str(field.type)], default, meaning_of(kind, field.name))


_WORDS = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}


def type_of(schema: dict[str, Any]) -> str:
    """The type and bounds of a JSON schema, in words.

    >>> type_of({"type": "integer", "minimum": 1})
    'integer at least 1'
    """
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(type_of, schema["anyOf"])))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema.get("enum", [schema.get("const")]))
    if "type" not in schema:
        return "anything"
    if schema["type"] == "array":
        fewest = f", at least {schema['minItems']}" if "minItems" in schema else ""
        return f"list of {type_of(schema['items'])}{fewest}"
    if schema["type"] == "object":
        held = schema.get("additionalProperties", True)
        return "map of settings" if held is True else f"map from names to {type_of(held)}"
    bounds = [f"{words} {_number(schema[name])}" for name, words in _BOUNDS.items() if name in schema]
    return " ".join([_WORDS[schema["type"]], " and ".join(bounds)]).strip()


def _number(value: float) -> str:
    """A bound, with all of its digits."""
    return str(int(value)) if value == int(value) else str(value)


def meaning_of(kind: type[Any], name: str) -> str:
    """What the docstrings of a class and its bases say of an attribute: the first of them that says anything.

    Raises:
        ValueError: none of them says anything.
    """
    for one in kind.__mro__:
        said = attributes(inspect.getdoc(one) or "").get(name) if "__doc__" in vars(one) else None
        if said:
            return said[0].upper() + said[1:]
    raise ValueError(f"the docstring of {kind.__name__} says nothing about {name!r}")


def attributes(docstring: str) -> dict[str, str]:
    """What the section "Attributes" of a docstring says, by name.

    >>> attributes("A box.\\n\\nAttributes:\\n    width, height: its size\\n        in metres.\\n\\nMore.")
    {'width': 'its size in metres.', 'height': 'its size in metres.'}
    """
    _, _, rest = docstring.partition("Attributes:\n")
    block = re.split(r"\n(?=\S)", rest)[0]
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", "\n" + block):
        names, colon, text = entry.strip().partition(": ")
        if colon and re.fullmatch(r"\w+(, \w+)*", names):
            found.update(dict.fromkeys(names.split(", "), " ".join(text.split())))
    return found
