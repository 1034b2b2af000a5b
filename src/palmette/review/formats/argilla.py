"""Argilla's flat records, as `records.to_list(flatten=True)` gives them, as JSON Lines.

Its settings need the fields `question` and `text`, a span question `answer` over `text` with the label "answer", and a
label question `verdict` with the labels accept, reject, no_answer, edit and skip. A column of responses is a list with
one entry for each person, beside the columns `.users` and `.status`.

Whether Argilla counts code points or UTF-16 units is not stated in its documentation. So a span in a text with
characters that both count differently is only read if it states its text, as ours do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from palmette.data.rows import parse_json_lines
from palmette.data.text import short
from palmette.errors import DataError
from palmette.review.events import Span
from palmette.review.formats.annotated import LABEL, Annotated, Annotation, field, probability_of, read_span, verdict_of


def dump(given: Iterable[Annotated]) -> str:
    """Questions as records."""
    return "".join(json.dumps(_record(one), ensure_ascii=False) + "\n" for one in given)


def parse(text: str, source: str) -> list[Annotated]:
    """Questions from records.

    Args:
        text: the text of the file.
        source: its name, for messages.

    Raises:
        DataError: a line is not JSON, or breaks the format.
    """
    found = []
    for number, row in enumerate(parse_json_lines(text, source), start=1):
        if isinstance(row, DataError):
            raise row
        found.append(_annotated(row, f"{source}: line {number}"))
    return found


def _record(one: Annotated) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": one.id,
        "status": "completed" if one.annotations else "pending",
        "question": one.question,
        "text": one.text,
    }
    if one.suggested:
        record |= {"answer.suggestion": _value(one.suggestion), "answer.suggestion.score": one.probability}
        record |= {"answer.suggestion.agent": one.run}
    if one.annotations:
        users = [annotation.annotator for annotation in one.annotations]
        status = ["discarded" if said.verdict.kind == "skip" else "submitted" for said in one.annotations]
        record |= {"answer.responses": [_value(annotation.verdict.span) for annotation in one.annotations]}
        record |= {"answer.responses.users": users, "answer.responses.status": status}
        record |= {"verdict.responses": [annotation.verdict.kind for annotation in one.annotations]}
        record |= {"verdict.responses.users": users, "verdict.responses.status": status}
        record |= {"seconds": [annotation.verdict.seconds for annotation in one.annotations]}
    return record


def _annotated(row: dict[str, Any], where: str) -> Annotated:
    text, question = field(row, "text", str, where), field(row, "question", str, where)
    suggested = row.get("answer.suggestion") is not None
    base = Annotated(
        str(row["id"]),
        question,
        text,
        suggested,
        _span(row["answer.suggestion"], text, where) if suggested else None,
        probability_of(row.get("answer.suggestion.score")),
        str(row.get("answer.suggestion.agent") or ""),
    )
    users, values = (_list(row, name, where) for name in ("answer.responses.users", "answer.responses"))
    status = _list(row, "answer.responses.status", where) or ["submitted"] * len(users)
    seconds = _list(row, "seconds", where) or [None] * len(users)
    if not len(users) == len(values) == len(status) == len(seconds):
        numbers = f"{len(users)} users and {len(values)} responses, with {len(status)} states and {len(seconds)} times"
        raise DataError(f"{where} has {numbers}", "Export the records again.")
    judges = map(str, _list(row, "verdict.responses.users", where))
    kinds = dict(zip(judges, _list(row, "verdict.responses", where), strict=False))
    annotations = []
    for user, value, state, took in zip(users, values, status, seconds, strict=True):
        if state == "draft":
            continue
        span, place = _span(value or [], text, where), f"{where}, response of {user!r}"
        verdict = verdict_of(kinds.get(str(user)), span, base, took, place, skipped=state == "discarded")
        annotations.append(Annotation(str(user), verdict))
    return replace(base, annotations=tuple(annotations))


def _value(span: Span | None) -> list[dict[str, Any]]:
    return [] if span is None else [{"start": span.start, "end": span.end, "label": LABEL, "text": span.text}]


def _list(row: dict[str, Any], name: str, where: str) -> list[Any]:
    """The values of a question, one for each user. None if there are none."""
    values: list[Any] = field({name: row.get(name) or []}, name, list, where)
    return values


def _span(values: Any, text: str, where: str) -> Span | None:
    if not isinstance(values, list):
        raise DataError(f"{where} has {short(values)} as a span", "Give a list of objects with start, end and label.")
    if len(values) > 1:
        raise DataError(f"{where} marks {len(values)} spans", "Keep one answer for each question.")
    if not values:
        return None
    value = values[0]
    if not isinstance(value, dict):
        raise DataError(f"{where} has {value!r} as a span", "Give objects with start, end and label.")
    return read_span(text, value.get("start"), value.get("end"), value.get("text"), where, utf16=None)
