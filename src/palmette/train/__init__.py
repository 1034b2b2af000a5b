"""Training: one thin module per stage over one shared step.

The package can be called. `palmette.train(recipe)` runs a recipe of any stage, as `palmette.train.run.train` does.
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
        from palmette.train.run import train

        return train(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        from palmette.train.run import train

        return inspect.signature(train)


sys.modules[__name__].__class__ = _CallablePackage
