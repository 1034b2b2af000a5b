"""Pieces of texts in the order in which they are learned: shuffled, mixed by weight, again from the start at an end.

The order depends on the seed and on the sources alone, so a stream is continued by drawing again, without a model, what
was drawn before. Texts are read as they are needed. Only the pieces that are being shuffled are in memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from palmette.corpus.texts import Text
from palmette.errors import DataError
from palmette.seeds import derive_seed
from palmette.tasks.text_pieces import TextPieces, num_learned
from palmette.tree.prefix_tree import PrefixTree

Texts = Callable[[], Iterator[Text]]


@dataclass(frozen=True)
class Strand:
    """Sources that are read one after the other, and mixed with those of other strands.

    Attributes:
        name: the names of the sources, for messages.
        texts: gives the texts, clean, from the first one.
        weight: share of the learned tokens, in proportion to the other weights.
    """

    name: str
    texts: Texts
    weight: float = 1.0


class HeldOut:
    """Chooses pieces that are not learned, by what they hold, so that equal pieces are on one side.

    Args:
        share: the share of the pieces that is held out.
    """

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, tree: PrefixTree) -> bool:
        """Whether a piece is held out."""
        if not self.share:
            return False
        # Not hash(), which Python may change. A linear congruence over the tokens is enough to choose by.
        state = 0
        for token in tree.root.segments[1].tokens:
            state = (state * 6364136223846793005 + token + 1442695040888963407) % 2**64
        return (state >> 11) / 2**53 < self.share


class _Reader:
    """The pieces of one strand, pass after pass."""

    def __init__(self, strand: Strand, pieces: TextPieces, held_out: HeldOut, seed: int, shuffle: int) -> None:
        self._strand, self._pieces, self._held_out = strand, pieces, held_out
        self._seed, self._shuffle = seed, shuffle
        self.number = self.learned = self.drawn = 0  # of the pass, and what was drawn in all and in the pass
        self._current = self._pass()

    def next(self) -> PrefixTree:
        """The next piece.

        Raises:
            DataError: a whole pass gives no piece.
        """
        for tree in self._current:
            self.drawn += 1
            self.learned += num_learned(tree)
            return tree
        if not self.drawn:
            raise DataError(
                f"{self._strand.name}: nothing to learn is left",
                "Give texts, or loosen the filters. `palmette data corpus` says what they drop.",
            )
        self.number, self.drawn = self.number + 1, 0
        self._current = self._pass()
        return self.next()

    def state(self) -> dict[str, int]:
        return {"pass": self.number, "drawn": self.drawn, "learned": self.learned}

    def restore(self, state: dict[str, int]) -> None:
        self.number, self.drawn, self.learned = state["pass"], 0, 0
        self._current = self._pass()
        for _ in range(state["drawn"]):
            self.next()
        self.learned = state["learned"]

    def _pass(self) -> Iterator[PrefixTree]:
        learned = (
            tree
            for text in self._strand.texts()
            for tree in self._pieces.trees(text.source, text.text, text.weight)
            if not self._held_out(tree)
        )
        return _shuffled(learned, self._shuffle, random.Random(derive_seed(self._seed, self.number)))


def _shuffled(trees: Iterator[PrefixTree], size: int, generator: random.Random) -> Iterator[PrefixTree]:
    """Pieces in another order. So many are held, and a random one of them is given and replaced by the next.

    >>> pieces = [PrefixTree(None, str(number)) for number in range(5)]
    >>> [tree.name for tree in _shuffled(iter(pieces), 0, random.Random(0))]
    ['0', '1', '2', '3', '4']
    >>> sorted(tree.name for tree in _shuffled(iter(pieces), 3, random.Random(0)))
    ['0', '1', '2', '3', '4']
    """
    held: list[PrefixTree] = []
    for tree in trees:
        if len(held) < size:
            held.append(tree)
            continue
        if not held:
            yield tree
            continue
        index = generator.randrange(len(held))
        given, held[index] = held[index], tree
        yield given
    generator.shuffle(held)
    yield from held


class PieceStream:
    """Pieces of all strands. The next one comes from the strand that has had the least for its weight.

    Args:
        strands: one or more. The first of those that are equally far behind is taken.
        pieces: cuts texts into pieces.
        held_out: pieces that are left out.
        seed: seed of the order.
        shuffle: how many pieces of a strand are shuffled at a time. 0 keeps the order.
    """

    def __init__(
        self, strands: Sequence[Strand], pieces: TextPieces, *, held_out: HeldOut, seed: int, shuffle: int
    ) -> None:
        self._weights = [strand.weight for strand in strands]
        self._readers = [
            _Reader(strand, pieces, held_out, derive_seed(seed, index), shuffle) for index, strand in enumerate(strands)
        ]

    def next(self) -> PrefixTree:
        """The next piece. Its name is that of its source.

        Raises:
            DataError: a source cannot be read, or gives nothing to learn.
        """
        behind = [reader.learned / weight for reader, weight in zip(self._readers, self._weights, strict=True)]
        return self._readers[behind.index(min(behind))].next()

    def state(self) -> list[dict[str, int]]:
        """How far each strand was read."""
        return [reader.state() for reader in self._readers]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Go to where `state` was taken."""
        for reader, values in zip(self._readers, state, strict=True):
            reader.restore(values)
