"""A whole Llama-like layer as one operation with its own gradient: fewer passes over memory, and less memory held.

A stock layer runs some forty small operations, each of which reads and writes all activations. On a CPU they cost as
much as the matrix products. Here elementwise operations are single sweeps (`kernels`), the matrix products add low-rank
updates themselves, query, key and value share one product for their low-rank inputs, and attention goes block by block
(`blocks`). The function is that of the stock layer, with fewer intermediate results that are rounded.

`fusible` decides which layers may run this way. What the backward
pass needs of the forward pass is called `saved` below.

Letters: B rows, T tokens, N = B * T, H heads, G key heads, D size of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch

from palmette.model.attention import BACKENDS, blocks_of, sign_receipt
from palmette.model.blocks import Rows, attend, attend_backward
from palmette.model.fusible import ATTENTION, FAMILIES, MLP, epsilon, fusible, is_lora_linear
from palmette.model.kernels import Kernels, kernels_for


@dataclass(frozen=True)
class Projection:
    """A linear layer, with its active low-rank update if there is one.

    Attributes:
        weight: [out, in].
        bias: [out], or None.
        down: LoRA's A, [rank, in], or None.
        up: LoRA's B, [out, rank], or None.
        scaling: factor of the update.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    down: torch.Tensor | None = None
    up: torch.Tensor | None = None
    scaling: float = 1.0

    @classmethod
    def of(cls, module: Any) -> Projection:
        """A module as a projection, with the adapter that is active now."""
        if not is_lora_linear(module):
            return cls(module.weight, module.bias)
        base = module.get_base_layer()
        if module.disable_adapters or module.merged:
            return cls(base.weight, base.bias)
        (name,) = module.active_adapters
        down, up = module.lora_A[name].weight, module.lora_B[name].weight
        return cls(base.weight, base.bias, down, up, module.scaling[name])

    @property
    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        """The tensors that may be trained."""
        return self.weight, self.bias, self.down, self.up


def _project(x: torch.Tensor, group: Sequence[Projection]) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Outputs [N, out] of projections of the same x [N, in], and their scaled low-rank inputs side by side."""
    outputs = [
        torch.mm(x, one.weight.t()) if one.bias is None else torch.addmm(one.bias, x, one.weight.t()) for one in group
    ]
    if not _ranks(group):
        return outputs, None
    low = torch.mm(x, _downs(group).t())
    adapted = [(y, one) for y, one in zip(outputs, group, strict=True) if one.up is not None]
    for (y, one), part in zip(adapted, _parts(low, group), strict=True):
        assert one.up is not None
        if one.scaling != 1:
            part.mul_(one.scaling)
        y.addmm_(part, one.up.t())
    return outputs, low


def _low_backward(
    grads: Sequence[torch.Tensor], low: torch.Tensor | None, group: Sequence[Projection]
) -> torch.Tensor | None:
    """The gradients of the unscaled low-rank inputs, side by side, given those of the projections' outputs."""
    if low is None:
        return None
    grad_low = torch.empty_like(low)
    adapted = [(grad, one) for grad, one in zip(grads, group, strict=True) if one.up is not None]
    for (grad, one), part in zip(adapted, _parts(grad_low, group), strict=True):
        assert one.up is not None
        torch.mm(grad, one.up, out=part)
        if one.scaling != 1:
            part.mul_(one.scaling)
    return grad_low


def _input_backward(
    grads: Sequence[torch.Tensor], grad_low: torch.Tensor | None, group: Sequence[Projection]
) -> torch.Tensor:
    """The gradient of the projections' input, [N, in]."""
    grad_x = torch.mm(grads[0], group[0].weight)
    for grad, one in zip(grads[1:], group[1:], strict=True):
        grad_x.addmm_(grad, one.weight)
    return grad_x if grad_low is None else grad_x.addmm_(grad_low, _downs(group))


def _trained_backward(
    grads: Sequence[torch.Tensor],
    x: torch.Tensor,
    low: torch.Tensor | None,
    grad_low: torch.Tensor | None,
    group: Sequence[Projection],
) -> list[torch.Tensor | None]:
    """The gradients of the projections' `tensors` in order. None for a tensor that is not trained."""
    trained: list[torch.Tensor | None] = []
    ups: Iterator[torch.Tensor] = iter(())
    downs: Iterator[torch.Tensor] = iter(())
    if low is not None and grad_low is not None:
        ups = iter(_parts(low, group))
        downs = iter(torch.split(grad_low.t() @ x, _ranks(group)))
    for grad, one in zip(grads, group, strict=True):
        trained.append(grad.t() @ x if one.weight.requires_grad else None)
        trained.append(grad.sum(0) if one.bias is not None and one.bias.requires_grad else None)
        adapted = one.up is not None
        trained.append(next(downs) if adapted else None)
        trained.append((next(ups).t() @ grad).t() if adapted else None)  # faster than its transpose
    return trained


def _downs(group: Sequence[Projection]) -> torch.Tensor:
    downs = [one.down for one in group if one.down is not None]
    return downs[0] if len(downs) == 1 else torch.cat(downs)


