"""The forward pass over a packed batch, with logits at chosen positions only.

Letters: B rows, T tokens of a row, C keys (the cached ones and the row's own), P scored tokens, Q distinct positions
that predict them, V vocabulary, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask

from palmette.errors import ModelError, PackingError, TooLongError
from palmette.model.attention import BACKENDS, expect_mask, native_mask
from palmette.model.flex import receipt_of, tree_mask
from palmette.tree.batch import PackedBatch

_ROWS = 64  # rows of logits that are processed at once


@dataclass(frozen=True)
class TokenScores:
    """Log-probabilities of chosen tokens.

    Attributes:
        row_P, column_P: rows and columns of the tokens in the batch.
        logprob_P: log-probability of each token, given the tokens before it on its branch (nats).
    """

    row_P: torch.Tensor
    column_P: torch.Tensor
    logprob_P: torch.Tensor


def score_tokens(model: Any, batch: PackedBatch, selected_BT: torch.Tensor | None = None) -> TokenScores:
    """Score tokens of a packed batch in one forward pass.

    Args:
        model: a causal language model loaded with one of our attention backends.
        batch: the packed trees, on the model's device.
        selected_BT: which tokens to score (bool), the learned ones if None.

    Raises:
        PackingError: no token is selected, or a selected token has no predictor.
        ModelError: the model's attention did not receive the mask, or its sliding window is shorter than a branch.
    """
    return score_with_states(model, batch, selected_BT)[0]


def score_with_states(
    model: Any, batch: PackedBatch, selected_BT: torch.Tensor | None = None
) -> tuple[TokenScores, torch.Tensor]:
    """As `score_tokens`, with the hidden states [P, D] that predicted the tokens, as the output layer reads them."""
    selected_BT = batch.learn_BT != 0 if selected_BT is None else selected_BT
    row_P, column_P = selected_BT.nonzero(as_tuple=True)
    predictor_P = batch.predictor_BT[row_P, column_P]
    if not len(row_P):
        raise PackingError("no token of the batch is learned or scored", "Give the tree an answer to learn.")
    if bool((predictor_P < 0).any()):
        raise PackingError("a scored token is the first of its tree: nothing predicts it", "Leave it out.")
    flat_Q, inverse_P = torch.unique(row_P * batch.token_BT.shape[1] + predictor_P, return_inverse=True)
    mask = _mask_of(model, batch)
    with _output_at(model, flat_Q) as states:
        logits_QV: torch.Tensor = _masked_forward(model, batch.token_BT, batch.position_BT, mask).logits[0]
    token_P = batch.token_BT[row_P, column_P]
    logprob_P: torch.Tensor = _Logprobs.apply(logits_QV, inverse_P, token_P)  # type: ignore[no-untyped-call]
    return TokenScores(row_P, column_P, logprob_P), states[0][inverse_P]


class _Logprobs(torch.autograd.Function):
    """Log-probabilities [P] of tokens under logits [Q, V], in at least float32, a few rows at a time.

    Logits are large: a vocabulary for each scored token. The forward pass allocates nothing else of their size, and the
    backward pass one gradient in their dtype.
    """

    @staticmethod
    def forward(ctx: Any, logits_QV: torch.Tensor, inverse_P: torch.Tensor, token_P: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the tokens. `inverse_P` is the row of each scored token in the logits."""
        wide = torch.promote_types(logits_QV.dtype, torch.float32)
        total_Q = torch.cat([torch.logsumexp(rows.to(wide), dim=-1) for rows in torch.split(logits_QV, _ROWS)])
        ctx.save_for_backward(logits_QV, total_Q, inverse_P, token_P)
        return logits_QV[inverse_P, token_P].to(wide) - total_Q[inverse_P]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """The gradient of the logits: (is the token) - probability, summed over the tokens that a row predicts."""
        logits_QV, total_Q, inverse_P, token_P = ctx.saved_tensors
        weight_Q = torch.zeros_like(total_Q).index_add_(0, inverse_P, grads[0])
        grad_QV = torch.empty_like(logits_QV)
        for start in range(0, len(logits_QV), _ROWS):
            rows = slice(start, start + _ROWS)
            part = (logits_QV[rows] - total_Q[rows, None]).exp_().mul_(-weight_Q[rows, None])
            here = (inverse_P >= start) & (inverse_P < start + _ROWS)
            part.index_put_((inverse_P[here] - start, token_P[here]), grads[0][here], accumulate=True)
            grad_QV[rows] = part
        return grad_QV, None, None


