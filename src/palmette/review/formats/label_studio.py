"""Label Studio's JSON: one task for each question, with predictions and annotations.

Its project needs this labelling configuration:

    <View>
      <Header value="$question"/>
      <Text name="text" value="$text"/>
      <Labels name="answer" toName="text"><Label value="answer"/></Labels>
      <Choices name="verdict" toName="text">
        <Choice value="accept"/><Choice value="reject"/><Choice value="no answer"/><Choice value="edit"/>
      </Choices>
    </View>

Offsets count code points. Older versions of Label Studio counted UTF-16 units, so the stated text decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from palmette.data.values import parse_json
from palmette.errors import DataError
from palmette.review.events import Span
from palmette.review.formats.annotated import LABEL, Annotated, Annotation, field, probability_of, read_span, verdict_of

_TEXT, _VERDICT = "text", "verdict"


def dump(given: Iterable[Annotated]) -> str:
    """Questions as the tasks of a project."""
    return json.dumps([_task(number, one) for number, one in enumerate(given, start=1)], ensure_ascii=False, indent=1)


def parse(text: str, source: str) -> list[Annotated]:
    """The tasks of a project.

    Args:
        text: the text of the file.
        source: its name, for messages.

    Raises:
        DataError: it is not JSON, or a task breaks the format.
    """
    try:
        tasks = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not JSON", "Export the project from Label Studio as JSON.") from error
    if not isinstance(tasks, list):
        raise DataError(f"{source} holds no list of tasks", "Export the project from Label Studio as JSON.")
    return [_annotated(task, f"{source}: task {number}") for number, task in enumerate(tasks, start=1)]


def _task(number: int, one: Annotated) -> dict[str, Any]:
    task: dict[str, Any] = {
        "id": number,
        "data": {"question_id": one.id, "question": one.question, "text": one.text},
        "annotations": [
            {
                "completed_by": annotation.annotator,
                "was_cancelled": annotation.verdict.kind == "skip",
                "lead_time": annotation.verdict.seconds,
                "result": _result(annotation.verdict.span, annotation.verdict.kind),
            }
            for annotation in one.annotations
        ],
        "predictions": [],
    }
    if one.suggested:
        prediction = {
            "model_version": one.run,
            "result": _result(one.suggestion, None if one.suggestion else "no_answer"),
        }
        task["predictions"] = [prediction if one.probability is None else {**prediction, "score": one.probability}]
    return task


def _result(span: Span | None, kind: str | None) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    if span is not None:
        value = {"start": span.start, "end": span.end, "text": span.text, "labels": [LABEL]}
        result.append({"from_name": LABEL, "to_name": _TEXT, "type": "labels", "value": value})
    if kind is not None and kind != "skip":
        choice = {"choices": [kind.replace("_", " ")]}
        result.append({"from_name": _VERDICT, "to_name": _TEXT, "type": "choices", "value": choice})
    return result


def _annotated(task: Any, where: str) -> Annotated:
    data = field(task, "data", dict, where)
    text, question = field(data, "text", str, where), field(data, "question", str, where)
    base = Annotated(str(data.get("question_id", task.get("id"))), question, text)
    for prediction in task.get("predictions") or ():
        span, kind = _read_result(prediction, text, f"{where}, in its prediction")
        base = replace(
            base,
            suggested=span is not None or kind == "no answer",
            suggestion=span,
            probability=probability_of(prediction.get("score")),
            run=str(prediction.get("model_version") or ""),
        )
    annotations = []
    for number, annotation in enumerate(field(task, "annotations", list, where), start=1):
        place = f"{where}, annotation {number}"
        span, kind = _read_result(annotation, text, place)
        seconds, skipped = annotation.get("lead_time"), bool(annotation.get("was_cancelled"))
        verdict = verdict_of(kind, span, base, seconds, place, skipped=skipped)
        annotations.append(Annotation(_name(annotation.get("completed_by")), verdict))
    return replace(base, annotations=tuple(annotations))


def _read_result(record: Any, text: str, where: str) -> tuple[Span | None, str | None]:
    """The marked span and the chosen verdict of an annotation or a prediction."""
    span, kind = None, None
    for part in field(record, "result", list, where):
        value = field(part, "value", dict, where)
        if "choices" in value:
            kind = str(field(value, "choices", list, where)[0]) if value["choices"] else None
        elif "start" in value:
            if span is not None:
                raise DataError(f"{where} marks two spans", "Keep one answer for each question.")
            stated = value.get("text")
            span = read_span(text, value["start"], value.get("end"), stated, where, utf16=None)
    return span, kind


def _name(completed_by: Any) -> str:
    """The annotator: a name, or what Label Studio writes, a number or an object with an e-mail address."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return str(completed_by) if completed_by not in (None, "") else "unknown"
