"""The proof of `encoders/chain.py`: with 5 words and 3 positions, all 125 texts are enumerated.

The law is computed in numpy from its definition. The transition matrix is made of the kernel's own proposals and
acceptance. Then the kernel's own steps are counted against it.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from palmette.encoders.chain import Kernel, State
from tests.support.conditionals import (
    INDEX,
    LENGTH,
    STATES,
    VOCABULARY,
    Table,
    gibbs_matrix,
    kernel_matrix,
    law,
    space_of,
    stationary,
)

EXACT = 1e-10  # float64 sums over 125 states


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("proposal_temperature", [1.0, 1.7])
@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("allowed", [range(VOCABULARY), (0, 2, 3)])
def test_detailed_balance_and_the_stationary_law_are_exact(
    block: int, allowed: tuple[int, ...], temperature: float, proposal_temperature: float
) -> None:
    """pi_x P_xy = pi_y P_yx for every pair, so pi P = pi, and no other law is kept, since every text is reached."""
    table = Table()
    kernel = Kernel(table, space_of(allowed), block=block, proposal_temperature=proposal_temperature)
    matrix, pi = kernel_matrix(kernel, temperature), law(table, temperature, allowed)
    pi = pi[pi > 0]
    assert len(pi) == len(allowed) ** LENGTH
    assert matrix.sum(1) == pytest.approx(1, abs=EXACT)
    flow = pi[:, None] * matrix
    assert abs(flow - flow.T).max() < EXACT
    assert abs(pi @ matrix - pi).max() < EXACT
    assert abs(stationary(matrix) - pi).max() < EXACT
    assert (np.linalg.matrix_power(matrix, LENGTH) > 0).all()


def test_a_cold_law_is_another_law() -> None:
    """Otherwise the test before would pass for a kernel that ignored the temperature."""
    table = Table()
    assert abs(law(table, 1.0, range(VOCABULARY)) - law(table, 0.5, range(VOCABULARY))).sum() > 0.2


def test_the_law_of_gibbs_differs() -> None:
    """The kernel under "gibbs" is random-scan Gibbs, by its definition. What it samples is far from pi, and with these
    conditionals it has no detailed balance: the chain runs in circles.
    """
    table = Table()
    matrix = kernel_matrix(Kernel(table, space_of(), rule="gibbs"), 1.0)
    assert abs(matrix - gibbs_matrix(table)).max() < EXACT
    sampled, pi = stationary(matrix), law(table, 1.0, range(VOCABULARY))
    assert abs(sampled - pi).sum() / 2 > 0.1  # total variation
    flow = sampled[:, None] * matrix
    assert abs(flow - flow.T).max() > 1e-4


@pytest.mark.parametrize("rule", ["metropolis", "gibbs"])
@pytest.mark.parametrize("block", [1, 2])
def test_the_samples_of_chains_have_the_law(rule: str, block: int) -> None:
    """10,000 chains are independent of each other, so their last texts are a sample for a chi-squared test.

    They start from all positions drawn alone, which is another law. After 80 steps the exact distribution is within
    1e-3 of the stationary law. The sample passes for its own law and fails for the other's.
    """
    table, num, steps = Table(scale=0.5), 10_000, 80
    kernel = Kernel(table, space_of(), rule=rule, block=block, seed=11)
    matrix = kernel_matrix(kernel, 1.0)
    own, pi = stationary(matrix), law(table, 1.0, range(VOCABULARY))
    state = kernel.start(num)
    first = counts(state)
    for number in range(1, steps + 1):
        state, _ = kernel.step(state, number)
    assert abs(np.linalg.matrix_power(matrix, steps) - own).sum(1).max() < 1e-3
    assert chi_squared(first, own) < 1e-12
    assert chi_squared(counts(state), own) > 0.01
    other = stationary(gibbs_matrix(table)) if rule == "metropolis" else pi
    assert chi_squared(counts(state), other) < 1e-12


def test_the_texts_of_one_chain_have_the_law() -> None:
    """One chain's texts depend on each other, so every 50th is taken. By then the exact dependence has died out."""
    table = Table(scale=0.5)
    kernel = Kernel(table, space_of(), seed=5)
    matrix, pi = kernel_matrix(kernel, 1.0), law(table, 1.0, range(VOCABULARY))
    thinning = 50
    assert abs(np.linalg.matrix_power(matrix, thinning) - pi).sum(1).max() < 0.02
    state, seen = kernel.start(1), np.zeros(len(STATES))
    for number in range(1, 100 * thinning + 1):
        state, _ = kernel.step(state, number)
        if number % thinning == 0:
            seen += counts(state)
    # Fewer than 5 are expected of most single texts, so words are counted at each position.
    for position in range(LENGTH):
        words = np.array([state[position] for state in STATES])
        seen_words, pi_words = (np.bincount(words, weights=values) for values in (seen, pi))
        assert chi_squared(seen_words, pi_words) > 0.01


