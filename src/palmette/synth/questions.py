"""Questions about passages, each with words of the passage as its answer, and each answered again as a check.

Spans are found by rule, a writer asks for each of them, and a reader (the span decoder) answers the question on the
same passage. The question is kept if the reader's most probable span overlaps the one that was asked for, and is
probable enough. This is the round trip of Alberti et al. (2019), "Synthetic QA Corpora Generation with Roundtrip
Consistency", who ask for equal answers. We keep the span of the rule, which the reader may cut otherwise.

Questions without an answer are those of other passages that share the most words with this one and whose answer does
not stand in it (`data/negatives.py`). They are kept if the reader finds it improbable that they are answered.

A round trip keeps what the reader can answer already, and so easy questions. The probability of each is kept, and a
number of questions can be shared out evenly among bins of it.
"""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from palmette.corpus.words import words_of
from palmette.data.negatives import with_siblings_questions
from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Decoder, Prediction
from palmette.decode.spans import places
from palmette.progress import progress
from palmette.synth.instruct.rouge import first_alike
from palmette.synth.instruct.settings import MOST_ALIKE
from palmette.synth.question_settings import QuestionSettings
from palmette.synth.question_text import fault_of, question_request, read_question
from palmette.synth.recurring import overlaps
from palmette.synth.spans import MOST_WORDS, Candidate, Kind, find_candidates, kind_counts
from palmette.synth.work import Line, keep_line
from palmette.synth.writers import Request, Writer, Written

ROUND_TRIP = {
    "not answered": "the reader finds no span that answers the question",
    "another answer": "the reader answers with other words",
    "unsure": "the reader answers with the span, but its probability is too low",
    "asked before": "the same question with the same answer was kept for another passage",
    "alike": "the question is too much like one with the same answer in the same document, by ROUGE-L",
    "enough of its kind": "enough questions are kept whose answer is about as probable",
}
NUM_BINS = 5  # of the reader's probability
_GROUP = 8  # passages whose questions are written and answered together, which a stop may lose
_DIGITS = 4


def choose_spans(passage: Document, most: int, seed: int) -> tuple[list[Candidate], Mapping[Kind, int]]:
    """Spans to ask for, as many of each kind as there are, as far as there are so many.

    Args:
        passage: the passage, which alone decides with the seed.
        most: the most spans.
        seed: random seed.

    Returns:
        The spans in the order of the text, and how many the rules have found by kind.
    """
    found = find_candidates(passage.text)
    chance = random.Random(f"{seed} {passage.text}")
    waiting: dict[Kind, list[Candidate]] = defaultdict(list)
    for one in chance.sample(found, len(found)):
        waiting[one.kind].append(one)
    chosen: list[Candidate] = []
    while len(chosen) < min(most, len(found)):
        for kind in kind_counts(found):
            if waiting[kind] and len(chosen) < most:
                chosen.append(waiting[kind].pop())
    return sorted(chosen, key=lambda one: one.start), kind_counts(found)


def write_lines(
    passages: Sequence[Document],
    writer: Writer,
    reader: Decoder,
    settings: QuestionSettings,
    work: Path,
    done: dict[str, Line],
) -> list[Line]:
    """The line of each passage: its spans, with their questions and why they were dropped.

    Args:
        passages: the passages.
        writer: writes the questions.
        reader: answers them.
        settings: how many questions are made.
        work: the work file, which gets the new lines.
        done: the lines that it holds already. New ones are added.

    Raises:
        PalmetteError: the writer or the reader cannot be used, or the work file cannot be written.
    """
    groups = [passages[start : start + _GROUP] for start in range(0, len(passages), _GROUP)]
    finished = sum(passage.id in done for passage in passages)
    with progress(len(passages), "questions", "passages", done=finished) as bar:
        for group in groups:
            missing = [passage for passage in group if passage.id not in done]
            for line in _lines(missing, writer, reader, settings):
                keep_line(line, work, done)
                bar.update()
    return [done[passage.id] for passage in passages]


