"""The steps that the settings of a corpus ask for, in the order in which texts go through them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from palmette.config.corpus import CleanSection, Weighable
from palmette.corpus.boilerplate import without_boilerplate
from palmette.corpus.cleaning import Dropped, Step
from palmette.corpus.duplicates import ExactDuplicates, NearDuplicates
from palmette.corpus.language import InLanguages
from palmette.corpus.overlap import EvaluationSets
from palmette.corpus.repetition import Repetitive
from palmette.corpus.texts import Text


class OfLength:
    """Drops texts of too few or too many words.

    Args:
        least: the least number of words. None sets no limit.
        most: the most words. None sets no limit.
    """

    def __init__(self, least: int | None, most: int | None) -> None:
        self._least, self._most = least, most

    def __call__(self, text: Text) -> Text | Dropped:
        """The text, or how many words it has. Words are separated by white space."""
        number = len(text.text.split())
        if self._least is not None and number < self._least:
            return Dropped("too short", f"{number} words, at least {self._least} are asked for")
        if self._most is not None and number > self._most:
            return Dropped("too long", f"{number} words, at most {self._most} are asked for")
        return text


class Weighed:
    """Gives less weight to texts that another step would drop.

    Args:
        step: the step.
        weight: what the weight of such a text is multiplied by.
    """

    def __init__(self, step: Step, weight: float) -> None:
        self._step, self._weight = step, weight

    def __call__(self, text: Text) -> Text:
        """The text, with the reason for which it weighs less."""
        found = self._step(text)
        if isinstance(found, Dropped):
            return replace(text, weight=text.weight * self._weight, weighed=(*text.weighed, found.reason))
        return found


# Makes steps that have seen no text yet.
MakeSteps = Callable[[], list[Step]]


def step_maker(settings: CleanSection) -> MakeSteps:
    """Makes new steps as often as texts are read from the first one. Evaluation sets are read here, once.

    Raises:
        DataError: an evaluation set cannot be read.
    """
    against = EvaluationSets(settings.against, settings.shared_words) if settings.against else None
    return partial(_steps, settings, against)


def _steps(settings: CleanSection, against: EvaluationSets | None) -> list[Step]:
    """New steps. Cheap ones come first, and duplicates are sought among what is left.

    Raises:
        RecipeError: a language is not known.
    """

    def gentle(name: Weighable, step: Step) -> Step:
        return Weighed(step, settings.weights[name]) if name in settings.weights else step

    steps: list[Step] = []
    if settings.boilerplate:
        steps.append(without_boilerplate)
    if settings.min_words is not None or settings.max_words is not None:
        steps.append(OfLength(settings.min_words, settings.max_words))
    if settings.language:
        steps.append(gentle("language", InLanguages(settings.language)))
    if settings.repetition:
        steps.append(gentle("repetition", Repetitive()))
    if settings.duplicates != "none":
        steps.append(ExactDuplicates())
    if settings.duplicates == "near":
        steps.append(gentle("duplicates", NearDuplicates(settings.similarity)))
    if against is not None:
        steps.append(against)
    return steps
