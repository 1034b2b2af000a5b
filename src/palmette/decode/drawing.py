"""Draws tokens from a model's distribution: temperature, and nucleus sampling (Holtzman et al., 2020).

Letters: R rows, V vocabulary, K the likeliest tokens.
"""

from __future__ import annotations

import torch

# A nucleus is mostly within so many tokens. Sorting a whole vocabulary takes longer than a pass of a small model.
_LIKELIEST = 512


def draw(
    logits_RV: torch.Tensor, uniform_R: torch.Tensor, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw one token for each row of logits.

    Args:
        logits_RV: logits of the model.
        uniform_R: a random number for each row, 0 or more and below 1, in float64.
        temperature: divisor of the logits. 0 takes the likeliest token.
        top_p: tokens are drawn from the smallest set of likeliest tokens whose probability at this temperature reaches
            it. The likeliest token is always in the set.

    Returns:
        Three tensors [R]: the tokens, their log-probabilities under the softmax of the logits (in at least float32, as
        in `palmette.model.forward.score_tokens`), and their log-probabilities under the distribution that they were
        drawn from.
    """
    wide_RV = logits_RV.to(torch.promote_types(logits_RV.dtype, torch.float32))
    if temperature == 0:
        token_R = wide_RV.argmax(dim=-1)
        sampling_logprob_R = torch.zeros_like(uniform_R)
    else:
        probability_RV = torch.softmax(wide_RV.double() / temperature, dim=-1)
        if top_p < 1:
            probability_RV = _nucleus(probability_RV, top_p)
        reached_RV = probability_RV.cumsum(dim=-1)
        total_R = reached_RV[:, -1]
        point_R = torch.minimum(uniform_R * total_R, torch.nextafter(total_R, torch.zeros_like(total_R)))
        # The first token whose cumulative probability is above the point. Its own probability is above 0.
        token_R = torch.searchsorted(reached_RV, point_R[:, None], right=True)[:, 0].clamp(max=wide_RV.shape[1] - 1)
        sampling_logprob_R = (probability_RV.gather(1, token_R[:, None])[:, 0] / total_R).log()
    logprob_R = wide_RV.gather(1, token_R[:, None])[:, 0] - torch.logsumexp(wide_RV, dim=-1)
    return token_R, logprob_R, sampling_logprob_R


def _nucleus(probability_RV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Probabilities, set to 0 outside the smallest set of likeliest tokens that reaches `top_p`.

    Among equally likely tokens, those with lower ids come first.
    """
    value_RK = probability_RV.topk(min(_LIKELIEST, probability_RV.shape[1])).values
    if bool((value_RK.sum(dim=-1) < top_p).any()):
        value_RK = probability_RV.sort(dim=-1, descending=True).values
    kept_RK = torch.nn.functional.pad(value_RK.cumsum(dim=-1)[:, :-1], (1, 0)) < top_p
    border_R1 = value_RK.gather(1, kept_RK.sum(dim=-1, keepdim=True) - 1)
    num_equal_R1 = (kept_RK & (value_RK == border_R1)).sum(dim=-1, keepdim=True)
    equal_RV = probability_RV == border_R1
    kept_RV = (probability_RV > border_R1) | (equal_RV & (equal_RV.cumsum(dim=-1) <= num_equal_R1))
    return probability_RV * kept_RV
