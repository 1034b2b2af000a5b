"""The tokens of a conversation up to its answer, in the parts that a decoder shares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OpenVerdict:
    """Tokens of the first of two turns, up to the verdict "yes" or "no".

    Attributes:
        opening: the opening of the completion.
        yes, no: the two verdicts.
        closing: the token that ends either verdict.
        turn: the tokens between "yes" and the second completion.
    """

    opening: tuple[int, ...]
    yes: tuple[int, ...]
    no: tuple[int, ...]
    closing: int
    turn: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpenCompletion:
    """Tokens of a conversation up to the answer.

    Attributes:
        root: the tokens that all documents share: the system message and the text up to the document.
        document: the document and the text up to any question.
        question: one question and the text up to the (first) completion.
        verdict: the turn before that of the answer, if the prompt has two.
        placeholders: the tokens of the completion before its opening.
        attends: whether later tokens may look at the placeholders.
        opening: the opening of the completion, up to the answer.
        abstain: the answer that says "not in here".
        closing: the token that ends any answer. It is the first one of the completion's closing, or of the end of the
            turn, after which the format leaves no choice.
    """

    root: tuple[int, ...]
    document: tuple[int, ...]
    question: tuple[int, ...]
    verdict: OpenVerdict | None
    placeholders: tuple[int, ...]
    attends: bool
    opening: tuple[int, ...]
    abstain: tuple[int, ...]
    closing: int

    @property
    def lead(self) -> int:
        """The number of tokens between a question and its answer."""
        first = self.verdict
        turn = len(first.opening) + len(first.yes) + len(first.turn) if first else 0
        return turn + len(self.placeholders) + len(self.opening)
