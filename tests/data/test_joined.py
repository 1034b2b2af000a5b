"""Documents joined into long ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palmette.data.joined import join, join_by_title
from palmette.data.records import Answer, Document, Question
from palmette.errors import DataError


def paragraph(title: str, number: int) -> Document:
    """A paragraph with a question that it answers, and one that it does not."""
    text = f"{title} {number} was built in {1900 + number}."
    held = Question(
        f"{title}{number}", f"When was {title} {number} built?", (Answer(str(1900 + number), text.find("19")),)
    )
    return Document(
        f"{title}-{number}", text, (held, Question(f"{title}{number}x", f"Who built {title} {number}?")), title
    )


PARAGRAPHS = [paragraph(title, number) for title in ("Tower", "Bridge") for number in range(10, 16)]


def test_answers_move_along_with_their_texts() -> None:
    long = join(PARAGRAPHS[:6], "Tower")
    assert long.text.count("Tower") == 6
    answers = [answer for question in long.questions for answer in question.answers]
    assert len(answers) == 6
    assert all(long.text[answer.start :].startswith(answer.text) for answer in answers)
    assert [answer.text for answer in answers] == [str(year) for year in range(1910, 1916)]


def test_half_of_the_questions_of_a_long_document_have_an_answer() -> None:
    tower, bridge = join_by_title(PARAGRAPHS, "data", questions=4)
    for long, other in ((tower, "Bridge"), (bridge, "Tower")):
        held = [question for question in long.questions if question.answerable]
        own = [question for question in long.questions if not question.answerable and long.title in question.text]
        foreign = [question for question in long.questions if other in question.text]
        assert (len(held), len(own), len(foreign)) == (4, 2, 2)
        assert not any(question.answerable for question in foreign)
        assert all(question.text.startswith("When") for question in foreign)
    ids = [question.id for long in (tower, bridge) for question in long.questions]
    assert len(set(ids)) == len(ids) == 16
    assert not {question.id for document in PARAGRAPHS for question in document.questions} & set(ids)


def test_the_draw_depends_on_its_seed_alone() -> None:
    first, again, other = (join_by_title(PARAGRAPHS, "data", questions=3, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_data_without_unanswerable_questions_take_all_from_other_titles() -> None:
    some = [Document(one.id, one.text, one.questions[:1], one.title) for one in PARAGRAPHS]
    tower = join_by_title(some, "data", questions=4)[0]
    assert sum("Bridge" in question.text for question in tower.questions) == 4


def test_a_question_that_the_long_document_answers_is_not_asked_as_an_absent_one() -> None:
    """Each paragraph is also asked what the next one answers."""
    asked = [
        replace(one, questions=(*one.questions, Question(f"{one.id}@", other.questions[0].text)))
        for one, other in zip(
            PARAGRAPHS, [*PARAGRAPHS[1:6], PARAGRAPHS[0], *PARAGRAPHS[7:], PARAGRAPHS[6]], strict=True
        )
    ]
    for long in join_by_title(asked, "data", questions=6):
        answered = {question.text for question in long.questions if question.answerable}
        assert len(answered) == 6
        absent = [question.text for question in long.questions if not question.answerable]
        assert len(absent) == 6
        assert not answered & set(absent)


@pytest.mark.parametrize("documents", [PARAGRAPHS[:6], [Document("a", "It rains.", ()), Document("b", "Snow.", ())]])
def test_titles_that_cannot_be_joined(documents: list[Document]) -> None:
    with pytest.raises(DataError, match="titles with several documents, and two are needed"):
        join_by_title(documents, "data", questions=4)
