"""Figures of a divergence, by hand, and their intervals."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from palmette.evaluate.bootstrap import ratio_intervals
from palmette.evaluate.divergence.result import Divergence, ScoredCompletion


def completion(document: str, num_tokens: int, logprob: float, reference: float, **changes: Any) -> ScoredCompletion:
    settings = {"kl_k3": 0.5, "rewards": {"exact": 0.0}, "reward": 0.0, "abstained": False, "finish": "end"}
    return ScoredCompletion(
        document,
        "q",
        0,
        "",
        num_tokens=num_tokens,
        logprob=logprob,
        reference_logprob=reference,
        **{**settings, **changes},
    )


# Document a: 2 + 4 tokens, log ratios 1 and -3. Document b: 4 tokens, log ratio 5.
COMPLETIONS = (
    completion("a", 2, -3.0, -4.0, rewards={"exact": 1.0}, reward=2.0),
    completion("a", 4, -7.0, -4.0, kl_k3=1.0, abstained=True),
    completion("b", 4, -2.0, -7.0, kl_k3=3.0, finish="length"),
)


def test_figures_by_hand() -> None:
    """Log ratios 1, -3, 5 over 10 tokens; log-probabilities -12 in all."""
    found = Divergence(COMPLETIONS, {"model": "m"})
    assert found.measures == pytest.approx(
        {
            "completion_kl": 1.0,
            "completion_kl_k3": 1.5,
            "token_kl": 0.3,
            "token_kl_k3": 0.45,
            "entropy": 1.2,
            "completion_tokens": 10 / 3,
            "ended": 2 / 3,
            "reward": 2 / 3,
            "sampled_exact": 1 / 3,
            "sampled_abstained": 1 / 3,
        }
    )
    written = json.loads(json.dumps(found.to_json()))
    assert {key: written[key] for key in ("documents", "questions", "completions", "made_by")} == {
        "documents": 2,
        "questions": 2,
        "completions": 3,
        "made_by": {"model": "m"},
    }
    assert [line["kl"] for line in found.lines()] == [1.0, -3.0, 5.0]
    with pytest.raises(ValueError, match="no completion"):
        Divergence(())


def test_intervals_draw_documents_with_all_their_completions() -> None:
    """Of two documents a quarter of the samples hold only one, a quarter only the other: so the ends are the figures of
    each alone.

    Drawn completion by completion, the entropy could not be that of document a alone at one end and of b at the other.
    """
    found = Divergence(COMPLETIONS).intervals
    assert found["completion_kl"] == pytest.approx((-1.0, 5.0))
    assert found["token_kl"] == pytest.approx((-2 / 6, 5 / 4))
    assert found["entropy"] == pytest.approx((2 / 4, 10 / 6))
    assert found["ended"] == pytest.approx((0.0, 1.0))
    assert found.keys() == Divergence(COMPLETIONS).measures.keys()
    assert Divergence(COMPLETIONS[:2]).intervals == {}


def test_intervals_have_the_width_of_the_normal_approximation() -> None:
    """400 documents that earn 0 or 1 with equal shares: 0.5 -+ 1.96 * 0.5 / 20."""
    values = torch.tensor([0.0, 1.0]).repeat(200).numpy()
    low, high = ratio_intervals({"x": (values, values * 0 + 1)}, [str(n) for n in range(400)])["x"]
    assert (low, high) == (pytest.approx(0.451, abs=0.006), pytest.approx(0.549, abs=0.006))
