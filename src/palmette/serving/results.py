"""The forms of what replies hold: answers with their places and probabilities, and fields of schemas.

Nothing here imports torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from palmette.serving.documents import Kept


class Candidate(BaseModel):
    """A span of the document that may be the answer."""

    text: Annotated[str, Field(description="Its text.")]
    start: Annotated[int, Field(description="Where it begins in the document, in characters.")]
    end: Annotated[int, Field(description="Where it ends.")]
    probability: Annotated[float | None, Field(description="The probability that it is the answer.")]


class Box(BaseModel):
    """A part of a printed line in a PDF."""

    page: Annotated[int, Field(description="Its page, from 1.")]
    line: Annotated[int, Field(description="Its line on the page, from 1.")]
    box: Annotated[list[float], Field(description="Left, bottom, right and top, in points.")]


class AnswerPlace(BaseModel):
    """Where an answer stands in a file."""

    page: Annotated[int | None, Field(description="Its page in a PDF, from 1.")] = None
    line: Annotated[int, Field(description="Its line, from 1. In a PDF, on its page.")]
    boxes: Annotated[list[Box] | None, Field(description="In a PDF, a box for each line that it touches.")] = None


class Answer(BaseModel):
    """The answer to one question."""

    question: Annotated[str, Field(description="As it was asked.")]
    answer: Annotated[str | None, Field(description="Copied from the document. null if none is given.")]
    refusal: Annotated[
        Literal["absent", "unsure"] | None,
        Field(description='"absent": the document probably does not answer. "unsure": no answer is likely enough.'),
    ]
    start: Annotated[int | None, Field(description="Where the answer begins in the document, in characters.")]
    end: Annotated[int | None, Field(description="Where it ends.")]
    place: Annotated[
        AnswerPlace | None, Field(description="Its line and page, if the document was read from a file.")
    ] = None
    probability: Annotated[float | None, Field(description="The probability that the decision is right.")]
    no_answer_probability: Annotated[
        float | None, Field(description="The probability that the document does not answer the question.")
    ]
    place_probability: Annotated[
        float | None,
        Field(description="The probability that the right answer overlaps the best span, whatever its ends are."),
    ]
    certified: Annotated[
        bool, Field(description="Whether the decision is proved to be the one that scoring every span would lead to.")
    ]
    candidates: Annotated[list[Candidate], Field(description="The best spans, best first.")]
    num_windows: Annotated[int, Field(description="The number of parts of the document.")]
    num_read: Annotated[int, Field(description="How many of them were read for this question.")]
    unread: Annotated[float, Field(description="The probability that the answer stands in a part that was not read.")]


class Value(BaseModel):
    """A value of a field."""

    text: Annotated[str, Field(description="Copied from the document.")]
    start: Annotated[int, Field(description="Where it begins in the document, in characters.")]
    end: Annotated[int, Field(description="Where it ends.")]
    probability: Annotated[float, Field(description="The probability that it is the value.")]
    page: Annotated[int | None, Field(description="Its page, if the document was read from a PDF.")]
    line: Annotated[int | None, Field(description="Its line, if the document was read from a file.")]
    value: Annotated[
        str | None, Field(description="What it means by rule: plain digits, YYYY-MM-DD, yes, an option, or the text.")
    ]
    currency: Annotated[str | None, Field(description="Of an amount, its ISO 4217 code, or its sign.")]
    reason: Annotated[str, Field(description="Why no rule reads it. Empty if one does.")]


class FieldReply(BaseModel):
    """What the document says about one field."""

    values: Annotated[list[Value], Field(description="In the order of the document. Empty if none is given.")]
    absent_probability: Annotated[
        float | None, Field(description="The probability that the document does not hold the field.")
    ]
    certified: Annotated[
        bool, Field(description="Whether it is proved that scoring every span would lead to the same values.")
    ]
    refusal: Annotated[Literal["absent", "unsure"] | None, Field(description="Why there is no value, as in answers.")]
    candidates: Annotated[list[Candidate], Field(description="The best spans, best first.")]
    options: Annotated[dict[str, float] | None, Field(description="Of a choice, the probability of each option.")] = (
        None
    )


class Answers(BaseModel):
    """Answers to the questions of a request, in their order."""

    id: Annotated[str, Field(description="A new one for each reply.")]
    object: Annotated[Literal["answers"], Field(description="What this is.")]
    created: Annotated[int, Field(description="When, in seconds since 1970.")]
    model: Annotated[str, Field(description="The name of the model.")]
    document_id: Annotated[str, Field(description="The id of the document, whether or not it is kept.")]
    answers: Annotated[list[Answer], Field(description="One for each question, in their order.")]


class Extraction(BaseModel):
    """What a document says about the fields of a schema, or answers to questions."""

    id: Annotated[str, Field(description="A new one for each reply.")]
    object: Annotated[Literal["extraction"], Field(description="What this is.")]
    created: Annotated[int, Field(description="When, in seconds since 1970.")]
    model: Annotated[str, Field(description="The name of the model.")]
    document_id: Annotated[str, Field(description="The id of the document, whether or not it is kept.")]
    fields: Annotated[
        dict[str, FieldReply] | None, Field(description="With a schema: each field by its name, in its order.")
    ] = None
    answers: Annotated[
        list[Answer] | None, Field(description="With questions: an answer for each, as of /v1/answers.")
    ] = None


class KeptDocument(BaseModel):
    """A document that the server keeps in memory, until newer ones take its place."""

    id: Annotated[str, Field(description="Made of the hash of the text, so the same text has the same id.")]
    object: Annotated[Literal["document"], Field(description="What this is.")]
    characters: Annotated[int, Field(description="The length of the text.")]
    kind: Annotated[
        str, Field(description='"text", "markdown", "html", "pdf", "docx", "csv" or "xlsx", by its content.')
    ]
    notes: Annotated[list[str], Field(description="What to know about how a file was read, such as empty pages.")]


def kept_reply(kept: Kept) -> dict[str, Any]:
    """A document as JSON, without its text."""
    about = {"kind": "text", "notes": []}
    if kept.extracted is not None:
        about = {"kind": kept.extracted.kind, "notes": list(kept.extracted.notes)}
    return {"id": kept.document.id, "object": "document", "characters": len(kept.document.text), **about}
