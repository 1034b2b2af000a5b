"""Proximal policy optimisation of completions: rewards of tokens, clipped losses, and figures to watch.

Letters: P learned tokens (the actions of the policy), N branches (completions), V vocabulary. Rollouts carry three
log-probabilities for each token: `old` under the policy that sampled it, `policy` under the policy that is trained
(equal to `old` before the first update), and `reference`.

Sources: Schulman et al. (2017), "PPO"; Ziegler et al. (2019), called Ziegler below; Ouyang et al. (2022),
"InstructGPT". These functions deviate from them as follows. The training loop lists its own deviations.

1. The reward of a completion goes to its last token, and a KL penalty goes to each token, as in Ziegler's code. With
   the estimator k1 the penalties add up to the paper's -coefficient * log(policy / reference). With k3, an option of
   ours, their sum estimates the same mean.
2. gamma = 1 and lambda = 0.95 by default, as for language in Ziegler's code. PPO discounts its own tasks by 0.99.
3. Advantages are whitened over the learned tokens of all rollouts, before any minibatch is cut. Ziegler's code does so,
   and none of the papers mentions it.
4. Rewards are not whitened or scaled, although Ziegler's code scales them. So the KL coefficient keeps its meaning.
5. The value loss is clipped around the old value and halved, as in OpenAI's code. PPO, equation 9, has the plain
   squared error.
6. Sums over learned tokens are divided by their number in the whole optimizer step, not by completions times a fixed
   length. So long completions weigh more, there is no padding, and cutting a step into micro-batches changes nothing.
7. The KL coefficient may adapt (`AdaptiveKL`, Ziegler, section 2.2). InstructGPT keeps it fixed (0.02). PPO's own
   penalty variant (its section 4), which puts KL(old || policy) into the loss, is not implemented.
8. A completion without an end token gets a penalty or a fixed score (`score_completions`). Ziegler gives a fixed low
   score to completions that lack a full stop where one is due. InstructGPT does not say.
9. No pre-training gradients are mixed in (the last term of InstructGPT, equation 2).
10. Training can stop where the KL divergence is too large (`kl_ran_away`). None of the papers does this.
11. An entropy bonus is possible (PPO, equation 9). It is off by default, as in Ziegler and InstructGPT.

Worked by hand: one completion of two tokens, score 1, coefficient 0.1, gamma 1, lambda 0.95.

    log-probabilities   old (-0.5, -1.0), reference (-0.7, -0.9), so k1 = old - reference = (0.2, -0.1)
    rewards             (-0.1 * 0.2, -0.1 * -0.1 + 1) = (-0.02, 1.01)
    values              (0.2, 0.6)
    delta               (-0.02 + 0.6 - 0.2, 1.01 + 0 - 0.6) = (0.38, 0.41)
    advantages          (0.38 + 0.95 * 0.41, 0.41) = (0.7695, 0.41)
    returns             advantages + values = (0.9695, 1.01)
    whitened            mean 0.58975, standard deviation 0.17975: (1, -1)
    after an update     ratios (1.3, 0.9), clip 0.2: min(1.3, 1.2) = 1.2 and min(-0.9, -0.9) = -0.9
    policy loss         -(1.2 - 0.9) / 2 = -0.15, one of two tokens is clipped, gradient (0, 0.9 / 2)
    new values          (0.5, 0.7), clipped (0.4, 0.7): max(0.4695^2, 0.5695^2) = 0.32433025 and 0.31^2 = 0.0961
    value loss          (0.32433025 + 0.0961) / 2 / 2 = 0.1051075625, gradient (0, (0.7 - 1.01) / 2)

>>> from palmette.objectives.advantages import gae, whiten
>>> numbers = lambda x: [round(float(y), 4) for y in x]
>>> old, reference = torch.tensor([-0.5, -1.0]), torch.tensor([-0.7, -0.9])
>>> branch, value, weight = torch.tensor([0, 0]), torch.tensor([0.2, 0.6]), torch.ones(2)
>>> reward = shape_rewards(torch.tensor([1.0]), old, reference, branch, kl_coefficient=0.1)
>>> advantage, target = gae(reward, value, branch, 1)
>>> numbers(reward), numbers(advantage), numbers(target)
([-0.02, 1.01], [0.7695, 0.41], [0.9695, 1.01])
>>> now = old + torch.tensor([1.3, 0.9]).log()
>>> step = clipped_policy_loss(now, old, whiten(advantage, weight), weight, denominator=2)
>>> numbers([step.loss, step.clip_share])
[-0.15, 0.5]
>>> numbers([clipped_value_loss(torch.tensor([0.5, 0.7]), value, target, weight, denominator=2)])
[0.1051]
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch

from palmette.objectives.branches import check_denominator, last_tokens
from palmette.objectives.kl import Estimator, kl_estimate


@dataclass(frozen=True)
class PolicyLoss:
    """A policy loss, and how far the policy has moved. Each is this micro-batch's share of a figure of the step.

    The shares of a step add up. With a constant denominator, `clip_share` and the KL divergences are shares of the
    possible tokens. Multiply them by denominator / learn weight to get those of the learned tokens.

    Attributes:
        loss: the loss, with gradient.
        clip_share: share of the tokens (of the completions, for RLOO) whose gradient the clip set to 0, weighted as the
            loss.
        old_kl: KL(old || policy) from the sampled tokens by k3, in nats a token (a completion, for RLOO), weighted as
            the loss.
        reference_kl: KL(policy || reference) by k3 (nats a token) where the loss has a KL term, else 0.
    """

    loss: torch.Tensor
    clip_share: torch.Tensor
    old_kl: torch.Tensor
    reference_kl: torch.Tensor


def completions_ended(
    token_P: torch.Tensor, branch_P: torch.Tensor, num_branches: int, end_tokens: Collection[int]
) -> torch.Tensor:
    """Which completions end with an end token [N] (bool).

    Args:
        token_P: ids of the learned tokens. The end token is one of them, since the policy chose it too.
        branch_P: the branch of each token.
        num_branches: N.
        end_tokens: ids that end a completion.

    Raises:
        ValueError: there are no end tokens, or a completion has no token.
    """
    if not end_tokens:
        raise ValueError("there must be an end token")
    ends = torch.tensor(sorted(end_tokens), device=token_P.device)
    return torch.isin(token_P[last_tokens(branch_P, num_branches)], ends)


def check_ends_learned(
    token_P: torch.Tensor,
    weight_P: torch.Tensor,
    branch_P: torch.Tensor,
    ended_N: torch.Tensor,
    end_tokens: Collection[int],
) -> None:
    """Check that each completion that ended learns its end token. A policy that does not learn it forgets to stop.

    Args:
        token_P: ids of the tokens that the loss will see.
        weight_P: learn weight of each token.
        branch_P: the branch of each token.
        ended_N: which completions ended. This comes from the sampler, not from these tokens.
        end_tokens: ids that end a completion.

    Raises:
        ValueError: the last token of a completion that ended is not an end token, or it has weight 0. The message names
            the branch.
    """
    num_branches = len(ended_N)
    learned_N = weight_P[last_tokens(branch_P, num_branches)] > 0
    missing_N = ended_N & ~(completions_ended(token_P, branch_P, num_branches, end_tokens) & learned_N)
    if bool(missing_N.any()):
        raise ValueError(f"branch {int(missing_N.nonzero()[0])} ended, but its end token is not learned")


def score_completions(
    score_N: torch.Tensor, ended_N: torch.Tensor, *, rule: Literal["penalty", "score"], amount: float
) -> torch.Tensor:
    """Scores after the end-of-sequence rule [N]. The scores of completions that ended stay.

    Args:
        score_N: score of each completion.
        ended_N: which completions ended with an end token.
        rule: with "penalty", the score of a completion that did not end is reduced by `amount`. With "score", it is
            `amount`.
        amount: the penalty or the score, in units of reward. A penalty must be 0 or more.

    Raises:
        ValueError: the rule is unknown, or the penalty is negative.
    """
    if rule not in ("penalty", "score"):
        raise ValueError(f"rule must be 'penalty' or 'score', not {rule!r}")
    if rule == "penalty" and amount < 0:
        raise ValueError(f"a penalty must be 0 or more, not {amount}")
    return torch.where(ended_N, score_N, score_N - amount if rule == "penalty" else torch.full_like(score_N, amount))


@torch.no_grad()
def shape_rewards(
    score_N: torch.Tensor,
    old_P: torch.Tensor,
    reference_P: torch.Tensor,
    branch_P: torch.Tensor,
    *,
    kl_coefficient: float,
    estimator: Estimator = "k1",
) -> torch.Tensor:
    """Reward of each token [P]: -coefficient * KL estimate, plus the score of the completion at its last token.

    Args:
        score_N: score of each completion, after the end-of-sequence rule.
        old_P: log-probabilities under the policy that sampled (nats).
        reference_P: log-probabilities under the reference (nats). Where `old_P` is larger, k1 penalises the token.
        branch_P: the branch of each token.
        kl_coefficient: reward per nat, 0 or more.
        estimator: see `kl_estimate`.

    Raises:
        ValueError: the coefficient is negative, a completion has no token, or the estimator is unknown.
    """
    if kl_coefficient < 0:
        raise ValueError(f"kl_coefficient must be 0 or more, not {kl_coefficient}")
    reward_P = -kl_coefficient * kl_estimate(old_P, reference_P, estimator)
    return reward_P.index_add(0, last_tokens(branch_P, len(score_N)), score_N.to(reward_P.dtype))


def clipped_surrogate(
    log_ratio: torch.Tensor, advantage: torch.Tensor, clip_low: float, clip_high: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's loss for each token or completion, and whether the clip set its gradient to 0 (bool).

        -min(ratio * advantage, clip(ratio, 1 - clip_low, 1 + clip_high) * advantage)

    Source: Schulman et al. (2017), equation 7.

    Args:
        log_ratio: log(policy / old).
        advantage: positive where the policy should choose this more often. No gradient flows into it.
        clip_low: how far the loss rewards a ratio for going below 1, from 0 to 1.
        clip_high: how far the loss rewards a ratio for going above 1, 0 or more.

    Raises:
        ValueError: the clip range is empty.
    """
    if not (0 <= clip_low <= 1 and clip_high >= 0):
        raise ValueError(f"the clip range 1 - {clip_low} to 1 + {clip_high} is empty")
    ratio, advantage = log_ratio.exp(), advantage.detach()
    loss = -torch.minimum(ratio * advantage, ratio.clamp(1 - clip_low, 1 + clip_high) * advantage)
    with torch.no_grad():
        clipped = ((ratio > 1 + clip_high) & (advantage > 0)) | ((ratio < 1 - clip_low) & (advantage < 0))
    return loss, clipped


