"""The errors that a user can cause.

Each says in one line what is wrong and how to fix it. The command line turns them into exit code 2.
"""

from __future__ import annotations


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


class RunError(PalmetteError):
    """A run folder that exists, is incomplete, or cannot be written."""