def _lines(passages: Sequence[Document], writer: Writer, reader: Decoder, settings: QuestionSettings) -> Iterator[Line]:
    chosen = [choose_spans(passage, settings.spans, settings.seed) for passage in passages]
    asked = [(passage, span) for passage, (spans, _) in zip(passages, chosen, strict=True) for span in spans]
    requests = [
        Request(question_request(passage.text, span), zlib.crc32(f"{passage.text} {span.start}".encode()))
        for passage, span in asked
    ]
    written = dict(writer.write(requests))
    records: dict[str, list[Line]] = {passage.id: [] for passage in passages}
    for index, (passage, span) in enumerate(asked):
        records[passage.id].append(_checked(passage, span, written[index], records[passage.id]))
    answers = _answers(reader, passages, records)
    for passage, (_, found) in zip(passages, chosen, strict=True):
        for record in records[passage.id]:
            if record["id"] in answers:
                record.update(_round_trip(passage, record, answers[record["id"]], settings.min_probability))
        yield {"id": passage.id, "found": found, "spans": records[passage.id]}


def _checked(passage: Document, span: Candidate, written: Written, earlier: Sequence[Line]) -> Line:
    """The record of a span after the checks of its question alone."""
    answer, question = passage.text[span.start : span.end], read_question(written)
    reason = fault_of(written, question, passage.text, answer)
    if not reason and any(_fold(one["question"]) == _fold(question) for one in earlier if not one["reason"]):
        reason = "repeated"
    return {
        "id": f"{passage.id}/{span.start}",
        **asdict(span),
        "answer": answer,
        "question": question or written.text[:500],
        "reason": reason,
        "tokens": written.tokens,
        "tokens_read": written.read,
    }


def _answers(
    reader: Decoder, passages: Sequence[Document], records: Mapping[str, Sequence[Line]]
) -> dict[str, Prediction]:
    """The reader's answers to the questions that nothing is wrong with so far, by the id of the span."""
    documents = [
        replace(
            passage,
            questions=tuple(Question(one["id"], one["question"]) for one in records[passage.id] if not one["reason"]),
        )
        for passage in passages
    ]
    return dict(reader.predict([document for document in documents if document.questions]))


def _round_trip(passage: Document, record: Line, prediction: Prediction, least: float) -> Line:
    """What the reader says to a question, and why it is dropped."""
    best = prediction.candidates[0] if prediction.candidates else None
    if best is None:
        return {"reason": "not answered", "read": "", "probability": 0.0}
    # Every place of its words, since a candidate only tells the first.
    meets = overlaps((record["start"], record["end"]), places(passage.text, best.text, MOST_WORDS))
    reason = "another answer" if not meets else "unsure" if best.probability < least else ""
    return {"reason": reason, "read": best.text, "probability": round(best.probability, _DIGITS)}


def kept_questions(passages: Sequence[Document], lines: Sequence[Line], settings: QuestionSettings) -> list[Document]:
    """The passages with the questions that were kept. Copies, and questions of which there are enough, are marked.

    Args:
        passages: the passages.
        lines: their lines, in the same order. They get the reasons.
        settings: how many are kept.
    """
    _mark_copies(passages, lines)
    if settings.number is not None:
        _mark_surplus([span for line in lines for span in line["spans"]], settings.number, settings.seed)
    documents = []
    for passage, line in zip(passages, lines, strict=True):
        kept = [span for span in line["spans"] if not span["reason"]]
        questions = (Question(one["id"], one["question"], (Answer(one["answer"], one["start"]),)) for one in kept)
        documents.append(replace(passage, questions=tuple(questions)))
    return documents


