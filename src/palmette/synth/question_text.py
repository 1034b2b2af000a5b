"""The words in which a writer is asked for a question, and the checks of what it has written.

A question is dropped for one reason, the first that applies in the order of `REASONS`. *Not* covered: whether it is
good English, and whether it means what its answer says. The round trip of `synth/questions.py` tells the second in
part.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

from palmette.corpus.words import ngrams, words_of
from palmette.data.records import Answer
from palmette.synth.instruct.rouge import lcs_length
from palmette.synth.quotes import around, sentences
from palmette.synth.rationales import stands_in
from palmette.synth.spans import Candidate
from palmette.synth.writers import Written

REASONS = {
    "cut off": "the text was cut at the limit of tokens before a question ended",
    "failed": "the writer gave no text, or refused",
    "no question": "no line of the text ends with a question mark",
    "holds the answer": "the question has the words of its answer",
    "speaks of the text": "the question is about the text or its words, and not about what they say",
    "copies the text": "the question has 8 words in a row from the document",
    "copies a sentence": "the question has more than 70 % of the words of a sentence of the document, in their order",
    "too short": "the question has fewer than 3 words",
    "too long": "the question has more than 40 words",
    "repeated": "the same question was asked about the same passage before",
}
_REQUEST = (
    "{passage}\n\nWrite one question to which “{answer}” is the answer, as it stands in: {sentence}\n"
    "Name what the question is about, so that it is clear without the text. Leave out the words of the answer. Write "
    "only the question."
)
# Written for this prompt. Without examples small models answer instead of asking.
_LIGHTHOUSE = (
    "The lighthouse at Dunmore was lit for the first time on 3 March 1871. Its keeper, Patrick Walsh, lived in it with "
    "six children."
)
_TRAIN = (
    "Employees who travel by train may book first class if the journey takes longer than four hours. Receipts go to "
    "the Finance Office."
)
_EXAMPLES = (
    (
        _LIGHTHOUSE,
        "3 March 1871",
        "When was the lighthouse at Dunmore lit for the first time?",
    ),
    (
        _TRAIN,
        "Finance Office",
        "Where do employees send receipts for train journeys?",
    ),
)
_QUOTES = "\"'\u201c\u201d\u2018\u2019"
_LABEL = re.compile(
    rf"[\s>*_#{_QUOTES}-]*(?:\d{{1,2}}[.)]\s*)?(?:(?:the )?question\s*\d*\s*[:.-]\s*)?[\s*_{_QUOTES}]*", re.IGNORECASE
)
_TEXT = r"(?:text|passage|document|sentence|paragraph|excerpt|article)"
_OF_TEXT = re.compile(
    rf"\b(?:in|of|from|to|by|does|according to) (?:the|this|that|above) (?:above )?{_TEXT}\b"
    rf"|\b(?:the|this) {_TEXT} (?:sa(?:y|id)|mention|state|describe|refer)"
    r"|\b(?:mentioned|described|stated|quoted) above\b|\bthe answer\b|\bthese words\b|\bthe (?:missing|quoted) word",
    re.IGNORECASE,
)
_RUN, _FEWEST, _MOST = 8, 3, 40
_MOST_COPIED, _LEAST_SENTENCE = 0.7, 6  # share of a sentence, and words of one that is looked at
PROMPT_SHA256 = hashlib.sha256(json.dumps([_REQUEST, _EXAMPLES]).encode()).hexdigest()


def question_request(passage: str, span: Candidate) -> tuple[tuple[str, str], ...]:
    """The turns that ask for a question, after two examples. The last one begins with the passage.

    Args:
        passage: the text.
        span: the answer.
    """
    turns: list[tuple[str, str]] = []
    for text, answer, question in _EXAMPLES:
        at = text.index(answer)
        turns += [("user", _request(text, at, at + len(answer))), ("assistant", question)]
    return (*turns, ("user", _request(passage, span.start, span.end)))


def _request(passage: str, start: int, end: int) -> str:
    answer = passage[start:end]
    first, last = around(Answer(answer, start), sentences(passage))
    return _REQUEST.format(passage=passage, sentence=_line(passage[first:last]), answer=_line(answer))


def read_question(written: Written) -> str:
    """The question in what was written: the first line with a question mark, up to it, without what stands around it.

    Returns:
        The question, or "" if there is none.

    >>> read_question(Written('Sure!\\n**Question:** "Who rode across first?"', "end", 9))
    'Who rode across first?'
    """
    line = next((line for line in written.said.splitlines() if "?" in line), "")
    match = _LABEL.match(line)
    return _line(line[match.end() if match else 0 : line.find("?") + 1])


def fault_of(written: Written, question: str, passage: str, answer: str) -> str:
    """Why a question is dropped before the round trip, a key of `REASONS`. "" if it is not.

    Args:
        written: what the writer has written.
        question: the question in it.
        passage: the text.
        answer: the words that the question is to ask for.
    """
    if not question or written.finish not in ("end", "length"):
        return "cut off" if written.finish == "length" else "no question" if written.finish == "end" else "failed"
    if stands_in(answer, question):
        return "holds the answer"
    if _OF_TEXT.search(question):
        return "speaks of the text"
    words = words_of(question)
    if set(ngrams(words, _RUN)) & set(ngrams(words_of(passage), _RUN)):
        return "copies the text"
    if any(_copies(words, words_of(passage[first:last])) for first, last in sentences(passage)):
        return "copies a sentence"
    return "too short" if len(words) < _FEWEST else "too long" if len(words) > _MOST else ""


def _copies(question: Sequence[str], sentence: Sequence[str]) -> bool:
    return len(sentence) >= _LEAST_SENTENCE and lcs_length(question, sentence) > _MOST_COPIED * len(sentence)


def _line(text: str) -> str:
    return " ".join(text.split())
