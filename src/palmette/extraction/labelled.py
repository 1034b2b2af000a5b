"""Labelled fields asked of a model: questions with known answers, to which rules of deciding are fitted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from palmette.data.records import Document
from palmette.data.rows import dump_rows
from palmette.data.squad import dump_squad
from palmette.decode.effort import Effort
from palmette.errors import DataError
from palmette.evaluate.calibration import Case, PassageCase
from palmette.evaluate.comparisons import was_learned
from palmette.extraction.labels import Labels, questions_to_learn
from palmette.extraction.reading import WHOLE_SEARCH
from palmette.extraction.schema import Field, Schema
from palmette.inference.answerer import Answerer
from palmette.progress import progress


def covered_documents(labels: Labels, schema: Schema) -> list[Document]:
    """The labelled documents without the questions of choices: a label is a passage, and does not say which option."""
    covered = {field.question for field in schema.fields if field.type != "choice"}
    documents = [
        replace(document, questions=tuple(one for one in document.questions if one.text in covered))
        for document in labels.documents
    ]
    return [document for document in documents if document.questions]


def labelled_cases(
    answerer: Answerer, schema: Schema, documents: Sequence[Document], effort: Effort, doing: str
) -> dict[str, list[Case]]:
    """The cases of each field, by its name, with the best span proved.

    Args:
        answerer: what reads.
        schema: the fields.
        documents: labelled documents that the model was not trained on.
        effort: how far the decoder looks.
        doing: what the progress bar says.
    """
    fields = {field.question: field for field in schema.fields}
    found: dict[str, list[Case]] = {}
    for field, case in _cases(answerer, documents, fields, effort, doing):
        found.setdefault(field.name, []).append(case)
    return found


def _cases(
    answerer: Answerer, documents: Sequence[Document], fields: dict[str, Field], effort: Effort, doing: str
) -> Iterator[tuple[Field, Case]]:
    by_id = {one.id: (document, one) for document in documents for one in document.questions}
    least = {name: field.least_probability for name, (_, one) in by_id.items() if (field := fields[one.text]).many}
    decoder = answerer.span_decoder(effort, WHOLE_SEARCH)
    with progress(len(by_id), doing, "questions") as bar:
        for name, posterior in decoder.read_fields(documents, {}, least):
            bar.update()
            document, question = by_id[name]
            field = fields[question.text]
            yield field, (PassageCase if field.type == "yes/no" else Case)(document, question, posterior)


def check_not_learned(answerer: Answerer, labels: Labels, schema: Schema) -> None:
    """Refuse labels whose questions, as `--learn` writes them, the run was trained on.

    Raises:
        DataError: it was.
    """
    source = answerer.source
    if source is None or source.trained is None:
        return
    learned = tuple(questions_to_learn(labels.documents, schema))
    for text in (dump_rows(learned), dump_squad(learned)):
        if was_learned(source.name, hashlib.sha256(text.encode("utf-8")).hexdigest()):
            raise DataError(
                f"{source.name} was trained on {labels.source}: what it knows by heart proves nothing",
                "Give labels of documents that it has not seen.",
            )
