"""Items of multiple-choice benchmarks, as texts."""

from __future__ import annotations

from dataclasses import dataclass

from palmette.data.text import short
from palmette.errors import DataError


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """An item: each choice as the text to score after its context.

    Attributes:
        id: the name of the item in messages and results.
        contexts: the context of each choice. They differ only where a choice stands in the context.
        continuations: the text of each choice that is scored, from the delimiter on.
        choices: the text of each choice that its length counts, without the delimiter.
        gold: the index of the right choice.
        subject: the part of the benchmark that it belongs to. "" if there are no parts.
    """

    id: str
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    choices: tuple[str, ...]
    gold: int
    subject: str = ""


def check_item(item: ChoiceItem, where: str, *, keep_equal: bool = False, may_be_empty: bool = False) -> None:
    """Refuse an item that cannot be measured.

    Args:
        item: the item.
        where: how messages name it.
        keep_equal: whether two choices may be equal.
        may_be_empty: whether a context may be empty.

    Raises:
        DataError: there are fewer than two choices, the gold label names none of them, a context or a choice is empty,
            or two choices are the same.
    """
    number = len(item.continuations)
    if number < 2:
        raise DataError(f"{where} has {number} choices", "An item needs at least two.")
    if not 0 <= item.gold < number:
        raise DataError(
            f"{where} has the gold label {item.gold}, but its choices are 0 to {number - 1}",
            "Give the index of the right choice, counted from 0. Test sets without labels cannot be measured.",
        )
    for context in item.contexts:
        if not context.strip() and not may_be_empty:
            raise DataError(f"{where} has an empty context", "Give the text that the choices follow, or leave it out.")
    for choice in item.choices:
        if not choice.strip():
            raise DataError(f"{where} has an empty choice", "Give every choice a text, or leave the item out.")
    pairs = list(zip(item.contexts, item.continuations, strict=True))
    for index, pair in enumerate(pairs):
        if pair in pairs[:index] and not keep_equal:
            raise DataError(
                f"{where} has the choice {short(item.choices[index])} twice",
                "Correct it, or give --keep-equal: equal choices then tie, and the first one counts.",
            )
