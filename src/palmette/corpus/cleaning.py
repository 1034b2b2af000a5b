"""Cleaning: texts go through steps one after the other, and what a step drops is counted with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from palmette.corpus.texts import Text
from palmette.data.text import short
from palmette.errors import DataError

NUM_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Dropped:
    """Why a step drops a text.

    Attributes:
        reason: the rule, in words that are the same for all texts that it drops.
        detail: what of this text broke it.
    """

    reason: str
    detail: str


# A step returns the text, changed or not, or why it drops it.
Step = Callable[[Text], Text | Dropped]


@dataclass
class Drops:
    """How many texts were dropped for a reason.

    Attributes:
        texts: how many.
        characters: how many they hold together.
        examples: the first of them: name, detail and beginning.
    """

    texts: int = 0
    characters: int = 0
    examples: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, name: str, detail: str, text: str) -> None:
        """Count one more."""
        self.texts += 1
        self.characters += len(text)
        if len(self.examples) < NUM_EXAMPLES:
            self.examples.append((name, detail, short(" ".join(text[:200].split()))))

    def as_record(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        return {"texts": self.texts, "characters": self.characters, "examples": [list(one) for one in self.examples]}


@dataclass
class Counts:
    """What came in, what was dropped, and what remained, of one source.

    Attributes:
        texts, characters: of the texts that remained.
        read: how many texts came in.
        trimmed: how many characters steps took out of the texts that remained.
        dropped: what was dropped, by reason.
        weighed: how many of the texts that remained weigh less, by reason.
    """

    texts: int = 0
    characters: int = 0
    read: int = 0
    trimmed: int = 0
    dropped: dict[str, Drops] = field(default_factory=dict)
    weighed: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, name: str, detail: str, text: str) -> None:
        """Count a text that was dropped."""
        self.dropped.setdefault(reason, Drops()).add(name, detail, text)


UNREADABLE, EMPTY = "cannot be read", "empty"


def clean(
    texts: Iterable[Text | DataError], steps: Sequence[Step], counts: dict[str, Counts], source: str
) -> Iterator[Text]:
    """The texts that pass all steps, as the steps leave them.

    Args:
        texts: the texts. Errors among them count as dropped.
        steps: the steps, in order. They may remember earlier texts.
        counts: takes the counts, by source.
        source: the source of the texts.
    """
    own = counts.setdefault(source, Counts())
    for text in texts:
        own.read += 1
        if isinstance(text, DataError):
            own.drop(UNREADABLE, source, text.problem, "")
            continue
        found = _through(text, steps)
        if isinstance(found, Dropped):
            own.drop(found.reason, text.name, found.detail, text.text)
            continue
        own.texts += 1
        own.characters += len(found.text)
        own.trimmed += len(text.text) - len(found.text)
        own.weighed.update(found.weighed)
        yield found


def _through(text: Text, steps: Sequence[Step]) -> Text | Dropped:
    """A text after all steps, or why one of them drops it."""
    for step in steps:
        found = step(text)
        if isinstance(found, Dropped):
            return found
        text = found
    return text if text.text.strip() else Dropped(EMPTY, "nothing is left but white space")
