"""Drawing tokens from a distribution."""

from __future__ import annotations

import pytest
import torch

from palmette.decode.drawing import draw


def test_a_number_picks_the_token_in_whose_stretch_it_falls() -> None:
    """Probabilities 1/8, 1/2, 1/4, 1/8, worked by hand; of the two likeliest alone, 2/3 and 1/3.

    With top_p = 0.8, 1/2 + 1/4 do not reach it; of the two tokens of 1/8 the first one joins: 1/7, 4/7, 2/7.
    At temperature 1/2 probabilities are squared: 1/22, 16/22, 4/22, 1/22.
    """
    probability = torch.tensor([1, 4, 2, 1], dtype=torch.float64) / 8
    cases = [
        (1.0, 1.0, [(0.0, 0), (0.124, 0), (0.126, 1), (0.624, 1), (0.626, 2), (0.876, 3), (1 - 2**-53, 3)]),
        (1.0, 0.7, [(0.0, 1), (0.66, 1), (0.67, 2), (1 - 2**-53, 2)]),
        (1.0, 0.8, [(0.0, 0), (0.142, 0), (0.143, 1), (0.714, 1), (0.715, 2), (1 - 2**-53, 2)]),
        (1.0, 1e-9, [(0.0, 1), (1 - 2**-53, 1)]),
        (0.5, 1.0, [(0.045, 0), (0.046, 1), (0.772, 1), (0.773, 2), (0.954, 2), (0.955, 3)]),
        (0.0, 1.0, [(0.0, 1), (0.99, 1)]),
    ]
    drawn_from = {
        (1.0, 1.0): [1 / 8, 1 / 2, 1 / 4, 1 / 8],
        (1.0, 0.7): [0, 2 / 3, 1 / 3, 0],
        (1.0, 0.8): [1 / 7, 4 / 7, 2 / 7, 0],
        (1.0, 1e-9): [0, 1, 0, 0],
        (0.5, 1.0): [1 / 22, 16 / 22, 4 / 22, 1 / 22],
        (0.0, 1.0): [0, 1, 0, 0],
    }
    for temperature, top_p, numbers in cases:
        uniform = torch.tensor([number for number, _ in numbers], dtype=torch.float64)
        tokens, logprobs, own = draw(probability.log().expand(len(numbers), 4), uniform, temperature, top_p)
        assert tokens.tolist() == [token for _, token in numbers]
        assert logprobs.exp().tolist() == pytest.approx([float(probability[token]) for _, token in numbers])
        assert own.exp().tolist() == pytest.approx([drawn_from[temperature, top_p][token] for _, token in numbers])


def test_a_nucleus_wider_than_the_likeliest_few() -> None:
    """2,000 equal probabilities: the first ten of them make up 0.005, the first 1,500 make up 0.75; two of four
    exactly 0.5.
    """
    for vocabulary, top_p, size in ((2000, 0.00499, 10), (2000, 0.74999, 1500), (4, 0.5, 2)):
        uniform = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
        tokens, _, own = draw(torch.zeros(3, vocabulary, dtype=torch.float64), uniform, 1.0, top_p)
        assert tokens[0] == 0
        assert abs(int(tokens[1]) - size // 2) <= 1
        assert tokens[2] == size - 1
        assert own.exp().tolist() == pytest.approx([1 / size] * 3)
