"""Extractive question answering as a prefix tree: the document is the trunk, each question with its answer a branch.

The assistant's completion is a JSON object with one string, `{"answer": "..."}`, wrapped as the prompt says; "?" says that the document
does not answer. Opening, answer and closing are segments of their own, so that decoding can force the wrapper around the very
tokens that were learned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from palmette.data.records import Document, Question
from palmette.errors import DataError
from palmette.tasks.qa_prompt import ABSTAIN, NO, YES, QaPrompt, json_escape, load_prompt
from palmette.tasks.weights import Learn, check_weights, spare_first
from palmette.tree.chat import ChatTemplate, Message, Piece
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

# What a token can belong to: the template and the words around what people wrote, these, and the parts of the completion.
KINDS = ("template", "document", "question", "verdict", "reasoning", "opening", "answer", "closing", "end")
_COMPLETION = {"verdict": 1.0, "reasoning": 1.0, "opening": 1.0, "answer": 1.0, "closing": 1.0, "end": 1.0}
# Stands for an answer that does not matter.
_ANY = "."
_LEARN: dict[str, dict[str, float]] = {
    "full": dict.fromkeys(KINDS, 1.0),
    "assistant": _COMPLETION,
    "answer": {**_COMPLETION, "reasoning": 0.0, "opening": 0.0},
}
_BLAH, PAUSE = " blah", "<pause>"
# What the parts of a completion are tagged with; a placeholder is never learned.
_COMPLETION_TAGS = ("opening", "verdict", "closing", "end", "placeholder", "reasoning", "answer")


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What stands between a question and the opening of its answer.

    Attributes:
        kind: "none"; "blah": placeholder tokens that no other token may look at and nothing learns, so that all they do is to move the answer
            by their positions; "pause": placeholders with input embeddings of their own, which are learned, and which later tokens look at
            (Goyal et al., 2023); "rationale": the reasoning that the data hold for each question, written by the model when it answers.
        tokens: how many placeholders.
        shared: whether all pause tokens are the same one.
    """

    kind: Literal["none", "blah", "pause", "rationale"] = "none"
    tokens: int = 5
    shared: bool = True

    @property
    def pause_tokens(self) -> tuple[int, ...]:
        """Token ids of the pause tokens: -1, -2, ..., which no vocabulary has, so nobody can write or generate them."""
        if self.kind != "pause":
            return ()
        return (-1,) * self.tokens if self.shared else tuple(-1 - index for index in range(self.tokens))


def learn_weights(learn: Learn) -> dict[str, float]:
    """The loss weight of each kind of token, 0 where nothing is said.

    Args:
        learn: "full": every token; "assistant": the whole completion, up to the end of the turn; "answer": the answer and what ends it, but
            neither reasoning nor the completion's opening; or weights by kind. Placeholders are never learned.

    Raises:
        DataError: an unknown kind, a weight below 0, or none above it.
    """
    weights = _LEARN[learn] if isinstance(learn, str) else dict(learn)
    check_weights(weights, KINDS)
    return weights