def _parts(low: torch.Tensor, group: Sequence[Projection]) -> tuple[torch.Tensor, ...]:
    return torch.split(low, _ranks(group), dim=1)


def _ranks(group: Sequence[Projection]) -> list[int]:
    return [len(one.down) for one in group if one.down is not None]


@dataclass(frozen=True)
class Layer:
    """The tensors and settings of a layer at one moment.

    Attributes:
        kernels: the elementwise operations.
        norms: weight and epsilon of the norm before attention, then of the norm before the MLP.
        attention: query, key, value, output.
        mlp: gate, up, down.
        head_size: D.
        scale: factor of attention scores.
    """

    kernels: Kernels
    norms: tuple[tuple[torch.Tensor, float], tuple[torch.Tensor, float]]
    attention: tuple[Projection, ...]
    mlp: tuple[Projection, ...]
    head_size: int
    scale: float

    @classmethod
    def of(cls, module: Any) -> Layer:
        """A module as a layer, with the adapters that are active now."""
        norms = [(norm.weight, epsilon(norm)) for norm in (module.input_layernorm, module.post_attention_layernorm)]
        attention, weight = module.self_attn, module.input_layernorm.weight
        return cls(
            kernels_for(weight.dtype, weight.device.type),
            (norms[0], norms[1]),
            tuple(Projection.of(getattr(attention, name)) for name in ATTENTION),
            tuple(Projection.of(getattr(module.mlp, name)) for name in MLP),
            attention.head_dim,
            attention.scaling,
        )

    def tensors(self) -> list[torch.Tensor | None]:
        """The tensors that may be trained: those of the norms, then those of the projections."""
        projections = [tensor for one in (*self.attention, *self.mlp) for tensor in one.tensors]
        return [self.norms[0][0], self.norms[1][0], *projections]

    def queries(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[Any, ...]]:
        """Rotated queries [B, H, T, D], rotated keys and values [B, G, T, D], and what the backward pass needs."""
        normed, inverse = self.kernels.rms_norm(x, *self.norms[0])
        (query, key, value), low = _project(normed.flatten(0, 1), self.attention[:3])
        shape = (*x.shape[:2], -1, self.head_size)
        query, key = (self.kernels.rotate(y.view(shape), cos, sin) for y in (query, key))
        return query, key, value.view(shape).transpose(1, 2), (normed, inverse, low)

    def after_attention(self, x: torch.Tensor, attended: torch.Tensor) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """The layer's output and what the backward pass needs, given its input and its heads' output, [N, ...]."""
        (middle,), low_out = _project(attended, self.attention[3:])
        middle.add_(x)  # last, since the residual is large and each sum with it is rounded to its size
        normed, inverse = self.kernels.rms_norm(middle, *self.norms[1])
        (gate, up), low = _project(normed, self.mlp[:2])
        (output,), low_down = _project(self.kernels.swiglu(gate, up), self.mlp[2:])
        return output.add_(middle), (low_out, middle, normed, inverse, low, gate, up, low_down)


