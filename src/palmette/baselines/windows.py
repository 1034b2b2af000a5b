"""Questions and documents as an encoder reads them: pairs in overlapping windows, with the answer's position in each.

Letters: T tokens of a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from palmette.data.records import Answer, Document, Question
from palmette.errors import DataError, ModelError

Place = tuple[int, int]  # first character in the document, and one past the last
_NOT_READ = ("attention_mask", "offset_mapping", "overflow_to_sample_mapping", "special_tokens_mask")


@dataclass(frozen=True, slots=True)
class Windowing:
    """How long documents are split.

    Attributes:
        max_tokens: tokens of a window, including the question and control tokens.
        stride: tokens of the document that neighbours share, as in transformers. In the script of the BERT paper the
            word means the distance between the starts of two windows.
    """

    max_tokens: int = 384
    stride: int = 128


@dataclass(frozen=True, slots=True)
class EncodedWindow:
    """A question and a stretch of its document.

    Attributes:
        inputs: T integers under each name of the tokenizer: input_ids, and token_type_ids where the model has them.
        places: for each of the T tokens, the characters of the document that it shows, without white space at their
            ends. None for tokens of the question, control tokens and white space.
        cls: the index of the CLS token, which stands for "no answer".
    """

    inputs: dict[str, list[int]]
    places: tuple[Place | None, ...]
    cls: int


def encode(
    tokenizer: Any, document: Document, windowing: Windowing, source: str = "the data"
) -> Iterator[tuple[Question, list[EncodedWindow]]]:
    """The windows of every question of a document, in order.

    Control tokens come only from the tokenizer's own pattern for pairs. Text that looks like one is encoded as text.

    Args:
        tokenizer: a fast tokenizer with a CLS token.
        document: the document with its questions.
        windowing: how it is split.
        source: the name of the data, for messages.

    Raises:
        DataError: a question leaves no room for the document. The message names it.
    """
    if not document.questions:
        return
    questions = [question.text.strip() for question in document.questions]
    _check_room(tokenizer, document, questions, windowing, source)
    encoded = tokenizer(
        questions,
        [document.text] * len(questions),
        truncation="only_second",
        max_length=windowing.max_tokens,
        stride=windowing.stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        split_special_tokens=True,
    )
    names = [name for name in encoded if name not in _NOT_READ]
    windows: list[list[EncodedWindow]] = [[] for _ in questions]
    for row, sample in enumerate(encoded["overflow_to_sample_mapping"]):
        inputs = {name: list(encoded[name][row]) for name in names}
        parts, offsets = encoded.sequence_ids(row), encoded["offset_mapping"][row]
        places = tuple(
            _place(document.text, *at) if part == 1 else None for part, at in zip(parts, offsets, strict=True)
        )
        windows[sample].append(EncodedWindow(inputs, places, inputs["input_ids"].index(tokenizer.cls_token_id)))
    yield from zip(document.questions, windows, strict=True)


def answer_tokens(windows: Sequence[EncodedWindow], answer: Answer) -> list[tuple[int, int]]:
    """The indices of an answer's first and last token in each window, or twice that of CLS where it is not whole.

    An answer that begins or ends within a token takes the whole token.

    Args:
        windows: all windows of a question.
        answer: a span of the document.

    Raises:
        ValueError: no token shows any of it.
    """
    start = answer.start + len(answer.text) - len(answer.text.lstrip())
    end = answer.start + len(answer.text.rstrip())
    shown = sorted({place for window in windows for place in window.places if place is not None})
    inside = [place for place in shown if place[1] > start and place[0] < end]
    if not inside:
        raise ValueError("no token shows it")
    first, last = inside[0], inside[-1]
    positions = []
    for window in windows:
        if first in window.places and last in window.places:
            positions.append((window.places.index(first), len(window.places) - 1 - window.places[::-1].index(last)))
        else:
            positions.append((window.cls, window.cls))
    return positions


def learned_positions(
    windows: Sequence[EncodedWindow], question: Question, source: str = "the data"
) -> list[tuple[int, int]]:
    """The targets of the span head in each window: the first of the question's answers, or CLS.

    Raises:
        DataError: no token shows the answer. The message names the question.
    """
    if not question.answers:
        return [(window.cls, window.cls) for window in windows]
    try:
        return answer_tokens(windows, question.answers[0])
    except ValueError as error:
        raise DataError(
            f"{source}: question {question.id!r} has the answer {question.answers[0].text!r}, which the encoder's "
            "tokenizer leaves out",
            "Take it out, or use another encoder.",
        ) from error


def check_tokenizer(tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer that gives no character offsets, or has no CLS token.

    Args:
        tokenizer: the model's tokenizer.
        name: the model, for messages.

    Raises:
        ModelError: it lacks one of these. The message says which.
    """
    another = "Use an encoder such as minilm, google-bert/bert-base-cased or FacebookAI/roberta-base."
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"the tokenizer of {name!r} gives no character offsets", another)
    if tokenizer.cls_token_id is None:
        raise ModelError(
            f"the tokenizer of {name!r} has no CLS token, at which a span head says that there is no answer", another
        )


def check_length(tokenizer: Any, max_positions: int | None, windowing: Windowing, name: str) -> None:
    """Refuse windows that the model cannot read.

    Args:
        tokenizer: the model's tokenizer, which may have a limit too.
        max_positions: the number of the model's positions, if it is known.
        windowing: how documents are split.
        name: the model, for messages.

    Raises:
        ModelError: a window is longer than the limit. The message names the limit.
    """
    most = min(tokenizer.model_max_length, max_positions or tokenizer.model_max_length)
    if windowing.max_tokens > most:
        raise ModelError(
            f"{name!r} reads {most} tokens at most, not {windowing.max_tokens}", f"Give --window-tokens {most}."
        )


def _check_room(tokenizer: Any, document: Document, questions: list[str], windowing: Windowing, source: str) -> None:
    """Check that questions leave room for the document. The library's own error would not name the question."""
    control = tokenizer.num_special_tokens_to_add(pair=True)
    ids = tokenizer(questions, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    for question, tokens in zip(document.questions, ids, strict=True):
        if windowing.max_tokens - control - len(tokens) <= windowing.stride:
            raise DataError(
                f"{source}: question {question.id!r} has {len(tokens)} tokens; with {windowing.max_tokens} tokens a "
                f"window, of which neighbours share {windowing.stride}, at most "
                f"{windowing.max_tokens - control - windowing.stride - 1} are possible",
                "Raise --window-tokens, lower --stride, or take the question out.",
            )


def _place(text: str, start: int, end: int) -> Place | None:
    """The characters that a token shows, without white space at the ends, which some tokenizers count with it."""
    shown = text[start:end]
    left, right = len(shown) - len(shown.lstrip()), len(shown.rstrip())
    return (start + left, start + right) if left < right else None
