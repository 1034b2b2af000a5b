"""The KL divergence of a policy from its reference over a step, and a limit to it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from palmette import processes
from palmette.errors import ModelError
from palmette.objectives.kl import kl_estimate, kl_ran_away
from palmette.rollouts.scoring import CompletionTokens
from palmette.train.steps.step import Tally
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import find_branches


class KlLimit:
    """Measures the KL divergence over the batches of a step, and stops a run in which it is above the limit.

    Call `begin` with all batches of a step, `add` with each that this process learns, and `check` in every process.

    Args:
        limit: highest KL(policy || reference), by the estimator k3 (nats a completion). None sets no limit.
        name: name of the limit in the recipe.
        tally: counts "kl".
    """

    def __init__(self, limit: float | None, name: str, tally: Tally) -> None:
        self._limit, self._name, self._tally = limit, name, tally
        self._num_completions = 0
        self._kl = 0.0

    def begin(self, batches: Sequence[PackedBatch]) -> None:
        """Begin a step with these batches."""
        self._kl = 0.0
        self._num_completions = sum(len(find_branches(batch)) for batch in batches)

    def add(self, tokens: CompletionTokens, reference_P: torch.Tensor | None) -> None:
        """Count a batch."""
        if reference_P is None:
            return
        kl = float(kl_estimate(tokens.policy_P.detach(), reference_P, "k3").sum())
        self._tally.add("kl", kl, len(tokens.sample_N))
        self._kl += kl

    def check(self) -> None:
        """Compare the KL divergence of the whole step with the limit.

        Raises:
            ModelError: it is above the limit.
        """
        if self._limit is None:
            return
        reached = sum(processes.gather(self._kl)) / self._num_completions
        if kl_ran_away(reached, self._limit):
            raise ModelError(
                f"the policy is {reached:.1f} nats a completion away from its reference, "
                f"more than {self._name} = {self._limit}",
                f"Raise the KL coefficient, lower train.learning_rate, or raise {self._name}. "
                "Checkpoints up to here are kept.",
            )
