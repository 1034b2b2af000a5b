"""Runs that differ in their seed, taken together: documents are drawn with all of their seeds."""

from __future__ import annotations

from pathlib import Path

from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Prediction
from palmette.evaluate.seeds import pooled, pooled_difference, pooled_intervals
from palmette.evaluate.squad import score


def test_pooled_seeds_move_together(tmp_path: Path) -> None:
    """Two documents of one question each, one right, one wrong, under four like seeds: the interval is that of one
    seed, 0 to 100.

    A sample of the two documents holds the same one twice with probability 1/2, a quarter for each end. Were the four
    seeds eight independent documents, either end would come in 1 of 2^8 samples, less than the fortieth part that an
    end of the interval needs.
    """
    documents = tuple(Document(f"d{i}", "red", (Question(f"q{i}", "?", (Answer("red", 0),)),)) for i in (0, 1))
    answers = {"q0": Prediction("red", start=0, end=3), "q1": Prediction("", "absent")}
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
        score(documents, answers).write(tmp_path / str(seed))
    seeds = tuple((seed, tmp_path / str(seed)) for seed in range(4))
    assert [answer.question.id for answer in pooled(seeds[:2])] == ["0/q0", "0/q1", "1/q0", "1/q1"]
    assert pooled_intervals(seeds)["exact"] == pooled_intervals(seeds[:1])["exact"] == (0.0, 100.0)
    assert pooled_difference(seeds, seeds[:1])["exact"].value == 0.0
    (tmp_path / "right").mkdir()
    score(documents, {**answers, "q1": answers["q0"]}).write(tmp_path / "right")
    gain = pooled_difference(((0, tmp_path / "right"),), seeds)["exact"]
    assert (gain.value, gain.low, gain.high) == (50.0, 0.0, 100.0), "one of two questions, of the seed that both have"
    assert pooled_difference(seeds[:1], seeds[1:]) == {}, "no seed in common"