@dataclass(frozen=True, slots=True)
class OpenVerdict:
    """Tokens of the first of two turns, in which "yes" or "no" is about to be said.

    Attributes:
        opening: how the completion opens.
        yes, no: the two verdicts.
        closing: the token that ends either.
        turn: what follows "yes", up to where the second completion begins.
    """

    opening: tuple[int, ...]
    yes: tuple[int, ...]
    no: tuple[int, ...]
    closing: int
    turn: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpenCompletion:
    """Tokens of a conversation in which the answer is about to be said.

    Attributes:
        root: what all documents share, the system message and what follows it.
        document: the document, and what stands between it and any question.
        question: one question, up to where the (first) completion begins.
        verdict: the turn before the answer's, if the prompt has two.
        placeholders: tokens of the completion that stand before its opening.
        attends: whether later tokens may look at the placeholders.
        opening: how the completion opens, up to the answer.
        abstain: the answer that says "not in here".
        closing: the token that ends an answer, whatever it was: the first one of the completion's closing, after which the format
            leaves no choice.
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
        """Tokens between a question and its answer."""
        first = self.verdict
        turn = len(first.opening) + len(first.yes) + len(first.turn) if first else 0
        return turn + len(self.placeholders) + len(self.opening)


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
        """The document with all its questions; by default the completion's tokens are learned, up to the end of the turn.

        Where several answers are accepted, the most frequent one is learned (the first of them on a tie).

        Raises:
            DataError: the document has no questions, or a question lacks the rationale that is asked for.
        """
        return self._tree(document, {q.id: training_answer(q) for q in document.questions}, self._weights)

    def abstention_tree(self, document: Document) -> PrefixTree:
        """The document with "?" as the answer to every question; only the answer and its closing carry a weight.

        The log-probability of a branch is that of abstaining once the completion has been opened.
        """
        return self._tree(document, {q.id: ABSTAIN for q in document.questions}, learn_weights("answer"))

    def prompt_tokens(self, document: Document, question: Question) -> list[int]:
        """The conversation up to where the assistant's completion begins, as token ids; placeholders are part of the completion."""
        opened = self.open_completion(document.text, question.text)
        return [*opened.root, *opened.document, *opened.question]

    def open_completion(self, document: str, question: str) -> OpenCompletion:
        """The conversation up to the answer, parted where a decoder shares it."""
        segments = self._segments(document, question, _ANY)
        tags = [segment.tag for segment in segments]
        first = next(index for index, tag in enumerate(tags) if tag in _COMPLETION_TAGS)
        answer = tags.index("answer")
        opening = max(index for index, tag in enumerate(tags[:answer]) if tag == "opening")
        completion = opening - ("placeholder" in tags)
        return OpenCompletion(
            root=_tokens(segments[: tags.index("document")]),
            document=_tokens(segments[tags.index("document") : tags.index("question")]),
            question=_tokens(segments[tags.index("question") : first]),
            verdict=self._open_verdict(segments, completion) if self.prompt.two_turns else None,
            placeholders=_tokens(segments[completion:opening]),
            attends=self.reasoning.kind == "pause",
            opening=segments[opening].tokens,
            abstain=self.template.encoder.content(ABSTAIN),
            closing=segments[answer + 1].tokens[0],
        )

    def _open_verdict(self, segments: list[Segment], completion: int) -> OpenVerdict:
        """The first of two turns, out of a conversation whose second completion begins at segment `completion`."""
        at = next(index for index, segment in enumerate(segments) if segment.tag == "verdict")
        encode = self.template.encoder.content
        return OpenVerdict(
            opening=segments[at - 1].tokens,
            yes=encode(YES),
            no=encode(NO),
            closing=segments[at + 1].tokens[0],
            turn=_tokens(segments[at + 1 : completion]),
        )

    def check_one_completion(self) -> None:
        """Refuse a task whose answer the model does not say in one completion of its own, and nothing but that.

        Raises:
            DataError: there are two turns, or placeholders stand in the completion.
        """
        if self.prompt.two_turns or self.reasoning.kind not in ("none", "rationale"):
            raise DataError(
                "a model with two turns or placeholders does not give its answer in one completion of its own",
                "Take a model trained with reasoning.kind none or rationale, and a prompt of one turn.",
            )

    def end_of_turn(self) -> int:
        """The token that ends the assistant's turn."""
        return self._segments("", "", answer=ABSTAIN)[-1].tokens[-1]

    def training_branch(self, document: Document, question: Question) -> tuple[tuple[Segment, ...], Node]:
        """The trunk of a document's training tree, and the branch of one question; see `training_tree`.

        Raises:
            DataError: the question lacks the rationale that is asked for, or its gold answer stands for no answer.
            TemplateError: the chat template does not take the document or the question.
        """
        return self._branch(document, question, training_answer(question), self._weights)

    def _tree(self, document: Document, answers: dict[str, str], weights: Mapping[str, float]) -> PrefixTree:
        if not document.questions:
            raise DataError(f"document {document.id!r} has no questions", "Take it out of the training data.")
        trunk: tuple[Segment, ...] = ()
        branches = []
        for question in document.questions:
            trunk, branch = self._branch(document, question, answers[question.id], weights)
            branches.append(branch)
        return PrefixTree(Node(trunk, tuple(branches)), name=document.id)

    def _branch(
        self, document: Document, question: Question, answer: str, weights: Mapping[str, float]
    ) -> tuple[tuple[Segment, ...], Node]:
        rationale = self._rationale(question)
        segments = _weighted(self._segments(document.text, question.text, answer, rationale), weights)
        cut = next(index for index, segment in enumerate(segments) if segment.tag == "question")
        return tuple(segments[:cut]), Node(tuple(segments[cut:]), name=question.id)

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
        """The conversation as segments; where the prompt has two turns and there is no answer, it ends with the first."""
        prompt = self.prompt
        user = (
            Piece(prompt.before_document),
            Piece(document.strip(), tag="document"),
            # The same for every question, so it belongs to the trunk.
            Piece(prompt.before_question),
            Piece(question.strip(), tag="question"),
            Piece(prompt.after_question, tag="question"),
        )
        turns = [Message("system", (Piece(prompt.system),)), Message("user", user)]
        if prompt.two_turns:
            turns.append(Message("assistant", self._verdict(NO if answer == ABSTAIN else YES)))
            if answer == ABSTAIN:
                return self.template.segments(turns)
            turns.append(Message("user", (Piece(prompt.second_turn),)))
        completion = (
            *([Piece(rationale, tag="reasoning")] if rationale else []),
            Piece(prompt.before_answer, tag="opening"),
            Piece(json_escape(answer), tag="answer"),
            Piece(prompt.after_answer, tag="closing"),
        )
        segments = self.template.segments([*turns, Message("assistant", completion)])
        placeholders = self._placeholders()
        if placeholders:
            tags = [segment.tag for segment in segments]
            opening = max(index for index, tag in enumerate(tags) if tag == "opening")
            segments.insert(opening, placeholders)
        return segments

    def _verdict(self, verdict: str) -> tuple[Piece, ...]:
        """The first completion of two."""
        before, after = self.prompt.before_verdict, self.prompt.after_verdict
        return Piece(before, tag="opening"), Piece(verdict, tag="verdict"), Piece(after, tag="closing")

    def _placeholders(self) -> Segment | None:
        """What stands before the opening of the completion that holds the answer."""
        number = self.reasoning.tokens
        if self.reasoning.kind == "blah":
            tokens = self.template.encoder.content(_BLAH)[:1] * number
            return Segment(tokens, "content", _BLAH * number, attend=False, tag="placeholder")
        pause = self.reasoning.pause_tokens
        return Segment(pause, "template", PAUSE * number, tag="placeholder") if pause else None


def _tokens(segments: Iterable[Segment]) -> tuple[int, ...]:
    return tuple(token for segment in segments for token in segment.tokens)


def _weighted(segments: list[Segment], weights: Mapping[str, float]) -> list[Segment]:
    """The segments with the weights of their kinds; the very first token, which nothing predicts, has none."""
    return spare_first([replace(segment, learn=weights.get(segment.tag or "template", 0.0)) for segment in segments])


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


def qa_messages(prompt: QaPrompt, document: Document, question: Question) -> list[dict[str, str]]:
    r"""The conversation up to the completion, as chat messages.

    >>> prompt = QaPrompt("Be brief.", "Document:\n", "\n\nQuestion:\n", "", "", "")
    >>> ferry = Document("a", "It leaves at 7:40.", ())
    >>> [message["content"] for message in qa_messages(prompt, ferry, Question("q", "When?"))]
    ['Be brief.', 'Document:\nIt leaves at 7:40.\n\nQuestion:\nWhen?']
    """
    user = (prompt.before_document, document.text.strip(), prompt.before_question, question.text.strip())
    content = "".join((*user, prompt.after_question))
    return [{"role": "system", "content": prompt.system}, {"role": "user", "content": content}]
