"""The benchmark of long documents: what it asks about them, and the rule that it compares with."""

from __future__ import annotations

import math
from types import ModuleType

import pytest

from palmette.data.records import Answer, Document, Question
from palmette.decode.posterior import Decision, SpanPosterior, WindowScores
from palmette.decode.search import Search
from palmette.decode.spans import Window
from palmette.decode.trie import SpanTrie
from tests.support.scripts import script


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return script("benchmarks/long_documents.py")


def paragraph(article: str, number: int) -> Document:
    name = f"{article}{number}"
    answerable = Question(f"{name}-a", f"What is {name}?", (Answer(name, 0),))
    return Document(name, f"{name} stands here.", (answerable, Question(f"{name}-b", "Why?")), article)


def test_a_document_is_asked_its_own_questions_and_as_many_of_others(bench: ModuleType) -> None:
    """Two articles of three paragraphs, and one of a single paragraph, which is too short."""
    paragraphs = [paragraph(article, number) for article in "AB" for number in range(3)] + [paragraph("C", 0)]
    found = list(bench.long_documents(paragraphs, 3, 2, seed=0))
    assert [document.title for document in found] == ["A", "B"]
    for document in found:
        assert document.text == "\n\n".join(f"{document.title}{number} stands here." for number in range(3))
        own, foreign = document.questions[:2], document.questions[2:]
        for question in own:
            assert document.text[question.answers[0].start :].startswith(question.answers[0].text)
        assert len(foreign) == 2
        assert not any(question.answerable for question in foreign)
        assert not any(f"/{document.title}" in question.id for question in foreign)


def test_whole_articles_are_joined_from_a_length_on(bench: ModuleType) -> None:
    paragraphs = [paragraph("A", number) for number in range(5)] + [paragraph("B", number) for number in range(2)]
    found = list(bench.long_documents(paragraphs, 3, 2, seed=0, whole=True))
    assert [document.text.count("stands here") for document in found] == [5]


def test_the_rule_compared_with_adds_the_odds_up(bench: ModuleType) -> None:
    """Three windows with odds 0.6 each: their mean refuses, and their sum, 1.8, answers."""
    window = WindowScores({"a": (0, math.log(0.6))}, -math.inf, -math.inf, 1)
    merged = SpanPosterior.merge([window] * 3)
    assert Decision().decide(merged).text == ""
    assert Decision().decide(merged).no_answer_probability == pytest.approx(1 / 1.6)
    summed = bench.added_up(merged)
    assert Decision().decide(summed).text == "a"
    assert Decision().decide(summed).no_answer_probability == pytest.approx(1 / 2.8)


def window_of(owned: dict[str, float], foreign: dict[str, float]) -> Search:
    """A search that scored strings of one token with these probabilities, and "?" with the rest."""
    probability = {"?": 1.0 - sum(owned.values()) - sum(foreign.values()), **owned, **foreign}
    trie = SpanTrie()
    for token, text in enumerate(probability):
        trie.add((token,), text, token, foreign=text in foreign)
    search = Search(trie)
    search.absorb(0, {token: math.log(value) for token, value in enumerate(probability.values())}, -50.0)
    for node in range(1, len(trie)):
        search.absorb(node, {}, 0.0)
    return search


def test_spans_of_a_neighbour_can_be_ignored(bench: ModuleType) -> None:
    """Two windows give A 0.90 and "?" 0.05. The second one does not own A, and gives B, which is its own, 0.05.

    If A is ignored there, B has odds of 0.05 / 0.05 in that window. If A counts as no answer they are 0.05 / 0.95. In
    the first window A has odds of 0.90 / 0.05 if B, which gets 0.05 there too, is ignored, and 0.90 / 0.10 if not.
    """
    searches = [window_of({"A": 0.90}, {"B": 0.05}), window_of({"B": 0.05}, {"A": 0.90})]
    question = Question("q", "What?", (Answer("A", 0),))
    one = bench.Scored(question, True, [search.scores() for search in searches], [bench.gain(s) for s in searches])
    for counted, odds in ((False, {"A": 18.0, "B": 1.0}), (True, {"A": 9.0, "B": 0.05 / 0.95})):
        for added, share in ((False, 0.5), (True, 1.0)):
            posterior = one.posterior(counted=counted, added=added)
            found = {text: math.exp(value) for text, _, value in posterior.spans}
            assert found == pytest.approx({text: value * share for text, value in odds.items()})


def test_an_answer_in_an_overlap_is_one_that_two_windows_show_whole(bench: ModuleType) -> None:
    windows = [Window(0, 10, (), ()), Window(6, 20, (), ())]
    asked = [Question("q", "?", (Answer("two", start),)) for start in (5, 6, 7, 8)]
    assert [bench.in_overlap(question, windows) for question in asked] == [False, True, True, False]
    assert not bench.in_overlap(Question("q", "?"), windows)


def test_the_error_of_calibration_is_the_mean_over_groups(bench: ModuleType) -> None:
    """Twenty questions in groups of two by P(no answer).

    In five groups it is 0 where one of two has an answer, and in five it is 1 where none has: 5 * 0.5 / 10.
    """
    outcomes = [bench.Outcome(index % 2 == 0, False, True, True, 0.0, True) for index in range(10)]
    outcomes += [bench.Outcome(False, False, True, True, 1.0, True) for _ in range(10)]
    assert bench.calibration_error(outcomes) == pytest.approx(0.25)


def test_a_row_counts_both_kinds_of_questions_apart(bench: ModuleType) -> None:
    """Of four answerable questions two are right, one of them in an overlap, one is wrong and one is refused."""
    held = [(True, False, True), (False, False, True), (False, False, False), (False, True, False)]
    outcomes = [bench.Outcome(True, shared, refused, right, 0.25, True) for shared, refused, right in held]
    outcomes += [
        bench.Outcome(False, False, True, True, 0.75, False),
        bench.Outcome(False, False, False, False, 0.25, True),
    ]
    cells = bench.row("rule", outcomes).split(" | ")
    assert cells == ["| rule", "50", "25", "25", "50", "50", "100", "0", "0", "0.25", "0.50", cells[11], "83 |"]
