"""The settings of `palmette mcmc`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from palmette.errors import DataError

Rule = Literal["metropolis", "gibbs"]


@dataclass(frozen=True)
class McmcSettings:
    """What chains sample.

    Attributes:
        model: a masked language model, as for `load_masked`.
        text: the text with blanks, or a text whose words may change.
        keep: words that stay, in a text without blanks.
        to: another text, to which chains go from `text` in `points` points. None samples one law.
        points: laws between the two texts, besides those at both ends.
        pull: how strongly chains are drawn to the two texts, in nats for a word that is in neither.
        chains: number of chains.
        steps: steps of each chain, at every point.
        temperature: temperature of the law.
        anneal_to: temperature that the first one falls to, step by step. Then nothing is sampled: chains look for texts
            of low energy. None keeps the temperature.
        rule: see `Kernel`.
        block: see `Kernel`. If None, 3, and 1 under "gibbs", which does better with single words.
        proposal_temperature: see `Kernel`.
        seed: random seed.
        question: a question that a reader must answer with a blank. None asks nothing.
        reader: the model that reads.
        blank: which blank the answer is, from 1.
        weight: how much the reader's answer counts.

    Raises:
        DataError: two settings contradict each other.
    """

    model: str
    text: str
    keep: tuple[str, ...] = ()
    to: str | None = None
    points: int = 3
    pull: float = 12.0
    chains: int = 4
    steps: int = 500
    temperature: float = 1.0
    anneal_to: float | None = None
    rule: Rule = "metropolis"
    block: int | None = None
    proposal_temperature: float = 1.0
    seed: int = 0
    question: str | None = None
    reader: str = "reader"
    blank: int = 1
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.to is not None and (self.question is not None or self.keep or self.anneal_to is not None):
            other = "--question" if self.question is not None else "--keep" if self.keep else "--anneal-to"
            raise DataError(f"--to goes from one text to another, and {other} was given too", "Give one of them.")
        without_effect = {
            "--question": self.question is not None,
            "--to": self.to is not None,
            "--anneal-to": self.anneal_to is not None,
            "--temperature": self.temperature != 1.0,
        }
        other = next((option for option, given in without_effect.items() if given), "")
        if self.rule == "gibbs" and other:
            raise DataError(f"--gibbs accepts every proposal, so {other} would have no effect", "Take --gibbs out.")
        if self.anneal_to is not None and self.anneal_to > self.temperature:
            raise DataError(
                f"--anneal-to {self.anneal_to} is above --temperature {self.temperature}",
                "Give a lower one, to fall to.",
            )

    @property
    def most_words(self) -> int:
        """The most words that change in one step."""
        if self.block is not None:
            return self.block
        return 1 if self.rule == "gibbs" else 3

    @property
    def can_grow(self) -> bool:
        """Whether more steps leave the earlier ones as they are."""
        return self.anneal_to is None and self.to is None

    def temperature_at(self, step: int) -> float:
        """The temperature of a step, from 1. While annealing it falls by the same factor at every step."""
        if self.anneal_to is None or self.steps == 1:
            return self.temperature
        return self.temperature * float((self.anneal_to / self.temperature) ** ((step - 1) / (self.steps - 1)))
