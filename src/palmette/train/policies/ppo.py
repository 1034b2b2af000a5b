"""PPO: the policy answers questions, and each token is learned by how much more was earned after it than expected.

A value function gives the expectation. Policy, value function and reference share one backbone. One pass over a tree
gives log-probabilities, and a head on the hidden states that predict the tokens gives values. The reference is the
policy as it was before the first step. Policy and value function share one adapter. So the value loss, times
`ppo.value_coefficient`, changes what both are computed from. Separate adapters are not implemented.

The steps for each batch of rollouts, before any of it is learned (`add_advantages`):

1. Each completion is scored by rule or by a reward model, and the end-of-sequence rule is applied to the score.
2. The score goes to the last token of the completion, and a KL penalty goes to each token.
3. Generalised advantage estimation gives the advantages.
4. Advantages are whitened over all tokens of all completions.

Then the batch is learned `rollouts.passes` times, in steps of train.trees_per_step documents, with clipped policy and
value losses.

`objectives/ppo.py` names the papers, and its deviations from them. The deviations of this loop:

1. Value function and policy share all parameters but the head, as in Ziegler et al. (2019). In InstructGPT they are
   separate, and the value function starts from the reward model. The head starts at 0, so the first advantages are the
   rewards to come.
2. Each question is answered several times, since completions share its tokens. Completions to the same question are not
   compared with one another.
3. The value after a completion that was cut is 0, as after one that ended. The end-of-sequence rule says what a cut
   costs.
4. Minibatches are cut by documents, in a new order in each pass.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import torch

from palmette.model.heads import add_head, head_of
from palmette.objectives.advantages import gae, whiten
from palmette.objectives.kl import AdaptiveKL, kl_estimate, mean_completion_kl
from palmette.objectives.ppo import (
    clipped_policy_loss,
    clipped_value_loss,
    explained_variance,
    score_completions,
    shape_rewards,
)
from palmette.progress import Say
from palmette.rollouts.batch import RolloutBatch
from palmette.rollouts.scoring import read_completions, score_rollouts
from palmette.train.policies.job import Method, PolicyJob, make_job, note_gap
from palmette.train.policies.kl_limit import KlLimit
from palmette.train.policies.plan import RolloutPlan
from palmette.train.policies.snapshot import ParameterSnapshot
from palmette.train.recipes.rollouts import PpoRecipe, PpoSection
from palmette.train.steps.step import Tally
from palmette.tree.batch import PackedBatch

OLD, REFERENCE, VALUE, ADVANTAGE, RETURN = "old", "reference", "value", "advantage", "return"
COEFFICIENT, COMPLETION_KL, EXPLAINED = "kl_coefficient", "completion_kl", "explained_variance"


def prepare(recipe: PpoRecipe, say: Say) -> PolicyJob:
    """Read, load and check everything, and write nothing. Errors are those of `make_job`."""
    return make_job(recipe, say, _method)


def _method(recipe: PpoRecipe, model: Any, end_tokens: list[int]) -> Method:
    settings = recipe.ppo
    snapshot = ParameterSnapshot(model)
    head = add_head(model, "value", recipe.train.seed)
    torch.nn.init.zeros_(head.weight)

    def score(rollouts: RolloutBatch, batches: Sequence[PackedBatch], before: RolloutBatch | None) -> None:
        old_P, value_P = score_rollouts(model, batches, rollouts, end_tokens, head)
        assert value_P is not None
        with snapshot():
            reference_P, _ = score_rollouts(model, batches, rollouts, end_tokens)
        coefficient = next_coefficient(settings, before.notes if before else None)
        add_advantages(settings, rollouts, old_P, value_P, reference_P, coefficient)
        note_gap(rollouts, old_P)

    return Method(score, partial(PpoLearner, settings, end_tokens=end_tokens))


def next_coefficient(settings: PpoSection, before: dict[str, float] | None) -> float:
    """The KL coefficient of new rollouts, given the notes of the rollouts before them, if there were any."""
    if before is None or settings.kl_target is None:
        return settings.kl_coefficient
    controller = AdaptiveKL(settings.kl_target, settings.kl_gain)
    return controller.next_coefficient(before[COEFFICIENT], before[COMPLETION_KL])


def add_advantages(
    settings: PpoSection,
    rollouts: RolloutBatch,
    old_P: torch.Tensor,
    value_P: torch.Tensor,
    reference_P: torch.Tensor,
    coefficient: float,
) -> None:
    """Add advantages and returns to rollouts, before they are cut into minibatches.

    Args:
        settings: the objective.
        rollouts: rollouts with rewards.
        old_P: log-probability of each token under the policy that sampled it (nats).
        value_P: value of the state in which each token was chosen.
        reference_P: log-probability of each token under the reference (nats).
        coefficient: coefficient of the KL penalty.
    """
    number, branch_P = len(rollouts.samples), rollouts.branch_P.to(old_P.device)
    reward_N, ended_N = rollouts.reward_N.to(old_P), rollouts.ended_N.to(old_P.device)
    score_N = score_completions(reward_N, ended_N, rule=settings.unfinished, amount=settings.unfinished_amount)
    reward_P = shape_rewards(score_N, old_P, reference_P, branch_P, kl_coefficient=coefficient)
    value_P = value_P.to(old_P)
    advantage_P, return_P = gae(reward_P, value_P, branch_P, number, gamma=settings.gamma, lam=settings.lam)
    weight_P = torch.ones_like(old_P)
    white_P = whiten(advantage_P, weight_P)
    scored = {OLD: old_P, REFERENCE: reference_P, VALUE: value_P, ADVANTAGE: white_P, RETURN: return_P}
    rollouts.scored.update(scored)
    kl = mean_completion_kl(kl_estimate(old_P, reference_P, "k1"), number)
    rollouts.notes.update({"score": float(score_N.mean()), COEFFICIENT: coefficient, COMPLETION_KL: kl})
    explained = explained_variance(value_P, return_P, weight_P)
    if explained is not None:
        rollouts.notes[EXPLAINED] = explained


class PpoLearner:
    """The objective over the packed trees of rollouts.

    Call `before_step` with all batches of a step first. The loss is `clipped_policy_loss` + value_coefficient *
    `clipped_value_loss`, both means over the tokens of the step. For metrics.jsonl, `tally` gets the rewards of the
    rollouts (`RolloutBatch.summary`) and these figures of the rollouts:

        score               mean reward after the end-of-sequence rule
        kl_coefficient      coefficient of the KL penalty in their rewards
        completion_kl       KL(policy that sampled || reference), k1 (nats a completion), which kl_target holds
        explained_variance  share of the returns' variance that the values explain, left out where it is undefined

    It also gets kl, entropy, clip_share and old_kl of the step, as for `GrpoLearner` (a token), and value_loss.

    Args:
        settings: the objective.
        plan: the plan with the rollouts.
        end_tokens: tokens that end a completion.
    """

    def __init__(self, settings: PpoSection, plan: RolloutPlan, *, end_tokens: Collection[int]) -> None:
        self._settings, self._plan, self._end_tokens = settings, plan, frozenset(end_tokens)
        self.tally = Tally()
        self._kl_limit = KlLimit(settings.kl_limit, "ppo.kl_limit", self.tally)

    def measure(self, batch: PackedBatch) -> float:
        """A batch's part of the step's denominator, its learned weight."""
        return batch.learn_weight

    def before_step(self, _: Any, batches: list[PackedBatch]) -> None:
        """Record the figures of the rollouts."""
        rollouts = self._plan.rollouts
        self._kl_limit.begin(batches)
        for name, value in {**rollouts.summary(), **rollouts.notes}.items():
            self.tally.note(name, value)

    def __call__(self, model: Any, batch: PackedBatch, denominator: float) -> torch.Tensor:
        """This batch's share of the step's loss.

        Raises:
            PackingError, ValueError: see `read_completions`.
        """
        settings, rollouts = self._settings, self._plan.rollouts
        head = head_of(model, "value")
        assert head is not None
        tokens = read_completions(model, batch, rollouts, self._end_tokens)
        old_P, reference_P, old_value_P, advantage_P, return_P = (
            rollouts.scored[name][tokens.flat_P] for name in (OLD, REFERENCE, VALUE, ADVANTAGE, RETURN)
        )
        weight_P = tokens.weight_P
        policy = clipped_policy_loss(tokens.policy_P, old_P, advantage_P, weight_P, denominator, clip=settings.clip)
        value_P = head(tokens.state_PD).to(old_value_P.dtype)
        value_loss = clipped_value_loss(value_P, old_value_P, return_P, weight_P, denominator, clip=settings.value_clip)
        share = batch.learn_weight / denominator
        self.tally.add("clip_share", policy.clip_share, share)
        self.tally.add("old_kl", policy.old_kl, share)
        self.tally.add("value_loss", value_loss.detach(), share)
        self.tally.add("entropy", -tokens.policy_P.detach().sum(), len(tokens.policy_P))
        self._kl_limit.add(tokens, reference_P)
        return policy.loss + settings.value_coefficient * value_loss

    def after_batches(self) -> None:
        """Stop a run whose KL divergence is above the limit. Errors as for `KlLimit.check`."""
        self._kl_limit.check()
