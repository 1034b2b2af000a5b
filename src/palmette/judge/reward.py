"""A reward model as a judge of pairs: by Bradley and Terry (1952), A is better with probability sigmoid(r_A - r_B)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from palmette.errors import DataError
from palmette.inference.names import ModelName
from palmette.inference.reward_model import RewardModel, judged_by, load_reward
from palmette.judge.wording import Case

_AT_ONCE = 64  # cases scored before their verdicts are given


class RewardJudge:
    """A reward model. It reads each answer by itself, so the order makes no difference, and it knows no ties.

    Args:
        name: its run.
        model: the reward model.

    Attributes:
        notes: nothing.
    """

    notes = ()

    def __init__(self, name: str, model: RewardModel) -> None:
        self.name, self._model = name, model

    @property
    def identity(self) -> dict[str, Any]:
        """What its verdicts depend on."""
        return {"kind": "reward", "model": judged_by(self.name)["reward_model"]["sha256"]}

    def odds(self, cases: Sequence[Case]) -> Iterator[tuple[int, Mapping[str, float]]]:
        """The index of each case with the probabilities of A and B.

        Raises:
            DataError: a case has one answer, which a reward cannot grade.
            ModelError: a conversation is longer than the model reads.
        """
        for start in range(0, len(cases), _AT_ONCE):
            some = cases[start : start + _AT_ONCE]
            asked = [(_messages(case, answers), answers[-1]) for case in some for answers in case.answers]
            if len(asked) != 2 * len(some):
                raise DataError(
                    "a reward model has no scale to grade one answer on", "Give it pairs, or another judge."
                )
            rewards = self._model.scores(asked, quiet=True)
            for index in range(len(some)):
                lead = rewards[2 * index] - rewards[2 * index + 1]
                better = 1.0 / (1.0 + math.exp(-lead)) if lead > -700 else 0.0
                yield start + index, {"A": better, "B": 1.0 - better}


def _messages(case: Case, answers: Sequence[str]) -> list[dict[str, str]]:
    """The conversation up to the reply that is judged."""
    found = []
    for index, question in enumerate(case.turns):
        found.append({"role": "user", "content": question})
        if index + 1 < len(case.turns):
            found.append({"role": "assistant", "content": answers[index]})
    return found


def load_reward_judge(name: ModelName) -> RewardJudge:
    """Load the reward model of a run as a judge.

    Raises:
        RunError: it is not a finished run of a reward model.
    """
    return RewardJudge(str(name), load_reward(name))
