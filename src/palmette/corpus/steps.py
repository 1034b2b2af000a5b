"""The steps that the settings of a corpus ask for, in the order in which texts go through them."""

from __future__ import annotations

from palmette.config.corpus import CleanSection
from palmette.corpus.cleaning import Step
from palmette.corpus.duplicates import ExactDuplicates, NearDuplicates


def make_steps(settings: CleanSection) -> list[Step]:
    """New steps, which have seen no text yet.

    Raises:
        DataError: an evaluation set cannot be read.
    """
    steps: list[Step] = []
    if settings.duplicates != "none":
        steps.append(ExactDuplicates())
    if settings.duplicates == "near":
        steps.append(NearDuplicates(settings.similarity))
    return steps
