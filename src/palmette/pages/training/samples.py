"""What a policy said over time, arranged for a page: by the moment it was sampled at, and questions that came again followed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from palmette.pages.training.figures import REWARDS
from palmette.pages.training.run import Sample

MAX_MOMENTS, MAX_FOLLOWED, MAX_SHOWN, LEVELS = 200, 6, 4, 5


@dataclass(frozen=True, slots=True)
class Card:
    """A sample as the page shows it.

    Attributes:
        sample: the sample.
        number: of its question; samples of one question share it.
        level: how much it earned, from 0 to 4: its place between the least and the greatest reward of all samples.
        reward: what it earned, in words.
        parts: the parts of that, in words.
    """

    sample: Sample
    number: int
    level: int
    reward: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """All that was sampled before one optimizer step."""

    step: int
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Strip:
    """Samples that stand side by side: of one question over time, or of one moment.

    Attributes:
        title: the question, or the moment.
        gold: accepted answers of the question; None for a moment, whose samples answer several.
        cards: the samples.
    """

    title: str
    gold: tuple[str, ...] | None
    cards: tuple[Card, ...]


def to_cards(samples: Sequence[Sample]) -> list[Card]:
    """The samples of a run, coloured by what they earned."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(sample.question for sample in samples))}
    rewards = [sample.reward for sample in samples]
    low, high = min(rewards, default=0.0), max(rewards, default=0.0)
    return [
        Card(
            sample,
            numbers[sample.question],
            reward_level(sample.reward, low, high),
            f"{sample.reward:.3g}",
            tuple(f"{REWARDS.get(name, name)} {value:.3g}" for name, value in sample.rewards.items()),
        )
        for sample in samples
    ]


def reward_level(reward: float, low: float, high: float) -> int:
    """The place of a reward between the least and the greatest one, 0 to 4; 2 where they are the same.

    >>> [reward_level(reward, 0.0, 1.2) for reward in (0.0, 0.2, 1.0, 1.2)], reward_level(1.0, 1.0, 1.0)
    ([0, 1, 3, 4], 2)
    """
    return round((LEVELS - 1) * (reward - low) / (high - low)) if high > low else LEVELS // 2


def to_moments(cards: Iterable[Card]) -> list[Moment]:
    """The samples by when they were sampled."""
    found: dict[int, list[Card]] = {}
    for card in cards:
        found.setdefault(card.sample.step, []).append(card)
    return [Moment(step, tuple(cards)) for step, cards in sorted(found.items())]


def spread_out(moments: Sequence[Moment], most: int = MAX_MOMENTS) -> list[Moment]:
    """At most so many moments, evenly chosen, the first and the last among them."""
    if len(moments) <= most:
        return list(moments)
    return [moments[round(index * (len(moments) - 1) / (most - 1))] for index in range(most)]


def came_again(cards: Iterable[Card]) -> list[list[Card]]:
    """The samples of each question that was sampled at several steps; those that came most often first."""
    found: dict[int, dict[int, Card]] = {}
    for card in cards:
        found.setdefault(card.number, {}).setdefault(card.sample.step, card)
    several = [list(by_step.values()) for by_step in found.values() if len(by_step) > 1]
    return sorted(several, key=len, reverse=True)


def story(moments: Sequence[Moment], again: Sequence[Sequence[Card]]) -> list[Strip]:
    """The beginning, the middle and the end of a run.

    Args:
        moments: all of them.
        again: `came_again`; if no question did, the moments themselves are shown, with what was asked then.
    """
    if again:
        return [
            Strip(cards[0].sample.asked, cards[0].sample.gold, tuple(_three(cards))) for cards in again[:MAX_FOLLOWED]
        ]
    names = ("Beginning", "Middle", "End")
    shown = _three(moments)
    called = names if len(shown) == len(names) else (names[0], names[-1])
    return [
        Strip(f"{name}, step {moment.step:,}", None, moment.cards[:MAX_SHOWN])
        for name, moment in zip(called, shown, strict=False)
    ]


def _three(found: Sequence[Any]) -> list[Any]:
    """The first, the middle and the last, each once."""
    places = sorted({0, len(found) // 2, len(found) - 1}) if found else []
    return [found[place] for place in places]
