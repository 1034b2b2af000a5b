"""The way from one text to another, word by word: laws that draw chains from the first to the second.

At the share s of the way, a text x has the extra energy

    pull x ((1 - s) x words that differ from the first text + s x words that differ from the second)

A word of neither text costs `pull`, one of the first s x pull, and one of the second (1 - s) x pull. So at s = 0 chains
stay near the first text, at s = 1 near the second, and in between the model decides which words go together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from palmette.encoders.blanks import Blanks, read_blanks
from palmette.encoders.masked import MaskedModel
from palmette.errors import DataError


@dataclass(frozen=True)
class Pull:
    """The extra energy at one point of the way.

    Attributes:
        free: the columns of the words that differ.
        start_F: the words of the first text.
        goal_F: those of the second.
        pull: nats.
        share: the share of the way, from 0 to 1.
    """

    free: tuple[int, ...]
    start_F: torch.Tensor
    goal_F: torch.Tensor
    pull: float
    share: float

    def tilt(self, num_tokens: int) -> torch.Tensor:
        """Minus the extra energy of every word (F, V) at every position, to propose the words of both texts.

        Args:
            num_tokens: the size of the vocabulary.
        """
        tilt_FV = torch.full((len(self.free), num_tokens), -self.pull, dtype=torch.float64)
        rows = torch.arange(len(self.free))
        tilt_FV[rows, self.start_F] += (1 - self.share) * self.pull
        tilt_FV[rows, self.goal_F] += self.share * self.pull
        return tilt_FV

    def __call__(self, token_CT: torch.Tensor) -> torch.Tensor:
        """What is added to the energies (C,) of texts."""
        token_CF = token_CT[:, list(self.free)]
        from_start_C, from_goal_C = ((token_CF != one).sum(1).double() for one in (self.start_F, self.goal_F))
        return self.pull * ((1 - self.share) * from_start_C + self.share * from_goal_C)


def read_way(model: MaskedModel, start: str, goal: str) -> tuple[Blanks, torch.Tensor]:
    """The words that differ between two texts, and what they are in the second one. Words that both have stay.

    Args:
        model: the model.
        start: the first text.
        goal: the second one, with as many words, and the same signs between them.

    Raises:
        DataError: the texts do not match word by word, are the same, or a word that differs has several pieces.
    """
    first, second = read_blanks(model, start), read_blanks(model, goal)
    if first.start_F is None or second.start_F is None:
        raise DataError("a way leads from one whole text to another, and one has blanks", "Fill them.")
    for blanks, text in ((first, start), (second, goal)):
        if blanks.kept:
            raise DataError(
                f"{model.name} writes {blanks.kept[0]!r} in {text!r} in several pieces", "Give another word for it."
            )
    if first.parts != second.parts:
        raise DataError(
            f"{start!r} and {goal!r} do not match word by word",
            "Give two texts with the same number of words, and the same signs between them.",
        )
    differ_F = first.start_F != second.start_F
    if not differ_F.any():
        raise DataError(f"{start!r} and {goal!r} are the same words", "Give two texts that differ.")
    parts = [first.parts[0]]
    for index, differs in enumerate(differ_F.tolist()):
        if differs:
            parts.append(first.parts[index + 1])
        else:
            parts[-1] += first.words[index] + first.parts[index + 1]
    free = tuple(column for column, differs in zip(first.space.free, differ_F.tolist(), strict=True) if differs)
    space = replace(first.space, free=free, allowed_FV=first.space.allowed_FV[differ_F])
    words = tuple(word for word, differs in zip(first.words, differ_F.tolist(), strict=True) if differs)
    return Blanks(space, tuple(parts), first.start_F[differ_F], words, ()), second.start_F[differ_F]
