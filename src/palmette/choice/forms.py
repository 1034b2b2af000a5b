"""The forms that people have a benchmark's files in, as rows with the columns of the hub's data set."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

from palmette.data.text import short
from palmette.errors import DataError, kind_of_value

Row = dict[str, Any]

_LETTERS = "ABCD"
_CELLS = 6  # of a row of MMLU: the question, four choices and the letter of the right one
_LINES = 6  # of an item in HellaSwag's text form: the context, the index of the right ending, four endings
_MARKED = re.compile(r"\(([A-H1-5])\) ")


def six_line_rows(text: str, source: str) -> Iterator[Row]:
    """Rows of HellaSwag from six lines an item: the context, the index of the right ending, and four endings.

    The context is a heading, sentences, and the beginning of the next sentence, if there is one, in small letters.

    >>> lines = "Skiing: A man stands on a hill. he", "1", "flies.", "skis down.", "eats.", "sings."
    >>> [row] = six_line_rows("\\n".join(lines), "a.txt")
    >>> row["activity_label"], row["ctx_a"], row["ctx_b"], row["label"]
    ('Skiing', 'A man stands on a hill.', 'he', '1')

    Raises:
        DataError: the number of lines is not a multiple of six, or a second line is no index.
    """
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) % _LINES:
        raise DataError(f"{source} has {len(lines)} lines, which is no multiple of {_LINES}", "Give six lines an item.")
    for start in range(0, len(lines), _LINES):
        context, gold, *endings = lines[start : start + _LINES]
        if gold.strip() not in {"0", "1", "2", "3"}:
            raise DataError(
                f"{source}: line {start + 2} is {short(gold)}, not the index of the right ending", "Give 0, 1, 2 or 3."
            )
        label, _, rest = context.partition(": ")
        first, second = _cut_fragment(rest)
        row = {"id": f"item-{start // _LINES + 1}", "activity_label": label, "ctx_a": first, "ctx_b": second}
        yield {**row, "endings": endings, "label": gold.strip()}


def _cut_fragment(text: str) -> tuple[str, str]:
    """The sentences of a context, and the beginning of the next one, which is in small letters."""
    at = max(text.rfind(mark) for mark in (". ", "! ", "? "))
    fragment = text[at + 2 :] if at >= 0 else text
    return (text[: at + 1] if at >= 0 else "", fragment) if fragment[:1].islower() else (text, "")


def is_request(row: Row) -> bool:
    """Whether a row is a request that the OLMES project has rendered: a context and a continuation of one choice."""
    return isinstance(row.get("request"), dict) and {"context", "continuation"} <= row["request"].keys()


def request_rows(requests: Iterable[Row], source: str) -> Iterator[Row]:
    """Rows of `contexts`, `continuations`, `choices` and `gold` from rendered requests, one for each choice.

    Requests for the probability of a choice without its context are left out: `acc_mutual_info` measures it by itself.

    Raises:
        DataError: a request is of another form, or those of an item are incomplete.
    """
    groups: dict[tuple[Any, Any], list[Row]] = {}
    for index, request in enumerate(requests):
        _check_request(request, f"{source}: request {index + 1}")
        groups.setdefault((request.get("doc_id"), request.get("native_id")), []).append(request)
    for (number, native), group in groups.items():
        doc = group[0].get("doc", {})
        if isinstance(number, int) and number >= 1_000_000:  # where OLMES numbers those without a context
            continue
        ordered = sorted(group, key=lambda one: one.get("idx", 0))
        contexts = [one["request"]["context"] for one in ordered]
        continuations = [one["request"]["continuation"] for one in ordered]
        choices = doc.get("choices") or [doc.get("option1"), doc.get("option2")]
        if not isinstance(choices, list):
            raise DataError(f"{source}: item {number} has the choices {short(choices)}, not a list", "Correct its doc.")
        if len(choices) != len(ordered):
            raise DataError(
                f"{source}: item {number} has {len(ordered)} requests for {len(choices)} choices", "Give all of them."
            )
        yield {
            "id": str(native if native is not None else number),
            "contexts": contexts,
            "continuations": continuations,
            "choices": choices,
            "gold": group[0].get("label", doc.get("gold")),
        }


def _check_request(request: Row, where: str) -> None:
    """Refuse a request that is not of OLMES' form."""
    if not is_request(request):
        raise DataError(
            f"{where} has no context and continuation", "Give rendered requests only, as OLMES writes them."
        )
    kinds: dict[str, tuple[type, ...]] = {"idx": (int,), "doc": (dict,), "doc_id": (int, str), "native_id": (int, str)}
    for key, kind in kinds.items():
        if key in request and not isinstance(request[key], kind):
            raise DataError(
                f"{where} has {short(request[key])} under {key!r}, which is {kind_of_value(request[key])}",
                "Give rendered requests as OLMES writes them.",
            )


