"""FlexAttention over packed trees: a fused GPU kernel that skips hidden blocks and never holds the T x T mask.

This is one more backend beside those of `attention.py`, with the same receipts. Where the kernel cannot run (with a
prefix cache, in float64 on a GPU, for gradients on a CPU) it gets a dense mask and attends through SDPA. A model that
needs what the kernel would leave out (softcapping, sinks, dropout) is refused.

Not covered: the compiled kernels run on a GPU only. On a CPU the same operator runs unfused and has no backward pass.

Letters: B rows, T tokens of a row, S tokens of a row padded to whole blocks, N blocks of a row, H heads, D size of a
head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from palmette.errors import ModelError
from palmette.model.attention import BACKENDS, sign_receipt
from palmette.tree.batch import PackedBatch

BACKEND = BACKENDS["flex"]
BLOCK_SIZE = 128
# A kernel for one shape is the fastest, but takes seconds to compile. Beyond this many shapes, a run shares one kernel
# for any shape.
NUM_OWN_KERNELS = 16

# Triton multiplies blocks of at least this width, and needs GPUs of at least this generation.
_LEAST_HEAD_SIZE, _LEAST_CAPABILITY = 16, (7, 0)
_WAY_OUT = "Set model.attention: sdpa."
# Options that change scores or weights and that the kernel lacks, with the backend that has them.
_UNKNOWN = {"softcap": "eager", "position_bias": "sdpa", "s_aux": None, "sinks": None}


def tree_block_mask(subtree_end_BT: torch.Tensor, attend_BT: torch.Tensor, block_size: int = BLOCK_SIZE) -> BlockMask:
    """The attention mask of packed trees as FlexAttention takes it, built without a mask of single tokens.

    Two numbers of a block of keys tell which queries need it: how far its most visible token can be seen, and how far
    its least visible one can. Trunk [5, 6] with the branches [7, 8] and [9], then padding:

    >>> end, attend = torch.tensor([[5, 5, 4, 4, 5, 6]]), torch.tensor([[True] * 5 + [False]])
    >>> mask = tree_block_mask(end, attend, block_size=2)
    >>> print(mask.to_dense()[0, 0].numpy())
    [[1 0 0]
     [1 1 0]
     [1 0 1]]
    >>> [row[:count] for row, count in zip(mask.full_kv_indices[0, 0].tolist(), mask.full_kv_num_blocks[0, 0].tolist())]
    [[], [0], []]

    Args:
        subtree_end_BT: one past the last index of the subtree of the token's node (int64).
        attend_BT: attend mask (bool), False in the padding.
        block_size: tokens of a block. The kernels take multiples of 16.

    Returns:
        A mask of S x S tokens for each row. The tokens after T see only themselves.
    """
    # How far others can see a token. A token that others may not look at is seen only by itself, as the padding is.
    seen_until_BS = pad(torch.where(attend_BT, subtree_end_BT, 0), (0, -attend_BT.shape[1] % block_size)).int()

    def may_attend(b: torch.Tensor, h: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
        return (i == j) | ((j <= i) & (i < seen_until_BS[b, j]))

    blocks = seen_until_BS.view(len(seen_until_BS), -1, block_size)
    first_N = torch.arange(0, seen_until_BS.shape[1], block_size, device=attend_BT.device)
    earlier_NN = first_N[None, :] < first_N[:, None]
    seen_BNN = earlier_NN & (blocks.amax(dim=2)[:, None, :] > first_N[:, None])
    full_BNN = earlier_NN & (blocks.amin(dim=2)[:, None, :] >= first_N[:, None] + block_size)
    # On the diagonal every token sees itself and none after it, so such a block is neither empty nor full.
    partial_BNN = (seen_BNN & ~full_BNN) | (first_N[None, :] == first_N[:, None])
    return BlockMask.from_kv_blocks(
        *_listed(partial_BNN), *_listed(full_BNN), BLOCK_SIZE=block_size, mask_mod=may_attend
    )


def _listed(chosen_BNN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The number of key blocks that each query block needs, [B, 1, N], and all blocks, those first, [B, 1, N, N]."""
    chosen = chosen_BNN[:, None].to(torch.int32)
    return chosen.sum(dim=-1, dtype=torch.int32), chosen.argsort(dim=-1, descending=True, stable=True).int()


def tree_mask(batch: PackedBatch, dtype: torch.dtype) -> BlockMask | torch.Tensor:
    """The mask of a batch for this backend: a block mask where the kernel can run, else dense, [B, T, T], for SDPA.

    Args:
        batch: the packed trees, on the model's device.
        dtype: dtype of the model.
    """
    on_cpu = batch.token_BT.device.type == "cpu"
    if torch.is_grad_enabled() if on_cpu else dtype == torch.float64:
        return batch.may_attend_BTT()
    return tree_block_mask(batch.subtree_end_BT, batch.attend_BT)


def receipt_of(mask: BlockMask | torch.Tensor) -> torch.Tensor:
    """The tensor that identifies a mask in a receipt. No other mask holds the same one."""
    return mask.kv_indices if isinstance(mask, BlockMask) else mask


