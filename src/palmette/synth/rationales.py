"""Rationales from a teacher that knows the answer: short reasoning that leads to it, for every question of a data set.

The teacher gets the right answer and writes the reasoning of a reader who does not know it. It ends with a line
`Answer: ...` with its own conclusion. This line is compared with the right answer and removed. A rationale that is
unfit for training is dropped for one reason, the first that applies in the order of `REASONS`. *Not* covered: whether
the reasoning is sound, which only a reader can tell.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from palmette.data.records import Document, Question
from palmette.data.text import without_thoughts
from palmette.endpoint.client import Client
from palmette.endpoint.completion import Completion
from palmette.endpoint.errors import RequestError
from palmette.progress import progress
from palmette.tasks.extractive_qa import training_answer

REASONS = {
    "failed": "the server would not answer the request",
    "cut off": "the completion was cut at max_tokens",
    "refused": "the completion is empty, is marked as refused or filtered by the server, or begins by declining",
    "no conclusion": "the last line is not `Answer: ...`, or nothing is before it",
    "contradicts": "the conclusion is not the right answer, or not `none` where the document does not answer",
    "answer not mentioned": "the reasoning lacks the right answer as whole words (ignoring case and blanks)",
    "names an answer": "the document does not answer, but the reasoning says `the answer is ...` with words of it",
    "gives itself away": "the reasoning says that the answer was given",
    "too long": "the reasoning has more words than the limit",
}
NONE = "none"
SYSTEM = (
    "You help to teach careful reading. You get a document, a question about it, and the right answer. Write the "
    "reasoning by which a reader who does not know the answer finds it: where the document speaks of what is asked, "
    "and why that is or is not an answer. Write one to three plain sentences. Do not mention that you were given the "
    "answer."
)
_ANSWERED = (
    "Right answer, copied from the document:\n{answer}\n\nWrite the reasoning. It must contain the right answer word "
    "for word. Close with a line of its own:\nAnswer: {answer}"
)
_UNANSWERED = (
    "Right answer: none, because the document does not answer this question.\n\nWrite the reasoning: what the "
    "document says that comes near, and what is missing. Name no answer. Close with a line of its own:\nAnswer: none"
)

# Typographic quotation marks, hyphens and blanks, which a teacher may write for plain ones, or the other way round.
_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d\u2010\u2011\u00a0", "''\"\"-- ")
_CONCLUSION = re.compile(r"\s*[*_#>\s]*(?:final )?answer[*_\s]*:[*_\s]*(.+?)[*_\s]*", re.IGNORECASE | re.DOTALL)
_DECLINING = re.compile(
    r"\W*(?:(?:i'm|i am|we're|we are) (?:sorry|unable|not able)|sorry\b|i (?:can't|cannot|can not|won't|will not)\b"
    r"|as an ai\b|i apologi[sz]e)",
    re.IGNORECASE,
)
_GIVEN = re.compile(
    r"\b(?:given|provided|supplied) (?:(?:right|correct) )?answer\b"
    r"|\b(?:i|we) (?:was|were|am|are|have been) (?:told|given)\b",
    re.IGNORECASE,
)
_CLAIM = re.compile(
    r"\banswer\b[^.;:\n]{0,40}?(?:\b(?:is|was|would be|must be|should be)\b|:)\s*([^.;\n]+)", re.IGNORECASE
)
_DENIALS = ("not ", "none", "nowhere", "missing", "absent", "unknown")
_LEADING = re.compile(r"[\s\"'*_]*(?:(?:that|the|an?)\s+)?[\"'*_]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RationaleCheck:
    """The result of checking a teacher's completion.

    Attributes:
        rationale: the reasoning without its conclusion. Empty if it is dropped.
        reason: why it is dropped, a key of `REASONS`. Empty if it is kept.
        completion: the teacher's completion, or why there is none.
    """

    rationale: str
    reason: str
    completion: str


@dataclass(frozen=True)
class Rationales:
    """Rationales for a data set.

    Attributes:
        documents: the documents, each question with its rationale if it has one.
        verdicts: the checks by question id, in the order of the data.
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
        counts = Counter(verdict.reason for verdict in self.verdicts.values())
        return {reason: counts[reason] for reason in REASONS if counts[reason]}

    def with_rationale_only(self) -> tuple[Document, ...]:
        """The documents with the questions that have a rationale. Documents without such questions are left out."""
        parts = (
            replace(document, questions=tuple(q for q in document.questions if q.rationale is not None))
            for document in self.documents
        )
        return tuple(document for document in parts if document.questions)


