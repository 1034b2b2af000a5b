"""Metropolis-Hastings over the words of a text, with a masked language model.

The law of a text x among those that are allowed is pi(x), in proportion to exp(-E(x) / temperature). E is the energy of
`encoders/masked.py`, plus whatever else is asked of a text. A step masks one free position or several in a row, draws
new words for them from the model, and accepts the new text y with probability

    min(1, exp((E(x) - E(y)) / temperature) * q(x | y) / q(y | x))

Both texts are the same but for the masked positions. So one masked pass gives both proposal probabilities q, and the
choice of positions and of their number cancels (Goyal et al., 2021, "Exposing the Implicit Energy Networks behind
Masked Language Models via Metropolis-Hastings"). We deviate from that paper in one point: energies are sums of
normalised log-probabilities, since raw logits have an offset of their own in every context.

The rule "gibbs" accepts every proposal. The conditionals of a masked language model belong to no joint law, so what
Gibbs samples is not pi, and depends on the order of the positions. It is here for comparison.

C chains, T tokens of a row, F free positions, K positions of a block, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from palmette.encoders.masked import Conditionals, energies
from palmette.encoders.settings import Rule
from palmette.seeds import derive_seed

Extra = Callable[[torch.Tensor], torch.Tensor]  # token_CT -> what is added to the energies (C,), in nats


@dataclass(frozen=True)
class Space:
    """The texts that a chain may visit: rows that differ at the free positions only.

    Attributes:
        row: the tokens of a row, with any token at the free positions.
        free: the columns of the free positions, rising.
        counted: the columns whose tokens the energy counts.
        allowed_FV: which tokens each free position may hold.
    """

    row: tuple[int, ...]
    free: tuple[int, ...]
    counted: tuple[int, ...]
    allowed_FV: torch.Tensor


@dataclass(frozen=True)
class State:
    """Where the chains are.

    Attributes:
        token_CT: their texts.
        energy_C: the energies of these under the model (nats, float64).
        extra_C: what is added to them. Zeros if nothing is.
    """

    token_CT: torch.Tensor
    energy_C: torch.Tensor
    extra_C: torch.Tensor

    @property
    def total_C(self) -> torch.Tensor:
        """E of the law."""
        return self.energy_C + self.extra_C


@dataclass(frozen=True)
class Kernel:
    """One step of every chain.

    Random numbers depend on the seed, the number of the step and the number of the chain alone. So a chain can be
    continued from its last state, and more chains leave the first ones as they are, up to rounding.

    Attributes:
        model: gives the distribution of a masked token.
        space: the texts that are allowed.
        seed: random seed.
        rule: "metropolis" samples pi. "gibbs" accepts every proposal.
        block: most free positions that change in one step, next to each other among the free ones. Every number up to
            it is as likely. Words that hold each other in place change together only.
        proposal_temperature: temperature of the words that are proposed. Above 1, rarer words are proposed more often.
            It changes how fast a chain moves and not what it samples, except under "gibbs".
        extra: what else is asked of a text, as energies.
        tilt_FV: what is added to the log-probabilities of the words that are proposed, by position and word. It brings
            words forward that the model would not propose and `extra` asks for, and does not change the law. None adds
            nothing.
    """

    model: Conditionals
    space: Space
    seed: int = 0
    rule: Rule = "metropolis"
    block: int = 1
    proposal_temperature: float = 1.0
    extra: Extra | None = None
    tilt_FV: torch.Tensor | None = None

    def start(self, num_chains: int, tokens: torch.Tensor | None = None) -> State:
        """The first state of some chains.

        Args:
            num_chains: how many.
            tokens: free tokens (F,) that all of them start from. If None, every free position of every chain is drawn
                by itself, with all free positions masked, so that chains start apart.
        """
        token_CT = torch.tensor([self.space.row] * num_chains)
        free = torch.tensor(self.space.free)
        if tokens is None:
            block_CF = free.repeat(num_chains, 1)
            logq_CFV = self.proposals(token_CT, block_CF)
            token_CT[:, free] = _drawn(logq_CFV, self._uniform(0, num_chains, len(free)))
        else:
            token_CT[:, free] = tokens
        return self.at(token_CT)

    def at(self, token_CT: torch.Tensor) -> State:
        """The state of chains that are at some texts."""
        energy_C = energies(self.model, token_CT, self.space.counted)
        return State(token_CT, energy_C, torch.zeros_like(energy_C) if self.extra is None else self.extra(token_CT))

    def proposals(self, token_CT: torch.Tensor, block_CK: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (C, K, V) of the words that are proposed. Those that are not allowed have -inf.

        Args:
            token_CT: the texts. What they hold at the block does not matter.
            block_CK: the columns that are masked, free ones.
        """
        num, size = block_CK.shape
        row_P, column_P = torch.arange(num).repeat_interleave(size), block_CK.reshape(-1)
        masked_CT = token_CT.clone()
        masked_CT[row_P, column_P] = self.model.mask
        logprob_PV = self.model.logprob(masked_CT, row_P, column_P) / self.proposal_temperature
        free_P = torch.searchsorted(torch.tensor(self.space.free), column_P)
        if self.tilt_FV is not None:
            logprob_PV = logprob_PV + self.tilt_FV[free_P]
        forbidden_PV = ~self.space.allowed_FV[free_P]
        return logprob_PV.masked_fill(forbidden_PV, -torch.inf).log_softmax(-1).view(num, size, -1)

    def step(self, state: State, number: int, temperature: float = 1.0) -> tuple[State, torch.Tensor]:
        """One step of every chain.

        Args:
            state: where the chains are.
            number: the number of the step, from 1.
            temperature: the temperature of pi. Constant while sampling. If it falls from step to step, this is
                simulated annealing, which looks for texts of low energy and samples nothing.

        Returns:
            The new state, and (C,) whether each proposal was accepted.
        """
        free = torch.tensor(self.space.free)
        num, most = len(state.token_CT), min(self.block, len(free))
        uniform = self._uniform(number, num, 3 + most)
        size_C = 1 + (uniform[:, 0] * most).long()
        first_C = (uniform[:, 1] * (len(free) - size_C + 1)).long()
        # A block with fewer positions than the largest one repeats its last position.
        within_CK = torch.arange(most).minimum(size_C[:, None] - 1)
        counted_CK = torch.arange(most) < size_C[:, None]
        block_CK = free[first_C[:, None] + within_CK]
        logq_CKV = self.proposals(state.token_CT, block_CK)
        new_CK = _drawn(logq_CKV, uniform[:, 3:]).gather(1, within_CK)
        old_CK = state.token_CT.gather(1, block_CK)
        new = State(state.token_CT.scatter(1, block_CK, new_CK), state.energy_C.clone(), state.extra_C.clone())
        changed_C = (new_CK != old_CK).any(1)
        if changed_C.any():
            changed = self.at(new.token_CT[changed_C])
            new.energy_C[changed_C], new.extra_C[changed_C] = changed.energy_C, changed.extra_C
        logq_new_C, logq_old_C = (
            (logq_CKV.gather(2, one[..., None])[..., 0] * counted_CK).sum(1) for one in (new_CK, old_CK)
        )
        accepted_C = uniform[:, 2].log() < self.log_acceptance(
            state.total_C, new.total_C, logq_old_C, logq_new_C, temperature
        )
        moved = State(
            torch.where(accepted_C[:, None], new.token_CT, state.token_CT),
            torch.where(accepted_C, new.energy_C, state.energy_C),
            torch.where(accepted_C, new.extra_C, state.extra_C),
        )
        return moved, accepted_C

    def log_acceptance(
        self,
        old_energy: torch.Tensor,
        new_energy: torch.Tensor,
        old_logq: torch.Tensor,
        new_logq: torch.Tensor,
        temperature: float,
    ) -> torch.Tensor:
        """The log-probability that a proposal is accepted. 0 for all under "gibbs".

        Args:
            old_energy: energies of the texts before the step.
            new_energy: energies of the proposed texts.
            old_logq: log-probabilities of proposing the old words.
            new_logq: log-probabilities of proposing the new words.
            temperature: temperature of pi.
        """
        if self.rule == "gibbs":
            return torch.zeros_like(old_energy)
        return ((old_energy - new_energy) / temperature + old_logq - new_logq).clamp(max=0)

    def _uniform(self, step: int, num_chains: int, size: int) -> torch.Tensor:
        """Random numbers (C, size) from 0 to below 1. The rows of the first chains do not depend on their number."""
        generator = np.random.Generator(np.random.Philox(derive_seed(self.seed, step)))
        return torch.from_numpy(generator.random((num_chains, size)))


def _drawn(logq_CKV: torch.Tensor, uniform_CK: torch.Tensor) -> torch.Tensor:
    """Tokens (C, K) drawn from log-probabilities with given random numbers, by inverting the cumulative sum."""
    cumulative = logq_CKV.exp().cumsum(-1)
    at = torch.searchsorted(cumulative, uniform_CK[..., None] * cumulative[..., -1:], right=True).squeeze(-1)
    return at.clamp(max=logq_CKV.shape[-1] - 1)
