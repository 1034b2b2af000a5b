"""Extractive question answering as a prefix tree, with the document as the trunk and each question as a branch.

The assistant's completion is a JSON object with one string, `{"answer": "..."}`, wrapped as the prompt says, or with a
bare prompt the answer alone. "?" says that the document does not answer. The opening, the answer and the closing are
segments of their own, so that decoding can force the wrapper around the very tokens that were learned.

A bare answer has the tokens of its document. In a byte-level vocabulary " London" in a text and "London" after a quote
are different tokens, so a blank that stands before the answer in the document belongs to its segment.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from palmette.data.records import Answer, Document, Question
from palmette.errors import DataError
from palmette.tasks.open_completion import OpenCompletion, OpenVerdict
from palmette.tasks.qa_prompt import ABSTAIN, NO, YES, QaPrompt, load_prompt
from palmette.tasks.weights import Learn, check_weights, spare_first
from palmette.tree.chat import ChatTemplate, Message, Piece
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

# A token belongs to the template and the words of the prompt, to a document, to a question, or to a part of the
# completion.
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
# The tags of the parts of a completion. A placeholder is never learned.
_COMPLETION_TAGS = ("opening", "verdict", "closing", "end", "placeholder", "reasoning", "answer")


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The text or the placeholders between a question and the opening of its answer.

    Attributes:
        kind: one of four.

            - "none": nothing.
            - "blah": placeholder tokens that no other token may look at and that are not learned. They only move the
              answer to later positions.
            - "pause": placeholders with learned input embeddings of their own, which later tokens look at (Goyal et
            al.,
              2023).
            - "rationale": the reasoning that the data hold for each question. The model writes it when it answers.
        tokens: the number of placeholders.
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
    """The loss weight of each kind of token. A kind that is left out has the weight 0.

    Args:
        learn: the tokens to learn, or weights by kind. "full" stands for every token, "assistant" for the whole
            completion up to the end of the turn, and "answer" for the answer and its closing, without reasoning and
            without the completion's opening. Placeholders are never learned.

    Raises:
        DataError: an unknown kind, a weight below 0, or none above it.
    """
    weights = _LEARN[learn] if isinstance(learn, str) else dict(learn)
    check_weights(weights, KINDS)
    return weights


class ExtractiveQa:
    """Builds trees and prompts for one chat template and prompt.

    Args:
        template: the model's chat template.
        prompt: the words around documents, questions and answers. The default prompt if None.
        learn: the tokens of a training tree that the loss sees, see `learn_weights`.
        reasoning: the text or the placeholders before the answer. None for nothing.

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
                "Use one that reasons: prompt.name: json_think.",
            )

    def training_tree(self, document: Document) -> PrefixTree:
        """The document with all its questions.

        By default the tokens of the completions are learned, up to the end of the turn. Where several answers are
        accepted, the most frequent one is learned, or the first of them on a tie.

        Raises:
            DataError: the document has no questions, or a question lacks a rationale that is to be learned.
        """
        answers = {q.id: self._learned(document, q) for q in document.questions}
        return self._tree(document, answers, self._weights)

    def abstention_tree(self, document: Document) -> PrefixTree:
        """The document with "?" as the answer to every question. Only the answer and its closing carry a weight.

        The log-probability of a branch is that of abstaining after the opening of the completion.
        """
        return self._tree(document, {q.id: ABSTAIN for q in document.questions}, learn_weights("answer"))

    def lead(self, text: str, start: int) -> str:
        """What an answer's segment holds before the answer: with a bare prompt the blank that stands there.

        Args:
            text: the document.
            start: where the answer begins in it.
        """
        return self.leads[bool(self.prompt.blank(text, start))]

    @functools.cached_property
    def abstention(self) -> tuple[int, ...]:
        """The tokens of the answer that says "not in here"."""
        return self.template.encoder.content(self.leads[0] + ABSTAIN)

    @functools.cached_property
    def leads(self) -> tuple[str, str]:
        """What the chat template makes of the text before an answer that has no blank before it, and of a blank."""
        if not self.prompt.bare:
            return "", ""
        plain, blank = (
            next(segment.text for segment in self._segments(_ANY, _ANY, before + _ANY) if segment.tag == "answer")
            for before in ("", " ")
        )
        return plain.removesuffix(_ANY), blank.removesuffix(_ANY)

    def _learned(self, document: Document, question: Question) -> str:
        """The answer to learn, as the completion holds it."""
        answer = learned_answer(question)
        if answer is None:
            return ABSTAIN
        return self.prompt.blank(document.text, answer.start) + self.prompt.escape(answer.text)

    def prompt_tokens(self, document: Document, question: Question) -> list[int]:
        """Token ids of the conversation up to the assistant's completion, which includes the placeholders."""
        opened = self.open_completion(document.text, question.text)
        return [*opened.root, *opened.document, *opened.question]

    def open_completion(self, document: str, question: str) -> OpenCompletion:
        """The conversation up to the answer, in the parts that a decoder shares."""
        segments = self._segments(document, question, _ANY)
        tags = [segment.tag for segment in segments]
        first = next(index for index, tag in enumerate(tags) if tag in _COMPLETION_TAGS)
        answer = tags.index("answer")
        opening = max((index for index, tag in enumerate(tags[:answer]) if tag == "opening"), default=answer)
        completion = opening - ("placeholder" in tags)
        return OpenCompletion(
            root=_tokens(segments[: tags.index("document")]),
            document=_tokens(segments[tags.index("document") : tags.index("question")]),
            question=_tokens(segments[tags.index("question") : first]),
            verdict=self._open_verdict(segments, completion) if self.prompt.two_turns else None,
            placeholders=_tokens(segments[completion:opening]),
            attends=self.reasoning.kind == "pause",
            opening=_tokens(segments[opening:answer]),
            abstain=self.abstention,
            closing=segments[answer + 1].tokens[0],
        )

    def _open_verdict(self, segments: list[Segment], completion: int) -> OpenVerdict:
        """The first of two turns of a conversation whose second completion begins at segment `completion`."""
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
        """Refuse a task in which the model does not give its answer in one completion of its own.

        Raises:
            DataError: there are two turns, or the completion holds placeholders.
        """
        if self.prompt.two_turns or self.reasoning.kind not in ("none", "rationale"):
            raise DataError(
                "a model with two turns or placeholders does not give its answer in one completion of its own",
                "Use a model trained with reasoning.kind none or rationale, and a prompt of one turn.",
            )

    def end_of_turn(self) -> int:
        """The token that ends the assistant's turn."""
        return self._segments("", "", answer=ABSTAIN)[-1].tokens[-1]

    def training_branch(self, document: Document, question: Question) -> tuple[tuple[Segment, ...], Node]:
        """The trunk of a document's training tree and the branch of one question, as in `training_tree`.

        Raises:
            DataError: the question lacks a rationale that is to be learned, or its gold answer stands for no answer.
            TemplateError: the chat template does not take the document or the question.
        """
        return self._branch(document, question, self._learned(document, question), self._weights)

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
        """The rationale of a question, if rationales are learned."""
        if self.reasoning.kind != "rationale":
            return ""
        if question.rationale is None:
            raise DataError(
                f"question {question.id!r} has no rationale",
                "Let one be written (palmette synth rationales), or set reasoning.kind.",
            )
        return question.rationale.strip() + "\n"

    def _segments(self, document: str, question: str, answer: str, rationale: str = "") -> list[Segment]:
        """The conversation as segments. Without an answer, a prompt of two turns ends with the first.

        `answer` is as the completion holds it.
        """
        prompt = self.prompt
        user = (
            Piece(prompt.before_document),
            *(Piece(text, tag="document" if copy else "") for text, copy in prompt.documents(document.strip())),
            # This is the same for every question, so it belongs to the trunk.
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
        wrapped: tuple[Piece, ...] = (Piece(answer, tag="answer"),)
        if not prompt.bare:
            wrapped = (Piece(prompt.before_answer, tag="opening"), *wrapped, Piece(prompt.after_answer, tag="closing"))
        completion = (*([Piece(rationale, tag="reasoning")] if rationale else []), *wrapped)
        segments = self.template.segments([*turns, Message("assistant", completion)])
        placeholders = self._placeholders()
        if placeholders:
            tags = [segment.tag for segment in segments]
            begin = tags.index("answer") if prompt.bare else max(i for i, tag in enumerate(tags) if tag == "opening")
            segments.insert(begin, placeholders)
        return segments

    def _verdict(self, verdict: str) -> tuple[Piece, ...]:
        """The first completion of two."""
        before, after = self.prompt.before_verdict, self.prompt.after_verdict
        return Piece(before, tag="opening"), Piece(verdict, tag="verdict"), Piece(after, tag="closing")

    def _placeholders(self) -> Segment | None:
        """The placeholders before the opening of the completion that holds the answer."""
        number = self.reasoning.tokens
        if self.reasoning.kind == "blah":
            tokens = self.template.encoder.content(_BLAH)[:1] * number
            return Segment(tokens, "content", _BLAH * number, attend=False, tag="placeholder")
        pause = self.reasoning.pause_tokens
        return Segment(pause, "template", PAUSE * number, tag="placeholder") if pause else None


def _tokens(segments: Iterable[Segment]) -> tuple[int, ...]:
    return tuple(token for segment in segments for token in segment.tokens)


def _weighted(segments: list[Segment], weights: Mapping[str, float]) -> list[Segment]:
    """The segments with the weights of their kinds. The very first token, which nothing predicts, has no weight."""
    return spare_first([replace(segment, learn=weights.get(segment.tag or "template", 0.0)) for segment in segments])


def training_answer(question: Question) -> str:
    """The text of the answer to learn, "?" if there is none. See `learned_answer`.

    >>> training_answer(Question("a", "When?", (Answer("in 1882", 4), Answer("1882", 7), Answer("1882", 7))))
    '1882'
    """
    answer = learned_answer(question)
    return ABSTAIN if answer is None else answer.text


def learned_answer(question: Question) -> Answer | None:
    """The answer to learn: the most frequent accepted span, or the first of them on a tie. None if there is none.

    Raises:
        DataError: an accepted answer is "?", which stands for no answer.
    """
    counts = Counter(answer.text for answer in question.answers)
    if ABSTAIN in counts:
        raise DataError(
            f"question {question.id!r} has the answer {ABSTAIN!r}, which stands for no answer", "Mark a longer span."
        )
    if not counts:
        return None
    text = max(counts, key=lambda text: counts[text])
    return next(answer for answer in question.answers if answer.text == text)


def qa_messages(prompt: QaPrompt, document: Document, question: Question) -> list[dict[str, str]]:
    r"""The conversation up to the completion, as chat messages.

    >>> prompt = QaPrompt("Be brief.", "Document:\n", "\n\nQuestion:\n", "", "", "")
    >>> ferry = Document("a", "It leaves at 7:40.", ())
    >>> [message["content"] for message in qa_messages(prompt, ferry, Question("q", "When?"))]
    ['Be brief.', 'Document:\nIt leaves at 7:40.\n\nQuestion:\nWhen?']
    """
    copies = [text for text, _ in prompt.documents(document.text.strip())]
    user = (prompt.before_document, *copies, prompt.before_question, question.text.strip(), prompt.after_question)
    content = "".join(user)
    return [{"role": "system", "content": prompt.system}, {"role": "user", "content": content}]
