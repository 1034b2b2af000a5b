"""Snapshots of the trained parameters of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ParameterSnapshot:
    """The trained parameters of a model as they are now. With them, the model is the reference of a policy.

    With a new adapter, which changes nothing yet, the reference is the model without its adapter. If a stage continues
    the adapter of another run, or trains all weights, the reference is that run. The snapshot needs as much memory as
    the trained parameters.

    Args:
        model: the model, with its trainable parameters marked.
    """

    def __init__(self, model: Any) -> None:
        self._parameters = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within the block, the model has the parameters of the snapshot. Take no gradients and steps there."""
        current = [parameter.data for parameter, _ in self._parameters]
        for parameter, before in self._parameters:
            parameter.data = before
        try:
            yield
        finally:
            for (parameter, _), data in zip(self._parameters, current, strict=True):
                parameter.data = data
