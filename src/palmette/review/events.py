"""Events of a review: what a person was shown, what was decided, and what was taken back.

Events are only ever added. What holds now is a fold over them (`review/state.py`). Offsets count code points of the
document of record, as everywhere in this package. The dictionaries of `to_dict` are the rows of our own JSON Lines
format, and lose nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast, get_args

from palmette.data.text import short
from palmette.decode.prediction import Candidate
from palmette.errors import DataError

EventKind = Literal["shown", "verdict", "undo", "adjudicated"]
VerdictKind = Literal["accept", "reject", "no_answer", "edit", "skip"]
_KINDS, _VERDICTS = get_args(EventKind), get_args(VerdictKind)
_AS_SHOWN = "Send the event as the review page does, or take it out of the file."


def document_hash(text: str) -> str:
    """The hash that a document is known by in a store: SHA-256 of its UTF-8 bytes.

    >>> document_hash("")[:12]
    'e3b0c44298fc'
    """
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


@dataclass(frozen=True, slots=True)
class Span:
    """A span of a document.

    Attributes:
        text: its text, exactly document[start:end].
        start, end: its ends, in code points.

    Raises:
        DataError: the text is empty, or is not as long as the ends say.
    """

    text: str
    start: int
    end: int

    def __post_init__(self) -> None:
        if not self.text.strip() or self.start < 0 or self.end - self.start != len(self.text):
            raise DataError(
                f"the span {short(self.text)} has {len(self.text)} characters, and its ends are {self.start} and "
                f"{self.end}",
                "Count offsets in characters (code points) from the start of the document, not in UTF-16 units.",
            )

    def check(self, document: str, where: str) -> None:
        """Check that the span is a slice of a document.

        Raises:
            DataError: it is not. The message begins with `where`.
        """
        there = document[self.start : self.end]
        if there != self.text:
            raise DataError(
                f"{where}: the span {short(self.text)} does not stand at {self.start}, where the document has "
                f"{short(there)}",
                "Count offsets in characters (code points), and send the text as it stands in the document.",
            )


@dataclass(frozen=True, slots=True)
class Shown:
    """What was put before a person, and why.

    Attributes:
        span: the answer that was suggested. None if the suggestion was that there is no answer.
        probability: the probability of the suggestion. None if the model gives none.
        no_answer_probability: the probability that the document does not answer.
        candidates: the likeliest spans, best first.
        strategy: how the queue chose the question: "uncertain", "margin", "disagreement", "diverse", "random",
            "overlap", "audit" and so on.
        score: the number that the strategy ranked it by.
        sampling_probability: the probability with which the queue draws this question, above 0 and at most 1. A mean
            over judged questions weighted by its inverse is unbiased for all of them. None where a strategy ranks
            instead of drawing, since other questions then had no chance.
        blind: whether suggestion and candidates were hidden from the person.
    """

    span: Span | None
    probability: float | None
    no_answer_probability: float | None
    candidates: tuple[Candidate, ...] = ()
    strategy: str = "random"
    score: float = 0.0
    sampling_probability: float | None = None
    blind: bool = False

    def __post_init__(self) -> None:
        numbers = {"probability": self.probability, "no_answer_probability": self.no_answer_probability}
        numbers |= {"sampling_probability": self.sampling_probability}
        numbers |= {f"candidate {rank}": one.probability for rank, one in enumerate(self.candidates, start=1)}
        for name, value in numbers.items():
            if value is not None and not 0.0 <= value <= 1.0:
                raise DataError(f"what was shown has the {name} {value!r}, which is not from 0 to 1", _AS_SHOWN)
        if not math.isfinite(self.score):
            raise DataError(f"what was shown has the score {self.score!r}, which is not a number", _AS_SHOWN)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person decided.

    Attributes:
        kind: "accept" says that the suggestion is right, "reject" that it is wrong without saying what is right,
            "no_answer" that the document does not answer, "edit" gives the right span (a runner-up, or marked by hand),
            and "skip" says nothing.
        span: the right span of an edit, and of an accepted span. None for all others, and where the suggestion that
            there is no answer was accepted.
        seconds: how long the person took.

    Raises:
        DataError: an edit has no span, a kind that says nothing about spans has one, or the seconds are negative.
    """

    kind: VerdictKind
    span: Span | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in _VERDICTS:
            raise DataError(f"{self.kind!r} is not a verdict", f"The verdicts are {', '.join(_VERDICTS)}.")
        if self.kind == "edit" and self.span is None:
            raise DataError("an edit has no span", "Send the right span, or no_answer if there is none.")
        if self.kind in ("reject", "no_answer", "skip") and self.span is not None:
            raise DataError(
                f"the verdict {self.kind} has the span {short(self.span.text)}",
                "Send it as an edit, or without a span.",
            )
        if not 0.0 <= self.seconds < math.inf:
            raise DataError(f"a verdict took {self.seconds!r} seconds", "Send the time as a number from 0 on.")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a review.

    Attributes:
        kind: "shown", "verdict", "undo" (of an earlier verdict or adjudication), or "adjudicated" (somebody decided
            a question whose verdicts disagree).
        time: when, in UTC.
        annotator: who.
        session: the session of the annotator, for example one visit of the page.
        question: the id of the question.
        document_sha256: hash of the document, as `document_hash` gives it.
        prompt_sha256: hash of the prompt.
        run: name of the run that made the suggestion.
        run_sha256: hash of the weights of that run.
        shown: what was shown. A "shown" event has it, and verdicts may repeat it.
        verdict: what was decided. "verdict" and "adjudicated" have it, and no other kind.
        undoes: the id of the event that an undo takes back.
        id: the number that the store gave. None before that.

    Raises:
        DataError: it lacks what its kind needs, or has what its kind cannot have.
    """

    kind: EventKind
    time: datetime
    annotator: str
    session: str
    question: str
    document_sha256: str
    prompt_sha256: str = ""
    run: str = ""
    run_sha256: str = ""
    shown: Shown | None = None
    verdict: Verdict | None = None
    undoes: int | None = None
    id: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise DataError(f"{self.kind!r} is not a kind of event", f"The kinds are {', '.join(_KINDS)}.")
        if self.time.utcoffset() is None:
            raise DataError(f"an event has the time {self.time} without a time zone", "Give it in UTC.")
        object.__setattr__(self, "time", self.time.astimezone(UTC))
        if not self.annotator.strip():
            raise DataError(f"an event of question {self.question!r} has no annotator", "Give the annotator a name.")
        for name, needed, allowed in (
            ("shown", ("shown",), ("shown", "verdict", "adjudicated")),
            ("verdict", ("verdict", "adjudicated"), ("verdict", "adjudicated")),
            ("undoes", ("undo",), ("undo",)),
        ):
            has = getattr(self, name) is not None
            if (self.kind in needed and not has) or (has and self.kind not in allowed):
                what = "has" if has else "lacks"
                raise DataError(
                    f"an event of the kind {self.kind} of question {self.question!r} {what} {name!r}", _AS_SHOWN
                )


def to_dict(event: Event) -> dict[str, Any]:
    """An event as values of JSON. `from_dict` gives the same event back."""
    return {
        "id": event.id,
        "kind": event.kind,
        "time": event.time.isoformat(timespec="microseconds"),
        "annotator": event.annotator,
        "session": event.session,
        "question": event.question,
        "document_sha256": event.document_sha256,
        "prompt_sha256": event.prompt_sha256,
        "run": event.run,
        "run_sha256": event.run_sha256,
        "shown": None if event.shown is None else shown_to_dict(event.shown),
        "verdict": None if event.verdict is None else verdict_to_dict(event.verdict),
        "undoes": event.undoes,
    }


def from_dict(values: Mapping[str, Any], where: str) -> Event:
    """An event from values of JSON.

    Args:
        values: what `to_dict` gave.
        where: the place of the values, for messages.

    Raises:
        DataError: a value is missing, of another type, or contradicts another.
    """
    try:
        shown, verdict = values.get("shown"), values.get("verdict")
        texts = ("annotator", "session", "question", "document_sha256", "prompt_sha256", "run", "run_sha256")
        return Event(
            cast("EventKind", values["kind"]),
            datetime.fromisoformat(values["time"]),
            **{name: _text(values[name], name) for name in texts},
            shown=None if shown is None else shown_from_dict(shown),
            verdict=None if verdict is None else verdict_from_dict(verdict),
            undoes=_number(values.get("undoes"), "undoes"),
            id=_number(values.get("id"), "id"),
        )
    except DataError as error:
        raise DataError(f"{where}: {error.problem}", error.way_out) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        missing = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"{where} is no event of a review: {missing}", "Give a file of `palmette review export --format events`."
        ) from error


def shown_to_dict(shown: Shown) -> dict[str, Any]:
    """What was shown, as values of JSON."""
    candidates = [[one.text, one.start, one.end, one.probability] for one in shown.candidates]
    names = ("probability", "no_answer_probability", "strategy", "score", "sampling_probability", "blind")
    return {
        "span": _span_values(shown.span),
        "candidates": candidates,
        **{name: getattr(shown, name) for name in names},
    }


def shown_from_dict(values: Mapping[str, Any]) -> Shown:
    """What was shown, from values of JSON. A missing key means the same as a null."""
    given: dict[str, Any] = {"probability": None, "no_answer_probability": None, **values}
    candidates = tuple(Candidate(*one) for one in given.pop("candidates"))
    return Shown(_span(given.pop("span", None)), candidates=candidates, **given)


def verdict_to_dict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as values of JSON."""
    return {"kind": verdict.kind, "span": _span_values(verdict.span), "seconds": verdict.seconds}


def verdict_from_dict(values: Mapping[str, Any]) -> Verdict:
    """A verdict from values of JSON."""
    return Verdict(values["kind"], _span(values.get("span")), values["seconds"])


def _span_values(span: Span | None) -> list[Any] | None:
    return None if span is None else [span.text, span.start, span.end]


def _span(values: Any) -> Span | None:
    return None if values is None else Span(*values)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name!r} is {value!r}, not text")
    return value


def _number(value: Any, name: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"{name!r} is {value!r}, not a number")
    return value
