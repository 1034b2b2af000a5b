"""The folders whose files an assistant may have read, and no others.

Not covered: somebody else who may write into such a folder, and puts a link into the place of a file between the check
and the reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palmette.data.inputs import find_documents
from palmette.errors import DataError, reason_of
from palmette.files import expand

MOST_LISTED = 500
_LOOK = "Look at the list of documents."


class Folders:
    """Folders whose files may be read.

    Args:
        given: the folders, with "~" for the home folder.

    Raises:
        DataError: one of them is no folder.
    """

    def __init__(self, given: Sequence[Path]) -> None:
        self._folders: list[Path] = []
        for path in given:
            folder = expand(path)
            if not folder.is_dir():
                raise DataError(f"there is no folder {str(path)!r}", "Give --folder a folder with documents.")
            self._folders.append(folder.resolve())

    def find(self, name: str) -> Path:
        """The file of a name, with all links followed.

        Args:
            name: a path. One that is not absolute begins in one of the folders.

        Raises:
            DataError: it leads out of the folders, to nothing, or to something that is no file. Of a path that leads
                out it is not said whether anything is there.
        """
        inside = [path for path in self._places(name) if any(path.is_relative_to(one) for one in self._folders)]
        if not inside:
            allowed = ", ".join(map(str, self._folders))
            raise DataError(f"{name!r} is outside the folders that may be read", f"Name a file in {allowed}.")
        try:
            for path in inside:
                if path.is_file():
                    return path
            there = any(path.exists() for path in inside)
        except OSError as error:  # a name that is too long, a folder that must not be entered
            raise DataError(f"the document {name[:200]!r} cannot be looked up: {reason_of(error)}", _LOOK) from error
        what = "is a folder, or no plain file" if there else "is not there"
        raise DataError(f"the document {name!r} {what}", _LOOK)

    def documents(self) -> tuple[list[str], int]:
        """The documents in all folders with their whole paths, the first ones, and the number of all.

        Raises:
            DataError: there are none.
        """
        found, _ = find_documents([str(folder) for folder in self._folders])
        allowed = [name for name in found if any(Path(name).resolve().is_relative_to(one) for one in self._folders)]
        return allowed[:MOST_LISTED], len(allowed)

    def _places(self, name: str) -> list[Path]:
        """Where a name may lead, with links followed."""
        try:
            path = expand(name)
            return [one.resolve() for one in ([path] if path.is_absolute() else [at / path for at in self._folders])]
        except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a byte of 0
            why = reason_of(error) if isinstance(error, OSError) else "it is no path"
            raise DataError(f"{name!r} cannot be the name of a document: {why}", "Check the path.") from error
