"""Extractive question answering as a prefix tree: the document is the trunk, each question with its answer a branch.

The assistant's reply is a JSON object with one string, `{"answer": "..."}`, wrapped as the prompt says; "?" says that the document
does not answer. Opening, answer and closing are segments of their own, so that decoding can force the wrapper around the very
tokens that were learned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from palmette.data.records import Document, Question
from palmette.errors import DataError
from palmette.tasks.qa_prompt import ABSTAIN, QaPrompt, json_escape, load_prompt
from palmette.tree.chat import ChatTemplate, Message, Piece
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

Learn = Literal["full", "assistant", "answer"] | Mapping[str, float]
# What a token can belong to: the template and the words around what people wrote, these, and the parts of the reply.
KINDS = ("template", "document", "question", "reasoning", "opening", "answer", "closing", "end")
_REPLY = {"reasoning": 1.0, "opening": 1.0, "answer": 1.0, "closing": 1.0, "end": 1.0}
_LEARN: dict[str, dict[str, float]] = {
    "full": dict.fromkeys(KINDS, 1.0),
    "assistant": _REPLY,
    "answer": {**_REPLY, "reasoning": 0.0, "opening": 0.0},
}
_PLACEHOLDER = " blah"
_REPLY_TAGS = ("reasoning", "opening")


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What stands between a question and the opening of its answer.

    Attributes:
        kind: "none"; "blah": placeholder tokens that no other token may look at and nothing learns, so that all they do is to move the answer
            by their positions; "rationale": the reasoning that the data hold for each question, written by the model when it answers.
        tokens: how many placeholders.
    """

    kind: Literal["none", "blah", "rationale"] = "none"
    tokens: int = 5


def learn_weights(learn: Learn) -> dict[str, float]:
    """The loss weight of each kind of token, 0 where nothing is said.

    Args:
        learn: "full": every token; "assistant": the whole reply, up to the end of the turn; "answer": the answer and what ends it, but
            neither reasoning nor the reply's opening; or weights by kind. Placeholders are never learned.

    Raises:
        DataError: an unknown kind, a weight below 0, or none above it.
    """
    weights = _LEARN[learn] if isinstance(learn, str) else dict(learn)
    for kind, weight in weights.items():
        if kind not in KINDS or not 0 <= weight < float("inf"):
            raise DataError(
                f"learn has the weight {weight} for {kind!r}", f"Kinds are {', '.join(KINDS)}; weights 0 or more."
            )
    if not any(weights.values()):
        raise DataError("learn gives no kind of token a weight", "Give at least the answer one.")
    return weights


@dataclass(frozen=True, slots=True)
class OpenReply:
    """Tokens of a conversation in which the answer is about to be said.

    Attributes:
        root: what all documents share, the system message and what follows it.
        document: the document, and what stands between it and any question.
        question: one question, up to where the reply begins.
        placeholders: tokens of the reply that only take up positions: nobody may look at them.
        opening: how the reply opens, up to the answer.
        abstain: the answer that says "not in here".
        closing: the token that ends an answer, whatever it was: the first one of the reply's closing, after which the format
            leaves no choice.
    """

    root: tuple[int, ...]
    document: tuple[int, ...]
    question: tuple[int, ...]
    placeholders: tuple[int, ...]
    opening: tuple[int, ...]
    abstain: tuple[int, ...]
    closing: int


