"""A judge against people: tables worked out by hand, and simulated judges whose faults are known."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palmette.errors import DataError
from palmette.judge.orders import BothOrders
from palmette.judge.pair_verdicts import ComparedTurn, PairVerdict, read_pair_verdicts
from palmette.judge.text import Choice
from palmette.judge.validation import validate


def verdict(question: int, choice: Choice | None, **changes) -> PairVerdict:
    return PairVerdict(ComparedTurn(str(question), "1", ("elm", "fir")), choice, **changes)


def verdicts(choices: Iterable[Choice | None]) -> list[PairVerdict]:
    return [verdict(question, choice) for question, choice in enumerate(choices)]


def rows(path: Path, *given: dict) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return str(path)


def test_agreement_and_kappa_of_a_table() -> None:
    """Of ten comparisons 4 agree on A, 2 on B, 1 on a tie; 1 is A against B, 1 a tie against B, and 1 is unread.

    With ties: 7 of 10 agree. Judge: A 5, B 2, tie 2, unread 1. People: A 4, B 4, tie 1, and A for the unread one, so
    A 5. Chance (5 * 5 + 2 * 4 + 2 * 1) / 100 = 0.35, kappa (0.7 - 0.35) / 0.65 = 7 / 13.
    Decided are 8, the unread one among them, and 6 agree. Judge: A 5, B 2. People: A 5, B 3. Chance
    (5 * 5 + 2 * 3) / 64 = 31 / 64, kappa (48 - 31) / (64 - 31) = 17 / 33.
    """
    judge: list[Choice | None] = ["A"] * 4 + ["B"] * 2 + ["tie", "A", "tie", None]
    people: list[Choice | None] = ["A"] * 4 + ["B"] * 2 + ["tie", "B", "B", "A"]
    found = validate(verdicts(judge), verdicts(people))
    assert found.figures["agreement"].value == pytest.approx(0.7)
    assert found.figures["kappa"].value == pytest.approx(7 / 13)
    assert found.figures["agreement_decided"].value == pytest.approx(6 / 8)
    assert found.figures["kappa_decided"].value == pytest.approx(17 / 33)
    assert (found.comparisons, found.unread) == (10, 1)


def test_most_people_decide_and_an_even_vote_is_a_tie() -> None:
    people = [verdict(0, "A"), verdict(0, "A"), verdict(0, "B"), verdict(1, "A"), verdict(1, "B"), verdict(2, "B")]
    found = validate([verdict(0, "A"), verdict(1, "tie"), verdict(2, "B")], people)
    assert found.figures["agreement"].value == 1.0
    assert found.figures["agreement_votes"].value == pytest.approx(3 / 6)
    # Of question 0 one pair of three agrees, of question 1 none.
    assert found.figures["agreement_people"].value == pytest.approx(1 / 4)
    assert found.figures["agreement_people"].number == 4


def test_a_judge_of_places_is_found_out_and_not_trusted() -> None:
    judge = [verdict(n, "tie", orders=BothOrders.as_shown("A", "A"), inconsistent=True) for n in range(60)]
    found = validate(judge, verdicts(["A", "B"] * 30))
    assert (found.figures["inconsistent"].value, found.figures["first"].value) == (1.0, 1.0)
    assert not found.trusted


def simulated(bias: float, seed: int = 0) -> tuple[list[PairVerdict], list[PairVerdict]]:
    """1,500 pairs, whose longer answer wins with log-odds of `bias` per nat by the judge and of 0.5 by people."""
    generator = np.random.default_rng(seed)
    judge, people = [], []
    for n in range(1500):
        lengths = tuple(generator.integers(100, 2000, size=2).tolist())
        ratio, quality = np.log((lengths[0] + 1) / (lengths[1] + 1)), generator.logistic()
        # With the same logistic noise in both, agreement is far from chance.
        judge.append(verdict(n, "A" if quality + bias * ratio > 0 else "B", lengths=lengths))
        people.append(verdict(n, "A" if quality + 0.5 * ratio > 0 else "B"))
    return judge, people


@pytest.mark.parametrize("bias", [2.0, 0.0])
def test_the_slopes_of_length_are_those_that_were_simulated(bias: float) -> None:
    found = validate(*simulated(bias), num_samples=60).figures
    for name, true in (("length_judge", bias), ("length_people", 0.5), ("length_bias", bias - 0.5)):
        value, ends = found[name].value, found[name].interval
        assert value is not None
        assert ends is not None
        half = (ends[1] - ends[0]) / 2  # about two standard errors
        assert abs(value - true) < 2 * half, name
        assert half < 0.3


def test_that_the_longer_one_wins_is_a_baseline() -> None:
    """People prefer the longer answer three times out of four, and the judge always agrees with them."""
    people: list[Choice | None] = ["A", "A", "A", "B"] * 5
    judge = [verdict(n, choice, lengths=(200, 100)) for n, choice in enumerate(people)]
    found = validate(judge, verdicts(people)).figures
    assert found["longer_agreement"].value == pytest.approx(0.75)
    assert found["longer_kappa"].value == pytest.approx(0.0)
    assert found["judge_kappa"].value == pytest.approx(1.0)


def test_a_judge_that_prefers_its_own_model() -> None:
    """Ten ties by people, of which the judge gives four to its own model: 4 * 0.5 / 10."""
    found = validate(verdicts(["B"] * 4 + ["tie"] * 6), verdicts(["tie"] * 10), own=["fir"]).figures["own"]
    assert (found.value, found.number) == (pytest.approx(0.2), 10)


def test_a_good_judge_is_trusted_and_a_coin_is_not() -> None:
    generator = np.random.default_rng(1)
    people: list[Choice | None] = generator.choice(["A", "B"], size=200).tolist()
    coin: list[Choice | None] = generator.choice(["A", "B"], size=200).tolist()
    good = [said if generator.random() < 0.85 else other for said, other in zip(people, coin, strict=True)]
    assert validate(verdicts(good), verdicts(people)).trusted
    assert not validate(verdicts(coin), verdicts(people)).trusted


def test_files_with_the_columns_of_fastchat(tmp_path: Path) -> None:
    base = {"question_id": 81, "turn": 2, "judge": "gpt-4"}
    path = rows(
        tmp_path / "verdicts.jsonl",
        {**base, "model_a": "fir", "model_b": "elm", "winner": "model_a", "answer_a": "long", "answer_b": "no"},
        {**base, "model_a": "elm", "model_b": "oak", "winner": "tie (inconsistent)"},
        {**base, "model_1": "oak", "model_2": "fir", "g1_winner": "model_1", "g2_winner": "tie"},
        {**base, "model_1": "oak", "model_2": "ash", "g1_winner": "error", "g2_winner": "model_2"},
    )
    one, two, three, four = read_pair_verdicts(path).verdicts
    assert (one.compared, one.choice, one.lengths) == (ComparedTurn("81", "2", ("elm", "fir")), "B", (2, 4))
    assert (two.choice, two.inconsistent) == ("tie", True)
    assert (three.compared.models, three.choice, three.inconsistent) == (("fir", "oak"), "B", True)
    assert (four.choice, four.inconsistent, four.orders) == ("A", None, BothOrders(None, "B"))
    strict = read_pair_verdicts(path, "mt-bench").verdicts
    assert (strict[2].choice, strict[3].choice) == ("tie", None)


def test_the_odds_decide_where_the_likeliest_verdicts_contradict_each_other(tmp_path: Path) -> None:
    base = {"question_id": 1, "model_a": "elm", "model_b": "fir", "g1_winner": "model_a", "g2_winner": "model_b"}
    path = rows(tmp_path / "verdicts.jsonl", {**base, "share_a": 0.4}, {**base, "question_id": 2})
    odds, without = read_pair_verdicts(path).verdicts
    assert (odds.choice, odds.inconsistent, without.choice) == ("B", True, "tie")
    assert read_pair_verdicts(path, "mt-bench").verdicts[0].choice == "tie"


def test_a_table_with_an_empty_turn_has_the_same_turns(tmp_path: Path) -> None:
    """An empty cell makes fractions of a column of whole numbers."""
    path, columns = tmp_path / "verdicts.parquet", {"model_a": ["elm"] * 2, "model_b": ["fir"] * 2}
    pq.write_table(pa.table({**columns, "question_id": [81.0, 82.0], "turn": [2.0, None], "winner": ["tie"] * 2}), path)
    one, two = read_pair_verdicts(str(path)).verdicts
    assert (one.compared.question, one.compared.turn, two.compared.turn) == ("81", "2", "1")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"model_a": "elm", "model_b": "fir", "winner": "tie"}, "no question"),
        (
            {"question_id": 1, "model_a": "a", "model_b": "b", "g1_winner": "a", "g2_winner": "a", "share_a": 2},
            "'share_a' is 2",
        ),
        (
            {"question_id": 1, "model_a": "a", "model_b": "b", "g1_winner": "a", "g2_winner": "a", "share_a": 10**400},
            "'share_a' is 1000",
        ),
        ({"question_id": 1, "model_a": "elm", "winner": "tie"}, "no two models"),
        ({"question_id": 1, "model_a": "elm", "model_b": "fir"}, "no 'winner'"),
        ({"question_id": 1, "model_a": "elm", "model_b": "fir", "winner": "oak"}, "the winner is 'oak'"),
        ({"question_id": 1, "model_a": "elm", "model_b": "elm", "winner": "tie"}, "with itself"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: dict, said: str) -> None:
    with pytest.raises(DataError, match=f"row 1.*{said}"):
        read_pair_verdicts(rows(tmp_path / "bad.jsonl", row))


def test_verdicts_that_do_not_meet_are_refused() -> None:
    with pytest.raises(DataError, match="none in common"):
        validate([verdict(1, "A")], [verdict(2, "A")])
    with pytest.raises(DataError, match="twice on question 1"):
        validate([verdict(1, "A"), verdict(1, "B")], [verdict(1, "A")])
