"""Questions with what several people said about them: what all foreign formats are made of, and read into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from palmette.data.records import Document, Question
from palmette.data.text import short
from palmette.data.values import is_number
from palmette.errors import DataError
from palmette.review.events import Event, Shown, Span, Verdict, document_hash
from palmette.review.offsets import from_utf16
from palmette.review.state import State
from palmette.review.store import Store

LABEL = "answer"  # of a marked span, in tools that want one


@dataclass(frozen=True, slots=True)
class Annotation:
    """A verdict and who gave it."""

    annotator: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Annotated:
    """A question about a text, the model's suggestion, and what people said.

    Attributes:
        id: the id of the question.
        question: the question.
        text: the document.
        suggested: whether there is a suggestion.
        suggestion: the suggested span. None if there is no suggestion, or if it is that there is no answer.
        probability: the probability of the suggestion.
        run: the name of the run that made it.
        annotations: the verdicts, by annotator.
    """

    id: str
    question: str
    text: str
    suggested: bool = False
    suggestion: Span | None = None
    probability: float | None = None
    run: str = ""
    annotations: tuple[Annotation, ...] = ()


def annotated(documents: Iterable[Document], state: State) -> Iterator[Annotated]:
    """The questions of documents with the verdicts that count, in the order of the data."""
    suggestions: dict[str, Event] = {}
    for event in (*state.shown.values(), *(one.event for one in state.of() if one.event.shown is not None)):
        before = suggestions.get(event.question)
        if before is None or (event.id or 0) > (before.id or 0):
            suggestions[event.question] = event
    for document in documents:
        for question in document.questions:
            judged = state.of_question(question.id)
            suggested = suggestions.get(question.id)
            shown = suggested.shown if suggested else None
            yield Annotated(
                question.id,
                question.text,
                document.text,
                shown is not None,
                shown.span if shown else None,
                shown.probability if shown else None,
                suggested.run if suggested else "",
                tuple(Annotation(name, judged[name].verdict) for name in sorted(judged)),
            )


def import_annotated(store: Store, given: Sequence[Annotated], source: str, time: datetime) -> int:
    """Add the documents, questions and verdicts of a file to a store.

    Suggestions are kept as events that the annotator was shown them.

    Args:
        store: the store.
        given: what the file holds.
        source: the name of the file, which becomes the session of the events.
        time: the time of the events, in UTC, since most tools do not say when a verdict was given.

    Returns:
        The number of verdicts.

    Raises:
        DataError: a question is already there and differs, or a span is no slice of its document.
        RunError: the store cannot be written.
    """
    store.add_documents(Document(one.id, one.text, (Question(one.id, one.question),)) for one in given)
    events = []
    for one in given:
        for annotation in one.annotations:
            values: dict[str, Any] = {
                "time": time,
                "annotator": annotation.annotator,
                "session": source,
                "question": one.id,
                "document_sha256": document_hash(one.text),
                "run": one.run,
            }
            shown = Shown(one.suggestion, one.probability, None, strategy="imported") if one.suggested else None
            events.append(Event("verdict", shown=shown, verdict=annotation.verdict, **values))
    store.append(events)
    return len(events)


def verdict_of(
    kind: str | None, span: Span | None, suggested: Annotated, seconds: Any, where: str, *, skipped: bool = False
) -> Verdict:
    """The verdict that a foreign record means.

    Args:
        kind: the verdict that the record names, if it does.
        span: the span that is marked. None without one.
        suggested: the question with the suggestion.
        seconds: what the record says about how long it took. None if it says nothing.
        where: the place of the record, for messages.
        skipped: whether the record says that the question was skipped.

    Returns:
        Without a named verdict: an accepted or an edited span, or "no answer" where nothing is marked.

    Raises:
        DataError: the named verdict and the span contradict each other, or the seconds are no number.
    """
    seconds = 0.0 if seconds is None else seconds
    try:
        if not is_number(seconds):
            raise DataError(f"a verdict took {short(seconds)} seconds", "Give the time as a number from 0 on.")
        if skipped or kind == "skip":
            return Verdict("skip", None, seconds)
        if kind == "reject":
            return Verdict("reject", None, seconds)
        if kind in ("no_answer", "no answer"):
            return Verdict("no_answer", span, seconds)
        if kind not in (None, "accept", "edit"):
            raise DataError(f"{kind!r} is not a verdict", "Use accept, reject, no answer, edit or skip.")
        same = suggested.suggested and suggested.suggestion == span
        if kind is None and span is None:
            return Verdict("no_answer", None, seconds)
        # Tools let people move the span and leave the choice as it was. Then the span counts.
        return Verdict("accept" if same and kind != "edit" else "edit", span, seconds)
    except DataError as error:
        raise DataError(f"{where}: {error.problem}", error.way_out) from error


def probability_of(value: Any) -> float | None:
    """What a foreign record says of the probability of its suggestion. None where that is no probability."""
    return float(value) if is_number(value) and 0.0 <= value <= 1.0 else None


def read_span(text: str, start: Any, end: Any, stated: str | None, where: str, *, utf16: bool | None) -> Span:
    """A span of a foreign record, whose offsets may count UTF-16 units.

    Args:
        text: the document.
        start: where it starts, as stated.
        end: where it ends, as stated.
        stated: the text that the record states for the span, if it does.
        where: the place of the record, for messages.
        utf16: whether the tool counts UTF-16 units. None if it may be either. Then the stated text decides.

    Raises:
        DataError: the ends lie outside the text or inside a character, or no way of counting gives the stated text.
    """
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in (start, end)):
        raise DataError(f"{where}: the ends of a span are {short(start)} and {short(end)}", "Give two whole numbers.")
    ways = [(start, end), (from_utf16(text, start), from_utf16(text, end))]
    if utf16 is not None:
        ways = ways[1:] if utf16 else ways[:1]
    elif stated is None and ways[0] != ways[1]:
        raise DataError(
            f"{where}: UTF-16 counts characters before {end} twice, and the record does not say which text is marked",
            "Export with the texts of the spans, or remove such characters from the document.",
        )
    for first, last in ways:
        if first is not None and last is not None and 0 <= first < last <= len(text):
            found = text[first:last]
            if stated is None or found == stated:
                return Span(found, first, last)
    what = f"{short(stated)} " if stated is not None else ""
    raise DataError(
        f"{where}: the span {what}does not stand at {start} to {end} of its text of {len(text)} characters",
        "Import the file of the tool as it was exported, with the text unchanged.",
    )


def field(row: Any, name: str, kind: type, where: str) -> Any:
    """A value of a foreign record.

    Raises:
        DataError: the record is no object, or the value is missing or of another type.
    """
    value = row.get(name) if isinstance(row, dict) else None
    if not isinstance(value, kind):
        raise DataError(f"{where} has {short(value)} as {name!r}", "Import the file of the tool as it was exported.")
    return value
