"""Two evaluations compared: labels, units, directions and verdicts, by hand."""

from __future__ import annotations

import pytest

from palmette.cli.measure.comparison import comparison_table, remarks
from palmette.errors import DataError
from palmette.evaluate.bootstrap import Difference
from palmette.evaluate.compare import MEASURES, Compared, compare_evaluations
from palmette.evaluate.squad_metrics import question_values, whole_measures
from tests.support.scored import scored

BY_KEY = {measure.key: measure for measure in MEASURES}


def test_every_measure_exists_and_none_is_another_by_definition() -> None:
    answers = scored([True, False])
    known = {**question_values(answers), **whole_measures(answers)}
    assert set(BY_KEY) <= set(known)
    assert not {"NoAns_exact", "NoAns_f1"} & set(BY_KEY)  # correct_no_answer, but for answers that normalise to nothing
    assert {key for key, measure in BY_KEY.items() if measure.better == "lower"} == {
        "ece", "brier", "aurc", "mean_passes",
    }  # fmt: skip


def test_values_and_verdicts() -> None:
    """A is right in 1 of 8 documents and B in all. Half of the questions are refused rightly by both.

    EM: A (1 + 8) / 16 = 56.25, B 100. Of the answerable ones: 12.5 and 100.
    """
    found = {one.measure.key: one for one in compare_evaluations(scored([True] + [False] * 7), scored([True] * 8))}
    assert (found["exact"].a, found["exact"].b, found["exact"].verdict) == (56.25, 100.0, "B")
    assert (found["HasAns_exact"].a, found["HasAns_exact"].b) == (12.5, 100.0)
    assert found["correct_no_answer"].equal
    assert found["answered"].verdict == ""
    back = {one.measure.key: one for one in compare_evaluations(scored([True] * 8), scored([True] + [False] * 7))}
    assert back["exact"].verdict == "A"
    near = compare_evaluations(scored([True] * 4 + [False] * 4), scored([True] * 3 + [False] * 4 + [True]))
    assert {one.verdict for one in near if not one.equal and one.measure.better} == {"unclear"}


def test_lower_is_better_for_errors() -> None:
    below = Difference(-0.1, -0.2, -0.05, 0.01)
    assert Compared(BY_KEY["ece"], 0.3, 0.2, below).verdict == "B"
    assert Compared(BY_KEY["auroc_answerable"], 0.3, 0.2, below).verdict == "A"
    assert Compared(BY_KEY["ece"], 0.3, 0.2, Difference(-0.1, -0.2, 0.05, 0.3)).verdict == "unclear"


def test_the_table_speaks_plainly() -> None:
    compared = compare_evaluations(scored([True] + [False] * 7), scored([True] * 8))
    table = comparison_table(compared)
    labels = [row[0] for row in table._rows]
    assert labels[:2] == ["↑ exact match (EM), %", "↑ EM, answerable, %"]
    assert not any("_" in str(label) for label in labels)
    assert table._rows[0][1:4] == ["56.2", "100.0", "+43.8"]
    assert table._rows[0][5] == "B"
    lines = list(remarks(compared))
    said = " ".join(lines)
    assert "  refused, unanswerable: 100 %" in lines[lines.index("Equal in A and B:") :]
    assert "The same figures as exact match (EM): F1." in said
    assert "could reverse the order" in said


def test_where_nothing_differs_only_the_equal_figures_are_said() -> None:
    lines = list(remarks(compare_evaluations(scored([True, False]), scored([True, False]))))
    assert lines[:2] == ["Equal in A and B:", "  exact match (EM): 75 %"]
    assert all(line.startswith("  ") for line in lines[1:])


def test_one_document_has_no_intervals() -> None:
    compared = compare_evaluations(scored([False]), scored([True]))
    assert {one.measure.key: (one.a, one.b) for one in compared}["exact"] == (50.0, 100.0)
    assert all(one.difference is None and one.verdict == "" for one in compared)
    assert "at least two documents" in " ".join(remarks(compared))


def test_other_questions_are_refused() -> None:
    for right in ([True], [True] * 3):
        with pytest.raises(DataError):
            compare_evaluations(scored([True, True]), scored(right))
    (alone,) = scored([True])[:1]
    with pytest.raises(DataError, match="other questions"):
        compare_evaluations([alone], scored([True])[1:])
