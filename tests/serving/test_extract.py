"""Fields of a schema over HTTP: what is read, from which documents, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from palmette.data.records import Document, Question
from palmette.decode.span_decoder import SpanDecoder
from palmette.extraction.reading import FieldDecoder
from palmette.extraction.schema import read_schema
from tests.support.serving import Serving
from tests.support.span_decoding import LEARNED, TEXT

SCHEMA = {
    "fields": {
        "wall": {
            "question": "What is the tower built of?",
            "type": "choice",
            "options": ["granite", "brick and slate", "wood"],
        },
        "time": {"question": "When does the ferry leave?", "many": True, "least_probability": 0.2},
        "pier": {"question": "Where from?"},
        "builder": "Who built it?",
    }
}
LONG = " ".join(f"The ferry {i} leaves at {i * 7 % 60}." for i in range(900))


def extract(served: Serving, **body: Any) -> Any:
    response = served.client.post("/v1/extract", json={"document": TEXT, **body})
    assert response.status_code == 200, response.text
    return response.json()


def test_fields_are_those_that_the_command_reads(served: Serving, fitted_model: Any, tokenizer: Any) -> None:
    """The command reads document and fields together, in another way than the server: in float64 the same."""
    found = extract(served, schema=SCHEMA)["fields"]
    schema = read_schema(SCHEMA)
    document = Document("d", TEXT, tuple(Question(field.name, field.question) for field in schema.fields))
    want = dict(FieldDecoder(SpanDecoder(fitted_model, tokenizer), schema).predict([document]))
    assert list(found) == ["wall", "time", "pier", "builder"]
    assert found.keys() == want.keys()
    for name, expected in want.items():
        got = found[name]
        assert [value["text"] for value in got["values"]] == [value.text for value in expected.values]
        assert [(value["start"], value["end"]) for value in got["values"]] == [
            (value.start, value.end) for value in expected.values
        ]
        assert [value["probability"] for value in got["values"]] == pytest.approx(
            [value.probability for value in expected.values], abs=1e-6
        )
        assert got["absent_probability"] == pytest.approx(expected.no_answer_probability, abs=1e-6)
        assert (got["certified"], got["refusal"]) == (expected.certified, expected.refusal or None)
    assert found["wall"]["values"][0]["value"] == "granite"
    assert found["wall"]["options"] == pytest.approx(dict(want["wall"].options), abs=1e-6)
    assert [value["text"] for value in found["time"]["values"]] == ["7:40"]
    assert (found["builder"]["values"], found["builder"]["refusal"]) == ([], "absent")


def test_a_required_property_that_the_document_does_not_hold_stays_empty(served: Serving) -> None:
    schema = {
        "type": "object",
        "required": ["builder", "pier"],
        "properties": {
            "builder": {"type": "string", "description": "Who built it?"},
            "pier": {"type": "string", "description": "Where from?"},
        },
    }
    found = extract(served, schema=schema)["fields"]
    assert found["builder"]["values"] == []
    assert [value["text"] for value in found["pier"]["values"]] == ["pier 3"]


def test_questions_in_place_of_a_schema_get_answers(served: Serving) -> None:
    reply = extract(served, questions=list(LEARNED))
    assert reply["answers"] == served.answers(TEXT, *LEARNED)
    assert reply["object"] == "extraction"
    assert "fields" not in reply


def test_a_kept_document_is_read_once_for_questions_and_fields(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = served.client.post("/v1/documents", json={"text": TEXT}).json()["id"]
    asking = type(served.model.answerer.span_decoder().asking)
    plain, read = asking.read, list[int]()

    def counted(self: Any, cache: Any, tokens: Any) -> Any:
        read.append(len(tokens))
        return plain(self, cache, tokens)

    monkeypatch.setattr(asking, "read", counted)
    served.answers(TEXT, "Where from?")
    reply = served.client.post("/v1/extract", json={"document_id": kept, "schema": SCHEMA}).json()
    assert reply["document_id"] == kept
    assert reply["fields"] == extract(served, schema=SCHEMA)["fields"]
    assert len(read) == 1


def test_all_of_a_long_document_is_read_for_a_schema_unless_less_is_asked_for(served: Serving) -> None:
    """The first 4 of many windows are looked at first, and a choice is made in the windows of its question."""
    held: list[tuple[int, int]] = []
    reader = served.reader._reader
    posteriors = type(reader._opened(Document("d", LONG, ())).__enter__()).posteriors

    def seen(self: Any, questions: Any, watch: Any, **options: Any) -> Any:
        found = posteriors(self, questions, watch, **options)
        held.extend((one.num_read, one.num_windows) for one in found.values())
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("palmette.decode.long_document.LongDocument.posteriors", seen)
        schema = {"fields": {"a": {"question": "When?", "type": "choice", "options": ["at 7", "at 14"]}}}
        for read_all in (None, False):
            body = {"document": LONG, "schema": schema, "read_all": read_all}
            assert served.client.post("/v1/extract", json=body).status_code == 200
    whole, look = held[:2], held[2:]
    assert len(whole) == len(look) == 2
    assert all(num_read == num_windows > 4 for num_read, num_windows in whole)
    assert len(set(look)) == 1
    assert look[0][0] < look[0][1]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "schema or questions"),
        ({"schema": SCHEMA, "questions": ["Who?"]}, "schema or questions"),
        ({"schema": {"fields": {}}}, "has no field"),
        ({"schema": {"fields": {"a": {"type": "money"}}}}, "Write `amount`"),
        ({"schema": {"properties": {"a": {"type": "object"}}}}, "fields hold no objects"),
        ({"schema": "schema.yaml"}, "schema"),
        ({"schema": {"fields": {f"f{i}": f"What is {i}?" for i in range(1001)}}}, "1001 fields"),
        ({"schema": {"properties": {f"f{i}": {"type": "string"} for i in range(1001)}}}, "1001 fields"),
        ({"schema": {"fields": {f"f{i}": {"type": "money"} for i in range(1001)}}}, "1001 fields"),
        (
            {"schema": {"fields": {i: {"type": "choice", "options": [str(j) for j in range(501)]} for i in "ab"}}},
            "1002 options",
        ),
        ({"schema": {"fields": {"a": "What is \ud800?"}}}, "half a surrogate pair"),
        ({"schema": {"fields": {"a": {"type": "choice", "options": ["\ud800", "b"]}}}}, "half a surrogate pair"),
        ({"schema": SCHEMA, "document_id": "doc-1"}, "document or document_id"),
    ],
)
def test_bad_requests_are_refused_in_words(served: Serving, body: dict[str, Any], said: str) -> None:
    content = json.dumps({"document": TEXT, **body})  # with escapes, so that half a character can be sent
    refused = served.client.post("/v1/extract", content=content, headers={"Content-Type": "application/json"})
    assert refused.status_code == 400
    assert said in refused.json()["error"]["message"]


def test_references_that_branch_again_and_again_are_refused_at_once(served: Serving) -> None:
    """Twenty levels of ten references each, or of four: following all of them would take longer than anybody waits."""
    many = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 10} for i in range(20)}
    keys = {}
    for i in range(20):
        there = {"$ref": f"#/$defs/d{i + 1}"}
        keys[f"d{i}"] = {**there, "anyOf": [there], "oneOf": [there], "allOf": [there]}
    for defs, said in ((many, "several types"), (keys, "too many others")):
        schema = {"$defs": {**defs, "d20": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/d0"}}}
        refused = served.client.post("/v1/extract", json={"document": TEXT, "schema": schema}, timeout=60)
        assert refused.status_code == 400
        assert said in refused.json()["error"]["message"]


def test_many_options_are_compared_at_once(served: Serving) -> None:
    """Comparing each with each would take minutes, in which no other client got an answer."""
    options = [f"option {i}" for i in range(60_000)]
    schema = {"fields": {"a": {"type": "choice", "options": [*options, "option 7"]}}}
    refused = served.client.post("/v1/extract", json={"document": TEXT, "schema": schema}, timeout=60)
    assert refused.status_code == 400
    assert "'option 7' is empty or stands twice" in refused.json()["error"]["message"]
