"""Schemas: the fields that are read out of every document."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field as Key
from pydantic import model_validator

from palmette.config.recipes import read_section, read_settings
from palmette.config.sections import Fraction, Section, contradiction
from palmette.data.records import check_unicode
from palmette.errors import DataError, RecipeError, kind_of_value, reason_of
from palmette.extraction.json_schema import is_json_schema, settings_of
from palmette.extraction.numbers import DecimalMark
from palmette.files import expand

FieldType = Literal["text", "number", "amount", "date", "yes/no", "choice"]
_WAY_OUT = 'Write a map of fields under `fields`, such as `total: {question: "What is the total?", type: amount}`.'
_WRITTEN_SO = {"list": "Write `many: true`.", "boolean": "Write `yes/no`.", "bool": "Write `yes/no`."}
_WRITTEN_SO |= {"string": "Write `text`.", "integer": "Write `number`.", "money": "Write `amount`."}

RESERVED = frozenset(("document", "document_sha256", "error"))  # columns that are no field


class FieldSection(Section):
    """The settings of a field.

    Attributes:
        question: the question that the field asks of a document.
        description: what is asked where there is no question.
        type: what its normalised value is.
        many: whether a document may hold several values.
        options: what a choice is made among.
        least_probability: with `many`, the least probability of a value that is listed.
    """

    question: str | None = None
    description: str | None = None
    type: FieldType = "text"
    many: bool = False
    options: tuple[str, ...] | None = Key(default=None, strict=False)
    least_probability: Fraction = 0.1

    @model_validator(mode="after")
    def _agree(self) -> FieldSection:
        for key in ("question", "description"):
            if (text := getattr(self, key)) is not None and not text.strip():
                raise contradiction(f"the {key} is empty", "Write it, or take it out.")
        options = self.options or ()
        if self.type == "choice" and len(options) < 2:
            raise contradiction(f"a choice has {len(options)} options", "Give two or more, such as options: [A, B].")
        if self.type != "choice" and self.options is not None:
            raise contradiction(f"it has options, and its type is {self.type!r}", "Write `type: choice`.")
        times = Counter(options)
        for option in options:
            if not option.strip() or times[option] > 1:
                raise contradiction(f"the option {option!r} is empty or stands twice", "Take it out.")
        if self.many and self.type in ("choice", "yes/no"):
            raise contradiction(
                f"it is of type {self.type!r} and has `many`", "Take `many` out, or ask with a field for each option."
            )
        if self.many and self.least_probability == 0.0:
            raise contradiction("least_probability is 0, which every span of a document reaches", "Write 0.1.")
        return self


class SchemaSection(Section):
    """The settings of a schema.

    Attributes:
        fields: the fields by their names. Each is a question, or a map of settings.
        decimal: what parts the decimals of a number such as 1.250 that does not say so itself, `"."` or `","`.
        day_first: whether the day stands before the month in 03/04/2021. Such dates are refused if null.
    """

    fields: dict[Any, Any]
    decimal: DecimalMark | None = None
    day_first: bool | None = None


@dataclass(frozen=True)
class Field:
    """A field of a schema.

    Attributes:
        name: its name.
        question: the question that is asked of every document.
        type: "text", "number", "amount", "date", "yes/no" or "choice".
        many: whether a document may hold several values.
        options: what a choice is made among.
        least_probability: with `many`, the least probability of a value that is listed.
    """

    name: str
    question: str
    type: FieldType = "text"
    many: bool = False
    options: tuple[str, ...] = ()
    least_probability: float = 0.1


@dataclass(frozen=True)
class Schema:
    """Fields that are read out of every document.

    Attributes:
        fields: the fields, in order.
        decimal: what parts the decimals of a number where it does not say so itself. See `read_number`.
        day_first: whether the day stands before the month in 03/04/2021. Such dates are refused if None.
        name: what messages call it.
    """

    fields: tuple[Field, ...]
    decimal: DecimalMark | None = None
    day_first: bool | None = None
    name: str = "the schema"

    def settings(self) -> dict[str, Any]:
        """What the values depend on, as a map of plain values."""
        fields = {
            one.name: {
                "question": one.question,
                "type": one.type,
                "many": one.many,
                "options": list(one.options),
                "least_probability": one.least_probability,
            }
            for one in self.fields
        }
        return {"fields": fields, "decimal": self.decimal, "day_first": self.day_first}


def read_schema(given: Any) -> Schema:
    """Read a schema.

    Args:
        given: a YAML or JSON file, a map of settings, a JSON Schema as a map, or a pydantic model.

    Raises:
        DataError: it cannot be read, or a field is bad. The message names the field, the value and the way out.
    """
    if isinstance(given, Schema):
        return given
    if isinstance(given, (str, os.PathLike)):
        return _schema_of(_file(expand(Path(given))), str(given))
    if isinstance(given, type) and hasattr(given, "model_json_schema"):
        return _schema_of(given.model_json_schema(), given.__name__)
    if isinstance(given, Mapping):
        return _schema_of(dict(given), "the schema")
    raise DataError(
        f"a schema cannot be {kind_of_value(given)}", "Give a YAML or JSON file, a map, or a pydantic model."
    )


def _file(path: Path) -> dict[Any, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the schema {path}: {reason_of(error)}", "Give a YAML or JSON file.") from error
    try:
        return dict(json.loads(text)) if path.suffix.lower() == ".json" else read_settings(text, str(path))
    except RecipeError as error:
        quotes = "Fix the line it names. Questions between braces need quotes."
        way_out = quotes if "is not YAML" in error.problem else _WAY_OUT
        raise DataError(error.problem.replace("holds no settings", "holds no fields"), way_out) from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is not a JSON object: {reason_of(error)}", "Fix the line it names.") from error


def _schema_of(settings: dict[Any, Any], name: str) -> Schema:
    if is_json_schema(settings):
        settings = settings_of(settings, name)
    listed = settings.get("fields")
    if not isinstance(listed, Mapping) or not listed:
        what = "has no `fields`" if listed is None else f"has `fields` that are {kind_of_value(listed)}"
        raise DataError(f"{name} {what if listed != {} else 'has no field'}", _WAY_OUT)
    rules = _section(SchemaSection, {**settings, "fields": dict(listed)}, name)
    fields = [_field(field, value, f"{name}: field {field!r}") for field, value in listed.items()]
    asked: dict[str, str] = {}
    for field in fields:
        if field.question in asked:
            raise DataError(
                f"{name}: fields {asked[field.question]!r} and {field.name!r} ask the same, {field.question!r}",
                "Ask each field's own question.",
            )
        asked[field.question] = field.name
    return Schema(tuple(fields), rules.decimal, rules.day_first, name)


def _field(name: Any, settings: Any, where: str) -> Field:
    if not isinstance(name, str) or not name.strip() or "." in name or not name.isprintable():
        raise DataError(f"{where} has a name that is no word", "Write a name without full stops, between quotes.")
    if name in RESERVED:
        raise DataError(f"{where} has the name of another column", "Give it another name.")
    if settings is None:
        settings = {}
    if isinstance(settings, str):
        settings = {"question": settings}
    if not isinstance(settings, Mapping):
        raise DataError(f"{where} is {kind_of_value(settings)}", "Write its question, or a map with question and type.")
    kind = settings.get("type", "text")
    if kind is True or (isinstance(kind, str) and kind in _WRITTEN_SO):
        raise DataError(f"{where}: there is no type {kind!r}", _WRITTEN_SO.get(str(kind), "Write `yes/no`."))
    section = _section(FieldSection, dict(settings), where)
    question = section.question or section.description or f"What is the {name.replace('_', ' ')}?"
    options = section.options or ()
    for text in (question, *options):
        check_unicode(text, where)
    return Field(name, question.strip(), section.type, section.many, options, section.least_probability)


def _section(kind: Any, settings: dict[Any, Any], where: str) -> Any:
    try:
        return read_section(kind, {str(key): value for key, value in settings.items()}, where)
    except RecipeError as error:
        raise DataError(error.problem, error.way_out) from error
