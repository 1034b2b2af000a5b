"""Texts, and the sources that they are read from one after the other, never all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from palmette.errors import DataError


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a corpus.

    Attributes:
        name: the file, and the row in it, that the text came from.
        text: the text.
        source: the source, as the user named it.
        weight: of each of its tokens in the loss of pre-training.
        weighed: the reasons for which filters have given it less weight.
    """

    name: str
    text: str
    source: str
    weight: float = 1.0
    weighed: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextSource:
    """A source of texts.

    Attributes:
        name: the source, as the user named it.
        kind: "files", "hub" or "builtin".
        open: gives the texts from the first one, in an order that does not change. A text that cannot be read is given
            as its error.
        identify: gives the identity.
    """

    name: str
    kind: str
    open: Callable[[], Iterator[Text | DataError]]
    identify: Callable[[], dict[str, Any]]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What identifies the texts: hashes of files, or a commit of the hub. It is found out once, when it is used."""
        return self.identify()

    def describe(self) -> dict[str, Any]:
        """The entry for the manifest."""
        return {"source": self.name, **self.identity}
