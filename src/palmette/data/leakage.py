"""Documents that stand on both sides of a split, so that a measurement would reward what was learned by heart.

Two documents are alike if they are equal but for white space and case, or if one holds most of the other's sequences of
eight words, as a window, a later version or a copy with another heading does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from palmette.data.records import Document

WORDS = 8
MOST_SHARED = 0.5  # of the sequences of the document that has fewer


def alike_documents(one: Sequence[Document], other: Sequence[Document]) -> list[tuple[Document, Document]]:
    """The pairs of documents, one from each side, that are alike.

    Args:
        one: the documents of one side.
        other: those of the other side.

    >>> tide = Document("tide", "High tide is at noon.", ())
    >>> others = [Document("copy", "high tide  is at noon.", ()), Document("x", "Low tide.", ())]
    >>> [other.id for _, other in alike_documents([tide], others)]
    ['copy']
    """
    sequences = [_sequences(document.text) for document in other]
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, found in enumerate(sequences):
        for sequence in found:
            places[sequence].append(index)
    pairs: list[tuple[Document, Document]] = []
    for document in one:
        own = _sequences(document.text)
        shared: dict[int, int] = defaultdict(int)
        for sequence in own:
            for index in places.get(sequence, ()):
                shared[index] += 1
        pairs.extend(
            (document, other[index])
            for index, number in sorted(shared.items())
            if number > MOST_SHARED * min(len(own), len(sequences[index]))
        )
    return pairs


def _sequences(text: str) -> set[tuple[str, ...]]:
    """The sequences of words of a text. All of its words are one if it is shorter."""
    words = text.casefold().split()
    return {tuple(words[start : start + WORDS]) for start in range(max(1, len(words) - WORDS + 1))}