def prompt_sha256() -> str:
    """Hash of the teacher's prompt."""
    return hashlib.sha256("\0".join((SYSTEM, _ANSWERED, _UNANSWERED)).encode()).hexdigest()


def teacher_messages(document: Document, question: Question) -> list[dict[str, str]]:
    """The request for one rationale. It gives the answer that training learns.

    Raises:
        DataError: the question's answer is the one that means no answer.
    """
    answer = " ".join(training_answer(question).split())
    known = _ANSWERED.format(answer=answer) if question.answerable else _UNANSWERED
    user = f"Document:\n{document.text.strip()}\n\nQuestion:\n{question.text.strip()}\n\n{known}"
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def teacher_turns(documents: Sequence[Document]) -> Iterator[tuple[tuple[str, str], ...]]:
    """Role and text of each turn of the requests for all questions."""
    for document in documents:
        for question in document.questions:
            yield tuple((one["role"], one["content"]) for one in teacher_messages(document, question))


def make_rationales(client: Client, documents: Sequence[Document], *, max_words: int) -> Rationales:
    """Ask for a rationale for every question, and judge each.

    Args:
        client: the teacher.
        documents: documents with their questions.
        max_words: longer rationales are dropped.

    Raises:
        EndpointError: the server cannot be used.
        DataError: a question's answer is the one that means no answer.
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
    """Check a teacher's completion, see `REASONS`.

    Args:
        result: the completion, or why there is none.
        document: the document.
        question: the question, with its right answers.
        max_words: longer rationales are dropped.
    """
    if isinstance(result, RequestError):
        return RationaleCheck("", "failed", result.problem)
    text = without_thoughts(result.text).strip()
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
    """The reasoning and the conclusion of the last line. The conclusion is empty if there is none."""
    above, _, last = text.rpartition("\n")
    found = _CONCLUSION.fullmatch(last)
    return (above.strip(), found[1].strip()) if found else (text, "")


def _fault(rationale: str, conclusion: str, document: Document, question: Question, max_words: int) -> str:
    """Why a rationale is dropped. Empty if it is kept."""
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
    """Whether `the answer is ...` is claimed of words of the document, or of one of the plausible answers.

    The words of a claim are those up to the end of the clause. The claim counts if its first three words, or all if
    there are fewer, are in the document in this order. "The answer is not in the document" is no claim unless the
    document says "not in the".
    """
    for claim in _CLAIM.finditer(_straight(rationale)):
        claimed = _LEADING.sub("", claim[1], count=1)
        words = re.findall(r"[^\s\"*_]+", claimed)[:3]
        first = " ".join(words).strip("'\",.;:!?()")
        if not first or first.lower().startswith(_DENIALS):
            continue
        if stands_in(first, document.text) or any(stands_in(answer.text, claimed) for answer in question.plausible):
            return True
    return False


def stands_in(answer: str, text: str) -> bool:
    """Whether an answer is in a text as whole words, ignoring case, blanks and the shape of quotation marks.

    >>> stands_in("pier  3", "It leaves from Pier 3."), stands_in("7:4", "at 7:40")
    (True, False)
    """
    answer = _straight(answer).strip()
    edges = [(r"(?<!\w)" if answer[:1].isalnum() else ""), (r"(?!\w)" if answer[-1:].isalnum() else "")]
    pattern = r"\s+".join(map(re.escape, answer.split()))
    return bool(pattern) and re.search(edges[0] + pattern + edges[1], _straight(text), re.IGNORECASE) is not None


def _plain(text: str) -> str:
    """A conclusion for comparison: lower case, single blanks, no quotation marks or full stop around it."""
    return " ".join(_straight(text).casefold().split()).strip("\"'`*_.") or text.strip()


def _straight(text: str) -> str:
    return text.translate(_STRAIGHT)
