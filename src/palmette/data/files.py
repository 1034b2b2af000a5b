"""Documents that the rows of a data file name, instead of holding their text."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from pathlib import Path

from palmette.documents import Extracted, read_document
from palmette.errors import DataError
from palmette.files import expand

# A name ends in one of these. Other files are named by a path that exists.
_NAME = re.compile(r"[^\n]{1,1000}\.(?:txt|text|md|markdown|html?|xhtml|pdf|docx?|csv|tsv|xlsx|rtf|odt)", re.IGNORECASE)
_KEPT = 4


class DocumentFiles:
    """Reads documents by the names in the rows of one data file, each once as long as rows about it are neighbours.

    Args:
        folder: where relative names begin: the folder of the data file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: OrderedDict[str, Extracted | DataError] = OrderedDict()
        self._hashes: dict[str, str] = {}

    def is_name(self, value: str) -> bool:
        """Whether what a row has under `document` names a file, and is not the text itself.

        It does if it is one line that ends as the names of documents do, or if there is such a file.
        """
        if "\n" in value or len(value) > 1000 or not value.strip():
            return False
        if _NAME.fullmatch(value.strip()):
            return True
        try:
            return self._path(value).is_file()
        except (OSError, ValueError):
            return False

    def read(self, name: str) -> Extracted:
        """The document of a name.

        Raises:
            DataError: see `read_document`.
        """
        name = name.strip()
        if name not in self._kept:
            try:
                self._kept[name] = read_document(self._path(name))
            except DataError as error:
                self._kept[name] = error
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        found = self._kept[name]
        if isinstance(found, DataError):
            raise found
        self._hashes[name] = found.sha256
        return found

    def _path(self, name: str) -> Path:
        return self._folder / expand(name.strip())

    def hash_with(self, digest: str) -> str:
        """The hash of a data file together with those of the documents that were read for it.

        It is that of the file alone if its rows name none.
        """
        if not self._hashes:
            return digest
        lines = [digest, *(f"{name}\n{self._hashes[name]}" for name in sorted(self._hashes))]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
