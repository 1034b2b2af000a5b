"""What was read out of documents, as replies hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from palmette.data.stream import Row
from palmette.decode.prediction import Prediction
from palmette.extraction.reading import FieldPrediction, field_record
from palmette.extraction.schema import Schema
from palmette.extraction.values import field_result
from palmette.inference.job import answer_record
from palmette.serving.documents import Kept


def answer_of(question: str, prediction: Prediction, kept: Kept) -> dict[str, Any]:
    """An answer as JSON, with the question and how much was read for it."""
    record = answer_record(prediction, _row(kept, question))
    read = {"num_read": prediction.num_read, "unread": round(prediction.unread, 6)}
    return {"question": question, **record, **read}


def field_replies(schema: Schema, predictions: Sequence[FieldPrediction], kept: Kept) -> dict[str, dict[str, Any]]:
    """What a document says about each field of a schema, by its name."""
    replies: dict[str, dict[str, Any]] = {}
    for field, prediction in zip(schema.fields, predictions, strict=True):
        result = field_result(field_record(prediction, _row(kept, field.question)), field, schema)
        replies[field.name] = {
            "values": [asdict(value) for value in result.values],
            "absent_probability": result.absent_probability,
            "certified": result.certified,
            "refusal": result.refusal or None,
            "candidates": [dict(one) for one in result.candidates],
            **({} if result.options is None else {"options": dict(result.options)}),
        }
    return replies


def _row(kept: Kept, question: str) -> Row:
    return Row(1, None, kept.document.text, question, extracted=kept.extracted)