class FusedLayer(torch.autograd.Function):
    """A layer over rows of tokens, under a mask in blocks."""

    @staticmethod
    def forward(
        ctx: Any, layer: Layer, rows: Rows, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *_tensors: Any
    ) -> torch.Tensor:
        """The layer's output, [B, T, hidden]. The last arguments are `layer.tensors()`, which gradients must reach."""
        query, key, value, first = layer.queries(x, cos, sin)
        attended, saved = attend(layer.kernels, query, key, value, rows, layer.scale)
        output, second = layer.after_attention(x.flatten(0, 1), attended.flatten(2).flatten(0, 1))
        ctx.layer, ctx.rows = layer, rows
        ctx.save_for_backward(x, cos, sin, query, key, value, attended, *first, *second, *saved)
        return output.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x and of the tensors that are trained."""
        layer, kernels = ctx.layer, ctx.layer.kernels
        x, cos, sin, query, key, value, attended, normed, inverse, low, *rest = ctx.saved_tensors
        second, saved = rest[:8], rest[8:]
        total, grad_attended, second_norm, *trained = _after_attention_backward(
            layer, grads[0].flatten(0, 1).contiguous(), attended.flatten(2).flatten(0, 1), second
        )
        parts = attend_backward(
            kernels, grad_attended.view_as(attended), query, key, value, ctx.rows, saved, layer.scale
        )
        turned = [*(kernels.rotate_backward(part, cos, sin) for part in parts[:2]), parts[2].transpose(1, 2)]
        flat, group = [part.reshape(len(total), -1) for part in turned], layer.attention[:3]
        grad_low = _low_backward(flat, low, group)
        trained = [*_trained_backward(flat, normed.flatten(0, 1), low, grad_low, group), *trained]
        norm, first_norm = layer.norms[0][0], None
        if ctx.needs_input_grad[2] or norm.requires_grad:
            grad_normed = _input_backward(flat, grad_low, group)
            first_norm = _norm_backward(kernels, grad_normed, x.flatten(0, 1), norm, inverse.flatten(), total)
        grad_x = total.view_as(x) if ctx.needs_input_grad[2] else None
        return None, None, grad_x, None, None, first_norm, second_norm, *trained


def _after_attention_backward(
    layer: Layer, grad: torch.Tensor, attended: torch.Tensor, saved: Sequence[torch.Tensor]
) -> tuple[Any, ...]:
    """Go back from the gradient of a layer's output [N, hidden] to the output of its heads.

    Returns:
        The gradients of the residual before attention, of the heads' output, of the second norm's weight, and of the
        tensors of the output projection and the MLP.
    """
    low_out, middle, normed, inverse, low, gate, up, low_down = saved
    out, inner, down = layer.attention[3:], layer.mlp[:2], layer.mlp[2:]
    grad_low_down = _low_backward([grad], low_down, down)
    activated = _input_backward([grad], grad_low_down, down)
    inward = layer.kernels.swiglu_backward(gate, up, activated)  # this replaces `activated` with the activation itself
    grad_low = _low_backward(inward, low, inner)
    total = grad.clone()
    norm = _norm_backward(
        layer.kernels, _input_backward(inward, grad_low, inner), middle, layer.norms[1][0], inverse, total
    )
    grad_low_out = _low_backward([total], low_out, out)
    return (
        total,
        _input_backward([total], grad_low_out, out),
        norm,
        *_trained_backward([total], attended, low_out, grad_low_out, out),
        *_trained_backward(inward, normed, low, grad_low, inner),
        *_trained_backward([grad], activated, low_down, grad_low_down, down),
    )


def _norm_backward(
    kernels: Kernels,
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    inverse: torch.Tensor,
    total: torch.Tensor,
) -> torch.Tensor | None:
    """Add the gradient of a norm's input x [N, hidden] to `total`. Returns that of its weight, if it is trained."""
    kernels.rms_norm_backward(grad, x, weight, inverse, total)
    if not weight.requires_grad:
        return None
    return (grad * (x * inverse[:, None])).sum(0).to(weight.dtype)


def _forward(
    module: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    past_key_values: Any = None,
    use_cache: bool | None = False,
    position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
    **options: Any,
) -> torch.Tensor:
    """The forward of a decoder layer. Without blocks on its mask, in generation for example, it is the stock one."""
    rows = blocks_of(attention_mask)
    cached = past_key_values is not None
    if rows is None or position_embeddings is None or (cached and torch.is_grad_enabled()) or not fusible(module):
        output: torch.Tensor = type(module).forward(
            module,
            hidden_states,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            position_embeddings=position_embeddings,
            **options,
        )
        return output
    sign_receipt(module.self_attn, attention_mask)
    layer = Layer.of(module)
    cos, sin = (table.expand(len(hidden_states), -1, -1).contiguous() for table in position_embeddings)
    x = hidden_states.contiguous()
    if not cached:
        inputs = (layer, rows, x, cos, sin, *layer.tensors())
        if module.gradient_checkpointing and module.training:  # the class does this for its own forward only
            return module._gradient_checkpointing_func(FusedLayer.apply, *inputs)  # type: ignore[no-any-return]
        return FusedLayer.apply(*inputs)  # type: ignore[no-any-return, no-untyped-call]
    query, key, value, _ = layer.queries(x, cos, sin)
    key, value = past_key_values.update(key, value, module.self_attn.layer_idx)
    attended, _ = attend(layer.kernels, query, key, value, rows, layer.scale)
    return layer.after_attention(x.flatten(0, 1), attended.flatten(2).flatten(0, 1))[0].view_as(x)


def fuse(model: Any) -> None:
    """Let every layer of a known form run as one operation, also under adapters that are added later.

    Other layers stay as they are. On an accelerator all do: there stock operations are launched asynchronously, and
    attention has kernels of its own.
    """
    for layer in _layers(model):
        if "forward" not in vars(layer):  # else somebody has replaced it
            layer.forward = MethodType(_forward, layer)


def describe(model: Any) -> str:
    """How the layers are computed, for messages and manifests."""
    layers, backend = _layers(model), model.config.get_text_config()._attn_implementation
    count = model.config.get_text_config().num_hidden_layers
    fused = len(layers) == count and all(_is_fused(layer) and fusible(layer) for layer in layers)
    if not fused or backend != BACKENDS["sdpa"]:
        return "stock layers"
    weight = layers[0].input_layernorm.weight
    return f"fused layers with {kernels_for(weight.dtype, weight.device.type).name} kernels"


def kernels_name(model: Any) -> str | None:
    """Which kernels take part: "compiled" or "torch". None where there are none, with other attention or on a GPU.

    Attention in blocks uses them under stock layers too.
    """
    if model.config.get_text_config()._attn_implementation != BACKENDS["sdpa"] or model.device.type != "cpu":
        return None
    return kernels_for(model.dtype, model.device.type).name


def _is_fused(layer: Any) -> bool:
    return getattr(vars(layer).get("forward"), "__func__", None) is _forward


def _layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if type(module) in FAMILIES]
