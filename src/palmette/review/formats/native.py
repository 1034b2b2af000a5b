"""Our own JSON Lines: a whole store, of which nothing is lost.

Each line has one key: "document", "question", "audit" or "event".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from palmette.data.records import Answer, Document, Question
from palmette.data.rows import parse_json_lines
from palmette.data.values import read_id
from palmette.errors import DataError
from palmette.review.events import document_hash, from_dict, to_dict
from palmette.review.formats.annotated import field
from palmette.review.store import Store


def dump(store: Store) -> Iterator[str]:
    """The lines of a store, one after the other."""
    for document in store.documents():
        yield _line("document", {"sha256": document.id, "title": document.title, "text": document.text})
        for question in document.questions:
            answers = [[answer.text, answer.start] for answer in question.answers]
            values = {"id": question.id, "document_sha256": document.id, "text": question.text, "answers": answers}
            yield _line("question", values)
    audit = store.audit()
    if audit is not None:
        frozen: dict[str, Any] = {
            "questions": list(audit.questions),
            "sampling_probability": audit.sampling_probability,
        }
        yield _line("audit", frozen)
    for event in store.events():
        yield _line("event", to_dict(event))


def restore(store: Store, text: str, source: str) -> int:
    """Add the lines of another store to a store. Events get new ids.

    Args:
        store: the store.
        text: the text of the file.
        source: its name, for messages.

    Returns:
        The number of events.

    Raises:
        DataError: a line breaks the format, a question is already there and differs, or the store has an audit set or
            verdicts already and the file has an audit set.
        RunError: the store cannot be written.
    """
    titles: dict[str, tuple[str, str]] = {}
    questions: dict[str, list[Question]] = {}
    audit: dict[str, Any] | None = None
    events = []
    for number, row in enumerate(parse_json_lines(text, source), start=1):
        if isinstance(row, DataError):
            raise row
        where = f"{source}: line {number}"
        kind = next((name for name in ("document", "question", "audit", "event") if name in row), None)
        if kind is None:
            raise DataError(
                f"{where} is no line of a review", "Give a file of `palmette review export --format events`."
            )
        values = field(row, kind, dict, where)
        if kind == "document":
            body = field(values, "text", str, where)
            titles[document_hash(body)] = (str(values.get("title", "")), body)
        elif kind == "question":
            answers = tuple(Answer(*one) for one in field(values, "answers", list, where))
            asked = Question(str(read_id(values["id"], where)), field(values, "text", str, where), answers)
            questions.setdefault(field(values, "document_sha256", str, where), []).append(asked)
        elif kind == "audit":
            audit = values
        else:
            events.append(from_dict(values, where))
    if lost := next((sha256 for sha256 in questions if sha256 not in titles), None):
        raise DataError(f"{source} asks about the document {lost[:12]!r}, which it lacks", "Give the whole file.")
    store.add_documents(
        Document(sha256, body, tuple(questions.get(sha256, ())), title) for sha256, (title, body) in titles.items()
    )
    if audit is not None:
        store.freeze_audit(field(audit, "questions", list, source), field(audit, "sampling_probability", float, source))
    store.import_events(events)
    return len(events)


def _line(kind: str, values: dict[str, Any]) -> str:
    return json.dumps({kind: values}, ensure_ascii=False) + "\n"