def clipped_policy_loss(
    policy_P: torch.Tensor,
    old_P: torch.Tensor,
    advantage_P: torch.Tensor,
    weight_P: torch.Tensor,
    denominator: float,
    *,
    clip: float = 0.2,
) -> PolicyLoss:
    """PPO's policy loss: sum of weight * `clipped_surrogate` / denominator. Lower is better.

    Args:
        policy_P: log-probabilities under the policy that is trained (nats).
        old_P: log-probabilities when the tokens were sampled (nats). No gradient flows into them.
        advantage_P: advantages, whitened over all rollouts.
        weight_P: learn weights. A token of weight 0 does not count.
        denominator: sum of the learn weights over the whole optimizer step.
        clip: the loss rewards ratios only from 1 - clip to 1 + clip.

    Raises:
        ValueError: the denominator is not positive, or the clip range is empty.
    """
    check_denominator(denominator, "learned tokens")
    share_P = weight_P.to(policy_P.dtype) / denominator
    loss_P, clipped_P = clipped_surrogate(policy_P - old_P.detach(), advantage_P, clip, clip)
    with torch.no_grad():
        clip_share = (share_P * clipped_P).sum()
        old_kl = (share_P * kl_estimate(old_P, policy_P, "k3")).sum()
    return PolicyLoss((share_P * loss_P).sum(), clip_share, old_kl, torch.zeros_like(old_kl))


