"""Evaluation: metrics, and measuring models.

The package can be called. `palmette.evaluate(answerer, data)` measures a model, as `palmette.evaluate.answers.evaluate`
does.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """This package, whose name in `palmette` is also that of a function.

    The import system binds that name to the package, so the package takes the calls.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from palmette.evaluate.answers import evaluate

        return evaluate(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        from palmette.evaluate.answers import evaluate

        return inspect.signature(evaluate)


sys.modules[__name__].__class__ = _CallablePackage
