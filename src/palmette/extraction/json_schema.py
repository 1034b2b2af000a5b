"""JSON Schema, as tools and pydantic write it, as the settings of a schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from palmette.errors import DataError, kind_of_value

_TYPES = {"string": "text", "number": "number", "integer": "number", "boolean": "yes/no"}
_FORMATS = {"date": "date", "date-time": "date", "amount": "amount"}
_MOST_STEPS = 100  # references, and alternatives, that are followed for one property
_MOST_TYPES = 2  # a number or its text, as pydantic writes a Decimal


def is_json_schema(settings: Mapping[Any, Any]) -> bool:
    """Whether settings are a JSON Schema of an object."""
    return "fields" not in settings and "properties" in settings


def settings_of(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings that a JSON Schema says.

    The properties become fields. Their description is asked, or else their title. Arrays become fields with `many`,
    enumerations choices, and booleans `yes/no`. `format: date` and `format: amount` set the type. A required property
    stays empty where a document does not hold it, so `required` is not looked at.

    Args:
        document: the JSON Schema.
        name: what messages call it.

    Raises:
        DataError: a property is of a kind that no field has.
    """
    properties = document["properties"]
    if not isinstance(properties, Mapping):
        raise DataError(f"{name}: `properties` is not a map", "Write a map of names and their JSON Schemas.")
    return {"fields": {field: _field(one, document, f"{name}: {field!r}") for field, one in properties.items()}}


def _field(given: Any, document: Mapping[str, Any], where: str) -> dict[str, Any]:
    steps = iter(range(_MOST_STEPS))
    one = _resolved(given, document, where, steps)
    field: dict[str, Any] = {}
    if one.get("type") == "array":
        inner = _resolved(one.get("items", {"type": "string"}), document, where, steps)
        one, field["many"] = {**inner, **{key: one[key] for key in ("description", "title") if key in one}}, True
    asked = one.get("description") or (f"What is the {str(one['title']).lower()}?" if "title" in one else None)
    if asked:
        field["question"] = str(asked)
    options = one.get("enum", [one["const"]] if "const" in one else None)
    if options is not None:
        if not isinstance(options, list):
            raise DataError(f"{where}: 'enum' is {kind_of_value(options)}", "Write a list of values.")
        return field | {"type": "choice", "options": [str(option) for option in options if option is not None]}
    kind, form = one.get("type", "string"), one.get("format")
    if kind not in _TYPES:
        raise DataError(
            f"{where} is of type {kind!r}, and fields hold no objects", "Write its parts as properties of their own."
        )
    return field | {"type": _FORMATS.get(str(form), _TYPES[kind])}


def _resolved(given: Any, document: Mapping[str, Any], where: str, steps: Iterator[int]) -> dict[str, Any]:
    """A property with its references followed, in so many steps at most, and without the null of an optional one."""
    if not isinstance(given, Mapping):
        raise DataError(f"{where} is {given!r}, not a JSON Schema", "Write a map with `type` and `description`.")
    if next(steps, None) is None:
        raise DataError(f"{where} refers to itself, or to too many others", "Write it out.")
    one = dict(given)
    if "$ref" in one:
        there: Any = document
        for part in str(one.pop("$ref")).removeprefix("#/").split("/"):
            there = there.get(part) if isinstance(there, Mapping) else None
        if not isinstance(there, Mapping):
            raise DataError(f"{where} refers to {given['$ref']!r}, which is not there", "Write it out.")
        one = {**_resolved(there, document, where, steps), **one}
    for key in ("anyOf", "oneOf", "allOf"):
        if key not in one:
            continue
        options = one.pop(key)
        if not isinstance(options, list):
            raise DataError(f"{where}: {key!r} is {kind_of_value(options)}", "Write a list of JSON Schemas.")
        found = [option for option in options if option != {"type": "null"}]
        if len(found) > _MOST_TYPES:  # before they are followed: references to lists of references would never end
            raise DataError(f"{where} allows several types", "Write one type, and null beside it at most.")
        others = [_resolved(option, document, where, steps) for option in found]
        if {option.get("type") for option in others} == {"number", "string"}:  # how pydantic writes a Decimal
            others = [option for option in others if option["type"] == "number"]
        if len(others) != 1:
            raise DataError(f"{where} allows several types", "Write one type, and null beside it at most.")
        one = {**others[0], **one}
    if isinstance(one.get("type"), list):
        kinds = [kind for kind in one["type"] if kind != "null"]
        if len(kinds) != 1:
            raise DataError(f"{where} allows several types", "Write one type, and null beside it at most.")
        one["type"] = kinds[0]
    if not isinstance(one.get("type", ""), str):
        raise DataError(f"{where} has a type that is {kind_of_value(one['type'])}", "Write its name.")
    return one
