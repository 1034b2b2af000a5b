"""The example files that come with the package: small data of every kind, and a recipe for each training stage."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from palmette.errors import DataError, reason_of

_FOLDER = "FOLDER"  # in the files, for the folder that they are written to
_WITH_PLACES = (".txt", ".yaml")


def example_names() -> list[str]:
    """The names of the files, in alphabetical order."""
    return sorted(file.name for file in resources.files("palmette.data").joinpath("examples").iterdir())


def example_text(name: str, folder: str = "examples") -> str:
    """The text of a file.

    Args:
        name: its name.
        folder: the folder that recipes and README.txt name the other files by.
    """
    text = resources.files("palmette.data").joinpath("examples", name).read_text(encoding="utf-8")
    return text.replace(_FOLDER, folder) if name.endswith(_WITH_PLACES) else text


def write_examples(folder: Path) -> list[Path]:
    """Write the files into a folder.

    Args:
        folder: the folder. It is made if it does not exist. Recipes name the data by it.

    Returns:
        The paths of the files.

    Raises:
        DataError: one of the files is there already, or the folder cannot be written to. Then nothing is written.
    """
    names = example_names()
    there = [name for name in names if (folder / name).exists()]
    if there:
        raise DataError(
            f"{folder} holds {there[0]!r} already, and {len(there) - 1} more of the {len(names)} example files",
            "Name another folder, such as palmette examples NEW.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_text(example_text(name, os.fspath(folder)), encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"cannot write the examples to {folder}: {reason_of(error)}",
            "Name another folder.",
        ) from error
    return [folder / name for name in names]
