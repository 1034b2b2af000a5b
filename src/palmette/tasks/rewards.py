"""Verifiable rewards of completions, by comparison with the gold answers. Nothing here is learned."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from palmette.data.records import Question
from palmette.errors import RecipeError
from palmette.tasks.answer_match import exact_match, gold_answers, token_f1
from palmette.tasks.qa_prompt import ParsedAnswer, QaPrompt

Judge = Callable[[ParsedAnswer, Question], float]


def exact_reward(completion: ParsedAnswer, question: Question) -> float:
    """1 if the answer equals a gold answer after normalisation, or abstains where there is none, else 0."""
    if not question.answerable:
        return abstention_reward(completion, question)
    return exact_match(completion.text, gold_answers(question))


def f1_reward(completion: ParsedAnswer, question: Question) -> float:
    """The F1 of words against the nearest gold answer, from 0 to 1. Where there is none, 1 for abstaining."""
    if not question.answerable:
        return abstention_reward(completion, question)
    return token_f1(completion.text, gold_answers(question))


def valid_json_reward(completion: ParsedAnswer, _: Question) -> float:
    """1 if the completion has the format that the prompt asks for, else 0."""
    return float(completion.valid)


def abstention_reward(completion: ParsedAnswer, question: Question) -> float:
    """1 if a valid completion abstains exactly where the document does not answer, else 0, whatever its answer."""
    return float(completion.valid and (completion.text == "") != question.answerable)


REWARDS: dict[str, Judge] = {
    "abstention": abstention_reward,
    "exact": exact_reward,
    "f1": f1_reward,
    "valid_json": valid_json_reward,
}


@dataclass(frozen=True)
class QaReward:
    """A weighted sum of rewards.

    A broken completion counts as the text that it holds, as in the official evaluation. There is one deviation, since a
    policy would learn to profit from it: a broken completion never counts as abstaining, not even an empty one. A valid
    answer without a word after normalisation does not count as abstaining either.

    Attributes:
        prompt: reads the completions.
        weights: the weights of the rewards, by name. Those left out do not count.

    Raises:
        RecipeError: an unknown reward, a weight that is not a number of 0 or more, or no weight above 0.
    """

    prompt: QaPrompt
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        known = ", ".join(sorted(REWARDS))
        for name, weight in self.weights.items():
            if name not in REWARDS:
                near = difflib.get_close_matches(name, REWARDS, n=1)
                hint = f"Did you mean {near[0]!r}? " if near else ""
                raise RecipeError(f"there is no reward {name!r}", f"{hint}Known are: {known}.")
            if not 0 <= weight < math.inf:
                raise RecipeError(f"the reward {name!r} has the weight {weight!r}", "Give a number, 0 or more.")
        if not any(self.weights.values()):
            raise RecipeError("no reward has a weight", f"Give at least one of {known} one.")

    def parts(self, raw: str, question: Question) -> dict[str, float]:
        """Each reward of a completion, unweighted, by name.

        Args:
            raw: the completion.
            question: the question with its gold answers.
        """
        completion = self.prompt.read(raw)
        return {name: REWARDS[name](completion, question) for name in self.weights}

    def total(self, parts: Mapping[str, float]) -> float:
        """The weighted sum of `parts`."""
        return sum(weight * parts[name] for name, weight in self.weights.items())

    def __call__(self, raw: str, question: Question) -> float:
        """The weighted sum of the rewards of a completion."""
        return self.total(self.parts(raw, question))


def parse_weights(text: str) -> dict[str, float]:
    """Weights from a text such as "exact=1,valid_json=0.2". A name alone has the weight 1.

    >>> parse_weights("f1, valid_json=0.2")
    {'f1': 1.0, 'valid_json': 0.2}

    Raises:
        RecipeError: a weight that is no number, or a name that occurs twice.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = (word.strip() for word in part.partition("="))
        try:
            value = float(weight or 1)
        except ValueError as error:
            raise RecipeError(f"the reward {name!r} has the weight {weight!r}", "Give a number, 0 or more.") from error
        if name in weights:
            raise RecipeError(f"the reward {name!r} is given twice", "Give each one once.")
        weights[name] = value
    return weights
