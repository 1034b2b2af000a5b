"""Flat rows with one question each: JSON Lines files, and hub data sets with the columns of `rajpurkar/squad_v2`.

A row has `question` and `context`. Instead of `context` it may have `file`, or `document`, which names a file or is the
text itself. It may have `id`, `title`, `answers`, `plausible_answers` and `rationale`. Answers are spans ({"text": ...,
"answer_start": ...}, a list of them, or lists under both keys), or plain strings that stand once in the context. A null
means the same as a missing key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from palmette.data.files import DocumentFiles
from palmette.data.kinds import KINDS, of_kind, other_kind
from palmette.data.records import Answer, Document, Question
from palmette.data.squad import span_records
from palmette.data.tables import WAY_OUT, TableRow
from palmette.data.text import short
from palmette.data.values import DuplicateKeyError, json_problem, parse_json, read_id, without_nulls
from palmette.documents import Extracted
from palmette.errors import DataError, kind_of_value

_FORMAT = "Each row needs 'question' and 'context' (text), and 'answers' (spans, or an empty list where there is none)."


def parse_json_lines(text: str, source: str, way_out: str = _FORMAT) -> Iterator[dict[str, Any] | DataError]:
    """Rows of a JSON Lines text, in order. A line that is not a JSON object is given as its error."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json_line(line, f"{source}: line {number}", way_out)
        except DataError as error:
            yield error
            continue
        yield {"id": f"line-{number}", **row}


def parse_json_list(text: str, source: str, way_out: str = _FORMAT) -> Iterator[dict[str, Any] | DataError]:
    """Rows of a JSON text that is one list of objects. An item that is no object is given as its error.

    Raises:
        DataError: it is not JSON, or a key stands twice in one object.
    """
    try:
        rows = without_nulls(parse_json(text))
    except DuplicateKeyError as error:
        raise DataError(
            f"{source} has the key {short(error.key)} twice in one object", "Keep one of the two."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not JSON: {json_problem(error)}", way_out) from error
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict):
            yield {"id": f"item-{number}", **row}
        else:
            yield DataError(f"{source}: item {number} is {kind_of_value(row)}, not an object", way_out)


def parse_json_line(line: str, where: str, way_out: str) -> dict[str, Any]:
    """One row of JSON Lines, without its nulls.

    Args:
        line: the text of the line.
        where: how messages name the line.
        way_out: what the format asks for.

    Raises:
        DataError: the line is not a JSON object, or has the same key twice.
    """
    try:
        row = without_nulls(parse_json(line))
    except DuplicateKeyError as error:
        problem = f"{where} has the key {short(error.key)} twice in one object"
        raise DataError(problem, "Keep one of the two.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {json_problem(error)}", way_out) from error
    if not isinstance(row, dict):
        raise DataError(f"{where} is {kind_of_value(row)}, not an object", way_out)
    return row


def question_and_context(
    row: dict[str, Any], where: str, way_out: str, files: DocumentFiles | None = None
) -> tuple[str, str, Extracted | None]:
    """The `question` of a row, and its `context`, or the text of its `document` or `file`.

    Args:
        row: the row.
        where: how messages name it.
        way_out: what the format asks for.
        files: reads documents that rows name. Without it, `document` holds the text itself.

    Returns:
        The question, the text, and the document if the row names one.

    Raises:
        DataError: one of them is missing or is not text, or the document cannot be read.
    """
    name = named_document(row, files)
    question, context = row.get("question"), name or row.get("context", row.get("document"))
    if (shown := other_kind(row, ("questions",))) is not None:
        raise DataError(f"{where} is data of another kind, {KINDS[shown].title}", f"{KINDS[shown].uses} {way_out}")
    for field, value in (("question", question), ("context", context)):
        if value is None:
            raise DataError(f"{where} has no {field!r}", way_out)
        if not isinstance(value, str):
            raise DataError(f"{where}: {field!r} is {kind_of_value(value)}, not text", way_out)
    if files is None or not name:
        return str(question), str(context), None
    try:
        document = files.read(name)
    except DataError as error:
        raise DataError(f"{where}: {error.problem}", error.way_out) from error
    return str(question), document.text, document


def named_document(row: dict[str, Any], files: DocumentFiles | None) -> str:
    """The name of the document that a row asks about. "" if the row holds the text itself.

    Args:
        row: the row. Its `context` is always a text, its `file` always a name. What `document` is depends on its value.
        files: reads documents. Without it, no row names one.
    """
    document, file = row.get("document"), row.get("file")
    if files is None or "context" in row:
        return ""
    if isinstance(document, str):
        return document if files.is_name(document) else ""
    return file if document is None and isinstance(file, str) else ""


def group_rows(
    rows: Iterable[dict[str, Any] | DataError], source: str, files: DocumentFiles | None = None
) -> Iterator[Document | DataError]:
    """Documents from rows, in order of appearance. Rows with the same title and context ask about one document.

    Args:
        rows: the rows. The errors among them are passed on.
        source: how messages name the data.
        files: reads documents that rows name under `document`.

    Raises:
        DataError: the rows are data of another kind.
    """
    groups: dict[tuple[str, str], list[Question]] = {}
    for number, row in enumerate(of_kind(rows, source, "questions"), start=1):
        if isinstance(row, DataError):
            yield row
            continue
        try:
            title, context, question = parse_row(row, number, source, files)
        except DataError as error:
            yield error
            continue
        groups.setdefault((title, context), []).append(question)
    for index, ((title, context), questions) in enumerate(groups.items()):
        yield Document(f"{title or 'document'}/{index}", context, tuple(questions), title)


