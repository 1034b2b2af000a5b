"""Files that people have, as the text of record: plain text, Markdown, HTML, PDF, Word and tables."""

from palmette.documents.reading import read_document
from palmette.documents.record import Extracted, Place

__all__ = ["Extracted", "Place", "read_document"]
