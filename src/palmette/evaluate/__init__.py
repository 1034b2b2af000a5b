"""Evaluation: metrics, and measuring models.

The package can be called. `palmette.evaluate(answerer, data)` measures a model, as `palmette.evaluate.answers.evaluate` does.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """This package. Its name in `palmette` is also that of a function, and the import system binds the package to it."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from palmette.evaluate.answers import evaluate

        return evaluate(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        from palmette.evaluate.answers import evaluate

        return inspect.signature(evaluate)


sys.modules[__name__].__class__ = _CallablePackage