def is_subject(text: str, source: str) -> bool:
    """Whether a table begins as MMLU's authors write one: six cells, of which the last is a letter or empty, no header.

    >>> [is_subject(text, "a.csv") for text in ("What is 2 + 2?,3,4,5,6,B", "question,A,B,C,D,answer")]
    [True, False]

    Raises:
        DataError: the first row is none of a table.
    """
    cells = next(_csv_rows(text, source), (1, []))[1]
    return len(cells) == _CELLS and cells[-1].strip() in {*_LETTERS, ""}


def subject_rows(text: str, subject: str, source: str) -> Iterator[Row]:
    """Rows of MMLU from its authors' file of a subject: question, four choices and a letter, without a header.

    >>> next(subject_rows('"What is 2 + 2?",3,4,5,6,B\\n', "abstract_algebra", "a.csv"))["answer"]
    1

    Raises:
        DataError: the text is no table.
    """
    for number, cells in _csv_rows(text, source):
        name, (question, *choices) = f"{subject}-{number}", cells
        row = {"id": name, "subject": subject, "question": question, "choices": choices[:4]}
        answer = _LETTERS.find(choices[4].strip()) if len(choices) == 5 and choices[4].strip() else -1
        yield {**row, "answer": answer} if answer >= 0 else row


def _csv_rows(text: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table with commas that are not empty, each with its number."""
    number = 0
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline="")), start=1):
            if cells:
                yield number, cells
    except csv.Error as error:
        raise DataError(f"{source}: row {number + 1} is no row of a table: {error}", "Check its quotes.") from error


def official_row(row: Row, where: str) -> Row:
    """A row in the form of a benchmark's own authors, with the columns of the hub's data set. Others stay as they are.

    >>> stem = {"stem": "What melts ice?", "choices": [{"text": "cold", "label": "A"}, {"text": "heat", "label": "B"}]}
    >>> official_row({"id": "1", "question": stem, "answerKey": "B"}, "a.jsonl: 1")["choices"]
    {'text': ['cold', 'heat'], 'label': ['A', 'B']}
    >>> row = {"ID": "7", "Question Stem": "Ice is", "Choices": "(A) hot (B) cold", "Answer Key": "B"}
    >>> official_row(row, "a.tsv: 7")["choices"]
    {'text': ['hot', 'cold'], 'label': ['A', 'B']}

    Args:
        row: the row.
        where: how messages name it.

    Raises:
        DataError: its choices are not texts with labels.
    """
    row = dict(row)
    if isinstance(row.get("question"), dict):  # OpenBookQA, ARC and CommonsenseQA
        inner = row.pop("question")
        given = inner.get("choices", [])
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            raise DataError(
                f"{where} has the choices {short(given)}, which are no list of a text and a label each",
                'Write each as {"text": "heat", "label": "B"}.',
            )
        choices = {"text": [one.get("text") for one in given], "label": [one.get("label") for one in given]}
        row |= {"question": inner.get("stem"), "question_stem": inner.get("stem"), "choices": choices}
    if "Question Stem" in row:  # the table of OpenBookQA
        parts = _MARKED.split(str(row.get("Choices", "")))
        choices = {"text": [text.strip() for text in parts[2::2]], "label": parts[1::2]}
        stem = row.get("Question Stem")
        row = {"id": row.get("ID"), "question": stem, "question_stem": stem, "choices": choices, **row}
        row["answerKey"] = row.get("Answer Key", "")
    if "qID" in row:
        row.setdefault("id", row["qID"])
    if "ind" in row:
        row.setdefault("id", row["ind"])
    if "label" not in row and isinstance(row.get("answer"), bool):  # BoolQ
        row["label"] = int(row["answer"])
    if isinstance(row.get("label"), bool):
        row["label"] = int(row["label"])
    return row
