"""Every figure that a stage counts has a chart with words."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from palmette.pages.training.figures import OTHERS, figure_groups, not_drawable
from palmette.pages.training.warnings import find_warnings
from palmette.train.stages import STAGES
from tests.support.training_runs import LOGGED, counted, log_lines, page_of, read


@pytest.mark.parametrize("stage", STAGES)
def test_every_figure_that_a_stage_counts_has_a_chart_with_words(stage: str, tmp_path: Path) -> None:
    names = counted(stage)
    least = {"sft": 0, "reward": 3, "dpo": 4, "kto": 3, "grpo": 13, "ppo": 18, "pretrain": 1, "mlm": 1}
    assert len(names) >= least[stage]
    run = read(tmp_path, stage, log_lines(20, questions_per_second=3.0, **dict.fromkeys(names, 0.5)))
    groups = figure_groups(run)
    assert OTHERS not in groups
    drawn = [key for figures in groups.values() for figure in figures for key in figure.keys]
    assert sorted(drawn) == sorted({*names, *LOGGED, "questions_per_second"})
    assert all(figure.reading and figure.label for figures in groups.values() for figure in figures)
    html = page_of(run)
    assert html.count('<svg class="chart"') == sum(map(len, groups.values()))
    ids = re.findall(r'<title id="([^"]+)"', html)
    assert len(set(ids)) == len(ids)


def test_what_is_not_known_is_drawn_as_it_stands_and_what_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    """The figure "strange" lacks a step and is once NaN, so it is known in 18 of 20; "words" is no number, "nothing"
    null.
    """
    strange = [math.nan, "absent", *[7.0] * 18]
    run = read(tmp_path, "sft", log_lines(20, strange=strange, words="none", nothing=None))
    assert [figure.keys for figure in figure_groups(run)[OTHERS]] == [("strange",)]
    assert not_drawable(run) == ["words", "nothing"]
    html = page_of(run)
    assert "Known in 18 of 20 steps. Infinite or not a number in 1." in html
    assert "cannot be drawn: words, nothing." in html
    (broken,) = [finding for finding in find_warnings(run) if finding.rule.startswith("A figure is infinite")]
    assert (broken.raised, broken.found) == (True, "strange in 1 of 20 steps")


def test_one_of_two_verdicts_alone_keeps_its_words(tmp_path: Path) -> None:
    (figures, *_) = figure_groups(read(tmp_path, "kto", log_lines(3, undesirable_reward=-0.5))).values()
    assert [(figure.keys, figure.names) for figure in figures] == [(("undesirable_reward",), ("bad",))]
