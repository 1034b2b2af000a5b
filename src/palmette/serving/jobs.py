"""What requests ask of a model, and what becomes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Literal

from palmette.data.records import Document
from palmette.decode.prediction import Prediction
from palmette.extraction.schema import Schema
from palmette.inference.conversation import Generation
from palmette.tree.chat import Message


@dataclass(eq=False)
class Job:
    """Work that a request waits for.

    Attributes:
        model: the name of the model.
        done: the result, or the error.
        gone: whether nobody waits for it any more. Set by any thread.
    """

    model: str
    done: Future[Any] = field(default_factory=Future, init=False)
    gone: bool = field(default=False, init=False)

    def finish(self, result: Any) -> None:
        """Give the result, if somebody still waits for it."""
        with contextlib.suppress(InvalidStateError):
            self.done.set_result(result)

    def fail(self, error: Exception) -> None:
        """Give the error, if somebody still waits for the result."""
        with contextlib.suppress(InvalidStateError):
            self.done.set_exception(error)

    def drop(self) -> None:
        """End the job without a result."""
        self.done.cancel()


@dataclass(eq=False)
class AnswerJob(Job):
    """Questions about a document. The result is made of a prediction for each, in their order.

    Attributes:
        document: the document. Its id is the hash of its text.
        questions: the questions. With a schema, those of its fields.
        read_all: whether all of a long document is read for each question.
        schema: the schema whose fields are read, with a `FieldPrediction` for each. None for plain questions.
        made: makes the result of the predictions, in the thread of the models. Just these by default.
    """

    document: Document
    questions: Sequence[str]
    read_all: bool = False
    schema: Schema | None = None
    made: Callable[[Sequence[Prediction]], Any] = tuple


@dataclass(frozen=True)
class Scored:
    """A token of a completion with its log-probability, and the likeliest tokens in its place, the likeliest first."""

    token: str
    logprob: float
    likeliest: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Completion:
    """A completion of free text.

    Attributes:
        text: its text.
        finish: "stop" if the model or a stop string ended it, "length" if it was cut.
        num_prompt_tokens: the tokens of the prompt.
        num_tokens: the tokens of the completion.
        scored: its tokens, if log-probabilities were asked for.
    """

    text: str
    finish: Literal["stop", "length"]
    num_prompt_tokens: int
    num_tokens: int
    scored: tuple[Scored, ...] = ()


@dataclass(eq=False)
class WriteJob(Job):
    """A prompt that is continued with free text. The result is a `Completion`.

    Attributes:
        prompt: the messages of a conversation, or a text that is continued as it is.
        generation: how tokens are drawn, and how many at most.
        stops: strings that end the text.
        num_likeliest: how many of the likeliest tokens are given in the place of each. No log-probabilities if None.
        begun: called once the prompt has been accepted.
        written: called with each piece of the text, and the tokens that were scored since the last one.
    """

    prompt: Sequence[Message] | str
    generation: Generation
    stops: Sequence[str] = ()
    num_likeliest: int | None = None
    begun: Callable[[], None] = lambda: None
    written: Callable[[str, Sequence[Scored]], None] = lambda *_: None
