"""Documents that clients have sent, by the hash of their text."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from palmette.data.records import Document

MAX_CHARACTERS = 100_000_000  # of all documents together


def document_of(text: str) -> Document:
    """A text as a document, whose id is made of the text's hash.

    >>> document_of("It rains.").id
    'doc-6f58a7623963538dbefa38678f970b43'
    """
    return Document(f"doc-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}", text, ())


class Documents:
    """The documents that were used last, in memory. Used by one thread only.

    Args:
        max_characters: how many characters they have together. Those that were not used for longest go first.
    """

    def __init__(self, max_characters: int = MAX_CHARACTERS) -> None:
        self._max_characters, self._num_characters = max_characters, 0
        self._documents: OrderedDict[str, Document] = OrderedDict()

    def add(self, text: str) -> Document:
        """Keep a document. The same text twice is kept once."""
        document = document_of(text)
        if document.id not in self._documents:
            self._documents[document.id] = document
            self._num_characters += len(text)
        self._documents.move_to_end(document.id)
        while self._num_characters > self._max_characters and len(self._documents) > 1:
            self._num_characters -= len(self._documents.popitem(last=False)[1].text)
        return document

    def find(self, id_: str) -> Document | None:
        """A document by its id, or None if it was never sent or has gone."""
        document = self._documents.get(id_)
        if document is not None:
            self._documents.move_to_end(id_)
        return document

    def remove(self, id_: str) -> bool:
        """Forget a document. The result is whether it was there."""
        document = self._documents.pop(id_, None)
        if document is not None:
            self._num_characters -= len(document.text)
        return document is not None
