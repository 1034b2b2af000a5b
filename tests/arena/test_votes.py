"""Votes as people have them in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palmette.arena.style import Style, style_of
from palmette.arena.votes import read_votes
from palmette.errors import DataError


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("winner", "outcome"),
    [
        ("model_a", "left"),
        ("model_b", "right"),
        ("tie", "tie"),
        ("tie (bothbad)", "both bad"),
        ("both_bad", "both bad"),
        ("elm", "left"),
        ("Tie", "tie"),
    ],
)
def test_winners_as_they_are_written(tmp_path: Path, winner: str, outcome: str) -> None:
    source = write(tmp_path / "votes.jsonl", {"model_a": "elm", "model_b": "fir", "winner": winner, "judge": "ann"})
    found = read_votes(source).votes[0]
    assert (found.left, found.right, found.outcome, found.voter) == ("elm", "fir", outcome, "ann")


def test_a_table_of_a_crowd(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("prompt,worker,winner,left,right\n8,58,tie,Elm (70B),Fir\n8,59,right,Fir,Elm (70B)\n")
    first, second = read_votes(str(path)).votes
    assert (first.left, first.outcome, first.voter, first.prompt) == ("Elm (70B)", "tie", "58", "8")
    assert (second.left, second.outcome) == ("Fir", "right")


def test_columns_of_a_chat_arena(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "# not counted"}, {"role": "assistant", "content": "- **one**"}]
    row = {"model_a": "elm", "model_b": "fir", "winner": "tie", "conversation_a": talk, "conversation_b": talk[:1]}
    seen = {**row, "anony": False}
    source = write(tmp_path / "votes.jsonl", {**row, "tstamp": 5.5, "language": "Russian"}, seen)
    assert read_votes(source).votes[0].styles is None
    found = read_votes(source, style=True)
    assert found.num_named == 1
    assert [(vote.time, vote.language) for vote in found.votes] == [(5.5, "Russian")]
    assert found.votes[0].styles == (Style(9, 0, 1, 1), Style(0, 0, 0, 0))


def test_the_inverse_of_a_probability_is_a_weight_whose_mean_is_one(tmp_path: Path) -> None:
    row = {"model_a": "elm", "model_b": "fir", "winner": "tie"}
    found = read_votes(write(tmp_path / "votes.jsonl", {**row, "probability": 0.5}, {**row, "probability": 0.1}))
    assert [vote.weight for vote in found.votes] == pytest.approx([2 / 6, 10 / 6])


def test_a_file_has_no_store(tmp_path: Path) -> None:
    source = write(tmp_path / "votes.jsonl", {"model_a": "elm", "model_b": "fir", "winner": "tie"})
    with pytest.raises(DataError, match="is not the folder of an arena, and a store is given"):
        read_votes(source, store="votes.db")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"model_a": "elm", "winner": "tie"}, "row-1 has no two models"),
        ({"model_a": "elm", "model_b": "fir"}, "row-1 has no 'winner'"),
        ({"model_a": "elm", "model_b": None, "winner": "tie"}, "row-1 has no two models"),
        ({"model_a": "elm", "model_b": 7, "winner": "tie"}, "row-1: 'model_b' is 7, not the name"),
        ({"model_a": "elm", "model_b": "elm", "winner": "tie"}, "row-1 compares 'elm' with itself"),
        ({"model_a": "elm", "model_b": "fir", "winner": "oak"}, "row-1: 'winner' is 'oak'"),
        ({"model_a": "elm", "model_b": "fir", "winner": "tie", "weight": 0}, "row-1: 'weight' is 0"),
        ({"model_a": "elm", "model_b": "fir", "winner": "tie", "probability": 1.5}, "row-1: 'probability' is 1.5"),
        ({"model_a": "elm", "model_b": "fir", "winner": "tie", "tstamp": "noon"}, "row-1: 'tstamp' is 'noon'"),
        (
            {"model_a": "elm", "model_b": "fir", "winner": "tie", "conversation_a": "hi", "conversation_b": []},
            "row-1: 'conversation_a' is 'hi'",
        ),
    ],
)
def test_a_row_that_is_no_vote_is_named(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataError) as caught:
        read_votes(write(tmp_path / "votes.jsonl", row), style=True)
    assert problem in caught.value.problem
    assert caught.value.way_out


def test_a_file_without_votes(tmp_path: Path) -> None:
    row = {"model_a": "elm", "model_b": "fir", "winner": "tie", "anony": False}
    with pytest.raises(DataError, match="holds no votes, and 1 whose names were shown first"):
        read_votes(write(tmp_path / "votes.jsonl", row))


def test_markdown_counts_outside_of_code_only() -> None:
    text = "# A\n## B\n* x\n1. y\n  - z\n**b** and __c__\n```\n# no\n- no\n**no**\n```\n#no"
    assert style_of(text) == Style(len(text), headers=2, items=3, bold=2)
    assert style_of("```\n# open to the end") == Style(21, 0, 0, 0)
