"""The built-in corpus: its shape, its spans, and that it cannot be guessed from the look of a question."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib import resources
from typing import Any

import pytest

from palmette.data.records import Document
from palmette.data.source import SPLITS, read_source

DATA = {split: read_source(f"builtin:{split}").documents for split in SPLITS}
ALL = [document for split in SPLITS for document in DATA[split]]
QUESTIONS = [question for document in ALL for question in document.questions]


def articles(split: str) -> list[dict[str, Any]]:
    raw = resources.files("palmette.data").joinpath("corpus", f"{split}.json").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = json.loads(raw)["data"]
    return found


def test_size_and_lengths() -> None:
    assert len(ALL) >= 64
    assert len({document.title for document in ALL}) >= 12
    words = [len(document.text.split()) for document in ALL]
    assert min(words) >= 80
    assert max(words) <= 200
    assert min(len(document.questions) for document in ALL) >= 8


def test_topics_do_not_cross_splits() -> None:
    topics = [{document.title for document in DATA[split]} for split in SPLITS]
    assert sum(map(len, topics)) == len(set().union(*topics))
    assert all(topics)


@pytest.mark.parametrize("split", SPLITS)
def test_a_third_to_a_half_is_unanswerable(split: str) -> None:
    questions = [question for document in DATA[split] for question in document.questions]
    share = sum(not question.answerable for question in questions) / len(questions)
    assert 1 / 3 <= share <= 1 / 2
    assert all(question.plausible for question in questions if not question.answerable)


@pytest.mark.parametrize("split", SPLITS)
def test_half_of_the_documents_describe_an_invented_world(split: str) -> None:
    worlds = Counter(article["world"] for article in articles(split) for _ in article["paragraphs"])
    assert worlds["real"] == worlds["invented"]
    assert set(worlds) == {"real", "invented"}


def test_ids_and_questions_are_unique() -> None:
    assert len({question.id for question in QUESTIONS}) == len(QUESTIONS)
    texts = Counter(re.sub(r"\W+", " ", question.text.lower()).strip() for question in QUESTIONS)
    assert [text for text, count in texts.items() if count > 1] == []


def _whole_words(document: Document, start: int, end: int) -> bool:
    return not re.search(r"\w\w", document.text[max(start - 1, 0) : start + 1]) and not re.search(
        r"\w\w", document.text[end - 1 : end + 1]
    )


def test_spans_stand_at_their_offsets_as_whole_words() -> None:
    for document in ALL:
        for question in document.questions:
            for answer in question.answers + question.plausible:
                end = answer.start + len(answer.text)
                assert document.text[answer.start : end] == answer.text
                assert _whole_words(document, answer.start, end), (question.id, answer)
                assert answer.text == answer.text.strip(" .,;:")


def test_answers_are_short() -> None:
    longest = max((a for q in QUESTIONS for a in q.answers), key=lambda a: len(a.text.split()))
    assert len(longest.text.split()) <= 20, longest


def test_the_look_of_a_question_does_not_give_it_away() -> None:
    """A classifier on the first two words alone must not beat the majority by much, learned on train and tried on
    the rest.
    """

    def opening(text: str) -> str:
        return " ".join(text.lower().split()[:2])

    counts: dict[str, Counter[bool]] = {}
    for document in DATA["train"]:
        for question in document.questions:
            counts.setdefault(opening(question.text), Counter())[question.answerable] += 1
    held_out = [question for split in ("dev", "test") for document in DATA[split] for question in document.questions]
    majority = sum(question.answerable for question in held_out) / len(held_out)
    hits = [
        (counts[opening(q.text)].most_common(1)[0][0] if opening(q.text) in counts else True) == q.answerable
        for q in held_out
    ]
    assert sum(hits) / len(hits) < majority + 0.05
