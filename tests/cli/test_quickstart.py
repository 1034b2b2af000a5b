"""What the quickstart prints: examples of several articles, in a few lines each, and commands to try next."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from palmette.cli.console import passages
from palmette.cli.train.quickstart import _print_next_steps, examples
from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Prediction
from palmette.evaluate.squad_metrics import ScoredAnswer


def scored(document: str, question: str, *, right: bool, refused: bool = False) -> ScoredAnswer:
    asked = Question(question, "When?", () if refused and right else (Answer("noon", 0),))
    prediction = Prediction("" if refused else "noon", valid_json=True, completion="")
    return ScoredAnswer(
        asked, Document(document, "noon", (asked,)), prediction, float(right), float(right), float(right)
    )


def test_examples_are_about_different_articles() -> None:
    """In the order of the data, the first three right answers and wrong ones are all about the article a."""
    answers = [
        scored(document, f"{document}{number}", right=number < 3, refused=number == 2)
        for document in "abc"
        for number in range(5)
    ]
    shown = examples(answers)
    assert [(one.question.id, one.exact) for one in shown[:4]] == [("a0", 1.0), ("b0", 1.0), ("c0", 1.0), ("a2", 1.0)]
    assert max(Counter(one.document.id for one in shown).values()) == 3  # seven examples, three articles
    assert Counter(one.document.id for one in shown[4:]) == {"a": 1, "b": 1, "c": 1}
    assert examples(answers[:1]) == answers[:1]


def test_passages_are_cut_at_blanks_and_keep_their_marks() -> None:
    text = "It was dark.\nThe ferry left at 7:40 from pier 3, and nobody saw it go because of the fog."
    at = text.index("7:40")
    ((passage, marks),) = passages(text, [(at, at + 4, "red")], around=12)
    assert passage == "left at 7:40 from pier"
    assert [passage[start:end] for start, end, _ in marks] == ["7:40"]
    later = text.index("fog")
    both = passages(text, [(later, later + 3, "cyan"), (at, at + 4, "red")], around=12)
    assert [one for one, _ in both] == ["left at 7:40 from pier", "of the fog."]
    ((whole, marks),) = passages(text, [(later, later + 3, "cyan"), (at, at + 4, "red")], around=60)
    assert whole == text.replace("\n", " ")
    assert [whole[start:end] for start, end, _ in marks] == ["fog", "7:40"]
    assert passages("longword", [(4, 8, "")], around=2) == [("word", [(0, 4, "")])]
    assert passages(text, []) == []


def test_it_ends_with_a_document_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run below runs/ is found by itself. Any other has to be named."""
    monkeypatch.chdir(tmp_path)

    def steps(out: Path) -> list[str]:
        stream = io.StringIO()
        _print_next_steps(Console(file=stream, width=80, highlight=False), out)
        return stream.getvalue().splitlines()

    first = steps(Path("runs/quickstart"))
    assert first[1] == "  Ask about a document of your own:"
    assert first[2].endswith("palmette ask YOUR.pdf") or first[2].endswith(" ask YOUR.pdf")
    assert steps(tmp_path / "my run")[2].endswith(f"ask YOUR.pdf --model '{tmp_path}/my run'")
    assert any(line.endswith("compare-runs runs/quickstart/untouched runs/quickstart") for line in first)