def _mark_copies(passages: Sequence[Document], lines: Sequence[Line]) -> None:
    """Mark questions that were kept before, in the same words or in nearly the same.

    Questions of other documents may differ in a name only and mean another thing, so nearly the same counts only within
    a document.
    """
    equal: set[tuple[str, str]] = set()
    alike: dict[tuple[str, str], list[tuple[str, list[str]]]] = defaultdict(list)
    for passage, line in zip(passages, lines, strict=True):
        for record in line["spans"]:
            if record["reason"]:
                continue
            answer, words = _fold(record["answer"]), words_of(record["question"])
            key, near = (_fold(record["question"]), answer), alike[passage.title, answer]
            if key in equal:
                record["reason"] = "asked before"
            elif first_alike(words, near, MOST_ALIKE) is not None:
                record["reason"] = "alike"
            else:
                equal.add(key)
                near.append((record["id"], words))


def _mark_surplus(records: Iterable[Line], number: int, seed: int) -> None:
    """Mark questions beyond a number. Bins of the probability keep the same number each, as far as they have so many.

    Which ones of a bin are kept is decided by chance.
    """
    bins: list[list[Line]] = [[] for _ in range(NUM_BINS)]
    for record in records:
        if not record["reason"]:
            bins[bin_of(record["probability"])].append(record)
    chance, left = random.Random(f"{seed} bins"), number
    # The smallest bin first: what it cannot give is shared out among the others.
    for waiting, same in zip(range(NUM_BINS, 0, -1), sorted(bins, key=len), strict=True):
        share = left // waiting
        chance.shuffle(same)
        for record in same[share:]:
            record["reason"] = "enough of its kind"
        left -= min(share, len(same))


def bin_of(probability: float) -> int:
    """The fifth that a probability is in, from 0.

    >>> [bin_of(probability) for probability in (0.0, 0.2, 0.99, 1.0)]
    [0, 1, 4, 4]
    """
    return min(int(probability * NUM_BINS), NUM_BINS - 1)


def refused_lines(
    documents: Sequence[Document], reader: Decoder, settings: QuestionSettings, work: Path, done: dict[str, Line]
) -> list[Line]:
    """The line of each passage that is asked questions of others: how probable it is that it answers them.

    Args:
        documents: the passages with the questions that were kept.
        reader: answers the questions.
        settings: how many questions are asked.
        work: the work file, which gets the new lines.
        done: the lines that it holds already. New ones are added.
    """
    lines: list[Line] = []
    asked = list(_asked_of_others(documents, settings.unanswerable))
    if not asked:
        return lines
    names = [f"{document.id} asked of others" for document in asked]
    finished = sum(name in done for name in names)
    with progress(len(asked), "without an answer", "passages", done=finished) as bar:
        for name, document in zip(names, asked, strict=True):
            if name not in done:
                answers = dict(reader.predict([document]))
                records = [_refused(one, answers[one.id], settings.max_answered) for one in document.questions]
                keep_line({"id": name, "passage": document.id, "questions": records}, work, done)
                bar.update()
            lines.append(done[name])
    return lines


def _asked_of_others(documents: Iterable[Document], most: int) -> Iterator[Document]:
    """Passages with the questions of other passages that they are asked, and with no others."""
    documents = list(documents)
    if not most:
        return
    for before, after in zip(documents, with_siblings_questions(documents, most), strict=True):
        added = after.questions[len(before.questions) :]
        if added:
            yield replace(after, questions=added)


def _refused(question: Question, prediction: Prediction, most: float) -> Line:
    unanswered = prediction.no_answer_probability
    answered = 1.0 if unanswered is None else 1.0 - unanswered
    best = prediction.candidates[0].text if prediction.candidates else ""
    reason = "" if answered <= most else "may be answered"
    return {
        "id": question.id,
        "question": question.text,
        "reason": reason,
        "read": best,
        "answered": round(answered, _DIGITS),
    }


def with_refused(documents: Sequence[Document], lines: Iterable[Line]) -> list[Document]:
    """Passages with the questions of others that they do not answer added at the end."""
    added = {
        line["passage"]: tuple(Question(one["id"], one["question"]) for one in line["questions"] if not one["reason"])
        for line in lines
    }
    return [replace(one, questions=(*one.questions, *added.get(one.id, ()))) for one in documents]


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())
