"""Documents that clients have sent, by the hash of their text."""

from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict
from dataclasses import dataclass

from palmette.data.records import Document
from palmette.documents import Extracted

MAX_BYTES = 400_000_000  # of all documents together


def document_of(text: str) -> Document:
    """A text as a document, whose id is made of the text's hash.

    >>> document_of("It rains.").id
    'doc-6f58a7623963538dbefa38678f970b43'
    """
    return Document(f"doc-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}", text, ())


@dataclass(frozen=True)
class Kept:
    """A document, and the way back to line and page if it was sent as a file.

    Attributes:
        document: the document. Its id is the hash of its text.
        extracted: what was read from the file. None if the text itself was sent.
    """

    document: Document
    extracted: Extracted | None = None

    @classmethod
    def text(cls, text: str) -> Kept:
        """A text."""
        return cls(document_of(text))

    @classmethod
    def file(cls, extracted: Extracted) -> Kept:
        """A file that was read."""
        return cls(document_of(extracted.text), extracted)

    @property
    def num_bytes(self) -> int:
        """About how much memory it takes."""
        pages = None if self.extracted is None else self.extracted.page_map
        return sys.getsizeof(self.document.text) + (0 if pages is None else pages.boxes.itemsize * len(pages.boxes))


class Documents:
    """The documents that were used last, in memory. Used by one thread only.

    Args:
        max_bytes: how many bytes they take together. Those that were not used for longest go first.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes, self._num_bytes = max_bytes, 0
        self._documents: OrderedDict[str, Kept] = OrderedDict()

    def add(self, kept: Kept) -> Kept:
        """Keep a document. The same text twice is kept once, with the places of the last file that held it."""
        id_ = kept.document.id
        if kept.extracted is None and id_ in self._documents:
            kept = self._documents[id_]
        self.remove(id_)
        self._documents[id_] = kept
        self._num_bytes += kept.num_bytes
        while self._num_bytes > self._max_bytes and len(self._documents) > 1:
            self.remove(next(iter(self._documents)))
        return kept

    def find(self, id_: str) -> Kept | None:
        """A document by its id, or None if it was never sent or has gone."""
        kept = self._documents.get(id_)
        if kept is not None:
            self._documents.move_to_end(id_)
        return kept

    def remove(self, id_: str) -> bool:
        """Forget a document. The result is whether it was there."""
        kept = self._documents.pop(id_, None)
        if kept is not None:
            self._num_bytes -= kept.num_bytes
        return kept is not None
