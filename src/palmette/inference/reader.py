"""The reader: a run that comes with the package, a small model that answers from documents or says that it cannot."""

from __future__ import annotations

from pathlib import Path

import palmette
from palmette import run

READER = "reader"


def reader_folder() -> Path | None:
    """The folder of the reader's run, or None if it was not packaged. Nobody may write into it."""
    folder = Path(palmette.__file__).with_name(READER)
    return folder if (folder / run.RECIPE).is_file() else None


def stands_at(folder: Path) -> Path:
    """Where a run stands for what is made of it: where it lies, and runs/reader for the reader.

    Args:
        folder: the run's folder.
    """
    return Path("runs", READER) if folder == reader_folder() else folder
