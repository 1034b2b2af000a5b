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
_Answer = tuple[tuple[str, ...], tuple[str, ...]]  # the user's messages, and the replies to them


class RewardJudge:
    """A reward model. It reads each answer by itself, so the order makes no difference.

    In bfloat16 the score of an answer depends a little on what is scored beside it. So each answer is scored once, and
    its score is kept for other pairs and for the other order. Two answers with equal scores are a tie.

    Args:
        name: its run.
        model: the reward model.

    Attributes:
        notes: nothing.
    """

    notes = ()

    def __init__(self, name: str, model: RewardModel) -> None:
        self.name, self._model = name, model
        self._known: dict[_Answer, float] = {}

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
            if any(len(case.answers) != 2 for case in some):
                raise DataError(
                    "a reward model has no scale to grade one answer on", "Give it pairs, or another judge."
                )
            asked = [[(case.turns, answers) for answers in case.answers] for case in some]
            new = [one for one in dict.fromkeys(one for both in asked for one in both) if one not in self._known]
            if new:
                scored = self._model.scores([(_messages(*one), one[1][-1]) for one in new], quiet=True)
                self._known |= dict(zip(new, scored, strict=True))
            for index, (one, other) in enumerate(asked):
                lead = self._known[one] - self._known[other]
                better = 1.0 / (1.0 + math.exp(-abs(lead)))
                odds = (better, 1.0 - better) if lead >= 0.0 else (1.0 - better, better)
                yield start + index, dict(zip("AB", odds, strict=True))


def _messages(turns: Sequence[str], answers: Sequence[str]) -> list[dict[str, str]]:
    """The conversation up to the reply that is judged."""
    found = []
    for index, question in enumerate(turns):
        found.append({"role": "user", "content": question})
        if index + 1 < len(turns):
            found.append({"role": "assistant", "content": answers[index]})
    return found


def load_reward_judge(name: ModelName) -> RewardJudge:
    """Load the reward model of a run as a judge.

    Raises:
        RunError: it is not a finished run of a reward model.
    """
    return RewardJudge(str(name), load_reward(name))
