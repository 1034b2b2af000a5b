"""Unanswerable questions from siblings, and by rule."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from palmette.data.altered import alter, with_altered_questions, with_negatives
from palmette.data.negatives import BLOCK, siblings, with_siblings_questions
from palmette.data.records import Answer, Document, Question
from palmette.data.source import read_source
from palmette.errors import RecipeError
from palmette.train.sources import read_sources
from tests.support.recipes import parse_recipe


def paragraph(number: int, text: str, *questions: tuple[str, str], title: str = "Ferry") -> Document:
    asked = [Question(f"{title}{number}-{i}", q, (Answer(a, text.index(a)),)) for i, (q, a) in enumerate(questions)]
    return Document(f"{title}/{number}", text, tuple(asked), title)


FERRY = paragraph(0, "The ferry to Vigo leaves at 7:40.", ("When does the ferry to Vigo leave?", "7:40"))
TOWER = paragraph(1, "The tower of Vigo was built in 1882.", ("When was the tower of Vigo built?", "in 1882"))
PORT = paragraph(2, "In 1882 Vigo had a port. The ferry went in.", ("What did Vigo have in 1882?", "a port"))


def test_a_document_is_asked_what_its_siblings_answer() -> None:
    """The tower's question is not asked about the port, whose text holds "in" and "1882"."""
    found = list(with_siblings_questions([FERRY, TOWER, PORT], 2))
    added = [
        {q.id for q in new.questions[len(old.questions) :]}
        for old, new in zip([FERRY, TOWER, PORT], found, strict=True)
    ]
    assert not any(name.startswith("Ferry1-0@Ferry/2") for names in added for name in names)
    assert sorted(name for names in added for name in names) == [
        "Ferry0-0@Ferry/2",
        "Ferry1-0@Ferry/0",
        "Ferry2-0@Ferry/1",
    ]
    assert all(not q.answers for document in found for q in document.questions[1:])


def test_the_question_with_most_shared_words_comes_first() -> None:
    far = paragraph(3, "Salt is white.", ("What is white?", "Salt"))
    (found, *_) = with_siblings_questions([FERRY, far, TOWER], 1)
    assert [q.text for q in found.questions[1:]] == ["When was the tower of Vigo built?"]


def test_unanswerable_questions_and_lone_documents_have_nothing_to_give() -> None:
    silent = replace(TOWER, questions=(Question("none", "When does the ferry to Vigo sink?"),))
    assert [len(document.questions) for document in with_siblings_questions([FERRY, silent], 3)] == [1, 2]
    assert list(with_siblings_questions([FERRY], 3)) == [FERRY]


def test_titles_keep_documents_apart_and_the_lone_ones_share() -> None:
    other = replace(PORT, id="Port/0", title="Port")
    third = replace(FERRY, id="Alone/0", title="Alone")
    near = {
        document.id: [sibling.id for sibling in others] for document, others in siblings([FERRY, other, TOWER, third])
    }
    assert near == {"Ferry/0": ["Ferry/1"], "Port/0": ["Alone/0"], "Ferry/1": ["Ferry/0"], "Alone/0": ["Port/0"]}


def test_siblings_are_looked_for_in_blocks() -> None:
    many = [replace(FERRY, id=f"Ferry/{number}") for number in range(BLOCK + 2)]
    assert {len(others) for _, others in siblings(many)} == {BLOCK - 1, 1}


TEXT = "The first ferry to Vigo left in 1882. Anna Ruiz was its captain."
POOL = {("number", "in", "0000"): ["1790"], ("name", "to", "1"): ["Porto"], ("name", "was", "2"): ["Eva Lens"]}


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("What sank in 1882?", ("number", "What sank in 1790?")),
        ("What sank in 1883?", None),
        ("What went to Vigo?", ("name", "What went to Porto?")),
        ("What went to Lugo?", None),
        ("How was Anna Ruiz called?", ("name", "How was Eva Lens called?")),
        ("When did the first ship leave?", ("opposite", "When did the last ship leave?")),
        ("When did the next ship leave?", None),
        ("Who was captain?", ("negation", "Who was not captain?")),
        ("Who was the captain?", None),
        ("What is not here?", None),
    ],
)
def test_each_rule(question: str, wanted: tuple[str, str] | None) -> None:
    assert alter(question, TEXT, POOL, random.Random(0)) == wanted


def test_altered_questions_come_from_siblings_and_repeat_with_the_seed() -> None:
    documents = [FERRY, TOWER, PORT]
    found = list(with_altered_questions(documents, 1))
    assert found == list(with_altered_questions(documents, 1))
    added = [q for document in found for q in document.questions[1:]]
    assert added
    assert all("~" in q.id and not q.answers for q in added)
    texts = {q.text for document in documents for q in document.questions}
    assert not texts & {q.text for q in added}


def test_a_recipe_adds_both_kinds() -> None:
    recipe = parse_recipe("output: o\ndata: {train: ['builtin:dev'], negatives: {siblings: 1, altered: 2}}", "r.yaml")
    (source,) = read_sources(recipe)
    plain = read_source("builtin:dev")
    wanted = with_negatives(plain.documents, siblings=1, altered=2)
    assert source.documents == tuple(wanted)
    assert source.num_added == source.num_questions - plain.num_questions > 0
    assert source.describe()["added"] == source.num_added


def test_negatives_are_for_questions_alone() -> None:
    with pytest.raises(RecipeError, match=r"data\.kind = chat"):
        parse_recipe("output: o\ndata: {kind: chat, train: [a.jsonl], negatives: {siblings: 1}}", "r.yaml")
