"""Attention backends that honour an explicit 4-D mask, and the receipt that proves it reached every layer.

The backends are registered with transformers' `AttentionInterface` under names of our own. Each is the plain
computation plus a check. Without a receipt (in generation, and in the recomputation of gradient checkpointing) they
behave like the stock backends.

Letters: B rows, T tokens, H heads, D size of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from palmette.errors import ModelError
from palmette.model.blocks import BlockAttention, Rows, query_blocks

Attention = Literal["flex", "sdpa", "eager"]
AttentionChoice = Literal["auto", "flex", "sdpa", "eager"]  # auto: flex where a GPU and the model allow it, else sdpa
_BLOCKS = "palmette_query_blocks"
BACKENDS: dict[Attention, str] = {"flex": "palmette_flex", "sdpa": "palmette_sdpa", "eager": "palmette_eager"}


@dataclass
class MaskReceipt:
    """The mask of one forward pass, and the attention modules that it reached.

    Attributes:
        mask: the mask that every attention module must receive.
        model_name: how messages name the model.
        reached: ids of the modules that received it.
    """

    mask: torch.Tensor
    model_name: str
    reached: set[int] = field(default_factory=set)

    def sign(self, module: torch.nn.Module, mask: torch.Tensor | None) -> None:
        """Note that a module received a mask.

        Raises:
            ModelError: it is another mask than the one that the model was given.
        """
        if mask is None or mask.shape != self.mask.shape or mask.data_ptr() != self.mask.data_ptr():
            raise ModelError(
                f"{self.model_name} gave {type(module).__name__} another attention mask than the prefix tree's",
                "Use a model whose attention takes a 4-D mask as it is.",
            )
        self.reached.add(id(module))


_receipt: ContextVar[MaskReceipt | None] = ContextVar("palmette_mask_receipt", default=None)


@contextmanager
def expect_mask(mask_B1TT: torch.Tensor, model_name: str, num_layers: int) -> Iterator[None]:
    """Within the block, one forward pass must hand this mask to `num_layers` attention modules.

    Raises:
        ModelError: when the block ends, if a layer did not receive the mask because its attention bypasses
            `AttentionInterface`.
    """
    receipt = MaskReceipt(mask_B1TT, model_name)
    token = _receipt.set(receipt)
    try:
        yield
    finally:
        _receipt.reset(token)
    if len(receipt.reached) != num_layers:
        raise ModelError(
            f"{model_name}: the prefix tree's mask reached {len(receipt.reached)} of {num_layers} layers",
            "Load the model with palmette. If you did, use a model whose layers all attend through transformers' "
            "AttentionInterface.",
        )


def native_mask(
    may_attend_BTT: torch.Tensor, backend: str, dtype: torch.dtype, *, in_blocks: bool = True
) -> torch.Tensor:
    """The mask in the form that the backend takes, [B, 1, T, T]: bool for sdpa, additive for eager.

    On a CPU the bool mask carries the blocks that it is cut into. Whoever gets the same mask again, as the
    recomputation of gradient checkpointing does, then attends in the same way.

    Args:
        may_attend_BTT: which keys each token may look at (bool).
        backend: one of the `BACKENDS`' names in transformers.
        dtype: dtype of an additive mask.
        in_blocks: whether to cut the mask into blocks. Without blocks, layers and attention are the stock ones.
    """
    mask_B1TT = may_attend_BTT[:, None]
    if in_blocks and backend == BACKENDS["sdpa"] and mask_B1TT.device.type == "cpu":
        setattr(mask_B1TT, _BLOCKS, query_blocks(may_attend_BTT))
    if backend == BACKENDS["eager"]:
        blocked = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=mask_B1TT.device)
        return torch.where(mask_B1TT, torch.zeros_like(blocked), blocked)
    return mask_B1TT


def skips_hidden(model: Any) -> bool:
    """Whether attention computes only blocks with visible keys, so that trees may share one long row at no cost."""
    backend = model.config.get_text_config()._attn_implementation
    return bool(backend == BACKENDS["flex"] or (model.device.type == "cpu" and backend == BACKENDS["sdpa"]))


def blocks_of(mask: torch.Tensor | None) -> Rows | None:
    """The blocks that `native_mask` cut a mask into. None for any other mask."""
    return getattr(mask, _BLOCKS, None)


def sign_receipt(module: torch.nn.Module, mask: torch.Tensor | None) -> None:
    """Note in the receipt, if there is one, that an attention module received a mask.

    Raises:
        ModelError: it is another mask than the one that the model was given.
    """
    receipt = _receipt.get()
    if receipt is not None:
        receipt.sign(module, mask)


def _sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    sign_receipt(module, attention_mask)
    rows = blocks_of(attention_mask)
    plain = not options.get("dropout") and options.get("softcap") is None and options.get("position_bias") is None
    if rows is not None and plain:
        scale = options.get("scaling")
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        return BlockAttention.apply(query, key, value, rows, scale), None  # type: ignore[no-untyped-call]
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return output, None


def _eager(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    sign_receipt(module, attention_mask)
    unknown = [name for name in ("s_aux", "position_bias", "sinks") if options.get(name) is not None]
    if unknown:
        raise ModelError(
            f"{type(module).__name__} needs {unknown[0]}, which eager attention here does not support",
            "Use another model.",
        )
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    weights = query @ key.transpose(2, 3) * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    if softcap is not None:
        weights = torch.tanh(weights / softcap) * softcap
    if attention_mask is not None:
        weights = weights + attention_mask
    # Softmax in at least float32, as models were trained. float64 is kept, so that proofs in float64 are exact.
    precise = torch.promote_types(weights.dtype, torch.float32)
    weights = torch.softmax(weights, dim=-1, dtype=precise).to(value.dtype)
    weights = torch.nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


AttentionInterface.register(BACKENDS["sdpa"], _sdpa)
AttentionInterface.register(BACKENDS["eager"], _eager)
AttentionMaskInterface.register(BACKENDS["sdpa"], sdpa_mask)
AttentionMaskInterface.register(BACKENDS["eager"], eager_mask)
