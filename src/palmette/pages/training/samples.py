"""Sampled completions of a policy, arranged for a page: by step, and by question where one was sampled again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from palmette.numbers import readable
from palmette.pages.training.figures import REWARDS
from palmette.pages.training.run import Sample

MAX_STEPS, MAX_FOLLOWED, MAX_SHOWN, LEVELS = 200, 6, 4, 5


@dataclass(frozen=True, slots=True)
class Card:
    """A sample as the page shows it.

    Attributes:
        sample: the sample.
        number: the number of its question, which all samples of the question share.
        level: its reward from 0 to 4, between the least and the greatest reward of all samples.
        reward: its reward, as text.
        parts: the parts of its reward, as text.
    """

    sample: Sample
    number: int
    level: int
    reward: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepSamples:
    """All samples drawn before one optimizer step."""

    step: int
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class SampleRow:
    """Samples shown side by side: of one question over time, or of one step.

    Attributes:
        title: the question, or the step.
        gold: accepted answers of the question. None for a step, whose samples answer several questions.
        cards: the samples.
    """

    title: str
    gold: tuple[str, ...] | None
    cards: tuple[Card, ...]


def to_cards(samples: Sequence[Sample]) -> list[Card]:
    """The samples of a run, with a colour by reward."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(sample.question for sample in samples))}
    rewards = [sample.reward for sample in samples]
    low, high = min(rewards, default=0.0), max(rewards, default=0.0)
    return [
        Card(
            sample,
            numbers[sample.question],
            reward_level(sample.reward, low, high),
            readable(sample.reward),
            tuple(f"{REWARDS.get(name, name)} {readable(value)}" for name, value in sample.rewards.items()),
        )
        for sample in samples
    ]


def reward_level(reward: float, low: float, high: float) -> int:
    """The place of a reward between the least and the greatest one, from 0 to 4. It is 2 where these are equal.

    >>> [reward_level(reward, 0.0, 1.2) for reward in (0.0, 0.2, 1.0, 1.2)], reward_level(1.0, 1.0, 1.0)
    ([0, 1, 3, 4], 2)
    """
    return round((LEVELS - 1) * (reward - low) / (high - low)) if high > low else LEVELS // 2


def group_by_step(cards: Iterable[Card]) -> list[StepSamples]:
    """The samples by the step that they were drawn before."""
    by_step: dict[int, list[Card]] = {}
    for card in cards:
        by_step.setdefault(card.sample.step, []).append(card)
    return [StepSamples(step, tuple(cards)) for step, cards in sorted(by_step.items())]


def choose_evenly(steps: Sequence[StepSamples], most: int = MAX_STEPS) -> list[StepSamples]:
    """At most so many steps, evenly chosen, with the first and the last one."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(index * (len(steps) - 1) / (most - 1))] for index in range(most)]


def repeated_questions(cards: Iterable[Card]) -> list[list[Card]]:
    """The samples of each question that was sampled at several steps, the most frequent question first."""
    by_question: dict[int, dict[int, Card]] = {}
    for card in cards:
        by_question.setdefault(card.number, {}).setdefault(card.sample.step, card)
    several = [list(by_step.values()) for by_step in by_question.values() if len(by_step) > 1]
    return sorted(several, key=len, reverse=True)


def sample_rows(steps: Sequence[StepSamples], repeated: Sequence[Sequence[Card]]) -> list[SampleRow]:
    """Samples from the beginning, the middle and the end of a run.

    Args:
        steps: the samples by step.
        repeated: `repeated_questions`. Where there are none, the samples of three steps are shown.
    """
    if repeated:
        return [
            SampleRow(cards[0].sample.asked, cards[0].sample.gold, tuple(_three(cards)))
            for cards in repeated[:MAX_FOLLOWED]
        ]
    names = ("Beginning", "Middle", "End")
    shown = _three(steps)
    used = names if len(shown) == len(names) else (names[0], names[-1])
    return [
        SampleRow(f"{name}, step {step.step:,}", None, step.cards[:MAX_SHOWN])
        for name, step in zip(used, shown, strict=False)
    ]


def _three(items: Sequence[Any]) -> list[Any]:
    """The first, the middle and the last item, each once."""
    places = sorted({0, len(items) // 2, len(items) - 1}) if items else []
    return [items[place] for place in places]
