"""Runs that differ only in their seed: intervals of their mean, and how they differ from other such runs.

The answers of all seeds are pooled, and documents are drawn with all of their questions under all seeds (see
`evaluate/bootstrap.py`). So an interval says how far the mean over these seeds would move on other documents. It does
not say what other seeds would give.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

from palmette.evaluate.bootstrap import Difference, intervals, paired_difference
from palmette.evaluate.squad import Evaluation
from palmette.evaluate.squad_metrics import ScoredAnswer

# (seed, folder that an evaluation left) of each run.
Seeds = tuple[tuple[int, Path], ...]


@functools.cache  # an evaluation's folder appears whole and stays as it is
def pooled_intervals(seeds: Seeds) -> dict[str, tuple[float, float]]:
    """95 % intervals of the means over questions. There are none for fewer than two documents."""
    scored = pooled(seeds)
    return intervals(scored, None) if _several_documents(scored) else {}


@functools.cache
def pooled_difference(a: Seeds, b: Seeds) -> dict[str, Difference]:
    """Each mean over questions of a less that of b, over the seeds that both have.

    Returns:
        {} if they share no seed, or where there are fewer than two documents.

    Raises:
        DataError: their questions differ.
    """
    shared = {seed for seed, _ in a} & {seed for seed, _ in b}
    of_a, of_b = (pooled(tuple(part for part in parts if part[0] in shared)) for parts in (a, b))
    return paired_difference(of_a, of_b, None) if _several_documents(of_a) else {}


def pooled(seeds: Seeds) -> list[ScoredAnswer]:
    """The answers of all runs. The id of a question begins with its seed, so each seed has its own questions.

    Raises:
        RunError: a folder holds no answers that can be read.
    """
    return [
        replace(answer, question=replace(answer.question, id=f"{seed}/{answer.question.id}"))
        for seed, folder in seeds
        for answer in Evaluation.read(folder).scored
    ]


def _several_documents(scored: list[ScoredAnswer]) -> bool:
    return len({answer.document.id for answer in scored}) > 1
