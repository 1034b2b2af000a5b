"""How far a policy is from its reference over a step, and a limit to that."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from palmette.errors import ModelError
from palmette.objectives.kl import kl_estimate, kl_ran_away
from palmette.rollouts.scoring import CompletionTokens
from palmette.train.step import Tally
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import find_branches


class KlLimit:
    """Counts how far the policy is from its reference over the batches of a step, and stops a run that strayed.

    Args:
        limit: the most KL(policy || reference), by the estimate k3 (nats a completion); None: any.
        name: what the recipe calls the limit.
        tally: where "kl" is counted.
    """

    def __init__(self, limit: float | None, name: str, tally: Tally) -> None:
        self._limit, self._name, self._tally = limit, name, tally
        self._batches_left = self._num_completions = 0
        self._kl = 0.0

    def begin(self, batches: Sequence[PackedBatch]) -> None:
        """Begin a step of these batches."""
        self._batches_left, self._kl = len(batches), 0.0
        self._num_completions = sum(len(find_branches(batch)) for batch in batches)

    def add(self, tokens: CompletionTokens, reference_P: torch.Tensor | None) -> None:
        """Count a batch.

        Raises:
            ModelError: it was the step's last, and the policy is too far away.
        """
        self._batches_left -= 1
        if reference_P is None:
            return
        kl = float(kl_estimate(tokens.policy_P.detach(), reference_P, "k3").sum())
        self._tally.add("kl", kl, len(tokens.sample_N))
        self._kl += kl
        reached = self._kl / self._num_completions
        if self._limit is not None and not self._batches_left and kl_ran_away(reached, self._limit):
            raise ModelError(
                f"the policy is {reached:.1f} nats a completion away from its reference, more than {self._name} = {self._limit}",
                f"Raise the KL coefficient, lower train.learning_rate, or raise {self._name}. Checkpoints up to here are kept.",
            )