def parse_row(row: dict[str, Any], number: int, source: str, files: DocumentFiles | None) -> tuple[str, str, Question]:
    """The title, the context and the question of a row.

    Args:
        row: the row.
        number: its number, from 1.
        source: how messages name the data.
        files: reads documents that rows name.

    Raises:
        DataError: the row is bad.
    """
    in_table = isinstance(row, TableRow)
    number = row.number if isinstance(row, TableRow) else number
    row = without_nulls(row)
    identifier = read_id(row.get("id", f"row-{number}"), f"{source}: row {number}")
    where = f"{source}: row {number}" if in_table else f"{source}: the row with id {identifier!r}"
    way_out = WAY_OUT if in_table else _FORMAT
    question, context, document = question_and_context(row, where, way_out, files)
    title = row.get("title") or (named_document(row, files) if document else "")
    if not isinstance(title, str):
        raise DataError(f"{where}: 'title' is {kind_of_value(title)}, not text", _FORMAT)
    impossible = row.get("is_impossible")
    if row.get("answers") is None and impossible is not True:
        others = ", ".join(map(repr, sorted(row.keys() - {"id", "question", "context"})))
        raise DataError(f"{where} has no 'answers'" + (f", but {others}" if others else ""), _FORMAT)
    answers = tuple(_spans(row.get("answers"), context, where, first=in_table))
    if impossible is not None and impossible is not (not answers):
        raise DataError(f"{where} has is_impossible = {short(impossible)} and {len(answers)} answers", _FORMAT)
    plausible = tuple(_spans(row.get("plausible_answers"), context, where, first=in_table))
    rationale = row.get("rationale")
    if not (rationale is None or isinstance(rationale, str)):
        raise DataError(f"{where}: 'rationale' is {kind_of_value(rationale)}, not text", _FORMAT)
    return title, context, Question(str(identifier), question, answers, plausible, rationale)


def _spans(answers: Any, context: str, where: str, *, first: bool) -> Iterator[Answer]:
    if answers is None:
        return
    if isinstance(answers, dict):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
        else:
            answers = [answers]
    if not isinstance(answers, list):
        raise DataError(f"{where}: 'answers' is {kind_of_value(answers)}, not a list", _FORMAT)
    for answer in answers:
        yield _span(answer, context, where, first=first)


def _span(answer: Any, context: str, where: str, *, first: bool) -> Answer:
    if isinstance(answer, str):
        return _place(answer, context, where, first=first)
    if isinstance(answer, dict):
        text, start = answer.get("text"), answer.get("answer_start")
        if isinstance(text, str) and isinstance(start, int) and not isinstance(start, bool):
            return Answer(text, start)
    raise DataError(f"{where}: the answer {short(answer)} is neither a span nor text", _FORMAT)


def _place(text: str, context: str, where: str, *, first: bool) -> Answer:
    """Where the text of an answer stands. White space in it may be any white space of the context.

    Args:
        text: the answer.
        context: the document.
        where: how messages name the row.
        first: whether the first place counts if there are several, whole words before parts of words. If not, there
            must be one place only.
    """
    places = find_places(text, context, whole=False)
    if first and len(places) > 1:
        places = find_places(text, context, whole=True)[:1]
    if len(places) != 1:
        way_out = "Copy the answer from the document, letter by letter."
        what = f"{where}: the answer {short(text)}"
        raise DataError(
            f"{what} stands {len(places)} times in the context" if places else f"{what} does not stand in the context",
            "Give it as {'text': ..., 'answer_start': ...}." if places or not first else way_out,
        )
    start, end = places[0]
    return Answer(context[start:end], start)


def find_places(text: str, context: str, *, whole: bool) -> list[tuple[int, int]]:
    """Where a text stands, as (start, end). White space in it may be any white space of the context.

    Args:
        text: the text. Without words it stands nowhere.
        context: the document.
        whole: leave out places inside of longer words, unless there are no others.

    >>> find_places("pier 3", "pier 30, pier 3", whole=True)
    [(9, 15)]
    """
    words = text.split()
    exact = re.escape(text) if text in context else r"\s+".join(map(re.escape, words))
    places = [match.span() for match in re.finditer(exact, context)] if words else []
    if whole and len(places) > 1:
        return [match.span() for match in re.finditer(rf"(?<!\w){exact}(?!\w)", context)] or places
    return places


def dump_rows(documents: Iterable[Document]) -> str:
    """Documents as JSON Lines, one question a line.

    When they are read again, documents get new numbers, and those without questions are missing.
    """
    return "".join(
        json.dumps(_row(document, question), ensure_ascii=False) + "\n"
        for document in documents
        for question in document.questions
    )


def _row(document: Document, question: Question) -> dict[str, Any]:
    row: dict[str, Any] = {"id": question.id, "title": document.title, "context": document.text}
    row |= {"question": question.text, "answers": span_records(question.answers)}
    if question.plausible:
        row["plausible_answers"] = span_records(question.plausible)
    if question.rationale is not None:
        row["rationale"] = question.rationale
    return row
