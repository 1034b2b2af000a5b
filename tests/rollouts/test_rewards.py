"""Rewards by rule and by a reward model, mixed: sums worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from palmette.data.records import Answer, Document, Question
from palmette.rollouts.rewards import MODEL_REWARD, Completion, RewardMixture
from palmette.tasks.qa_prompt import load_prompt
from palmette.tasks.rewards import QaReward

QUESTION = Question("when", "When?", (Answer("at 7:40", 17),))
DOCUMENT = Document("d", "The ferry leaves at 7:40 from pier 3.", (QUESTION,))
COMPLETIONS = [(DOCUMENT, QUESTION, json.dumps({"answer": text})) for text in ("at 7:40", "pier 3")]
RULES = QaReward(load_prompt(), {"exact": 2.0, "valid_json": 0.5})


def test_rules_alone_a_model_alone_and_both() -> None:
    """Right: 2 x 1 + 0.5 x 1. Wrong: 0 + 0.5. The model gives -1 and 3, of which a quarter counts in the mixture."""
    calls: list[int] = []

    def scorer(completions: Sequence[Completion]) -> list[float]:
        calls.append(len(completions))
        return [-1.0, 3.0]

    right, wrong = {"exact": 1.0, "valid_json": 1.0}, {"exact": 0.0, "valid_json": 1.0}
    assert RewardMixture(RULES).reward(COMPLETIONS) == [(right, 2.5), (wrong, 0.5)]
    assert RewardMixture(None, scorer).reward(COMPLETIONS) == [({MODEL_REWARD: -1.0}, -1.0), ({MODEL_REWARD: 3.0}, 3.0)]
    mixed = RewardMixture(RULES, scorer, 0.25).reward(COMPLETIONS)
    assert mixed == [({**right, MODEL_REWARD: -1.0}, 2.25), ({**wrong, MODEL_REWARD: 3.0}, 1.25)]
    assert calls == [2, 2]  # all completions in one call


def test_weights_of_the_rules() -> None:
    assert RewardMixture(RULES).rule_weights == {"exact": 2.0, "valid_json": 0.5}
    assert RewardMixture(None, lambda completions: [0.0] * len(completions)).rule_weights == {}


def test_something_must_give_a_reward() -> None:
    with pytest.raises(ValueError, match="rewards by rule or a reward model"):
        RewardMixture(None)


def test_a_scorer_that_loses_a_completion_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        RewardMixture(None, lambda _: [1.0]).reward(COMPLETIONS)
