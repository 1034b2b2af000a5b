"""Scalar heads on a language model: the reward of a branch, or the value of a position in it.

A head reads the hidden states that the output layer would read, at chosen positions of a packed batch. So branches
share their prompt, as they do for log-probabilities. A head is a module of the model, so whatever trains the model's
parameters trains it too. It is saved beside the adapter, as safetensors.

Letters: B rows, T tokens of a row, N branches, P and Q positions, D hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from palmette.errors import ModelError, reason_of
from palmette.model.files import PURPOSES, Purpose, head_file
from palmette.model.forward import hidden_at, model_name
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import Branches


class ScalarHead(torch.nn.Module):
    """A number for each hidden state: weight . hidden + bias, in at least float32.

    The initial weights are drawn from a normal distribution of variance 1 / (D + 1), as in Stiennon et al. (2020),
    appendix B. The initial bias is 0.

    Args:
        hidden_size: D.
        seed: seed of the weights.
    """

    def __init__(self, hidden_size: int, seed: int = 0) -> None:
        super().__init__()
        drawn_D = torch.randn(hidden_size, generator=torch.Generator().manual_seed(seed))
        self.weight = torch.nn.Parameter(drawn_D / (hidden_size + 1) ** 0.5)
        self.bias = torch.nn.Parameter(torch.zeros(()))

    def forward(self, hidden_QD: torch.Tensor) -> torch.Tensor:
        """One number for each row [Q]."""
        wide = torch.promote_types(hidden_QD.dtype, self.weight.dtype)
        return hidden_QD.to(wide) @ self.weight.to(wide) + self.bias.to(wide)


def add_head(model: Any, purpose: Purpose, seed: int = 0) -> ScalarHead:
    """Give a model a new head, which is trainable.

    Args:
        model: a causal language model, with an adapter or without.
        purpose: what it is for. A model has at most one head for each purpose.
        seed: seed of its weights.

    Raises:
        ModelError: the model has such a head already.
    """
    if head_of(model, purpose) is not None:
        raise ModelError(
            f"{model_name(model)} has a {purpose} head already", "Continue to train it, or load the model again."
        )
    head = ScalarHead(_hidden_size(model), seed).to(model.device)
    model.add_module(_name(purpose), head)
    return head


def head_of(model: Any, purpose: Purpose) -> ScalarHead | None:
    """A model's head for a purpose. None if it has none."""
    head: ScalarHead | None = getattr(model, _name(purpose), None)
    return head


def scalars_at(
    model: Any, batch: PackedBatch, row_P: torch.Tensor, column_P: torch.Tensor, purpose: Purpose
) -> torch.Tensor:
    """A head's numbers [P] at positions of a packed batch, in one forward pass.

    Args:
        model: a model with a head for this purpose.
        batch: the packed trees, on the model's device.
        row_P: rows of the positions.
        column_P: columns of the positions.
        purpose: which head.

    Raises:
        ModelError: the model has no such head, or as for `hidden_at`.
    """
    head = head_of(model, purpose)
    if head is None:
        raise ModelError(
            f"{model_name(model)} has no {purpose} head", f"Train one, or load a run with {head_file(purpose)}."
        )
    flat_Q, inverse_P = torch.unique(row_P * batch.token_BT.shape[1] + column_P, return_inverse=True)
    scalar_Q: torch.Tensor = head(hidden_at(model, batch, flat_Q))
    return scalar_Q[inverse_P]


def branch_rewards(model: Any, batch: PackedBatch, branches: Branches) -> torch.Tensor:
    """The reward of each branch [N]: the reward head's number at its last token, which ends the turn.

    Source: Stiennon et al. (2020).

    Raises:
        ModelError: the model has no reward head, or as for `hidden_at`.
    """
    return scalars_at(model, batch, branches.row_N, branches.last_N, "reward")


def save_heads(model: Any, folder: Path) -> None:
    """Write each head of a model to a file of its own. A file appears whole or not at all."""
    for purpose in PURPOSES:
        head = head_of(model, purpose)
        if head is not None:
            part = folder / f".{head_file(purpose)}"
            save_file({name: tensor.contiguous() for name, tensor in head.state_dict().items()}, part)
            part.replace(folder / head_file(purpose))


def without_heads(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A model's state without its heads, which other programs can load."""
    names = {_name(purpose) for purpose in PURPOSES}
    return {name: tensor for name, tensor in state.items() if name.partition(".")[0] not in names}


def load_head(model: Any, folder: Path, purpose: Purpose) -> ScalarHead:
    """Give a model the head that a folder holds. If the model has one already, its weights are replaced.

    Raises:
        ModelError: the folder has no such head, or it is damaged, or it belongs to another model.
    """
    path = folder / head_file(purpose)
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot read the {purpose} head {path}: {reason_of(error)}",
            f"Give the folder of a run that trained a {purpose} head.",
        ) from error
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    expected = {"weight": (_hidden_size(model),), "bias": ()}
    if shapes != expected:
        raise ModelError(
            f"{path} holds {shapes}, and {model_name(model)} needs {expected}",
            "Give the model that the head was trained on.",
        )
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise ModelError(f"{path} holds numbers that are not finite", "Train the head again.")
    head = head_of(model, purpose) or add_head(model, purpose)
    head.load_state_dict(weights)
    return head


def _hidden_size(model: Any) -> int:
    """D, the width of what the output layer reads."""
    return int(model.get_output_embeddings().in_features)


def _name(purpose: Purpose) -> str:
    return f"{purpose}_head"