class ExtractiveQa:
    """Builds trees and prompts for one chat template and prompt.

    Args:
        template: the model's chat template.
        prompt: the words around documents, questions and answers; the default prompt if None.
        learn: which tokens of a training tree the loss sees, see `learn_weights`.
        reasoning: what stands before the answer; nothing if None.

    Raises:
        DataError: `learn` names no kind of token, or the prompt has no place for a rationale.
    """

    def __init__(
        self,
        template: ChatTemplate,
        prompt: QaPrompt | None = None,
        learn: Learn = "assistant",
        reasoning: Reasoning | None = None,
    ) -> None:
        self.template = template
        self.prompt = prompt or load_prompt()
        self.reasoning = reasoning or Reasoning()
        self._weights = learn_weights(learn)
        if self.reasoning.kind == "rationale" and not self.prompt.reasons:
            raise DataError(
                "reasoning is `rationale`, but the prompt asks for JSON alone",
                "Take one that reasons: prompt.name: json_think.",
            )

    def training_tree(self, document: Document) -> PrefixTree:
        """The document with all its questions; by default the reply's tokens are learned, up to the end of the turn.

        Where several answers are accepted, the most frequent one is learned (the first of them on a tie).

        Raises:
            DataError: the document has no questions, or a question lacks the rationale that is asked for.
        """
        return self._tree(document, {q.id: training_answer(q) for q in document.questions}, self._weights)

    def abstention_tree(self, document: Document) -> PrefixTree:
        """The document with "?" as the answer to every question; only the answer and its closing carry a weight.

        The log-probability of a branch is that of abstaining once the reply has been opened.
        """
        return self._tree(document, {q.id: ABSTAIN for q in document.questions}, learn_weights("answer"))

    def prompt_tokens(self, document: Document, question: Question) -> list[int]:
        """The conversation up to where the assistant's reply begins, as token ids; placeholders are part of the reply."""
        opened = self.open_reply(document.text, question.text)
        return [*opened.root, *opened.document, *opened.question]

    def open_reply(self, document: str, question: str) -> OpenReply:
        """The conversation up to the answer, parted where a decoder shares it."""
        segments = self._segments(document, question, answer=ABSTAIN)
        tags = [segment.tag for segment in segments]
        reply = next(index for index, tag in enumerate(tags) if tag in _REPLY_TAGS)
        inner = [tags.index("opening"), tags.index("answer"), tags.index("closing")]
        cuts = [0, tags.index("document"), tags.index("question"), reply, *inner]
        root, text, asked, placeholders, opening, abstain = (
            tuple(token for segment in segments[a:b] for token in segment.tokens) for a, b in pairwise(cuts)
        )
        return OpenReply(root, text, asked, placeholders, opening, abstain, segments[cuts[-1]].tokens[0])

    def end_of_turn(self) -> int:
        """The token that ends the assistant's turn."""
        return self._segments("", "", answer=ABSTAIN)[-1].tokens[-1]

    def _tree(self, document: Document, answers: dict[str, str], weights: Mapping[str, float]) -> PrefixTree:
        if not document.questions:
            raise DataError(f"document {document.id!r} has no questions", "Take it out of the training data.")
        trunk: tuple[Segment, ...] = ()
        branches = []
        for question in document.questions:
            rationale = self._rationale(question)
            segments = _weighted(self._segments(document.text, question.text, answers[question.id], rationale), weights)
            cut = next(index for index, segment in enumerate(segments) if segment.tag == "question")
            trunk = tuple(segments[:cut])
            branches.append(Node(tuple(segments[cut:]), name=question.id))
        return PrefixTree(Node(trunk, tuple(branches)), name=document.id)

    def _rationale(self, question: Question) -> str:
        """What the data hold for a question, if rationales are asked for."""
        if self.reasoning.kind != "rationale":
            return ""
        if question.rationale is None:
            raise DataError(
                f"question {question.id!r} has no rationale",
                "Have one written: palmette synth rationales; or set reasoning.kind.",
            )
        return question.rationale.strip() + "\n"

    def _segments(self, document: str, question: str, answer: str, rationale: str = "") -> list[Segment]:
        """The conversation as segments."""
        prompt = self.prompt
        user = (
            Piece(prompt.before_document),
            Piece(document.strip(), tag="document"),
            # The same for every question, so it belongs to the trunk.
            Piece(prompt.before_question),
            Piece(question.strip(), tag="question"),
            Piece(prompt.after_question, tag="question"),
        )
        reply = (
            *([Piece(rationale, tag="reasoning")] if rationale else []),
            Piece(prompt.before_answer, tag="opening"),
            Piece(json_escape(answer), tag="answer"),
            Piece(prompt.after_answer, tag="closing"),
        )
        messages = (Message("system", (Piece(prompt.system),)), Message("user", user), Message("assistant", reply))
        segments = self.template.segments(messages)
        if self.reasoning.kind == "blah":
            number = self.reasoning.tokens
            tokens = self.template.encoder.content(_PLACEHOLDER)[:1] * number
            placeholders = Segment(tokens, "content", _PLACEHOLDER * number, attend=False, tag="reasoning")
            segments.insert([segment.tag for segment in segments].index("opening"), placeholders)
        return segments


def _weighted(segments: list[Segment], weights: Mapping[str, float]) -> list[Segment]:
    """The segments with the weights of their kinds; the very first token, which nothing predicts, has none."""
    weighted = [
        replace(segment, learn=weights.get(segment.tag or "template", 0.0) if segment.attend else 0.0)
        for segment in segments
    ]
    first = next(index for index, segment in enumerate(weighted) if segment.tokens)
    opening = weighted[first]
    if opening.learn:
        alone = replace(opening, tokens=opening.tokens[:1], learn=0.0)
        weighted[first : first + 1] = [alone, replace(opening, tokens=opening.tokens[1:], text="")]
    return weighted


def training_answer(question: Question) -> str:
    """The answer to learn: the most frequent accepted span, the first of them on a tie, or "?".

    >>> from palmette.data.records import Answer
    >>> training_answer(Question("a", "When?", (Answer("in 1882", 4), Answer("1882", 7), Answer("1882", 7))))
    '1882'
    """
    counts = Counter(answer.text for answer in question.answers)
    if ABSTAIN in counts:
        raise DataError(
            f"question {question.id!r} has the answer {ABSTAIN!r}, which stands for no answer", "Mark a longer span."
        )
    return max(counts, key=lambda text: counts[text]) if counts else ABSTAIN


def training_trees(task: ExtractiveQa, documents: Iterable[Document]) -> list[PrefixTree]:
    """One training tree for each document that has questions."""
    return [task.training_tree(document) for document in documents if document.questions]
