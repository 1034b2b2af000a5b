"""The SQuAD JSON format (Rajpurkar et al., 2016 and 2018): reading, with every record checked, and writing.

Files of version 1, in which every question has an answer, are read too, and version 2 is written. Beyond the format, a
question may have a `rationale`, which is reasoning that leads to its answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from palmette.data.records import Answer, Document, Question
from palmette.data.text import short
from palmette.data.values import json_problem, parse_json
from palmette.errors import DataError, kind_of_value

VERSION = "v2.0"
_VERSIONS = re.compile(r"v?[12](\.\d+)?")
_WANTED: dict[type, str] = {str: "text", int: "a whole number", bool: "true or false", list: "a list"}


def parse_squad(text: str, source: str) -> Iterator[Document | DataError]:
    """Documents of a SQuAD file of version 1 or 2, in order. A record that breaks the format is given as its error.

    The id of a document is its title and the number of its paragraph. Questions keep their ids.

    Args:
        text: the text of the file.
        source: how messages name the file.

    Raises:
        DataError: the text is not JSON, or not a SQuAD v2 file at all.
    """
    try:
        root = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{source}: not JSON: {json_problem(error)}",
            "Give a SQuAD v2 JSON file, or JSON Lines with the ending .jsonl.",
        ) from error
    if not isinstance(root, dict) or not isinstance(root.get("data"), list):
        raise DataError(f"{source}: no list of articles under 'data'", "Give a SQuAD v2 JSON file.")
    version = root.get("version")
    if version is not None and not (isinstance(version, str) and _VERSIONS.fullmatch(version)):
        raise DataError(
            f"{source}: its version is {short(version)}, not {VERSION!r} or one of version 1",
            f"Convert the file to SQuAD {VERSION} and set its version.",
        )
    for number, article in enumerate(root["data"], start=1):
        yield from _article(article, number, source)


def _article(article: Any, number: int, source: str) -> Iterator[Document | DataError]:
    where = f"{source}: article {number}"
    try:
        title = str(_field(article, "title", str, where))
        paragraphs = _field(article, "paragraphs", list, f"{source}: article {title!r}")
    except DataError as error:
        yield error
        return
    for index, paragraph in enumerate(paragraphs):
        yield from _paragraph(paragraph, title, index, source)


def _paragraph(paragraph: Any, title: str, index: int, source: str) -> Iterator[Document | DataError]:
    """The errors of the questions that break the format, then the document with the others."""
    where = f"{source}: article {title!r}, paragraph {index + 1}"
    questions = []
    try:
        text, qas = _field(paragraph, "context", str, where), _field(paragraph, "qas", list, where)
    except DataError as error:
        yield error
        return
    for qa in qas:
        try:
            questions.append(_question(qa, where))
        except DataError as error:
            yield error
    yield Document(f"{title}/{index}", text, tuple(questions), title)


def _question(qa: Any, where: str) -> Question:
    identifier = _field(qa, "id", str, where)
    where = f"{where}, question {identifier!r}"
    text = _field(qa, "question", str, where)
    answers = _answers(qa, "answers", where)
    if "is_impossible" not in qa and not answers:
        raise DataError(
            f"{where} has no answer, and does not say that it is impossible",
            'Give its answers, or write "is_impossible": true.',
        )
    impossible = "is_impossible" in qa and _field(qa, "is_impossible", bool, where)
    if impossible == bool(answers):
        raise DataError(
            f"{where} has is_impossible = {str(impossible).lower()} and {len(answers)} answers",
            "An impossible question has none, any other at least one.",
        )
    plausible = _answers(qa, "plausible_answers", where) if qa.get("plausible_answers") is not None else ()
    rationale = None if qa.get("rationale") is None else str(_field(qa, "rationale", str, where))
    return Question(identifier, text, answers, plausible, rationale)


def _answers(qa: dict[str, Any], key: str, where: str) -> tuple[Answer, ...]:
    where_in = f"{where}, {key}"
    return tuple(
        Answer(_field(answer, "text", str, where_in), _field(answer, "answer_start", int, where_in))
        for answer in _field(qa, key, list, where)
    )


def _field(record: Any, name: str, kind: type, where: str) -> Any:
    if not isinstance(record, dict) or record.get(name) is None:
        raise DataError(f"{where} has no field {name!r}", "Add it, as the SQuAD v2 format asks.")
    value = record[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise DataError(
            f"{where}: {name!r} is {kind_of_value(value)}, not {_WANTED[kind]}", "Write it as the SQuAD v2 format asks."
        )
    return value


def dump_squad(documents: tuple[Document, ...]) -> str:
    """Documents as SQuAD v2 JSON text. Consecutive documents with one title make one article."""
    articles: list[dict[str, Any]] = []
    for document in documents:
        if not articles or articles[-1]["title"] != document.title:
            articles.append({"title": document.title, "paragraphs": []})
        articles[-1]["paragraphs"].append({"context": document.text, "qas": [_qa(q) for q in document.questions]})
    return json.dumps({"version": VERSION, "data": articles}, ensure_ascii=False, indent=1) + "\n"


def _qa(question: Question) -> dict[str, Any]:
    qa: dict[str, Any] = {"id": question.id, "question": question.text, "answers": span_records(question.answers)}
    if question.plausible:
        qa["plausible_answers"] = span_records(question.plausible)
    if question.rationale is not None:
        qa["rationale"] = question.rationale
    return {**qa, "is_impossible": not question.answerable}


def span_records(answers: tuple[Answer, ...]) -> list[dict[str, Any]]:
    """Answers in the form of the format."""
    return [{"text": answer.text, "answer_start": answer.start} for answer in answers]
