"""A model as it was at one moment, in its trained parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ParameterSnapshot:
    """A model as it is now, in its trained parameters: the reference of a policy that is about to learn.

    A fresh adapter, which adds nothing yet, kept so is the model with its adapter off; and where a stage goes on with the adapter of a run
    before it, or trains all weights, the reference is that run all the same. Costs the memory of the trained parameters.

    Args:
        model: the model, its trainable parameters marked.
    """

    def __init__(self, model: Any) -> None:
        self._kept = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within the block, the model is again what it was; no gradients, and no steps, there."""
        now = [parameter.data for parameter, _ in self._kept]
        for parameter, before in self._kept:
            parameter.data = before
        try:
            yield
        finally:
            for (parameter, _), data in zip(self._kept, now, strict=True):
                parameter.data = data
