"""R-hat and the effective sample size, against derivations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from palmette.encoders.diagnostics import ENOUGH, MIXED, effective_sample_size, split_r_hat, steps_needed


def autoregressive(correlation: float, chains: int, length: int, seed: int = 0) -> np.ndarray:
    """Stationary AR(1) chains: x_t = r x_(t-1) + noise, with variance 1."""
    noise = np.random.default_rng(seed).normal(size=(chains, length))
    values = np.empty_like(noise)
    values[:, 0] = noise[:, 0]
    for t in range(1, length):
        values[:, t] = correlation * values[:, t - 1] + math.sqrt(1 - correlation**2) * noise[:, t]
    return values


def test_r_hat_by_hand() -> None:
    """Halves 0 1 0 1, 0 1 0 1, 2 3 2 3 and 2 3 2 3. Each has variance 1/3, so W = 1/3. Their means are 0.5, 0.5, 2.5
    and 2.5, of variance 4/3. The whole variance is 1/3 x 3/4 + 4/3 = 19/12, and R-hat is sqrt(19/4).
    """
    assert split_r_hat([[0, 1] * 4, [2, 3] * 4]) == pytest.approx(math.sqrt(19 / 4), abs=1e-12)


def test_a_drift_shows_in_one_chain() -> None:
    """0 1 0 1 and then 2 3 2 3: one chain, whose halves are those of the test before."""
    assert split_r_hat([[0, 1, 0, 1, 2, 3, 2, 3]]) == pytest.approx(math.sqrt(1 / 4 * 3 + 2 / (1 / 3)), abs=1e-12)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_effective_sample_size_of_an_autoregression(correlation: float) -> None:
    """Of N values, the mean has the variance of N (1 - r) / (1 + r) independent ones."""
    several = [autoregressive(correlation, 4, 20_000, seed) for seed in range(6)]
    values = several[0]
    expected = values.size * (1 - correlation) / (1 + correlation)
    sizes = [effective_sample_size(one) for one in several]
    assert np.mean(sizes) == pytest.approx(expected, rel=0.08)  # the error of each is up to a tenth
    assert split_r_hat(values) == pytest.approx(1, abs=0.005)


def test_both_are_those_of_arviz() -> None:
    """arviz-stats 0.8.0, `rhat(method="split")` and `ess(method="mean")`. Its values are written down here."""
    first = [[((7 * c + 3) * t * t + 5 * t) % 23 / 7.0 + 0.2 * c for t in range(30)] for c in range(3)]
    second = [
        [math.exp(-((t - 20 * c) % 37) / 9) + ((t * t * 5 + 3 * c) % 13) / 13 for t in range(80)] for c in range(2)
    ]
    for chains, r_hat, effective in ((first, 0.99252672, 96.06741042), (second, 0.98881231, 47.10841072)):
        assert split_r_hat(chains) == pytest.approx(r_hat, abs=1e-8)
        assert effective_sample_size(chains) == pytest.approx(effective, abs=1e-7)


def test_the_mean_errs_as_the_effective_sample_size_says() -> None:
    """Over 400 repetitions, the variance of the mean of short chains is the variance of a value over that size."""
    means, sizes = [], []
    for seed in range(400):
        values = autoregressive(0.6, 2, 200, seed)
        means.append(values.mean())
        sizes.append(effective_sample_size(values))
    assert np.var(means) * np.mean(sizes) == pytest.approx(1, rel=0.25)


@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_as_many_steps_as_are_said_to_be_needed_make_r_hat_small(correlation: float) -> None:
    """Autocorrelations of r^t add up to t = (1 + r) / (1 - r), steps for an effective value. Half chains of n values
    have means of variance t/n and a variance of 1 - t/n in them, so R-hat^2 is 1 - 1/n + (t/n) / (1 - t/n) on average.
    """
    time = (1 + correlation) / (1 - correlation)
    needed = round(ENOUGH * time)
    found = [split_r_hat(autoregressive(correlation, 4, needed, seed)) or 0 for seed in range(200)]
    half = time / (needed / 2)
    expected = 1 - 2 / needed + half / (1 - half)
    assert np.mean(np.square(found)) == pytest.approx(expected, abs=0.003)  # 3.5 standard errors of 200 chains
    assert math.sqrt(expected) == pytest.approx(MIXED, abs=0.004)
    guessed = [
        steps_needed(needed // 4, 4, effective_sample_size(autoregressive(correlation, 4, needed // 4, seed)) or 0)
        for seed in range(200)
    ]
    assert np.median(guessed) == pytest.approx(needed, rel=0.15)


def test_chains_that_say_nothing_have_no_figures() -> None:
    for chains in ([[1.0, 2.0, 1.0]], [[1.0] * 40, [1.0] * 40]):
        assert split_r_hat(chains) is None
        assert effective_sample_size(chains) is None
