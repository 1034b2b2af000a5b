"""The tools: what an assistant may ask for, and the form of what it gets."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, ConfigDict, Field

from palmette.errors import DataError, PalmetteError
from palmette.extraction.schema import FieldType, read_schema
from palmette.mcp.folders import Folders
from palmette.mcp.worker import Worker
from palmette.serving.documents import Kept
from palmette.serving.results import Answer, FieldReply

if TYPE_CHECKING:  # they load torch, for which no client should wait
    from palmette.decode.long_document import Watch
    from palmette.serving.reader import DocumentReader

MOST_QUESTIONS = 200
P = ParamSpec("P")
T = TypeVar("T")

PathArgument = Annotated[str, Field(description="The document: a path in one of the folders that may be read.")]


class FieldAsked(BaseModel):
    """A field to read."""

    model_config = ConfigDict(extra="forbid")

    question: Annotated[str | None, Field(description="The question that the field asks of the document.")] = None
    type: Annotated[FieldType, Field(description="What the value is, which decides how it is normalised.")] = "text"
    many: Annotated[bool, Field(description="Whether there may be several values.")] = False
    options: Annotated[list[str] | None, Field(description="Of a choice, what it is made among.")] = None


class Documents(BaseModel):
    """Documents that may be read."""

    paths: Annotated[list[str], Field(description="Their whole paths, the first 500.")]
    total: Annotated[int, Field(description="The number of all.")]


class AskReply(BaseModel):
    """Answers to questions about a document."""

    path: Annotated[str, Field(description="The document.")]
    notes: Annotated[list[str], Field(description="What to know about how it was read, such as pages without text.")]
    answers: Annotated[list[Answer], Field(description="One for each question, in their order.")]


class ExtractReply(BaseModel):
    """Fields that were read out of a document."""

    path: Annotated[str, Field(description="The document.")]
    notes: Annotated[list[str], Field(description="What to know about how it was read, such as pages without text.")]
    fields: Annotated[dict[str, FieldReply], Field(description="What the document says about each field, by its name.")]


def in_words(tool: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """A tool whose errors of a user's making are those of the protocol, which the assistant reads."""

    @functools.wraps(tool)
    async def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await tool(*args, **kwargs)
        except PalmetteError as error:
            raise ToolError(str(error)) from error

    return told


class Tools:
    """The tools of a server.

    Args:
        worker: reads and answers.
        folders: the folders whose files may be read.
    """

    def __init__(self, worker: Worker, folders: Folders) -> None:
        self._worker, self._folders = worker, folders

    async def list_documents(self) -> Documents:
        """List the documents that may be read."""
        paths, total = await asyncio.to_thread(self._folders.documents)
        return Documents(paths=paths, total=total)

    async def ask_document(
        self,
        path: PathArgument,
        questions: Annotated[
            list[str],
            Field(min_length=1, max_length=MOST_QUESTIONS, description="Questions, each about one fact, in words."),
        ],
        read_all: Annotated[
            bool,
            Field(description="Read all of a long document, and not just the parts nearest to each question. Slower."),
        ] = False,
    ) -> AskReply:
        """Answer questions about a document (PDF, Word, HTML, Markdown, text, CSV or Excel).

        Every answer is copied word for word from the document, with its place and a probability, or is null if the
        document does not answer. Ask all questions about a document in one call: it is read once.
        """
        found = self._folders.find(path)

        def work(reader: DocumentReader, kept: Kept, watch: Watch) -> AskReply:
            from palmette.serving.records import answer_of

            predictions = reader.answer(kept.document, questions, read_all=read_all, watch=watch)
            answers = [Answer(**answer_of(*one, kept)) for one in zip(questions, predictions, strict=True)]
            return AskReply(path=str(found), notes=_notes(kept), answers=answers)

        return await self._worker.read(found, work)

    async def extract_fields(
        self,
        path: PathArgument,
        fields: Annotated[
            dict[str, str | FieldAsked] | None,
            Field(
                description='The fields by their names: each a question, or a map, such as {"total": {"question": '
                '"What is the total?", "type": "amount"}, "parties": {"question": "Who are the parties?", '
                '"many": true}}.'
            ),
        ] = None,
        schema_file: Annotated[
            str | None, Field(description="In their place, a YAML file or JSON Schema (.json) in one of the folders.")
        ] = None,
    ) -> ExtractReply:
        """Read fields out of a document: dates, amounts, names, choices, lists.

        Every value is copied word for word from the document, with its place and a probability. What it means, such as
        a date as YYYY-MM-DD, stands beside it in `value`. A field that the document does not hold has no values.
        Nothing is invented. All of the document is read, once for all fields.
        """
        if (fields is None) == (schema_file is None):
            raise DataError("a call has either fields or schema_file", "Give one of them.")
        asked = {name: one if isinstance(one, str) else one.model_dump() for name, one in (fields or {}).items()}
        schema = read_schema({"fields": asked} if schema_file is None else str(self._folders.find(schema_file)))
        if len(schema.fields) > MOST_QUESTIONS:
            raise DataError(f"there are {len(schema.fields)} fields", f"Give {MOST_QUESTIONS} at most.")
        found = self._folders.find(path)

        def work(reader: DocumentReader, kept: Kept, watch: Watch) -> ExtractReply:
            from palmette.serving.records import field_replies

            records = field_replies(schema, reader.extract(kept.document, schema, watch=watch), kept)
            replies = {name: FieldReply(**record) for name, record in records.items()}
            return ExtractReply(path=str(found), notes=_notes(kept), fields=replies)

        return await self._worker.read(found, work)


def _notes(kept: Kept) -> list[str]:
    return [] if kept.extracted is None else list(kept.extracted.notes)
