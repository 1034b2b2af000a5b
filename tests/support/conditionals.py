"""Small masked models whose every text can be enumerated, and their laws by definition, in numpy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from palmette.encoders.chain import Kernel, Space

VOCABULARY, LENGTH, MASK = 5, 3, 5
STATES = list(itertools.product(range(VOCABULARY), repeat=LENGTH))
INDEX = {state: index for index, state in enumerate(STATES)}


class Table:
    """Conditionals drawn at random for every context, so they belong to no joint law.

    `logits[position][context]` are the logits of a position, where a context has `MASK` at masked positions.
    """

    mask = MASK

    def __init__(self, seed: int = 0, scale: float = 1.5) -> None:
        shape = (LENGTH, *(VOCABULARY + 1,) * LENGTH, VOCABULARY)
        self.logits = np.random.default_rng(seed).normal(scale=scale, size=shape)

    def logprob(self, token_BT: torch.Tensor, row_P: torch.Tensor, column_P: torch.Tensor) -> torch.Tensor:
        context = token_BT[row_P].numpy()
        assert (context[np.arange(len(context)), column_P.numpy()] == MASK).all()
        logits = self.logits[(column_P.numpy(), *context.T)]
        return torch.from_numpy(logits).log_softmax(-1)

    def conditional(self, state: Sequence[int], block: Sequence[int], position: int) -> np.ndarray:
        """p(. at a position | the rest), with a block masked."""
        context = tuple(MASK if index in block else token for index, token in enumerate(state))
        weights = np.exp(self.logits[(position, *context)])
        return weights / weights.sum()

    def energy(self, state: Sequence[int]) -> float:
        return -sum(np.log(self.conditional(state, [i], i)[state[i]]) for i in range(LENGTH))


def law(table: Table, temperature: float, allowed: Sequence[int]) -> np.ndarray:
    """pi over all states, by definition. States with a token that is not allowed have none of it."""
    weights = np.array(
        [np.exp(-table.energy(s) / temperature) if set(s) <= set(allowed) else 0.0 for s in STATES], dtype=np.float64
    )
    return weights / weights.sum()


def gibbs_matrix(table: Table) -> np.ndarray:
    """The transition matrix of random-scan Gibbs, by definition: a position at random, then its conditional."""
    matrix = np.zeros((len(STATES), len(STATES)))
    for state in STATES:
        for i in range(LENGTH):
            for token, probability in enumerate(table.conditional(state, [i], i)):
                matrix[INDEX[state], INDEX[(*state[:i], token, *state[i + 1 :])]] += probability / LENGTH
    return matrix


def stationary(matrix: np.ndarray) -> np.ndarray:
    """The law that a transition matrix keeps: pi (P - I) = 0, with the last equation replaced by sum(pi) = 1."""
    equations = matrix.T - np.eye(len(matrix))
    equations[-1] = 1.0
    return np.linalg.solve(equations, np.eye(len(matrix))[-1])


def space_of(allowed: Sequence[int] = range(VOCABULARY), free: Sequence[int] = range(LENGTH)) -> Space:
    allowed_V = torch.zeros(VOCABULARY, dtype=torch.bool)
    allowed_V[list(allowed)] = True
    return Space((0,) * LENGTH, tuple(free), tuple(range(LENGTH)), allowed_V.repeat(len(free), 1))


def kernel_matrix(kernel: Kernel, temperature: float) -> np.ndarray:
    """The transition matrix of a kernel, from its own proposals and its own acceptance, over the allowed states."""
    num, free = len(STATES), kernel.space.free
    token_ST = torch.tensor(STATES)
    energy_S, allowed = kernel.at(token_ST).total_C, kernel.space.allowed_FV[0].numpy()
    # Every number of positions is as likely, and then every place of theirs.
    blocks = [
        (free[first : first + size], 1 / kernel.block / (len(free) - size + 1))
        for size in range(1, kernel.block + 1)
        for first in range(len(free) - size + 1)
    ]
    matrix = np.zeros((num, num))
    for block, share in blocks:
        logq_SKV = kernel.proposals(token_ST, torch.tensor([block] * num))
        for values in itertools.product(np.flatnonzero(allowed), repeat=len(block)):
            new = [tuple(dict(zip(block, values, strict=True)).get(i, t) for i, t in enumerate(s)) for s in STATES]
            new_index = torch.tensor([INDEX[state] for state in new])
            new_logq = sum(logq_SKV[:, k, int(value)] for k, value in enumerate(values))
            old_logq = sum(logq_SKV[:, k].gather(1, token_ST[:, [column]])[:, 0] for k, column in enumerate(block))
            chance = (
                new_logq.exp()
                * kernel.log_acceptance(energy_S, energy_S[new_index], old_logq, new_logq, temperature).exp()
            )
            np.add.at(matrix, (np.arange(num), new_index.numpy()), chance.numpy() * share)
    inside = [index for index, state in enumerate(STATES) if set(state) <= set(np.flatnonzero(allowed).tolist())]
    for index in inside:  # what was refused stays
        matrix[index, index] += 1 - matrix[index].sum()
    return matrix[np.ix_(inside, inside)]
