"""Warning signs: each rule warns beyond its limit and not before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palmette.pages.training.warnings import Finding, find_warnings
from tests.support.training_runs import log_lines, page_of, read


def last_two(before: float, after: float) -> list[float]:
    """20 steps, whose last tenth are two; the last one is as far above `after` as the one before is below."""
    return [*[before] * 18, after - 0.01, after + 0.01]


@pytest.mark.parametrize(
    ("stage", "rule", "calm", "alarming", "found"),
    [
        ("grpo", "clip share", {"clip_share": last_two(0.9, 0.29)}, {"clip_share": last_two(0.0, 0.31)}, "31 %"),
        (
            "ppo",
            "explained variance",
            {"explained_variance": last_two(-5.0, 0.1)},
            {"explained_variance": last_two(0.9, -0.1)},
            "-0.1",
        ),
        (
            "grpo",
            "all have the same reward",
            {"flat_groups": last_two(1.0, 0.5)},
            {"flat_groups": last_two(0.0, 0.6)},
            "60 %",
        ),
        ("ppo", "of completions that ended", {"ended": last_two(0.0, 0.95)}, {"ended": last_two(1.0, 0.85)}, "85 %"),
        ("dpo", "accuracy", {"accuracy": last_two(0.0, 0.6)}, {"accuracy": last_two(1.0, 0.4)}, "40 %"),
        ("dpo", "chosen", {"chosen_reward": last_two(-1.0, 0.1)}, {"chosen_reward": last_two(1.0, -0.1)}, "-0.1"),
        # A quarter of 2.0 is 0.5.
        ("grpo", "entropy", {"entropy": last_two(2.0, 0.52)}, {"entropy": last_two(2.0, 0.48)}, "2 became 0.48"),
        # 18 times 2, 2.09 and 2.11 have the mean 2.01 and the variance (18 * 0.01^2 + 0.08^2 + 0.1^2) / 20 = 0.00091.
        # The means of two steps differ with a standard error of 0.0302 * sqrt(2 / 2), and twice that is 0.0603.
        # The calm run rises from 2.2 to 2.3 too. Its steps differ by about 0.2 from their mean.
        (
            "sft",
            "loss",
            {"loss": [2.0, 2.4] * 9 + [2.3, 2.3]},
            {"loss": last_two(2.0, 2.1)},
            "2 became 2.1, where chance explains 0.0603",
        ),
        ("sft", "gradient norm", {"grad_norm": last_two(1.0, 4.9)}, {"grad_norm": last_two(1.0, 5.1)}, "1 became 5.1"),
        # Twice the target of 4, half the limit of 25; see the recipe below.
        (
            "ppo",
            "twice its target",
            {"completion_kl": last_two(20.0, 7.9)},
            {"completion_kl": last_two(0.0, 8.1)},
            "8.1 nats a completion",
        ),
        (
            "ppo",
            "at which the run stops",
            {"kl": last_two(20.0, 12.4)},
            {"kl": last_two(0.0, 12.6)},
            "12.6 nats a completion",
        ),
        # 18 times 1 and twice 0.5 have the mean 0.95 and the standard deviation sqrt(0.9 * 0.05^2 + 0.1 * 0.45^2) =
        # 0.15.
        (
            "grpo",
            "The reward is lower",
            {"reward": [1.0, 0.0] * 9 + [0.4, 0.4]},
            {"reward": [1.0] * 18 + [0.5, 0.5]},
            "1 became 0.5, with a standard deviation of 0.15",
        ),
        (
            "ppo",
            "The reward model",
            {"reward_model": [0.0] * 18 + [1.0] * 2, "reward_exact": [0.5] * 20},
            {"reward_model": [0.0] * 18 + [1.0] * 2, "reward_exact": [0.5] * 18 + [0.0] * 2},
            "the score went from 0 to 1, reward_exact from 0.5 to 0",
        ),
    ],
)
def test_each_rule_warns_beyond_its_limit_and_not_before(
    stage: str, rule: str, calm: dict[str, Any], alarming: dict[str, Any], found: str, tmp_path: Path
) -> None:
    recipe = {"ppo": {"kl_target": 4.0, "kl_limit": 25.0}}

    def looked_at(name: str, series: dict[str, Any]) -> Finding:
        (tmp_path / name).mkdir()
        run = read(tmp_path / name, stage, log_lines(20, **series), **recipe)
        (one,) = [finding for finding in find_warnings(run) if rule in finding.rule]
        html = page_of(run)
        assert one.found in html
        assert (one.advice in html) == one.raised
        return one

    assert not looked_at("calm", calm).raised
    warned = looked_at("alarming", alarming)
    assert (warned.raised, warned.found) == (True, found)


def test_a_short_run_is_not_held_against_its_beginning(tmp_path: Path) -> None:
    nine = read(tmp_path, "sft", log_lines(9, loss=lambda step: float(step)))
    assert not [finding for finding in find_warnings(nine) if "loss" in finding.rule]
    # The numbers from 1 to 10 have the variance (10^2 - 1) / 12, and 2 * sqrt(8.25) * sqrt(2 / 1) is 8.12.
    (tmp_path / "ten").mkdir()
    ten = read(tmp_path / "ten", "sft", log_lines(10, loss=lambda step: float(step)))
    assert [finding.found for finding in find_warnings(ten) if finding.raised] == [
        "1 became 10, where chance explains 8.12"
    ]