def clipped_value_loss(
    value_P: torch.Tensor,
    old_value_P: torch.Tensor,
    return_P: torch.Tensor,
    weight_P: torch.Tensor,
    denominator: float,
    *,
    clip: float | None = 0.2,
) -> torch.Tensor:
    """Loss of the value function, in units of reward squared. Lower is better.

        sum of weight / 2 * max((value - return)^2, (clip(value, old - clip, old + clip) - return)^2) / denominator

    Args:
        value_P: value of the state before each token (at its predictor, as in `gae`).
        old_value_P: value of the same state when the token was sampled.
        return_P: target of each value, from `gae`.
        weight_P: learn weights. A token of weight 0 does not count.
        denominator: sum of the learn weights over the whole optimizer step.
        clip: how far the loss rewards a value for moving, in units of reward. None does not clip.

    Raises:
        ValueError: the denominator is not positive, or `clip` is negative.
    """
    check_denominator(denominator, "learned tokens")
    return_P, old_value_P = return_P.detach(), old_value_P.detach()
    error_P = (value_P - return_P) ** 2
    if clip is not None:
        if clip < 0:
            raise ValueError(f"clip must be 0 or more, not {clip}")
        near_P = old_value_P + (value_P - old_value_P).clamp(-clip, clip)
        error_P = torch.maximum(error_P, (near_P - return_P) ** 2)
    return 0.5 * (weight_P.to(value_P.dtype) * error_P).sum() / denominator


@torch.no_grad()
def explained_variance(value_P: torch.Tensor, return_P: torch.Tensor, weight_P: torch.Tensor) -> float | None:
    """Share of the returns' variance that the values explain, over learned tokens.

        1 - variance(return - value) / variance(return)

    1 is perfect, 0 is no better than a constant, and a negative share is worse than a constant. A constant error does
    not show. The shares of micro-batches cannot be combined, so give all tokens at once.

    Returns:
        The share. None if it is undefined because the returns do not vary or nothing is learned.
    """
    learned_P = weight_P != 0
    target, miss = return_P[learned_P], (return_P - value_P)[learned_P]
    if not len(target) or not float(target.max() > target.min()):
        return None
    return float(1 - miss.var(correction=0) / target.var(correction=0))