def test_steps_follow_the_transition_matrix() -> None:
    """Every text 4,000 times, one step: the counts of what follows pass a chi-squared test over all 125 rows."""
    table, times = Table(), 4_000
    kernel = Kernel(table, space_of(), seed=2)
    matrix = kernel_matrix(kernel, 1.0)
    token_CT = torch.tensor(STATES).repeat_interleave(times, 0)
    state, accepted = kernel.step(kernel.at(token_CT), 1)
    seen = np.zeros_like(matrix)
    after = [INDEX[tuple(row)] for row in state.token_CT.tolist()]
    np.add.at(seen, (np.repeat(np.arange(len(STATES)), times), after), 1)
    assert not seen[matrix == 0].any()
    cells = times * matrix >= 5
    pooled = [np.append(row[mask], row[~mask].sum()) for row, mask in zip(seen, cells, strict=True)]
    expected = [np.append(row[mask], row[~mask].sum()) * times for row, mask in zip(matrix, cells, strict=True)]
    value = sum(((s - e)[e > 0] ** 2 / e[e > 0]).sum() for s, e in zip(pooled, expected, strict=True))
    freedom = sum((e > 0).sum() - 1 for e in expected)
    assert stats.chi2.sf(value, freedom) > 0.01
    assert 0 < accepted.float().mean() < 1
    assert torch.allclose(state.energy_C, kernel.at(state.token_CT).energy_C, atol=1e-12)


def test_fixed_words_stay_and_the_law_is_conditioned_on_them() -> None:
    """With the middle fixed, pi is the law of the texts that hold it there."""
    table = Table()
    kernel = Kernel(table, space_of(free=(0, 2)))
    matrix, pi = kernel_matrix(kernel, 1.0), law(table, 1.0, range(VOCABULARY))
    inside = [index for index, state in enumerate(STATES) if state[1] == 0]
    part = matrix[np.ix_(inside, inside)]
    assert part.sum(1) == pytest.approx(1, abs=EXACT)
    assert abs(stationary(part) - pi[inside] / pi[inside].sum()).max() < EXACT


def test_what_is_added_to_the_energy_tilts_the_law() -> None:
    """An extra energy of 0.7 nats for every word 4 multiplies pi by exp(-0.7) for each of them."""
    table = Table()
    kernel = Kernel(table, space_of(), extra=lambda token_CT: 0.7 * (token_CT == 4).sum(1).double())
    tilted = law(table, 1.0, range(VOCABULARY)) * np.exp([-0.7 * state.count(4) for state in STATES])
    assert abs(stationary(kernel_matrix(kernel, 1.0)) - tilted / tilted.sum()).max() < EXACT


@pytest.mark.parametrize("block", [1, 2])
def test_a_tilt_of_the_proposals_does_not_change_the_law(block: int) -> None:
    """Other words are proposed, and the law is the same to the last digits."""
    table = Table()
    tilt_FV = torch.from_numpy(np.random.default_rng(8).normal(scale=2, size=(LENGTH, VOCABULARY)))
    plain, tilted = (
        kernel_matrix(Kernel(table, space_of(), block=block, tilt_FV=tilt), 1.0) for tilt in (None, tilt_FV)
    )
    assert abs(plain - tilted).max() > 0.1
    assert abs(stationary(tilted) - law(table, 1.0, range(VOCABULARY))).max() < EXACT


def test_chains_do_not_depend_on_how_many_there_are() -> None:
    table = Table()
    kernel = Kernel(table, space_of(), seed=3)
    few, many = kernel.start(2), kernel.start(5)
    for number in range(1, 30):
        (few, _), (many, _) = kernel.step(few, number), kernel.step(many, number)
    assert few.token_CT.tolist() == many.token_CT[:2].tolist()
    assert len({tuple(row) for row in many.token_CT.tolist()}) > 1


def counts(state: State) -> np.ndarray:
    return np.bincount([INDEX[tuple(row)] for row in state.token_CT.tolist()], minlength=len(STATES)).astype(float)


def chi_squared(seen: np.ndarray, probability: np.ndarray) -> float:
    """The p-value of counts under a law. Texts of which fewer than 5 are expected are one cell."""
    expected = probability * seen.sum()
    rare = expected < 5
    cells, wanted = (np.append(values[~rare], values[rare].sum()) for values in (seen, expected))
    keep = wanted > 0
    return float(stats.chisquare(cells[keep], wanted[keep], sum_check=False).pvalue)
