"""Pause tokens (Goyal et al., 2023, "Think before you speak"): learned input embeddings outside the vocabulary.

Their ids are -1, -2, and so on. No text is tokenized to them, and no output layer can generate them. Their embeddings
are kept beside the model's own input embeddings, which stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from palmette.errors import ModelError, reason_of
from palmette.model.files import PAUSE_WEIGHTS

_NAME = "pause_ND"


class _WithPause:
    """A mix-in for the class of an input embedding: rows [N, D] of its own for the ids -1 to -N."""

    pause_ND: torch.nn.Parameter

    def forward(self, token_BT: torch.Tensor) -> torch.Tensor:
        embedded_BTD: torch.Tensor = super().forward(token_BT.clamp(min=0))  # type: ignore[misc]
        own_BT = token_BT < 0
        if not bool(own_BT.any()):
            return embedded_BTD
        return embedded_BTD.index_put((own_BT,), self.pause_ND[-1 - token_BT[own_BT]].to(embedded_BTD.dtype))


def add_pause(model: Any, count: int) -> torch.nn.Parameter:
    """Give a model pause tokens.

    Their embeddings are drawn from a normal distribution. In each dimension it has the mean and the standard deviation
    of the vocabulary's embeddings.

    Args:
        model: a causal language model.
        count: number of pause tokens, N.

    Returns:
        Their embeddings [N, D], which are trainable.

    Raises:
        ModelError: the input embedding carries an adapter, or has pause tokens already.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer  # takes as long to import as a small model to load

    embedding = model.get_input_embeddings()
    if isinstance(embedding, BaseTunerLayer):
        raise ModelError(
            "pause tokens cannot be combined with an adapter on the input embedding",
            "Take the embedding out of lora.targets. all-linear does not include it.",
        )
    if pause_of(model) is not None:
        raise ModelError("the model has pause tokens already", "Start from the model without them.")
    with torch.no_grad():
        token_V = torch.arange(embedding.num_embeddings, device=embedding.weight.device)
        own_VD = embedding(token_V).float()
        rows_ND = own_VD.mean(0) + own_VD.std(0) * torch.randn(count, own_VD.shape[1], device=own_VD.device)
    embedding.__class__ = type(f"{type(embedding).__name__}WithPause", (_WithPause, type(embedding)), {})
    parameter = torch.nn.Parameter(rows_ND.to(embedding.weight.dtype))
    embedding.register_parameter(_NAME, parameter)
    return parameter


def pause_of(model: Any) -> torch.nn.Parameter | None:
    """The embeddings [N, D] of a model's pause tokens. None if it has no pause tokens."""
    rows_ND: torch.nn.Parameter | None = getattr(model.get_input_embeddings(), _NAME, None)
    return rows_ND


def save_pause(model: Any, folder: Path) -> None:
    """Write the embeddings of a model's pause tokens to a file of their own, if it has any."""
    rows_ND = pause_of(model)
    if rows_ND is not None:
        save_file({_NAME: rows_ND.detach().contiguous()}, folder / PAUSE_WEIGHTS)


def load_pause(model: Any, folder: Path) -> None:
    """Give a model the pause tokens that a folder holds, if it holds any.

    Raises:
        ModelError: the file is damaged, or belongs to another model.
    """
    path = folder / PAUSE_WEIGHTS
    if not path.is_file():
        return
    try:
        rows_ND = load_file(path)[_NAME]
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(
            f"cannot read the pause tokens {path}: {reason_of(error)}", "Give the folder of a finished run."
        ) from error
    own_D = model.get_input_embeddings().weight.shape[1]
    if rows_ND.dim() != 2 or rows_ND.shape[1] != own_D:
        raise ModelError(
            f"{path} holds embeddings of shape {tuple(rows_ND.shape)}, and the model's have {own_D} numbers each",
            "Give the model that the run started from.",
        )
    present = pause_of(model)
    parameter = add_pause(model, len(rows_ND)) if present is None else present
    with torch.no_grad():
        parameter.copy_(rows_ND)


def without_pause(model: Any) -> dict[str, torch.Tensor]:
    """A model's state without its pause tokens, which other programs can load."""
    return {name: tensor for name, tensor in model.state_dict().items() if name.rpartition(".")[2] != _NAME}
