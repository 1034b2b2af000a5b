"""Questions and answers that stand in a text, found by a writer, each answer with its place.

One request a passage asks for several pairs, as the synthesizer of Instruction Pre-Training does (Cheng et al., 2024),
and as the extraction of MAmmoTH2 (Yue et al., 2024), whose further step of rewording answers is left out: an answer
stays as it stands in the text. What the writer gives as an answer is sought in the passage. It may differ in white
space, and in quotation marks and a full stop around it. Anything else is dropped and never adjusted.

Questions that speak of pictures or files are kept, unlike tasks without a text: the answer stands in the passage.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from palmette.corpus.words import words_of
from palmette.data.records import Document
from palmette.progress import progress
from palmette.synth.instruct.faults import fault_of_form
from palmette.synth.instruct.rouge import first_alike
from palmette.synth.instruct.rounds import IsLeaked
from palmette.synth.instruct.settings import PairSettings
from palmette.synth.instruct.text import Turns, read_pairs
from palmette.synth.rationales import stands_in
from palmette.synth.work import Line, keep_line
from palmette.synth.writers import Request, Writer, Written

PAIRS = {
    "cut off": "the text was cut at the limit of tokens before the answer ended",
    "no question": "the answer has no question",
    "no answer": "the question has no answer",
    "too short": "the question has 3 words or fewer",
    "too long": "the question has more than 150 words",
    "begins with a mark": "the question begins with neither a letter nor a digit",
    "not in the text": "the answer does not stand in the passage word for word",
    "holds the answer": "the question has the words of its answer",
    "alike": "the question is too much like another one about the passage, by ROUGE-L",
    "in an evaluation set": "question and answer share 8 words in a row with an evaluation set",
}
_REQUEST = (
    "{passage}\n\nWrite {number} questions or instructions about the text above, each with its answer. Copy every "
    "answer from the text word for word. Name what each question is about, so that it is clear without the text. Use "
    "this form:\nQuestion: ...\nAnswer: ..."
)
# Written for this prompt.
_TEXT = (
    "The tannery on Mill Lane closed in 1964, when its owner, Edith Marlow, retired. Hides had been soaked there in "
    "oak bark for up to eighteen months. The building is now a school of music."
)
_FOUND = (
    ("Who owned the tannery on Mill Lane when it closed?", "Edith Marlow"),
    ("State how long hides were soaked in the tannery.", "up to eighteen months"),
    ("What is in the building of the old tannery today?", "a school of music"),
)
PROMPT_SHA256 = hashlib.sha256(json.dumps([_REQUEST, _TEXT, _FOUND]).encode()).hexdigest()
_QUOTES = "\"'\u201c\u201d\u2018\u2019"
_GROUP = 8  # passages that are asked about together, which a stop may lose


def pair_request(passage: str, number: int) -> Turns:
    """The turns that ask for questions and answers, after an example. The last one begins with the passage.

    Args:
        passage: the text.
        number: how many are asked for.
    """
    shown = "\n\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in _FOUND)
    example = ("user", _REQUEST.format(passage=_TEXT, number=len(_FOUND)))
    return (example, ("assistant", shown), ("user", _REQUEST.format(passage=passage, number=number)))


def place_of(answer: str, passage: str) -> tuple[int, int] | None:
    """Start and end of the first place where an answer stands in a passage as whole words. None if it does not.

    >>> place_of("“at  7:40.”", "It leaves at 7:40 from there."), place_of("7:4", "It leaves at 7:40 from there.")
    ((10, 17), None)
    """
    answer = answer.strip()
    for form in (answer, answer.strip(_QUOTES), answer.strip(_QUOTES).removesuffix(".")):
        if any(map(str.isalnum, form)):
            words = r"\s+".join(map(re.escape, form.split()))
            before, after = (r"(?<!\w)" if form[0].isalnum() else ""), (r"(?!\w)" if form[-1].isalnum() else "")
            if match := re.search(before + words + after, passage):
                return match.span()
    return None


def pair_lines(
    passages: Sequence[Document],
    writer: Writer,
    settings: PairSettings,
    is_leaked: IsLeaked,
    work: Path,
    done: dict[str, Line],
) -> list[Line]:
    """The line of each passage: its questions with their answers, their places, and why they were dropped.

    Args:
        passages: the passages.
        writer: writes questions and answers.
        settings: how many are asked for.
        is_leaked: whether a text shares words with an evaluation set.
        work: the work file, which gets the new lines.
        done: the lines that it holds already. New ones are added.

    Raises:
        PalmetteError: the writer cannot be used, or the work file cannot be written.
    """
    missing = [passage for passage in passages if passage.id not in done]
    with progress(len(passages), "texts", "passages", done=len(passages) - len(missing)) as bar:
        for start in range(0, len(missing), _GROUP):
            for line in _lines(missing[start : start + _GROUP], writer, settings, is_leaked):
                keep_line(line, work, done)
                bar.update()
    return [done[passage.id] for passage in passages]


def _lines(passages: Sequence[Document], writer: Writer, settings: PairSettings, is_leaked: IsLeaked) -> Iterator[Line]:
    requests = [
        Request(pair_request(passage.text, settings.pairs), zlib.crc32(passage.text.encode())) for passage in passages
    ]
    written = dict(writer.write(requests))
    for index, passage in enumerate(passages):
        one = written[index]
        pairs = _pairs(passage, one, settings, is_leaked)
        failed = "failed" if one.finish not in ("end", "length") else "" if pairs else "no pairs"
        yield {"id": passage.id, "reason": failed, "text": one.text[:500], "pairs": pairs, "tokens": one.tokens}


def _pairs(passage: Document, written: Written, settings: PairSettings, is_leaked: IsLeaked) -> list[Line]:
    """The pairs that were written about a passage. Places count from the beginning of the document."""
    if written.finish not in ("end", "length"):
        return []
    found = list(read_pairs(written.said, "question", "answer"))
    begin = int(passage.id.rpartition("#")[2])
    pairs: list[Line] = []
    seen: list[tuple[str, list[str]]] = []
    for number, (question, answer) in enumerate(found, start=1):
        question = " ".join(question.split())
        place = place_of(answer, passage.text)
        cut = written.finish == "length" and number == len(found)
        reason = "cut off" if cut else _fault(question, answer, place)
        words = words_of(question)
        if not reason and first_alike(words, seen, settings.max_alike) is not None:
            reason = "alike"
        if not reason and is_leaked(f"{question}\n{answer}"):
            reason = "in an evaluation set"
        if not reason:
            seen.append((question, words))
        pairs.append(
            {
                "id": f"{passage.id}/{number}",
                "question": question,
                "answer": passage.text[slice(*place)] if place else answer,
                "place": {"start": begin + place[0], "end": begin + place[1]} if place else None,
                "reason": reason,
            }
        )
    return pairs


def _fault(question: str, answer: str, place: tuple[int, int] | None) -> str:
    if not question or not answer:
        return "no answer" if question else "no question"
    if reason := fault_of_form(question):
        return reason
    if place is None:
        return "not in the text"
    return "holds the answer" if stands_in(answer.strip(_QUOTES).removesuffix("."), question) else ""
