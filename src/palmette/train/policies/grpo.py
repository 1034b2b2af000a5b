"""GRPO and RLOO: the policy answers each question several times, and learns which of its answers earned more.

Completions are sampled with the current weights (`train/policies/plan.py`) and rewarded by rule (`tasks/rewards.py`) or
by a reward model. They are learned from on prefix trees (`rollouts/batch.py`). The reference is the policy as it was
before the first step.

Sources: Shao et al. (2024), "DeepSeekMath", and Ahmadian et al. (2024), "Back to basics". Deviations:

1. The questions about a document are asked together, since they share its tokens. So the prompts of a step are not
   independent draws from the data.
2. The reference never changes. Shao et al. replace it in each of their iterations, in which they also train the reward
   model.
3. Each token counts the same by default (`grpo.average`). In Shao et al. each completion does.
4. Rewards may come from rules, and all tokens of a completion have its advantage. This is outcome supervision (their
   section 4.1.2). There is no supervision of steps.
5. Training stops where the KL divergence is too large (`grpo.kl_limit`). None of the papers does this.

Not covered: prompts of two turns, and placeholders before the answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import torch

from palmette.objectives.advantages import group_advantages
from palmette.objectives.branches import branch_sum
from palmette.objectives.grpo import average, grpo_loss, rloo_loss
from palmette.objectives.kl import kl_estimate
from palmette.objectives.ppo import PolicyLoss
from palmette.progress import Say
from palmette.rollouts.batch import RolloutBatch
from palmette.rollouts.scoring import CompletionTokens, read_completions, score_rollouts
from palmette.train.policies.job import Method, PolicyJob, make_job, note_gap, num_updates
from palmette.train.policies.kl_limit import KlLimit
from palmette.train.policies.plan import RolloutPlan
from palmette.train.policies.snapshot import ParameterSnapshot
from palmette.train.recipes.rollouts import GrpoRecipe, GrpoSection
from palmette.train.steps.step import Tally
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import find_branches

OLD, REFERENCE = "old", "reference"


def prepare(recipe: GrpoRecipe, say: Say) -> PolicyJob:
    """Read, load and check everything, and write nothing. Errors are those of `make_job`."""
    return make_job(recipe, say, _method)


def _method(recipe: GrpoRecipe, model: Any, end_tokens: list[int]) -> Method:
    needed = needed_scores(recipe.grpo, num_updates(recipe), asks_server=recipe.rollouts.sampler == "vllm")
    snapshot = ParameterSnapshot(model)

    def score(rollouts: RolloutBatch, batches: Sequence[PackedBatch], _: RolloutBatch | None) -> None:
        if OLD in needed:
            rollouts.scored[OLD] = score_rollouts(model, batches, rollouts, end_tokens)[0]
            note_gap(rollouts, rollouts.scored[OLD])
        if REFERENCE in needed:
            with snapshot():
                rollouts.scored[REFERENCE] = score_rollouts(model, batches, rollouts, end_tokens)[0]

    most = recipe.rollouts.max_new_tokens
    return Method(score, partial(GrpoLearner, recipe.grpo, max_new_tokens=most, end_tokens=end_tokens))


def needed_scores(settings: GrpoSection, num_updates: int, *, asks_server: bool = False) -> tuple[str, ...]:
    """The log-probabilities that must be computed before rollouts are learned from.

    If each completion is learned from once, the policy that sampled is the policy that learns. Then the forward pass of
    training gives the old log-probabilities too.

    Args:
        settings: the objective.
        num_updates: number of optimizer steps over one batch of rollouts.
        asks_server: whether a server samples, whose log-probabilities are compared with the policy's.
    """
    rloo_kl = settings.objective == "rloo" and settings.kl_coefficient > 0
    old = num_updates > 1 or rloo_kl or asks_server
    reference = settings.kl_coefficient > 0 or settings.kl_limit is not None
    return (*((OLD,) if old else ()), *((REFERENCE,) if reference else ()))


def completion_advantages(settings: GrpoSection, rollouts: RolloutBatch) -> torch.Tensor:
    """The advantage of each sample over the other samples of its question [N] (float64)."""
    reward_N = rollouts.reward_N
    if settings.objective == "grpo":
        return group_advantages(reward_N, rollouts.group_N, baseline="mean", scale=settings.scale or "group")
    if settings.kl_coefficient:
        kl_P = kl_estimate(rollouts.scored[OLD], rollouts.scored[REFERENCE], "k1").cpu()
        kl_N = branch_sum(kl_P, rollouts.branch_P, len(reward_N))
        reward_N = reward_N - settings.kl_coefficient * kl_N.to(reward_N.dtype)
    return group_advantages(reward_N, rollouts.group_N, baseline="leave_one_out")


class GrpoLearner:
    """The objective over the packed trees of rollouts.

    Call `before_step` with all batches of a step first. The loss is that of `objectives.grpo`. For metrics.jsonl,
    `tally` gets the rewards of the rollouts (`RolloutBatch.summary`), the gap to the server that sampled, if one did
    (`sampler_gap`), and these figures of the step:

        kl          KL(policy || reference), k3 (nats a completion)
        entropy     entropy of the policy, estimated from the sampled tokens (nats a token)
        clip_share  share of the tokens whose gradient the clip set to 0, weighted as the loss
        old_kl      KL(policy that sampled || policy), k3 (nats a token), weighted as the loss

    For rloo, clip_share and old_kl count completions instead of tokens.

    Args:
        settings: the objective.
        plan: the plan with the rollouts.
        max_new_tokens: most tokens of a completion.
        end_tokens: tokens that end a completion.
    """

    def __init__(
        self, settings: GrpoSection, plan: RolloutPlan, *, max_new_tokens: int, end_tokens: Collection[int]
    ) -> None:
        self._settings, self._plan = settings, plan
        self._max_new_tokens, self._end_tokens = max_new_tokens, frozenset(end_tokens)
        self.tally = Tally()
        self._kl_limit = KlLimit(settings.kl_limit, "grpo.kl_limit", self.tally)
        self._advantage_N = torch.zeros(0)

    def measure(self, batch: PackedBatch) -> float:
        """A batch's part of the step's denominator."""
        num_branches = len(find_branches(batch))
        if self._settings.objective == "rloo":
            return num_branches
        kind = self._settings.average or "token"
        weight, most = batch.learn_weight, self._max_new_tokens
        return average(kind, learn_weight=weight, num_branches=num_branches, max_tokens=most)[1]

    def before_step(self, _: Any, batches: list[PackedBatch]) -> None:
        """Compute the advantages, and record the figures of the rollouts."""
        rollouts = self._plan.rollouts
        self._advantage_N = completion_advantages(self._settings, rollouts)
        self._kl_limit.begin(batches)
        for name, value in {**rollouts.summary(), **rollouts.notes}.items():
            self.tally.note(name, value)

    def __call__(self, model: Any, batch: PackedBatch, denominator: float) -> torch.Tensor:
        """This batch's share of the step's loss.

        Raises:
            PackingError, ValueError: see `read_completions`.
        """
        rollouts = self._plan.rollouts
        tokens = read_completions(model, batch, rollouts, self._end_tokens)
        policy_P, reference_P = tokens.policy_P.detach(), tokens.of(rollouts, REFERENCE)
        old_P = tokens.of(rollouts, OLD)
        loss = self._loss(tokens, policy_P if old_P is None else old_P, reference_P, denominator)
        share = (batch.learn_weight if self._counts_tokens else len(tokens.sample_N)) / denominator
        self.tally.add("clip_share", loss.clip_share, share)
        self.tally.add("old_kl", loss.old_kl, share)
        self.tally.add("entropy", -policy_P.sum(), len(policy_P))
        self._kl_limit.add(tokens, reference_P)
        return loss.loss

    def after_batches(self) -> None:
        """Stop a run whose KL divergence is above the limit. Errors as for `KlLimit.check`."""
        self._kl_limit.check()

    @property
    def _counts_tokens(self) -> bool:
        """Whether a token counts the same however long its completion is."""
        return self._settings.objective == "grpo" and self._settings.average != "branch"

    def _loss(
        self, tokens: CompletionTokens, old_P: torch.Tensor, reference_P: torch.Tensor | None, denominator: float
    ) -> PolicyLoss:
        settings = self._settings
        advantage_N = self._advantage_N.to(tokens.policy_P)[tokens.sample_N]
        clip_low, clip_high = settings.clip_low, settings.clip_high
        given = (tokens.policy_P, old_P, advantage_N, tokens.branch_P, tokens.weight_P, denominator)
        if settings.objective == "rloo":
            return rloo_loss(*given, clip_low=clip_low, clip_high=clip_high)
        return grpo_loss(
            *given,
            per="token" if self._counts_tokens else "branch",
            clip_low=clip_low,
            clip_high=clip_high,
            reference_P=reference_P,
            kl_coefficient=settings.kl_coefficient,
        )
