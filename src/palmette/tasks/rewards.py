"""Verifiable rewards: what a completion to a question is worth, found by comparing it with the gold answers. Nothing here is learned."""

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
    """1 if the answer equals a gold answer after normalisation, or abstains where there is none; else 0."""
    if not question.answerable:
        return abstention_reward(completion, question)
    return exact_match(completion.text, gold_answers(question))


def f1_reward(completion: ParsedAnswer, question: Question) -> float:
    """The F1 of words against the nearest gold answer; 1 for abstaining where there is none; 0 to 1."""
    if not question.answerable:
        return abstention_reward(completion, question)
    return token_f1(completion.text, gold_answers(question))


def valid_json_reward(completion: ParsedAnswer, _: Question) -> float:
    """1 if the completion has the format that the prompt asks for, else 0."""
    return float(completion.valid)


def abstention_reward(completion: ParsedAnswer, question: Question) -> float:
    """1 if a valid completion abstains exactly where the document does not answer, else 0: answering rightly is not asked for."""
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

    A broken completion counts as the text it reads, as in the official evaluation, with one deviation, since a policy would learn to profit
    from it: a broken completion never counts as abstaining, not even an empty one, nor does a valid answer that normalises to nothing.

    Attributes:
        prompt: how completions are read.
        weights: of the rewards, by name; what is left out does not count.

    Raises:
        RecipeError: an unknown reward, a weight that is not a number from 0 on, or none above it.
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
            raw: what the model said.
            question: what was asked, with its gold answers.
        """
        completion = self.prompt.read(raw)
        return {name: REWARDS[name](completion, question) for name in self.weights}

    def total(self, parts: Mapping[str, float]) -> float:
        """The weighted sum of `parts`."""
        return sum(weight * parts[name] for name, weight in self.weights.items())

    def __call__(self, raw: str, question: Question) -> float:
        """What a completion is worth."""
        return self.total(self.parts(raw, question))


def parse_weights(text: str) -> dict[str, float]:
    """Weights from words: "exact=1,valid_json=0.2"; a name alone has the weight 1.

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
