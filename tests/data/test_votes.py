"""What votes become: pairs, and verdicts for KTO. Every expectation is counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palmette.data.preference import turn_text
from palmette.data.preference_sets import read_comparisons, read_verdicts
from palmette.data.showing import show_data
from palmette.data.votes import read_contests
from palmette.errors import DataError

Row = dict[str, Any]


def said(winner: str, one: str = "a", other: str = "b", prompt: str = "When?", **more: Any) -> Row:
    """A vote on the answers "At a." and "At b." of models a and b."""
    texts = {f"answer_{side}": f"At {name}." for side, name in (("a", one), ("b", other))}
    return {"model_a": one, "model_b": other, "winner": winner, "prompt": prompt, **texts, **more}


def written(folder: Path, rows: list[Row]) -> str:
    path = folder / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pairs(source: str) -> list[tuple[str, str]]:
    return [(one.completions[0], one.completions[1]) for one in read_comparisons(source).records]


def test_the_majority_makes_a_pair_whatever_side_an_answer_stood_on(tmp_path: Path) -> None:
    """Three people on one pair, one of whom saw the sides swapped: two are for "At b.", one against."""
    votes = [said("model_b", judge="ann"), said("model_a", "b", "a", judge="bob"), said("model_a", judge="eve")]
    source = written(tmp_path, votes)
    assert pairs(source) == [("At b.", "At a.")]
    counts = read_comparisons(source).votes
    assert counts is not None
    assert (counts.votes, counts.contests, counts.won, counts.disputed, counts.undecided) == (3, 1, 1, 1, 0)


@pytest.mark.parametrize("winners", [("model_a", "model_b"), ("tie", "model_a"), ("both_bad", "tie")])
def test_without_a_majority_nothing_is_learned(winners: tuple[str, str], tmp_path: Path) -> None:
    votes = [said(winner, judge=str(number)) for number, winner in enumerate(winners)]
    source = written(tmp_path, [*votes, said("model_a", prompt="Where?")])
    assert len(pairs(source)) == 1
    counts = read_comparisons(source).votes
    assert counts is not None
    assert (counts.undecided, counts.disputed) == (1, 1)


def test_the_last_vote_of_a_person_counts_and_unknown_people_are_different_ones(tmp_path: Path) -> None:
    changed = [said("model_a", judge="ann"), said("model_b", judge="bob"), said("model_b", judge="ann")]
    assert pairs(written(tmp_path, changed)) == [("At b.", "At a.")]
    unknown = [said("model_a"), said("model_a"), said("model_b")]
    assert pairs(written(tmp_path, unknown)) == [("At a.", "At b.")]


def test_ties_and_both_bad_make_no_pair_and_are_counted_in_the_description(tmp_path: Path) -> None:
    votes = [said("model_a"), said("tie", prompt="2?"), said("tie (bothbad)", prompt="3?")]
    votes.append(said("model_a", prompt="4?", anony=False))
    found = read_comparisons(written(tmp_path, votes))
    assert len(found.records) == 1
    about = found.describe()["votes"]
    assert about == {
        **dict.fromkeys(("votes", "contests"), 3),
        **dict.fromkeys(("won", "ties", "both_bad", "named"), 1),
        **dict.fromkeys(("undecided", "disputed", "apart"), 0),
    }


def test_each_answer_gets_one_verdict(tmp_path: Path) -> None:
    """Six answers to one prompt: a beats b, b beats c, c beats d, a beats f, and a and e, d and e are both bad.

    a: +1 +1 -1 is good. b: -1 +1 and c: -1 +1 are neither. d: -1 -1, e: -1 -1 and f: -1 are bad.
    """
    votes = [said("model_a", *names) for names in (("a", "b"), ("b", "c"), ("c", "d"), ("a", "f"))]
    votes += [said("both_bad", *names) for names in (("a", "e"), ("d", "e"))]
    labels = {one.completion: one.label for one in read_verdicts(written(tmp_path, votes)).records}
    assert labels == {"At a.": True, "At d.": False, "At e.": False, "At f.": False}


def test_both_bad_alone_makes_two_bad_verdicts(tmp_path: Path) -> None:
    source = written(tmp_path, [said("both_bad")])
    assert [one.label for one in read_verdicts(source).records] == [False, False]
    with pytest.raises(DataError, match=r"no record is left: 1 vote on 1 pair .* 1 both bad"):
        read_comparisons(source)


def conversation(*replies: str) -> list[Row]:
    turns = [("user", f"{number}?", "assistant", reply) for number, reply in enumerate(replies, start=1)]
    return [{"role": role, "content": text} for turn in turns for role, text in (turn[:2], turn[2:])]


def test_a_vote_on_a_turn_is_about_the_conversation_up_to_there(tmp_path: Path) -> None:
    """The first turn makes a pair. In the second the answers follow different replies: verdicts, but no pair."""
    sides = {"conversation_a": conversation("One", "Two"), "conversation_b": conversation("Uno", "Due")}
    row = {"model_a": "a", "model_b": "b", "winner": "model_a", **sides}
    source = written(tmp_path, [{**row, "turn": 1}, {**row, "turn": 2}])
    assert pairs(source) == [("One", "Uno")]
    counts = read_comparisons(source).votes
    assert counts is not None
    assert (counts.won, counts.apart) == (2, 1)
    verdicts = read_verdicts(source).records
    assert [(one.completion, one.label) for one in verdicts] == [
        ("One", True),
        ("Uno", False),
        ("Two", True),
        ("Due", False),
    ]
    assert [turn_text(turn) for turn in verdicts[3].prompt] == ["1?", "Uno", "2?"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"answer_b": None},
            r"row-2 has neither 'conversation_b' nor a text as 'answer_b' .* `palmette arena export`",
        ),
        ({"prompt": None}, r"row-2 has neither 'conversation_a' nor a text as 'prompt'"),
        ({"winner": "pine"}, r"row-2: 'winner' is 'pine' .* It is model_a"),
        ({"model_b": "a"}, r"row-2 compares 'a' with itself"),
        ({"answer_b": "At a."}, r"row-2 compares two equal answers"),
        ({"conversation_a": "Hello"}, r"row-2: 'conversation_a' is .*Hello.*, not a list of messages"),
        ({"conversation_a": conversation("One"), "turn": 2}, r"row-2: 'conversation_a' lacks reply 2"),
        ({"conversation_a": conversation("One")[:1]}, r"row-2: 'conversation_a' lacks a reply at its end"),
    ],
)
def test_a_vote_that_cannot_be_learned_from_is_named_or_dropped(change: Row, message: str, tmp_path: Path) -> None:
    source = written(tmp_path, [said("model_a"), {**said("model_a", prompt="2?"), **change}])
    with pytest.raises(DataError, match=message):
        read_comparisons(source)
    assert len(read_comparisons(source, on_bad_record="drop").dropped) == 1


def test_what_votes_are_understood_as(tmp_path: Path) -> None:
    rows = [said("model_a"), said("tie", prompt="2?"), *[said("tie", prompt=f"{n}.") for n in range(30)]]
    shown = show_data(written(tmp_path, rows), 1)
    assert shown.kind == "votes on pairs of answers"
    assert shown.counted.startswith("32 votes on 32 pairs of answers: 1 won, 31 tied")
    assert shown.records == ((("[user]", "When?"), ("place 1", "At a."), ("place 2", "At b.")),)


def test_contests_keep_the_order_in_which_they_occur() -> None:
    rows = [said("model_a", prompt="2?"), said("model_a"), said("model_a", prompt="2?")]
    assert [row["id"] for row in read_contests(rows, "x").pair_rows()] == ["row-1", "row-2"]


@pytest.mark.parametrize("first", ["{broken", '{"model_a": "a"}'])
def test_a_first_line_that_is_no_vote_does_not_decide_what_the_data_are(first: str, tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(line + "\n" for line in (first, json.dumps(said("model_b")))))
    found = read_comparisons(str(path), on_bad_record="drop")
    assert [one.completions[0] for one in found.records] == ["At b."]
    assert len(found.dropped) == 1


def test_votes_of_people_without_a_name_are_those_of_different_people(tmp_path: Path) -> None:
    unknown = [said("model_a", voter=""), said("model_a", voter=""), said("model_b", voter="")]
    assert pairs(written(tmp_path, unknown)) == [("At a.", "At b.")]


@pytest.mark.parametrize("turn", ["1", 1.0])
def test_the_turn_of_a_vote_may_be_text_or_a_fraction(turn: Any, tmp_path: Path) -> None:
    """The second replies are not what the vote is about."""
    talks = {"conversation_a": conversation("At a.", "2"), "conversation_b": conversation("At b.")}
    row = {"model_a": "a", "model_b": "b", "winner": "model_a", "turn": turn, **talks}
    assert pairs(written(tmp_path, [row])) == [("At a.", "At b.")]


@pytest.mark.parametrize("turn", [0, "second", True, 1.5])
def test_a_turn_that_is_no_number_is_refused(turn: Any, tmp_path: Path) -> None:
    talks = {"conversation_a": conversation("At a."), "conversation_b": conversation("At b.")}
    row = {"model_a": "a", "model_b": "b", "winner": "model_a", "turn": turn, **talks}
    with pytest.raises(DataError, match=r"row-1: 'turn' is .*, not a number from 1"):
        read_comparisons(written(tmp_path, [row]))
