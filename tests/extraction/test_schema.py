"""Schemas as YAML, JSON Schema and pydantic models, and what is said about bad ones."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from pydantic import Field as Key

from palmette.errors import DataError
from palmette.extraction.schema import Field, read_schema

YAML = """\
day_first: true
fields:
  landlord: Who is the landlord?
  rent:
    question: How much is the rent?
    type: amount
  tenants: {description: "The tenants", many: true, least_probability: 0.2}
  paid: {type: choice, options: [weekly, monthly]}
"""


def test_a_schema_is_yaml(tmp_path: Path) -> None:
    path = tmp_path / "lease.yaml"
    path.write_text(YAML)
    schema = read_schema(path)
    assert schema.fields == (
        Field("landlord", "Who is the landlord?"),
        Field("rent", "How much is the rent?", "amount"),
        Field("tenants", "The tenants", many=True, least_probability=0.2),
        Field("paid", "What is the paid?", "choice", options=("weekly", "monthly")),
    )
    assert (schema.day_first, schema.decimal, schema.name) == (True, None, str(path))


class Lease(BaseModel):
    """What a program asks of a lease."""

    landlord: str = Key(description="Who is the landlord?")
    start: datetime.date | None = None
    rent: Decimal = Key(description="How much is the rent?", json_schema_extra={"format": "amount"})
    months: int
    pets: bool
    paid: Literal["weekly", "monthly"]
    tenants: list[str]


LEASE = (
    Field("landlord", "Who is the landlord?"),
    Field("start", "What is the start?", "date"),
    Field("rent", "How much is the rent?", "amount"),
    Field("months", "What is the months?", "number"),
    Field("pets", "What is the pets?", "yes/no"),
    Field("paid", "What is the paid?", "choice", options=("weekly", "monthly")),
    Field("tenants", "What is the tenants?", many=True),
)


def test_a_schema_is_a_pydantic_model_or_its_json_schema(tmp_path: Path) -> None:
    assert read_schema(Lease).fields == LEASE
    path = tmp_path / "lease.json"
    path.write_text(json.dumps(Lease.model_json_schema()))
    assert read_schema(path).fields == LEASE


def test_a_reference_to_a_reference_is_followed() -> None:
    given = {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"$ref": "#/$defs/y"}, "y": {"type": "number"}}}
    assert read_schema(given).fields[0].type == "number"


BAD: list[tuple[Any, str]] = [
    ({}, "has no `fields`"),
    ({"fields": {}}, "has no field"),
    ({"fields": ["rent"]}, "`fields` that are a list"),
    ({"felds": {"rent": "?"}, "fields": {"rent": "How much?"}}, "unknown key 'felds'. Did you mean 'fields'|Known"),
    ({"fields": {"rent": {"typ": "amount"}}}, "field 'rent': unknown key 'typ'. Did you mean 'type'"),
    ({"fields": {"rent": {"type": "money"}}}, "field 'rent': there is no type 'money'. Write `amount`"),
    ({"fields": {"rent": {"type": "list"}}}, "field 'rent'.*Write `many: true`"),
    ({"fields": {"rent": {"type": "thing"}}}, "field 'rent': type = 'thing'"),
    ({"fields": {"rent": 7}}, "field 'rent' is a number"),
    ({"fields": {"rent": {"question": " "}}}, "field 'rent': the question is empty"),
    ({"fields": {"paid": {"type": "choice"}}}, "field 'paid': a choice has 0 options"),
    ({"fields": {"paid": {"options": ["a", "b"]}}}, "field 'paid': it has options, and its type is 'text'"),
    ({"fields": {"paid": {"type": "choice", "options": ["a", "a"]}}}, "field 'paid': the option 'a'"),
    ({"fields": {"pets": {"type": "yes/no", "many": True}}}, "field 'pets': it is of type 'yes/no' and has `many`"),
    ({"fields": {"of": {"many": True, "least_probability": 0.0}}}, "field 'of': least_probability is 0"),
    ({"fields": {"error": "What?"}}, "field 'error' has the name of another column"),
    ({"fields": {"a.b": "What?"}}, "field 'a.b' has a name that is no word"),
    ({"fields": {"a": "What?", "b": "What?"}}, "fields 'a' and 'b' ask the same, 'What\\?'"),
    ({"properties": {"owner": {"type": "object"}}}, "'owner' is of type 'object'"),
    ({"properties": {"owner": {"$ref": "#/$defs/Owner"}}}, "'owner' refers to '#/\\$defs/Owner'"),
    ({"properties": {"owner": {"type": ["string", "number"]}}}, "'owner' allows several types"),
    ({"properties": {"a": {"$ref": "#/properties/a"}}}, "'a' refers to itself"),
    ({"properties": {"a": {"anyOf": [{"$ref": "#/properties/a"}]}}}, "'a' refers to itself"),
    ({"properties": {"a": {"anyOf": [True]}}}, "'a' is True, not a JSON Schema"),
    ({"properties": {"a": {"anyOf": 5}}}, "'anyOf' is a number"),
    ({"properties": {"a": {"enum": "ab"}}}, "'enum' is text"),
    ({"properties": {"a": {"type": {}}}}, "type that is"),
    (7, "a schema cannot be a number"),
]


@pytest.mark.parametrize(("given", "said"), BAD)
def test_a_bad_schema_is_refused_by_field(given: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_schema(given)


def test_a_question_between_braces_needs_quotes(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("fields:\n  rent: {question: How much?, type: amount}\n")
    with pytest.raises(DataError, match=r"is not YAML.*Questions between braces need quotes"):
        read_schema(path)
    with pytest.raises(DataError, match=r"cannot read the schema .*there is no such file"):
        read_schema(tmp_path / "none.yaml")
