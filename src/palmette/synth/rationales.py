"""Rationales from a teacher that knows the answer: short reasoning that leads to it, for every question of a data set.

The teacher is told the right answer and asked for the reasoning of a reader who does not know it, closed by a line `Answer: ...` with its own
conclusion. That line is compared with the right answer and taken off. What is not fit to learn from is dropped, each for one reason, the
first in the order of `REASONS`. What is *not* covered: whether the reasoning is sound; only a reader can tell.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from palmette.data.records import Document, Question
from palmette.endpoint.client import Client
from palmette.endpoint.completion import Completion
from palmette.endpoint.errors import RequestError
from palmette.progress import progress
from palmette.tasks.extractive_qa import training_answer

REASONS = {
    "failed": "the server would not answer the request",
    "cut off": "the completion was cut at max_tokens",
    "refused": "an empty completion, one that the server marks as a refusal or as filtered, or one that begins by declining",
    "no conclusion": "the last line is not `Answer: ...`, or nothing stands before it",
    "contradicts": "the conclusion is not the right answer, or not `none` where the document does not answer",
    "answer not mentioned": "the right answer does not stand in the reasoning as whole words (case and blanks aside)",
    "names an answer": "the document does not answer, yet the reasoning says `the answer is ...` of words of the document",
    "gives itself away": "it says that the answer was given",
    "too long": "more words than asked for",
}
NONE = "none"
SYSTEM = (
    "You help to teach careful reading. You get a document, a question about it, and the right answer. Write the reasoning by which a "
    "reader who does not know the answer finds it: where the document speaks of what is asked, and why that is or is not an answer. "
    "Write one to three plain sentences. Do not mention that you were given the answer."
)
_ANSWERED = (
    "Right answer, copied from the document:\n{answer}\n\nWrite the reasoning. It must contain the right answer word for word. "
    "Close with a line of its own:\nAnswer: {answer}"
)
_UNANSWERED = (
    "Right answer: none, because the document does not answer this question.\n\nWrite the reasoning: what the document says that comes "
    "near, and what is missing. Name no answer. Close with a line of its own:\nAnswer: none"
)

# Typographic quotation marks, hyphens and blanks, which a teacher may write for plain ones, or the other way round.
_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d\u2010\u2011\u00a0", "''\"\"-- ")
_THINKING = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_CONCLUSION = re.compile(r"\s*[*_#>\s]*(?:final )?answer[*_\s]*:[*_\s]*(.+?)[*_\s]*", re.IGNORECASE | re.DOTALL)
_DECLINING = re.compile(
    r"\W*(?:(?:i'm|i am|we're|we are) (?:sorry|unable|not able)|sorry\b|i (?:can't|cannot|can not|won't|will not)\b|as an ai\b|i apologi[sz]e)",
    re.IGNORECASE,
)
_GIVEN = re.compile(
    r"\b(?:given|provided|supplied) (?:(?:right|correct) )?answer\b|\b(?:i|we) (?:was|were|am|are|have been) (?:told|given)\b",
    re.IGNORECASE,
)
_CLAIM = re.compile(
    r"\banswer\b[^.;:\n]{0,40}?(?:\b(?:is|was|would be|must be|should be)\b|:)\s*([^.;\n]+)", re.IGNORECASE
)
_DENIALS = ("not ", "none", "nowhere", "missing", "absent", "unknown")
_LEADING = re.compile(r"[\s\"'*_]*(?:(?:that|the|an?)\s+)?[\"'*_]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RationaleCheck:
    """What is made of a teacher's completion.

    Attributes:
        rationale: the reasoning to learn from, the conclusion taken off; "" if it is dropped.
        reason: why it is dropped, a key of `REASONS`; "" if it is kept.
        completion: what the teacher wrote, or why it did not.
    """

    rationale: str
    reason: str
    completion: str


@dataclass(frozen=True)
class Rationales:
    """The teacher's work on a data set.

    Attributes:
        documents: the documents, each question with its rationale or without one.
        verdicts: by question id, in the order of the data.
    """

    documents: tuple[Document, ...]
    verdicts: dict[str, RationaleCheck]

    @property
    def num_kept(self) -> int:
        """Questions with a rationale."""
        return sum(not verdict.reason for verdict in self.verdicts.values())

    @property
    def counts(self) -> dict[str, int]:
        """How many were dropped for each reason that occurred."""
        found = Counter(verdict.reason for verdict in self.verdicts.values())
        return {reason: found[reason] for reason in REASONS if found[reason]}

    def with_rationale_only(self) -> tuple[Document, ...]:
        """The documents with the questions that have a rationale; documents left without questions are gone."""
        parts = (
            replace(document, questions=tuple(q for q in document.questions if q.rationale is not None))
            for document in self.documents
        )
        return tuple(document for document in parts if document.questions)


def prompt_sha256() -> str:
    """Hash of the words that the teacher is asked with."""
    return hashlib.sha256("\0".join((SYSTEM, _ANSWERED, _UNANSWERED)).encode()).hexdigest()


def teacher_messages(document: Document, question: Question) -> list[dict[str, str]]:
    """The request for one rationale. The answer told is the one that training learns.

    Raises:
        DataError: the question's answer stands for no answer.
    """
    answer = " ".join(training_answer(question).split())
    known = _ANSWERED.format(answer=answer) if question.answerable else _UNANSWERED
    user = f"Document:\n{document.text.strip()}\n\nQuestion:\n{question.text.strip()}\n\n{known}"
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def make_rationales(client: Client, documents: Sequence[Document], *, max_words: int) -> Rationales:
    """Ask for a rationale for every question, and judge each.

    Args:
        client: the teacher.
        documents: documents with their questions.
        max_words: longer rationales are dropped.

    Raises:
        EndpointError: the server cannot be used.
        DataError: a question's answer stands for no answer.
    """
    questions = [(document, question) for document in documents for question in document.questions]
    requests = [teacher_messages(document, question) for document, question in questions]
    found: dict[str, RationaleCheck] = {}
    with progress(len(questions), "rationales", "questions") as bar:
        for index, result in client.complete_all(requests):
            document, question = questions[index]
            found[question.id] = judge(result, document, question, max_words=max_words)
            bar.set_postfix_str(f"{sum(bool(v.reason) for v in found.values())} dropped", refresh=False)
            bar.update()
    verdicts = {question.id: found[question.id] for _, question in questions}
    done = tuple(
        replace(document, questions=tuple(_with_rationale(q, verdicts[q.id]) for q in document.questions))
        for document in documents
    )
    return Rationales(done, verdicts)


def _with_rationale(question: Question, verdict: RationaleCheck) -> Question:
    return replace(question, rationale=verdict.rationale or None)


def judge(
    result: Completion | RequestError, document: Document, question: Question, *, max_words: int
) -> RationaleCheck:
    """What is made of a teacher's completion; see `REASONS`.

    Args:
        result: the completion, or why there is none.
        document: what was asked about.
        question: what was asked, with its right answers.
        max_words: longer rationales are dropped.
    """
    if isinstance(result, RequestError):
        return RationaleCheck("", "failed", result.problem)
    text = _THINKING.sub("", result.text, count=1).strip()
    if result.truncated:
        return RationaleCheck("", "cut off", text)
    if (
        result.refusal.strip()
        or result.finish_reason == "content_filter"
        or not text
        or _DECLINING.match(_straight(text))
    ):
        return RationaleCheck("", "refused", text or result.refusal)
    rationale, conclusion = _part(text)
    reason = _fault(rationale, conclusion, document, question, max_words)
    return RationaleCheck("" if reason else rationale, reason, text)


def _part(text: str) -> tuple[str, str]:
    """The reasoning, and what the last line concludes; "" for a missing one."""
    above, _, last = text.rpartition("\n")
    found = _CONCLUSION.fullmatch(last)
    return (above.strip(), found[1].strip()) if found else (text, "")


def _fault(rationale: str, conclusion: str, document: Document, question: Question, max_words: int) -> str:
    """Why a rationale is dropped; "" if it is kept."""
    if not rationale or not conclusion:
        return "no conclusion"
    right = {_plain(answer.text) for answer in question.answers} or {NONE}
    if _plain(conclusion) not in right:
        return "contradicts"
    if question.answerable and not stands_in(training_answer(question), rationale):
        return "answer not mentioned"
    if not question.answerable and _names_an_answer(rationale, document, question):
        return "names an answer"
    if _GIVEN.search(_straight(rationale)):
        return "gives itself away"
    return "too long" if len(rationale.split()) > max_words else ""


def _names_an_answer(rationale: str, document: Document, question: Question) -> bool:
    """Whether `the answer is ...` is said of words of the document, or of one of the plausible answers.

    The claim's words are those up to the end of the clause; they count where the first three of them, or all if there are fewer, stand in the
    document in this order. "The answer is not in the document" is no such claim unless the document says "not in the".
    """
    for claim in _CLAIM.finditer(_straight(rationale)):
        said = _LEADING.sub("", claim[1], count=1)
        words = re.findall(r"[^\s\"*_]+", said)[:3]
        first = " ".join(words).strip("'\",.;:!?()")
        if not first or first.lower().startswith(_DENIALS):
            continue
        if stands_in(first, document.text) or any(stands_in(answer.text, said) for answer in question.plausible):
            return True
    return False


def stands_in(answer: str, text: str) -> bool:
    """Whether an answer stands in a text as whole words; case, blanks and the shape of quotation marks aside.

    >>> stands_in("pier  3", "It leaves from Pier 3."), stands_in("7:4", "at 7:40")
    (True, False)
    """
    answer = _straight(answer).strip()
    edges = [(r"(?<!\w)" if answer[:1].isalnum() else ""), (r"(?!\w)" if answer[-1:].isalnum() else "")]
    pattern = r"\s+".join(map(re.escape, answer.split()))
    return bool(pattern) and re.search(edges[0] + pattern + edges[1], _straight(text), re.IGNORECASE) is not None


def _plain(text: str) -> str:
    """A conclusion as it is compared: small letters, single blanks, no quotation marks or full stop around it."""
    return " ".join(_straight(text).casefold().split()).strip("\"'`*_.") or text.strip()


def _straight(text: str) -> str:
    return text.translate(_STRAIGHT)
