"""How far the weights of two models are apart, layer by layer, without both of them in memory."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")


def keep_weights(model: Any, file: Path) -> None:
    """Write a model's parameters to a file, tied ones once."""
    save_file({name: one.detach().cpu().contiguous() for name, one in model.named_parameters()}, file)


@torch.inference_mode()
def weight_distances(file: Path, model: Any) -> dict[str, Any]:
    """The distance of a model's weights from those in a file: the norm of the difference over the norm in the file.

    Args:
        file: what `keep_weights` wrote.
        model: another model.

    Returns:
        `layers`: for each layer, and for what is in none, `layer`, `distance`, and `attention` and `mlp` alone where
        they differ. `compared` and `tensors`: how many tensors have the same name and shape, and how many there are.
    """
    sums: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
    parameters = dict(model.named_parameters())
    with safe_open(file, framework="pt") as kept:
        names = list(kept.keys())
        shared = [name for name in names if name in parameters and _same_shape(kept, parameters, name)]
        for name in shared:
            before = kept.get_tensor(name).double()
            change = parameters[name].detach().cpu().double() - before
            for part in ("distance", _part(name)):
                total = sums[_layer(name)][part]
                total[0] += float(change.square().sum())
                total[1] += float(before.square().sum())
    layers = [
        {"layer": layer, **{part: math.sqrt(of / norm) if norm else 0.0 for part, (of, norm) in parts.items()}}
        for layer, parts in sums.items()
    ]
    return {"layers": sorted(layers, key=_order), "compared": len(shared), "tensors": len(names)}


def _same_shape(kept: Any, parameters: dict[str, Any], name: str) -> bool:
    return tuple(kept.get_slice(name).get_shape()) == tuple(parameters[name].shape)


def _layer(name: str) -> str:
    """The number of a parameter's layer, or the name of the part that is in none."""
    found = _LAYER.search(f".{name}")
    if found:
        return found.group(1)
    return "embedding" if "embed" in name or ".wte" in name else "output layer" if "head" in name else "other"


def _part(name: str) -> str:
    lowered = name.lower()
    if "norm" in lowered or ".ln_" in lowered:
        return "norms"
    return "attention" if "attn" in lowered else "mlp" if "mlp" in lowered else "rest"


def _order(entry: dict[str, Any]) -> tuple[int, int]:
    layer = entry["layer"]
    return (1, int(layer)) if layer.isdigit() else (0 if layer == "embedding" else 2, 0)
