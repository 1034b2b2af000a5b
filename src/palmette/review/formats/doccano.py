"""doccano's JSON Lines for sequence labelling: a text, and labels as [start, end, name].

Offsets count UTF-16 units, as doccano does unless a project counts graphemes. A line is one verdict, or a question that
nobody has judged, with the suggestion as its label. Other columns come back from doccano as they are.
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
from palmette.review.offsets import to_utf16


def dump(given: Iterable[Annotated]) -> str:
    """Questions as lines, one for each verdict."""
    lines: list[dict[str, Any]] = []
    for one in given:
        base = {
            "text": one.text,
            "question_id": one.id,
            "question": one.question,
            "suggestion": _label(one.text, one.suggestion) if one.suggested else None,
            "probability": one.probability,
            "run": one.run,
        }
        for annotation in one.annotations:
            said = annotation.verdict
            values = {"annotator": annotation.annotator, "verdict": said.kind, "seconds": said.seconds}
            lines.append({**base, "label": _label(one.text, said.span), **values})
        if not one.annotations:
            lines.append({**base, "label": _label(one.text, one.suggestion)})
    return "".join(
        json.dumps({"id": number, **line}, ensure_ascii=False) + "\n" for number, line in enumerate(lines, 1)
    )


def parse(text: str, source: str) -> list[Annotated]:
    """Questions from lines. Every line is a verdict: its label is the answer, and no label says that there is none.

    Args:
        text: the text of the file.
        source: its name, for messages.

    Raises:
        DataError: a line is not JSON or breaks the format, or two lines of one question differ in text or question.
    """
    found: dict[str, Annotated] = {}
    for number, row in enumerate(parse_json_lines(text, source), start=1):
        if isinstance(row, DataError):
            raise row
        where = f"{source}: line {number}"
        one = _annotated(row, where)
        before = found.get(one.id)
        if before is not None and (before.question, before.text) != (one.question, one.text):
            raise DataError(f"{where} has question {one.id!r} with another text", "Give every question its own id.")
        found[one.id] = one if before is None else replace(before, annotations=before.annotations + one.annotations)
    return list(found.values())


def _annotated(row: dict[str, Any], where: str) -> Annotated:
    text, question = field(row, "text", str, where), field(row, "question", str, where)
    suggestion = row.get("suggestion")
    base = Annotated(
        str(row.get("question_id", row["id"])),
        question,
        text,
        suggestion is not None,
        _span(suggestion, text, where) if suggestion else None,
        probability_of(row.get("probability")),
        str(row.get("run") or ""),
    )
    span = _span(field(row, "label", list, where), text, where)
    verdict = verdict_of(row.get("verdict"), span, base, row.get("seconds"), where)
    annotation = Annotation(str(row.get("annotator") or row.get("username") or "unknown"), verdict)
    return replace(base, annotations=(annotation,))


def _label(text: str, span: Span | None) -> list[list[Any]]:
    return [] if span is None else [[to_utf16(text, span.start), to_utf16(text, span.end), LABEL]]


def _span(labels: Any, text: str, where: str) -> Span | None:
    if not isinstance(labels, list):
        raise DataError(f"{where} has {short(labels)} as its labels", "Write labels as [start, end, name], in a list.")
    if len(labels) > 1:
        raise DataError(f"{where} marks {len(labels)} spans", "Keep one answer for each question.")
    if not labels:
        return None
    first = labels[0]
    if not isinstance(first, list) or len(first) < 2:
        raise DataError(f"{where} has the label {first!r}", "Write labels as [start, end, name].")
    return read_span(text, first[0], first[1], None, where, utf16=True)
