"""The benchmark of long documents: what it asks about them, and the rule that it compares with."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from palmette.data.records import Answer, Document, Question
from palmette.decode.posterior import Decision, SpanPosterior, WindowScores
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("long_documents", ROOT / "benchmarks" / "long_documents.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "long_documents", module)  # where dataclasses look their module up
        spec.loader.exec_module(module)
        yield module


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
        assert all(question.answers[0].text in document.text for question in own)
        assert len(foreign) == 2
        assert not any(question.answerable for question in foreign)
        assert not any(f"/{document.title}" in question.id for question in foreign)


def test_the_rule_compared_with_adds_the_odds_up(bench: ModuleType) -> None:
    """Three windows with odds 0.6 each: their mean refuses, and their sum, 1.8, answers."""
    window = WindowScores({"a": (0, math.log(0.6))}, -math.inf, -math.inf, 1)
    merged = SpanPosterior.merge([window] * 3)
    assert Decision().decide(merged).text == ""
    assert Decision().decide(merged).no_answer_probability == pytest.approx(1 / 1.6)
    summed = bench.added_up(merged)
    assert Decision().decide(summed).text == "a"
    assert Decision().decide(summed).no_answer_probability == pytest.approx(1 / 2.8)
