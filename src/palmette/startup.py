"""What makes a command start quickly."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def quick_imports(*, freeze: bool = False) -> Iterator[None]:
    """Import large libraries without the garbage collector, which takes a quarter of the time that they need.

    An import makes hundreds of thousands of objects that stay, and almost no garbage. The collector would look through
    all of them again and again.

    Args:
        freeze: tell the collector that whatever exists by the end of the block stays, so that it is never looked
            through again. Only for a program that does this before it has made anything of its own.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
        if freeze:
            gc.freeze()
    finally:
        if was_on:
            gc.enable()
