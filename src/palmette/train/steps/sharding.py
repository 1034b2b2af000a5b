"""A model divided among the processes that train it (FSDP2): weights, gradients, and the state of the optimizer.

Each layer is a group of its own, and everything else is one more group, at the root: embeddings, last norm and output
layer. Many models tie their input and output embeddings, which therefore must not be in two groups. Before a group
computes, its weights are gathered. After the backward pass, each process keeps the sum of its part of the gradients.

Scalar heads and pause tokens stay whole in every process: they are small, a head has a bias of no dimension, and not
every batch has pause tokens.

Every process must take as many passes as the others, since each pass gathers weights.

Source: Zhao et al. (2023), "PyTorch FSDP", and torch's `fully_shard`. Not covered: a model that is larger than the
memory of one process, since it is loaded whole and then divided; quantised weights; sampling.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from palmette import processes
from palmette.model.files import PURPOSES
from palmette.model.forward import num_layers
from palmette.model.heads import head_of
from palmette.model.pause import pause_of


def shard(model: Any) -> None:
    """Divide a model among the processes, in place. Call it in all of them, before an optimizer is made.

    Args:
        model: a causal language model, with an adapter or without, with the same weights in every process.
    """
    mesh = init_device_mesh(model.device.type, (processes.count(),))
    whole = {id(parameter) for purpose in PURPOSES for parameter in _parameters(head_of(model, purpose))}
    pause = pause_of(model)
    kept = {p for p in model.parameters() if id(p) in whole or p is pause}
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=kept)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Losses are divided by the denominator of the whole step already, so gradients are added up.
            module.set_gradient_divide_factor(1.0)
            # Without it, float32 and bfloat16 are added up by an operation that only NCCL has.
            module.set_force_sum_reduction_for_comms(True)


def is_sharded(model: Any) -> bool:
    """Whether a model is divided among processes."""
    return isinstance(model, FSDPModule)


def is_divided(tensor: torch.Tensor) -> bool:
    """Whether each process has a part of a tensor only."""
    return isinstance(tensor, DTensor)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor, which shares its memory. A tensor that is not divided is its own part."""
    part: torch.Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return part


def whole_of(part: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The whole tensor of which every process has a part. Every process must call this.

    Args:
        part: this process's part.
        like: a tensor that is divided in the same way, or not divided.
    """
    if not isinstance(like, DTensor):
        return part
    divided = DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    whole: torch.Tensor = divided.full_tensor()
    return whole


def part_of(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor that every process has. Arguments as for `whole_of`."""
    if not isinstance(like, DTensor):
        return whole
    return local(distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None))


@contextlib.contextmanager
def gathered(model: Any) -> Iterator[None]:
    """Within the block, the trained parameters of a model are whole, to be saved. Every process must enter it.

    Frozen ones are left divided, since neither a checkpoint nor an adapter holds them.
    """
    if not is_sharded(model):
        yield
        return
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    divided = [
        (module, name, parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if isinstance(parameter, DTensor) and parameter.requires_grad
    ]
    found: dict[int, torch.nn.Parameter] = {}  # a parameter that two modules share stays one
    for module, name, parameter in divided:
        if id(parameter) not in found:
            found[id(parameter)] = torch.nn.Parameter(whole_of(local(parameter.detach()), parameter))
        module._parameters[name] = found[id(parameter)]
    try:
        yield
    finally:
        for module, name, parameter in divided:
            module._parameters[name] = parameter


def _layers(model: Any) -> list[torch.nn.Module]:
    """The decoder layers of a model."""
    lists = (module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    return list(next((one for one in lists if len(one) == num_layers(model)), ()))


def _parameters(module: torch.nn.Module | None) -> list[torch.nn.Parameter]:
    return [] if module is None else list(module.parameters())
