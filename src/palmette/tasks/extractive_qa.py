"""Extractive question answering as a prefix tree: the document is the trunk, each question with its answer a branch.

The assistant's reply is a JSON object with one string, `{"answer": "..."}`; "?" says that the document does not answer. Opening,
answer and closing are segments of their own, so that decoding can force the wrapper around the very tokens that were learned.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise

from palmette.data.records import Document, Question
from palmette.errors import DataError
from palmette.tree.chat import ChatTemplate, Message, Piece
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

ABSTAIN = "?"
_LOOSE = re.compile(r'"answer"\s*:\s*"((?:[^"\\]|\\.)*\\?)', re.DOTALL)
_OPENING, _CLOSING = '{"answer": "', '"}'


@dataclass(frozen=True, slots=True)
class QaPrompt:
    """The words around a document and its questions.

    Attributes:
        system: the instruction, as the system message.
        before_document: what stands before the document in the user's message.
        before_question: what stands between the document and a question.
        after_question: what stands after a question.
    """

    system: str = (
        "You answer questions about a document. Copy the answer from the document word for word, as short as possible. "
        'Reply with JSON only: {"answer": "..."}. If the document does not answer the question, reply {"answer": "?"}.'
    )
    before_document: str = "Document:\n"
    before_question: str = "\n\nQuestion:\n"
    after_question: str = ""

    @property
    def sha256(self) -> str:
        """Hash of the prompt's words."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's reply, read as JSON.

    Attributes:
        text: the answer; "" if the model abstains; the raw reply if it is not valid.
        valid: whether the reply is a JSON object with one string under "answer".
    """

    text: str
    valid: bool


@dataclass(frozen=True, slots=True)
class OpenReply:
    """Tokens of a conversation in which the answer is about to be said.

    Attributes:
        root: what all documents share, the system message and what follows it.
        document: the document, and what stands between it and any question.
        question: one question, up to the opening of the reply.
        abstain: the answer that says "not in here".
        closing: the token that ends an answer, whatever it was: the first one of the reply's closing, after which the format
            leaves no choice.
    """

    root: tuple[int, ...]
    document: tuple[int, ...]
    question: tuple[int, ...]
    abstain: tuple[int, ...]
    closing: int


class ExtractiveQa:
    """Builds trees and prompts for one chat template and prompt.

    Args:
        template: the model's chat template.
        prompt: the words around documents and questions.
    """

    def __init__(self, template: ChatTemplate, prompt: QaPrompt | None = None) -> None:
        self.template = template
        self.prompt = prompt or QaPrompt()

    def training_tree(self, document: Document) -> PrefixTree:
        """The document with all its questions; the reply's tokens are learned, up to the end of the turn.

        Where several answers are accepted, the most frequent one is learned (the first of them on a tie).

        Raises:
            DataError: the document has no questions.
        """
        return self._tree(document, {q.id: training_answer(q) for q in document.questions}, learn_opening=1.0)

    def abstention_tree(self, document: Document) -> PrefixTree:
        """The document with "?" as the answer to every question; only the answer and its closing carry a weight.

        The log-probability of a branch is that of abstaining once the reply has been opened.
        """
        return self._tree(document, {q.id: ABSTAIN for q in document.questions}, learn_opening=0.0)

    def prompt_tokens(self, document: Document, question: Question) -> list[int]:
        """The conversation up to where the assistant's reply begins, as token ids."""
        segments = self._segments(document.text, question.text, answer=None, learn_opening=0.0)
        return [token for segment in segments for token in segment.tokens]

    def open_reply(self, document: str, question: str) -> OpenReply:
        """The conversation up to the answer, parted where a decoder shares it."""
        segments = self._segments(document, question, answer=ABSTAIN, learn_opening=0.0)
        tags = [segment.tag for segment in segments]
        cuts = [0, tags.index("document"), tags.index("question"), tags.index("answer"), tags.index("closing")]
        root, text, asked, abstain = (
            tuple(token for segment in segments[a:b] for token in segment.tokens) for a, b in pairwise(cuts)
        )
        return OpenReply(root, text, asked, abstain, segments[cuts[-1]].tokens[0])

    def end_of_turn(self) -> int:
        """The token that ends the assistant's turn."""
        return self._segments("", "", answer=ABSTAIN, learn_opening=0.0)[-1].tokens[-1]

    def _tree(self, document: Document, answers: dict[str, str], *, learn_opening: float) -> PrefixTree:
        if not document.questions:
            raise DataError(f"document {document.id!r} has no questions", "Take it out of the training data.")
        trunk: tuple[Segment, ...] = ()
        branches = []
        for question in document.questions:
            segments = self._segments(document.text, question.text, answers[question.id], learn_opening)
            cut = next(index for index, segment in enumerate(segments) if segment.tag == "question")
            trunk = tuple(segments[:cut])
            branches.append(Node(tuple(segments[cut:]), name=question.id))
        return PrefixTree(Node(trunk, tuple(branches)), name=document.id)

    def _segments(self, document: str, question: str, answer: str | None, learn_opening: float) -> list[Segment]:
        """The conversation as segments; without an answer, up to where the reply begins."""
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
            Piece(_OPENING, learn=learn_opening, tag="opening"),
            Piece(json_escape(answer or ABSTAIN), learn=1.0, tag="answer"),
            Piece(_CLOSING, learn=1.0, tag="closing"),
        )
        messages = (Message("system", (Piece(prompt.system),)), Message("user", user), Message("assistant", reply))
        segments = self.template.segments(messages)
        if answer is None:
            return segments[: next(i for i, segment in enumerate(segments) if segment.tag == "opening")]
        return segments


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


def json_escape(text: str) -> str:
    r"""Text as it stands inside a JSON string.

    >>> json_escape('the "Anna"')
    'the \\"Anna\\"'
    """
    return json.dumps(text, ensure_ascii=False)[1:-1]


def read_reply(raw: str) -> Reply:
    """Read a reply strictly: one JSON object with the single key "answer" and a string.

    >>> read_reply('{"answer": "?"}'), read_reply('It is 1882.')
    (Reply(text='', valid=True), Reply(text='It is 1882.', valid=False))
    """
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return Reply(raw.strip(), False)
    answer = value.get("answer") if isinstance(value, dict) and len(value) == 1 else None
    if isinstance(answer, str) and not any("\ud800" <= character <= "\udfff" for character in answer):
        return Reply("" if answer == ABSTAIN else answer, True)
    return Reply(raw.strip(), False)


def read_reply_loosely(raw: str) -> Reply:
    r"""Read a reply, also out of broken JSON: what stands after "answer": up to the next quote, or to the end.

    A reply that is not what was asked for stays not valid, whatever is found in it.

    >>> read_reply_loosely('Sure! {"answer": "in 1882", "source": 3}'), read_reply_loosely('{"answer": "the \\"An')
    (Reply(text='in 1882', valid=False), Reply(text='the "An', valid=False))
    """
    strict = read_reply(raw)
    found = None if strict.valid else _LOOSE.search(raw)
    if found is None:
        return strict
    inner = found[1]
    for text in (inner, inner[: inner.rfind("\\")]):
        try:
            answer = str(json.loads(f'"{text}"', strict=False))
        except ValueError:
            continue
        return Reply("" if answer == ABSTAIN else answer.strip(), False)
    return Reply(inner.strip(), False)


def training_trees(task: ExtractiveQa, documents: Iterable[Document]) -> list[PrefixTree]:
    """One training tree for each document that has questions."""
    return [task.training_tree(document) for document in documents if document.questions]
