"""One base model in memory for several adapters: its weights are those of one of them at a time.

An adapter is merged into the weights when it is wanted, by the code that merges it when it is loaded alone. What was
there before comes back from a copy of the base's weights, not by subtraction, whose rounding would remain. So the
weights are the same, bit for bit, as those of a model that was loaded for this adapter alone.

It takes the memory of two models, however many adapters there are. A switch takes about as long as copying the weights
twice.

Not covered: adapters on embeddings, which may be tied to the output layer, and pause tokens. `add` refuses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from palmette.model.files import PAUSE_WEIGHTS
from palmette.model.loading import with_adapter, without_alias_warning


class SharedWeights:
    """A base model whose weights become those of one adapter after another. Used by one thread only.

    Args:
        model: the base model, without an adapter. It stays the same object, and so does each of its parameters.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._layers: dict[str, Sequence[Any]] = {}
        self._base: dict[torch.nn.Parameter, torch.Tensor] = {}  # what an adapter changes, as it was
        self._changed: set[torch.nn.Parameter] = set()
        self._current: str | None = None

    def add(self, key: str, folder: Path | None) -> bool:
        """Add an adapter, without putting it to use.

        Args:
            key: what `use` calls it.
            folder: the folder of the adapter. None for the base as it is.

        Returns:
            Whether it can share the weights. If not, nothing was added.

        Raises:
            ModelError: it is missing, damaged, or belongs to another model.
        """
        self._restore()
        if folder is None:
            self._layers[key] = ()
            return True
        if (folder / PAUSE_WEIGHTS).is_file():
            return False
        from peft.tuners.lora.layer import Linear
        from peft.tuners.tuners_utils import BaseTunerLayer

        with without_alias_warning():
            adapted = with_adapter(self._model, folder)
            layers = [module for module in adapted.modules() if isinstance(module, BaseTunerLayer)]
            adapted.unload()
        output = self._model.get_output_embeddings()
        if any(type(layer) is not Linear or layer.get_base_layer() is output for layer in layers):
            return False
        for layer in layers:
            for parameter in _parameters(layer):
                if parameter not in self._base:
                    self._base[parameter] = parameter.detach().clone()
        self._layers[key] = layers
        return True

    def use(self, key: str) -> bool:
        """Make the weights those of an adapter. The result is whether they were others."""
        if key == self._current:
            return False
        self._restore()
        layers = self._layers[key]
        self._changed = {parameter for layer in layers for parameter in _parameters(layer)}
        for layer in layers:
            layer.merge(adapter_names=list(layer.lora_A))
            layer.merged_adapters.clear()  # the next time, it is merged into the base again
        self._current = key
        return True

    def _restore(self) -> None:
        """Make the weights those of the base. An adapter that was merged only in part is taken out too."""
        self._current = None
        for parameter in self._changed:
            parameter.data.copy_(self._base[parameter])
        self._changed = set()


def _parameters(layer: Any) -> list[torch.nn.Parameter]:
    """What merging an adapter changes of a layer."""
    base = layer.get_base_layer()
    return [base.weight] if base.bias is None else [base.weight, base.bias]