def logits_at(model: Any, batch: PackedBatch, flat_Q: torch.Tensor) -> torch.Tensor:
    """Logits [Q, V] at flat positions (row * T + column) of a packed batch."""
    mask = _mask_of(model, batch)
    return masked_logits(model, batch.token_BT, batch.position_BT, mask, flat_Q)


def stock_logits_at(model: Any, batch: PackedBatch, flat_Q: torch.Tensor) -> torch.Tensor:
    """As `logits_at`, but with the model's own layers and transformers' attention, under a dense mask.

    Neither fused layers, nor attention in blocks, nor the flex kernel takes part.
    """
    check_positions(model, batch.max_position + 1, "a branch")
    with _output_at(model, flat_Q):
        output = _masked_forward(model, batch.token_BT, batch.position_BT, batch.may_attend_BTT(), in_blocks=False)
    logits: torch.Tensor = output.logits[0]
    return logits


def hidden_at(model: Any, batch: PackedBatch, flat_Q: torch.Tensor) -> torch.Tensor:
    """Hidden states [Q, D] at flat positions (row * T + column) of a packed batch, as the output layer reads them.

    Arguments and errors are those of `logits_at`. No logits are computed, and no gradient reaches the output layer.
    """
    mask = _mask_of(model, batch)
    with _output_at(model, flat_Q, states_only=True) as states:
        _masked_forward(model, batch.token_BT, batch.position_BT, mask)
    return states[0]


def _mask_of(model: Any, batch: PackedBatch) -> torch.Tensor | BlockMask:
    """A batch's mask in the form that the model's backend takes. Its branches must fit into the model's context."""
    check_positions(model, batch.max_position + 1, "a branch")
    flex = model.config.get_text_config()._attn_implementation == BACKENDS["flex"]
    return tree_mask(batch, model.dtype) if flex else batch.may_attend_BTT()


def masked_logits(
    model: Any,
    token_BT: torch.Tensor,
    position_BT: torch.Tensor,
    may_attend_BTC: torch.Tensor | BlockMask,
    flat_Q: torch.Tensor,
    past_key_values: Any = None,
) -> torch.Tensor:
    """Logits [Q, V] at flat positions of rows of tokens, under an explicit mask.

    Args:
        model: a causal language model loaded with one of our attention backends.
        token_BT: token ids.
        position_BT: depth of each token along its branch.
        may_attend_BTC: which keys each token may look at, the cached ones, then the row's own. Or a block mask, where
            nothing is cached.
        flat_Q: positions, row * T + column.
        past_key_values: a transformers cache with the earlier keys, if there are any.

    Raises:
        ModelError: the model's attention is not one of our backends, or did not receive the mask.
    """
    return masked_logits_with_hidden(model, token_BT, position_BT, may_attend_BTC, flat_Q, past_key_values)[0]