def flex_refusal(model: Any, device: str) -> str | None:
    """The reason why this backend cannot serve a model on a device. None if it can.

    Args:
        model: a causal language model.
        device: "cuda" or "cpu", where the model will run.
    """
    config = model.config.get_text_config()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    if device != "cuda":
        return "flex attention has no backward pass on a CPU"
    if find_spec("triton") is None or torch.cuda.get_device_capability() < _LEAST_CAPABILITY:
        return "flex attention needs Triton, and a GPU that it supports"
    if not getattr(base, "_supports_flex_attn", False):
        return f"transformers does not support flex attention in {type(base).__name__}"
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "its attention scores are capped"
    if any(name.endswith(".sinks") for name, _ in model.named_parameters()):
        return "its attention has sinks"
    if head_size < _LEAST_HEAD_SIZE:
        return f"its heads have {head_size} components, less than the {_LEAST_HEAD_SIZE} that the kernel takes"
    if model.dtype == torch.float64:
        return "the kernel does not compute in float64"
    return None


def use_flex(model: Any, device: str, *, required: bool) -> None:
    """Switch a loaded model to this backend if it can serve the model. Else leave the model as it is.

    Args:
        model: a causal language model, with or without an adapter, on its device.
        device: "cuda" or "cpu".
        required: whether it is an error if the backend cannot serve the model.

    Raises:
        ModelError: the backend is required and cannot serve the model.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    refusal = flex_refusal(model, device)
    if refusal is None:
        base.set_attn_implementation(BACKEND)
    elif required:
        raise ModelError(f"{type(base).__name__} cannot run flex attention here: {refusal}", _WAY_OUT)


def flex(
    query_BHTD: torch.Tensor,
    key_BHTD: torch.Tensor,
    value_BHTD: torch.Tensor,
    mask: BlockMask,
    scaling: float | None = None,
) -> torch.Tensor:
    """Scaled dot-product attention under a block mask, [B, H, T, D].

    Args:
        query_BHTD: queries.
        key_BHTD: keys of the same tokens. They may have fewer heads, each shared by a group of query heads.
        value_BHTD: values, with as many heads as the keys. Their D may be another.
        mask: block mask from `tree_block_mask`, for rows of T tokens.
        scaling: factor of the scores, 1 / sqrt(D) if None.

    Raises:
        ModelError: the mask is for rows of another length, gradients are needed on a CPU, or the kernel cannot be
            compiled.
    """
    num_tokens, missing = query_BHTD.shape[2], mask.shape[-1] - query_BHTD.shape[2]
    if key_BHTD.shape[2] != num_tokens or not 0 <= missing < mask.BLOCK_SIZE[0]:
        raise ModelError(
            f"flex attention got {num_tokens} queries, {key_BHTD.shape[2]} keys and a mask for {mask.shape[-1]} tokens",
            "Use a dense mask with cached keys.",
        )
    inputs = (query_BHTD, key_BHTD, value_BHTD)
    if query_BHTD.device.type == "cpu" and torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        raise ModelError("flex attention has no backward pass on a CPU", _WAY_OUT)
    # Whole blocks only. Kernels for partial blocks are the least tested ones, and there are fewer shapes this way.
    query, key, value = (pad(tensor, (0, 0, 0, missing)) if missing else tensor for tensor in inputs)
    try:
        attended = _kernel(query, key)(query, key, value, block_mask=mask, scale=scaling, enable_gqa=True)
    except (TorchDynamoException, FailOnRecompileLimitHit) as error:
        cause = getattr(error, "inner_exception", error)
        reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        raise ModelError(f"flex attention cannot be compiled for this model here: {reason}", _WAY_OUT) from error
    return attended[:, :, :num_tokens]


_own_shapes: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()


def _kernel(query: torch.Tensor, key: torch.Tensor) -> Callable[..., torch.Tensor]:
    """The compiled operator for these shapes. On a CPU it is only traced: compiling takes longer than it saves."""
    shapes = (tuple(query.shape), tuple(key.shape))
    if len(_own_shapes) < NUM_OWN_KERNELS:
        _own_shapes.add(shapes)
    return _compiled("eager" if query.device.type == "cpu" else "inductor", dynamic=shapes not in _own_shapes)


@cache
def _compiled(backend: str, *, dynamic: bool) -> Callable[..., torch.Tensor]:
    # With fullgraph torch raises past the limit. Without it torch would fall back to the unfused operator, which holds
    # all scores. A tree's mask is an input, so another tree of the same shape needs no new kernel.
    limits: dict[str, Any] = {"recompile_limit": 128, "isolate_recompiles": True}
    compiled: Callable[..., torch.Tensor] = torch.compile(
        flex_attention, backend=backend, dynamic=dynamic, fullgraph=True, **limits
    )
    return compiled


def _flex(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: BlockMask | torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    sign_receipt(module, None if attention_mask is None else receipt_of(attention_mask))
    for name, backend in _UNKNOWN.items():
        if options.get(name) is not None:
            way_out = f"Set model.attention: {backend}." if backend else "Use another model."
            raise ModelError(
                f"{type(module).__name__} needs {name}, which flex attention here does not support", way_out
            )
    if not isinstance(attention_mask, BlockMask):
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return output, None
    if dropout:
        raise ModelError(
            f"{type(module).__name__} drops attention weights, which flex attention does not",
            "Set model.overrides: {attention_dropout: 0.0}.",
        )
    return flex(query, key, value, attention_mask, scaling).transpose(1, 2).contiguous(), None


AttentionInterface.register(BACKEND, _flex)
AttentionMaskInterface.register(BACKEND, sdpa_mask)
