"""Verifiable rewards against values worked by hand."""

from __future__ import annotations

import pytest

from palmette.data.records import Answer, Question
from palmette.errors import RecipeError
from palmette.tasks.qa_prompt import load_prompt
from palmette.tasks.rewards import REWARDS, QaReward, parse_weights

YEAR = Question("y", "When?", (Answer("in 1882", 0), Answer("1882", 3)))
NONE = Question("n", "Who?")
EVERYTHING = QaReward(load_prompt(), dict.fromkeys(REWARDS, 1.0))


@pytest.mark.parametrize(
    ("raw", "question", "exact", "f1", "valid", "abstention"),
    [
        ('{"answer": "1882."}', YEAR, 1, 1, 1, 1),
        ('{"answer": "summer 1882"}', YEAR, 0, 2 / 3, 1, 1),  # precision 1/2, recall 1
        ('{"answer": "1883"}', YEAR, 0, 0, 1, 1),
        ('{"answer": "?"}', YEAR, 0, 0, 1, 0),
        ("in 1882", YEAR, 1, 1, 0, 0),  # broken, but its text is right
        ("", YEAR, 0, 0, 0, 0),
        ('{"answer": "?"}', NONE, 1, 1, 1, 1),
        ('{"answer": "Anna"}', NONE, 0, 0, 1, 0),
        ('{"answer": "the"}', NONE, 0, 0, 1, 0),  # normalises to nothing, which the official script would let pass
        ("", NONE, 0, 0, 0, 0),  # the official script would let this pass too
        ("?", NONE, 0, 0, 0, 0),
    ],
)
def test_rewards(raw: str, question: Question, exact: float, f1: float, valid: float, abstention: float) -> None:
    wanted = {"exact": exact, "f1": f1, "valid_json": valid, "abstention": abstention}
    assert EVERYTHING.parts(raw, question) == pytest.approx(wanted)


def test_a_mixture_is_the_weighted_sum() -> None:
    """2 * 2/3 + 0.5 * 1; the rewards with no weight are not there."""
    reward = QaReward(load_prompt(), {"f1": 2.0, "valid_json": 0.5})
    assert reward('{"answer": "summer 1882"}', YEAR) == pytest.approx(4 / 3 + 1 / 2)
    assert reward.parts("1882", YEAR) == {"f1": 1.0, "valid_json": 0.0}


def test_completions_are_read_as_the_prompt_asks() -> None:
    reward = QaReward(load_prompt("json"), {"exact": 1.0, "valid_json": 1.0})
    assert reward('```json\n{"answer": "1882"}\n```', YEAR) == 2
    assert reward('Well: ```json\n{"answer": "1882"}\n```', YEAR) == 0


def test_weights_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"no reward 'exakt'.*Did you mean 'exact'"):
        QaReward(load_prompt(), {"exakt": 1.0})
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match="has the weight"):
            QaReward(load_prompt(), {"exact": weight})
    for weights in ({}, {"exact": 0.0}):
        with pytest.raises(RecipeError, match="no reward has a weight"):
            QaReward(load_prompt(), weights)
    assert parse_weights("exact=1,valid_json=0.2") == {"exact": 1.0, "valid_json": 0.2}
    with pytest.raises(RecipeError, match="'much'"):
        parse_weights("exact=much")
    with pytest.raises(RecipeError, match="twice"):
        parse_weights("exact,exact=2")
