"""The words in which a writer is asked for questions and answers in a text, and the checks of what it has written."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

from palmette.synth.instruct.faults import fault_of_form
from palmette.synth.instruct.text import Turns
from palmette.synth.rationales import stands_in
from palmette.synth.writers import Written

PAIRS = {
    "cut off": "the text was cut at the limit of tokens before the answer ended",
    "no question": "the answer has no question",
    "no answer": "the question has no answer",
    "too short": "the question has 3 words or fewer",
    "too long": "the question has more than 150 words",
    "begins with a mark": "the question begins with neither a letter nor a digit",
    "not in the text": "the answer does not stand in the passage word for word",
    "not asked in the text": "the question does not stand in the passage word for word",
    "holds the answer": "the question has the words of its answer",
    "alike": "the question is too much like another one about the passage, by ROUGE-L",
    "in an evaluation set": "question and answer share 8 words in a row with an evaluation set",
    "reply: failed": "the writer gave no full reply, or refused",
    "reply: cut off": "the full reply was cut at the limit of tokens",
    "reply: lost the answer": "the full reply does not have the words of the answer",
    "reply: adds a number": "the full reply has a number that stands neither in the passage nor in the question",
    "reply: in an evaluation set": "the full reply shares 8 words in a row with an evaluation set",
}
_FORM = "\nQuestion: ...\nAnswer: ..."
_REQUEST = (
    "{passage}\n\nWrite {number} questions or instructions about the text above, each with its answer. Copy every "
    "answer from the text word for word. Name what each question is about, so that it is clear without the text. Use "
    "this form:" + _FORM
)
_RECALL = (
    "{passage}\n\nThe text above asks questions or sets tasks, and answers some of them. Copy up to {number} of these "
    "with their answers, word for word. Leave out what it does not answer, and add nothing. Use this form:" + _FORM
)
_REFINE = (
    "{passage}\n\nQuestion: {question}\nAnswer: {answer}\n\nWrite a full reply to the question for somebody who does "
    "not have the text. Say first what in the text leads to the answer, and use the words of the answer exactly as "
    "they stand there. Add no other facts. Write only the reply."
)
# Written for these prompts.
_TEXT = (
    "The tannery on Mill Lane closed in 1964, when its owner, Edith Marlow, retired. Hides had been soaked there in "
    "oak bark for up to eighteen months. The building is now a school of music."
)
_FOUND = (
    ("Who owned the tannery on Mill Lane when it closed?", "Edith Marlow"),
    ("State how long hides were soaked in the tannery.", "up to eighteen months"),
    ("What is in the building of the old tannery today?", "a school of music"),
)
_ASKING = (
    "Visiting the tower. How many steps are there? There are 212 steps to the gallery. May I bring a dog? Dogs have to "
    "wait at the gate. Is there a lift? Please ask at the desk when you come."
)
_ASKED = (
    ("How many steps are there?", "There are 212 steps to the gallery."),
    ("May I bring a dog?", "Dogs have to wait at the gate."),
)
PROMPT_SHA256 = hashlib.sha256(
    json.dumps([_REQUEST, _RECALL, _REFINE, _TEXT, _FOUND, _ASKING, _ASKED]).encode()
).hexdigest()
_QUOTES = "\"'\u201c\u201d\u2018\u2019"
_ASKS = re.compile(
    r"\w[^\n.?!]*\?(?=[\s\"\u201d*_)]|\Z)|^[\s>*_#-]*(?:q|question|exercise|problem|task)[ \t]*\d{0,3}[ \t]*[.:)]",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")

Pairs = Sequence[tuple[str, str]]


def pair_request(passage: str, number: int, shown: Sequence[tuple[str, Pairs]] = (), *, recall: bool = False) -> Turns:
    """The turns that ask for questions and answers, after examples. The last one begins with the passage.

    Args:
        passage: the text.
        number: how many are asked for.
        shown: earlier passages with their questions and answers, which are examples after our own one.
        recall: whether to ask only for questions that the passage asks itself.
    """
    wording = _RECALL if recall else _REQUEST
    own: tuple[str, Pairs] = (_ASKING, _ASKED) if recall else (_TEXT, _FOUND)
    turns: list[tuple[str, str]] = []
    for text, pairs in (own, *shown):
        said = "\n\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in pairs)
        turns += [("user", wording.format(passage=text, number=len(pairs))), ("assistant", said)]
    return (*turns, ("user", wording.format(passage=passage, number=number)))


def refine_request(passage: str, question: str, answer: str) -> Turns:
    """The turns that ask for a full reply with the words of an answer in it."""
    return (("user", _REFINE.format(passage=passage, question=question, answer=answer)),)


def asks_something(passage: str) -> bool:
    """Whether a passage asks a question or sets a task, by rule.

    >>> [asks_something(text) for text in ("Is there a lift? Ask here.", "Exercise 3: add them.", "There is none.")]
    [True, True, False]
    """
    return _ASKS.search(passage) is not None


def place_of(answer: str, passage: str) -> tuple[int, int] | None:
    """Start and end of the first place where an answer stands in a passage as whole words. None if it does not.

    >>> place_of("“at  7:40.”", "It leaves at 7:40 from there."), place_of("7:4", "It leaves at 7:40 from there.")
    ((10, 17), None)
    """
    answer = answer.strip()
    bare = answer.strip(_QUOTES).strip()
    for form in (answer, bare, bare.removesuffix(".").rstrip()):
        if any(map(str.isalnum, form)):
            words = r"\s+".join(map(re.escape, form.split()))
            before, after = (r"(?<!\w)" if form[0].isalnum() else ""), (r"(?!\w)" if form[-1].isalnum() else "")
            if match := re.search(before + words + after, passage):
                return match.span()
    return None


def fault_of_pair(question: str, answer: str, passage: str, *, recall: bool) -> str:
    """Why a question with its answer is dropped, a key of `PAIRS`. "" if it is not.

    Args:
        question: the question, on one line.
        answer: the answer as it was written.
        passage: the text.
        recall: whether the question has to stand in the text too.
    """
    if not question or not answer:
        return "no answer" if question else "no question"
    if reason := fault_of_form(question):
        return reason
    if place_of(answer, passage) is None:
        return "not in the text"
    if recall and place_of(question, passage) is None:
        return "not asked in the text"
    return "holds the answer" if stands_in(answer.strip(_QUOTES).removesuffix("."), question) else ""


def fault_of_full_reply(reply: str, written: Written, question: str, answer: str, passage: str) -> str:
    """Why a full reply is dropped, a key of `PAIRS`. "" if it is not.

    Args:
        reply: the reply, without thoughts and white space around it.
        written: what the writer has written.
        question: the question.
        answer: the words of the passage that answer it.
        passage: the text.
    """
    if written.finish == "length":
        return "reply: cut off"
    if written.finish != "end" or not reply:
        return "reply: failed"
    if place_of(answer, reply) is None:
        return "reply: lost the answer"
    known = set(_NUMBER.findall(f"{passage} {question}"))
    return "" if set(_NUMBER.findall(reply)) <= known else "reply: adds a number"
