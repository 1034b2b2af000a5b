"""Rationales by rule, without a teacher: a quoted sentence of the document, and whether it answers the question.

Where the document answers, this is the sentence (or sentences) with the answer. Where it does not, it is the sentence
that has most in common with the question, which a reader would look at. Both rationales begin alike and quote before
they judge, so nothing before the verdict gives it away. *Not* covered: reasoning of more than one step. Sentences are
split by a rule that knows only a few abbreviations of English.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from palmette.data.records import Answer, Document, Question
from palmette.synth.rationales import RationaleCheck, Rationales
from palmette.tasks.extractive_qa import training_answer

ANSWERED = 'The document says: "{quote}" This answers the question.'
UNANSWERED = 'The document says: "{quote}" This does not answer the question, and nothing else in it does.'

_WORD = re.compile(r"\w+")
# A sentence ends with a mark, closing quotation marks or brackets, and a blank before a possible beginning, or with its
# paragraph.
_END = re.compile(r"[.!?\u2026][\"'\u2019\u201d)\]]*(?=\s+[\"'\u2018\u201c(\[]*[^\Wa-z_])|\s*\n\s*\n")
_ABBREVIATED = re.compile(
    r"(?:\b[^\W\d_]|\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|No|Nos|Vol|vs|ca|cf|approx|e\.g|i\.e|[A-Z]\.[A-Z]))\.$"
)


def quote_rationales(documents: Sequence[Document], *, max_words: int) -> Rationales:
    """A rationale for every question, always the same for the same data.

    Args:
        documents: documents with their questions.
        max_words: longer rationales are dropped, as "too long".

    Raises:
        DataError: a question's answer is the one that means no answer.
    """
    verdicts: dict[str, RationaleCheck] = {}
    done = []
    for document in documents:
        spans = sentences(document.text)
        weights = _weights(document.text, spans)
        for question in document.questions:
            text = _rationale(document, question, spans, weights)
            too_long = len(text.split()) > max_words
            verdicts[question.id] = RationaleCheck("" if too_long else text, "too long" if too_long else "", text)
        questions = tuple(replace(q, rationale=verdicts[q.id].rationale or None) for q in document.questions)
        done.append(replace(document, questions=questions))
    return Rationales(tuple(done), verdicts)


def _rationale(
    document: Document, question: Question, spans: Sequence[tuple[int, int]], weights: dict[str, float]
) -> str:
    if question.answerable:
        text = training_answer(question)
        answer = next(answer for answer in question.answers if answer.text == text)
        start, end = around(answer, spans)
        return ANSWERED.format(quote=_line(document.text[start:end]))
    start, end = nearest(question.text, document.text, spans, weights)
    return UNANSWERED.format(quote=_line(document.text[start:end]))


def sentences(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence, without blanks around it.

    >>> text = 'Dr. Wu, of the U.S. Navy, built it. "Why?" Nobody knows!'
    >>> [text[a:b] for a, b in sentences(text)]
    ['Dr. Wu, of the U.S. Navy, built it.', '"Why?"', 'Nobody knows!']
    """
    spans, start = [], 0
    for match in [*_END.finditer(text), None]:
        end = match.end() if match else len(text)
        if match and _ABBREVIATED.search(text, start, end):
            continue
        part = text[start:end]
        if part.strip():
            spans.append((start + len(part) - len(part.lstrip()), start + len(part.rstrip())))
        start = end
    return spans


def around(answer: Answer, spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Start and end of the sentences that hold an answer. They always include the whole answer.

    >>> around(Answer("x", 12), [(0, 9), (10, 20)]), around(Answer("over both", 5), [(0, 9), (10, 20)])
    ((10, 20), (0, 20))
    """
    end = answer.start + len(answer.text)
    met = [span for span in spans if span[0] < end and answer.start < span[1]]
    return min([answer.start, *(span[0] for span in met)]), max([end, *(span[1] for span in met)])


def nearest(question: str, text: str, spans: Sequence[tuple[int, int]], weights: dict[str, float]) -> tuple[int, int]:
    """The sentence with the largest sum of weights of words shared with a question, the first one on a tie."""
    question_words = _words(question)
    return max(spans, key=lambda span: math.fsum(weights[word] for word in question_words & _words(text[slice(*span)])))


def _weights(text: str, spans: Sequence[tuple[int, int]]) -> dict[str, float]:
    """How well a word distinguishes sentences of a text: ln(1 + sentences / sentences with the word)."""
    counts = Counter(word for span in spans for word in _words(text[slice(*span)]))
    return {word: math.log1p(len(spans) / count) for word, count in counts.items()}


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}


def _line(text: str) -> str:
    """A quotation on one line."""
    return " ".join(text.split())
