"""What verdicts become: questions with answers, pairs of completions, and completions judged good or bad.

The audit set, and everything about its documents, stays out of it, because models are compared on it. So do questions
on which people disagree, until somebody has decided them.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from palmette.data.records import Answer, Document, Question
from palmette.data.rows import dump_rows
from palmette.data.squad import dump_squad
from palmette.errors import DataError
from palmette.review.events import Span
from palmette.review.state import Judgement, State
from palmette.review.store import Audit, Store
from palmette.tasks.extractive_qa import qa_messages
from palmette.tasks.qa_prompt import ABSTAIN, QaPrompt

Row = dict[str, Any]
Complete = Callable[[Span | None], str]
REASONS = {
    "unjudged": "nobody has judged it",
    "skipped": "everybody who saw it skipped it",
    "conflict": "people disagree, and nobody has decided",
    "audit": "it, or another question about its document, is in the audit set",
    "only rejected": "nobody said what is right, so it is only in the labels",
    "like the audit set": "its document is like one of the audit set",
}


def left_out_lines(left_out: Mapping[str, int]) -> Iterator[str]:
    """What is said of questions that are left out, by reason.

    >>> list(left_out_lines({"conflict": 1}))
    ['  left out: 1 conflict (people disagree, and nobody has decided)']
    """
    for reason, number in left_out.items():
        yield f"  left out: {number} {reason} ({REASONS[reason]})"


@dataclass(frozen=True)
class Export:
    """What verdicts become.

    Attributes:
        documents: documents with the questions whose right answer is known, for fine-tuning.
        pairs: preference pairs, as `palmette train dpo` reads them: what a person put in the place of the suggestion
            is better than the suggestion.
        labels: judged completions, as `palmette train kto` reads them.
        left_out: the number of questions that are not among the documents, by reason, a key of `REASONS`.
        seconds: the time that people took for the verdicts on the questions that were used, in seconds.
        num_verdicts: the number of these verdicts.
    """

    documents: tuple[Document, ...]
    pairs: tuple[Row, ...]
    labels: tuple[Row, ...]
    left_out: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    num_verdicts: int = 0

    @property
    def num_questions(self) -> int:
        """The number of questions whose right answer is known."""
        return sum(len(document.questions) for document in self.documents)

    def rows(self) -> str:
        """The questions as JSON Lines."""
        return dump_rows(self.documents)

    def squad(self) -> str:
        """The questions as SQuAD v2."""
        return dump_squad(self.documents)


def export_verdicts(
    documents: tuple[Document, ...], state: State, prompt: QaPrompt, audit: Collection[str] = ()
) -> Export:
    """Turn the verdicts that hold into material to train on.

    - accept, edit and no answer: a question with its right answer, or without one.
    - edit and no answer, where the suggestion was another one: a pair.
    - a rejection without an answer: a label, false. Each answer that somebody confirmed or gave is a label, true, and
      each suggestion that it replaced one that is false, since KTO needs both.

    Args:
        documents: documents with all of their questions, as `Store.documents` gives them.
        state: the state of the review.
        prompt: the prompt of the run, whose format completions have.
        audit: the questions of the audit set.

    Raises:
        DataError: the prompt has two turns, so an answer is not one completion.
    """
    if prompt.two_turns:
        raise DataError(
            "a prompt of two turns has no answer in one completion", "Review a run whose prompt has one turn."
        )
    frozen = set(audit)
    left_out: Counter[str] = Counter()
    kept: list[Document] = []
    pairs: list[Row] = []
    labels: list[Row] = []
    used: set[str] = set()
    for document in documents:
        if any(question.id in frozen for question in document.questions):
            left_out["audit"] += len(document.questions)
            continue
        complete = functools.partial(_completion, prompt=prompt, text=document.text)
        answered = []
        for question in document.questions:
            settled = state.settled(question.id)
            if settled is None or settled.known == "unknown":
                left_out[_reason(state, question.id, settled)] += 1
            else:
                answered.append(_answered(question, settled.answer))
            if settled is not None and settled.verdict.kind != "skip":
                used.add(question.id)
                messages = qa_messages(prompt, document, question)
                pairs.extend(_pair(question.id, messages, settled, complete))
                labels.extend(_labels(question.id, messages, settled, complete))
        if answered:
            kept.append(Document(document.id, document.text, tuple(answered), document.title))
    counted = [one for (_, asked), one in state.judgements.items() if asked in used]
    seconds = sum(one.verdict.seconds for one in counted)
    return Export(tuple(kept), tuple(pairs), tuple(labels), left_out, seconds, len(counted))


def export_store(store: Store, state: State, prompt: QaPrompt) -> Export:
    """What the verdicts of a store become. Arguments and errors are those of `export_verdicts`."""
    audit = store.audit()
    return export_verdicts(store.documents(), state, prompt, audit.questions if audit else ())


def audit_documents(documents: tuple[Document, ...], state: State, audit: Audit | None) -> tuple[Document, ...]:
    """The questions of the audit set whose right answer is known, with their documents, to measure models on.

    Args:
        documents: as for `export_verdicts`.
        state: the state of the review.
        audit: the audit set.
    """
    frozen = set(audit.questions) if audit else set()
    found = []
    for document in documents:
        settled = [(one, state.settled(one.id)) for one in document.questions if one.id in frozen]
        answered = tuple(
            _answered(question, judged.answer)
            for question, judged in settled
            if judged is not None and judged.known != "unknown"
        )
        if answered:
            found.append(Document(document.id, document.text, answered, document.title))
    return tuple(found)


def dump_json_lines(rows: tuple[Row, ...]) -> str:
    """Rows as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _reason(state: State, question: str, settled: Judgement | None) -> str:
    if settled is not None:
        return "only rejected" if settled.verdict.kind == "reject" else "skipped"
    judged = state.of_question(question)
    if not judged:
        return "unjudged"
    return "skipped" if all(one.verdict.kind == "skip" for one in judged.values()) else "conflict"


def _answered(question: Question, span: Span | None) -> Question:
    """A question with the answer that people gave, in place of answers that the data may have."""
    answers = () if span is None else (Answer(span.text, span.start),)
    return Question(question.id, question.text, answers)


def _pair(question: str, messages: list[dict[str, str]], settled: Judgement, complete: Complete) -> list[Row]:
    if settled.known == "unknown" or settled.right is not False or settled.shown is None:
        return []
    chosen, rejected = (complete(span) for span in (settled.answer, settled.shown.span))
    return [{"id": question, "prompt": messages, "chosen": chosen, "rejected": rejected}]


def _labels(question: str, messages: list[dict[str, str]], settled: Judgement, complete: Complete) -> list[Row]:
    judged: Mapping[str, bool] = {}
    if settled.shown is not None and settled.right is not None:
        judged = {complete(settled.shown.span): settled.right}
    if settled.known != "unknown":
        judged = {**judged, complete(settled.answer): True}
    several = len(judged) > 1
    return [
        {"id": f"{question}/{number}" if several else question, "prompt": messages, "completion": text, "label": label}
        for number, (text, label) in enumerate(judged.items())
    ]


def _completion(span: Span | None, prompt: QaPrompt, text: str) -> str:
    """An answer as the model would write it. With a bare prompt, the blank before it in the text belongs to it."""
    return prompt.completion(ABSTAIN) if span is None else prompt.blank(text, span.start) + prompt.completion(span.text)
