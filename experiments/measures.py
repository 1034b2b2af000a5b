"""What the tables of the experiments measure: figures under weights of the questions, and their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palmette.evaluate.squad import Evaluation
from palmette.tasks.answer_match import exact_match, gold_answers, token_f1

_SAMPLES = 2000
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """A measure of an evaluation under weights of its questions.

    Attributes:
        name: its name, for the name of the table.
        value: of an evaluation and weights [B, N] of its questions, the measure [B], in percent.
    """

    name: str
    value: Callable[[Evaluation, Values], Values]


def exact(found: Evaluation, weight_BN: Values) -> Values:
    """The exact match."""
    value: Values = weight_BN @ np.array([100 * one.exact for one in found.scored]) / weight_BN.sum(1)
    return value


def likelier_exact(found: Evaluation, weight_BN: Values) -> Values:
    """The exact match if the best span is the answer where it is likelier than none, whatever was given."""
    exact_N = []
    for one in found.scored:
        best, none = one.prediction.candidates[:1], one.prediction.no_answer_probability
        text = best[0].text if best and none is not None and best[0].probability > none else ""
        exact_N.append(100 * exact_match(text, gold_answers(one.question)))
    value: Values = weight_BN @ np.array(exact_N) / weight_BN.sum(1)
    return value


def forced_f1(found: Evaluation, weight_BN: Values) -> Values:
    """The F1 of the best span of the answerable questions, however probable no answer is.

    The decoder has to look for it in any case, as with `Decision(always_answer=True)`.
    """
    answerable_N = np.array([one.question.answerable for one in found.scored])
    spans = [one.prediction.candidates[0].text if one.prediction.candidates else "" for one in found.scored]
    f1_N = np.array(
        [100 * token_f1(span, gold_answers(one.question)) for span, one in zip(spans, found.scored, strict=True)]
    )
    weight_BA = weight_BN[:, answerable_N]
    value: Values = weight_BA @ f1_N[answerable_N] / weight_BA.sum(1)
    return value


def auroc(found: Evaluation, weight_BN: Values) -> Values:
    """How often an unanswerable question has a higher probability of no answer than an answerable one."""
    no_answer_N = np.array([one.prediction.no_answer_probability for one in found.scored])
    answerable_N = np.array([one.question.answerable for one in found.scored])
    absent_N, present_N = no_answer_N[~answerable_N][:, None], no_answer_N[answerable_N]
    wins = (absent_N > present_N) + 0.5 * (absent_N == present_N)
    weight_BU, weight_BA = weight_BN[:, ~answerable_N], weight_BN[:, answerable_N]
    total_B = weight_BU.sum(1) * weight_BA.sum(1)
    value: Values = 100 * np.einsum("bu,ua,ba->b", weight_BU, wins, weight_BA, optimize=True) / total_B
    return value


def mean_and_interval(
    of_seed: Sequence[Callable[[Values], Values]], clusters: Sequence[str]
) -> tuple[float, tuple[float, float]]:
    """The mean of a measure over seeds, and its 95 % interval, both seeds and clusters being drawn.

    Args:
        of_seed: for each seed what gives the measure [B] under weights [B, N] of the questions.
        clusters: what is drawn of each question: its document, or the question itself.
    """
    generator = np.random.default_rng(0)
    names = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    cluster_N = np.array([names[name] for name in clusters])
    draw_BD = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=_SAMPLES)
    weight_BN = draw_BD[:, cluster_N].astype(np.float64)
    with np.errstate(invalid="ignore"):  # a draw may hold no question of one kind
        value_SB = np.array([value(weight_BN) for value in of_seed])
    seed_BS = generator.integers(len(of_seed), size=(_SAMPLES, len(of_seed)))
    drawn_B = np.take_along_axis(value_SB, seed_BS.T, axis=0).mean(0)
    low, high = np.nanquantile(drawn_B, [0.025, 0.975])
    whole = [float(value(np.ones((1, len(clusters))))[0]) for value in of_seed]
    return float(np.mean(whole)), (float(low), float(high))