def masked_logits_with_hidden(
    model: Any,
    token_BT: torch.Tensor,
    position_BT: torch.Tensor,
    may_attend_BTC: torch.Tensor | BlockMask,
    flat_Q: torch.Tensor,
    past_key_values: Any = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `masked_logits`, with the hidden states [Q, D] at these positions, as the output layer reads them."""
    with _output_at(model, flat_Q) as states:
        output = _masked_forward(model, token_BT, position_BT, may_attend_BTC, past_key_values)
    return output.logits[0], states[0]


def _masked_forward(
    model: Any,
    token_BT: torch.Tensor,
    position_BT: torch.Tensor,
    may_attend_BTC: torch.Tensor | BlockMask,
    past_key_values: Any = None,
    *,
    in_blocks: bool = True,
) -> Any:
    """The model's own output for rows of tokens under an explicit mask, whose arrival is checked.

    Arguments and errors as for `masked_logits`. `in_blocks` is explained at `native_mask`.
    """
    backend = model.config.get_text_config()._attn_implementation
    name = model_name(model)
    if backend not in BACKENDS.values():
        raise ModelError(
            f"{name} runs the attention backend {backend!r}, which is not known to honour a tree's mask",
            f"Load it with palmette, or call model.set_attn_implementation({BACKENDS['sdpa']!r}).",
        )
    mask_B1TC: torch.Tensor | BlockMask = may_attend_BTC
    if not isinstance(may_attend_BTC, BlockMask):
        mask_B1TC = native_mask(may_attend_BTC, backend, model.dtype, in_blocks=in_blocks)
    with expect_mask(receipt_of(mask_B1TC), name, num_layers(model)):
        return model(
            input_ids=token_BT,
            attention_mask=mask_B1TC,
            position_ids=position_BT,
            past_key_values=past_key_values,
            use_cache=past_key_values is not None,
        )


def branch_logprobs(batch: PackedBatch, scores: TokenScores) -> list[dict[tuple[str, str], torch.Tensor]]:
    """Sum of the scored log-probabilities along each branch, row by row: {(tree, leaf): scalar}."""
    result = []
    for index, row in enumerate(batch.rows):
        here = scores.row_P == index
        node_P = batch.node_BT[index, scores.column_P[here]]
        sums = scores.logprob_P.new_zeros(len(row.nodes)).index_add(0, node_P, scores.logprob_P[here])
        totals: list[torch.Tensor] = []
        for node, parent in enumerate(row.parents):
            totals.append(sums[node] if parent < 0 else totals[parent] + sums[node])
        leaves = set(range(len(row.nodes))) - set(row.parents)
        result.append({row.nodes[leaf]: totals[leaf] for leaf in sorted(leaves)})
    return result


def model_name(model: Any) -> str:
    """The name of a model in messages: its class, and its origin if the model names one."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    origin = getattr(model.config, "_name_or_path", "") or ""
    return f"{type(base).__name__} ({origin})" if origin else type(base).__name__


def num_layers(model: Any) -> int:
    """The number of layers with attention."""
    return int(model.config.get_text_config().num_hidden_layers)


def check_positions(model: Any, num_positions: int, what: str) -> None:
    """Refuse branches that the model would read differently in a row of their own.

    Args:
        model: a causal language model.
        num_positions: number of tokens of the longest branch, or of a prompt with its completion.
        what: what is that long, for the message.

    Raises:
        TooLongError: the model has fewer positions. Or its sliding window is shorter, which the explicit mask would
            replace. Or its rotary frequencies change for a whole batch once one branch is that long.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    limits = [(getattr(config, "max_position_embeddings", None), "the length of its context")]
    limits.append((window, "a sliding window of that many tokens"))
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("longrope", "dynamic"):
        reach = rope.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", None
        )
        limits.append((reach, f"{rope['rope_type']} frequencies up to there"))
    for limit, why in limits:
        if limit is not None and num_positions > limit:
            raise TooLongError(
                f"{what} needs {num_positions} positions, and the limit of {model_name(model)} is {limit}: {why}",
                "Split the document, or use a model with a longer context and full attention.",
            )


@contextmanager
def _output_at(model: Any, flat_Q: torch.Tensor, *, states_only: bool = False) -> Iterator[list[torch.Tensor]]:
    """Within the block, the output layer gets only the hidden states at these flat positions, as [1, Q, D].

    After the model has run, the list holds them as [Q, D]. With `states_only` the output layer gets none of them.
    """
    states: list[torch.Tensor] = []

    def pick(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden_BTD, *rest = inputs
        hidden_QD = hidden_BTD.flatten(0, 1)[flat_Q]
        states.append(hidden_QD)
        if states_only:
            hidden_QD = hidden_QD.detach()[:0]
        return (hidden_QD[None], *rest)

    handle = model.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        yield states
    finally:
        handle.remove()


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Within the block the model is in evaluation mode. Afterwards every part is in its former mode again."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
