"""The errors that a user can cause.

Each says in one line what is wrong and how to fix it. The command line turns them into exit code 2.
"""

from __future__ import annotations

import errno
from typing import Any


class PalmetteError(Exception):
    """A problem that the user can fix. All errors of palmette that users can cause are of this class.

    Args:
        problem: the problem, with the record, the value and the limit.
        way_out: how to fix it.
    """

    def __init__(self, problem: str, way_out: str) -> None:
        self.problem = " ".join(problem.split())
        self.way_out = " ".join(way_out.split())
        super().__init__(f"{self.problem.rstrip('.')}. {self.way_out}")

    def __reduce__(self) -> tuple[Any, ...]:
        """How an error goes from one process to another: as it is, without calling the constructor again."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[PalmetteError], args: tuple[Any, ...], values: dict[str, Any]) -> PalmetteError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(values)
    return error


class RecipeError(PalmetteError):
    """A recipe that cannot be read, or that asks for something that does not exist."""


class DataError(PalmetteError):
    """A data file or a record that breaks its format or contradicts itself."""


class TemplateError(PalmetteError):
    """A chat template or tokenizer under which text could not stay text."""


class PackingError(PalmetteError):
    """A tree that cannot be laid out: too long, or learning what nothing predicts."""


class ModelError(PalmetteError):
    """A model that is missing, unsafe to load, or unable to honour the attention mask."""


class TooLongError(ModelError):
    """A text that is longer than what a model reads."""


class RunError(PalmetteError):
    """A run folder that exists, is incomplete, or cannot be written."""


class AnotherFailed(PalmetteError):
    """Another process of a job that several do together failed. It, or process 0, says why."""


# What the system's error numbers mean to somebody who gave a path.
_REASONS = {
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EISDIR: "it is a folder",
    errno.EEXIST: "it exists already",
    errno.EACCES: "you have no permission for it",
    errno.EPERM: "you have no permission for it",
    errno.EROFS: "the disk can only be read",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your share of the disk is full",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EMFILE: "too many files are open",
    errno.ELOOP: "its links lead in a circle",
    errno.EIO: "the disk has a fault",
}


def reason_of(error: BaseException) -> str:
    """Why something failed, in plain words and without an error number.

    >>> reason_of(FileNotFoundError(2, "No such file or directory", "a.txt"))
    'there is no such file or folder'
    """
    if isinstance(error, OSError) and error.errno in _REASONS:
        return _REASONS[error.errno]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not {error.encoding.upper()}"
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def in_yaml(value: object) -> str:
    """A value of a recipe as it is written there.

    >>> in_yaml(None), in_yaml(True), in_yaml("high"), in_yaml([1, None])
    ('null', 'true', "'high'", '[1, null]')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(in_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {in_yaml(item)}" for key, item in value.items()) + "}"
    return repr(value)


_KINDS = {
    type(None): "missing (null)",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    tuple: "a list",
    dict: "an object",
}


def kind_of_value(value: object) -> str:
    """What a value of a data file is, in words.

    >>> kind_of_value(None), kind_of_value(7), kind_of_value({})
    ('missing (null)', 'a number', 'an object')
    """
    return _KINDS.get(type(value), type(value).__name__)
