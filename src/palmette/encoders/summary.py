"""What chains found: how well they moved, and the texts of their second halves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palmette import run
from palmette.encoders.diagnostics import effective_sample_size, split_r_hat
from palmette.encoders.job import RESULT, Chains, text_of

SAMPLES = "samples.jsonl"


@dataclass(frozen=True)
class Sample:
    """A text that chains visited.

    Attributes:
        text: the text.
        energy: its energy under the model, in nats.
        extra: what is added to it.
        visits: steps at which a chain was there, of those that count.
    """

    text: str
    energy: float
    extra: float
    visits: int


@dataclass(frozen=True)
class Diagnostics:
    """How well chains moved at one point. The first half of the steps is warm-up, and only counts for `first_best`.

    Attributes:
        steps: the steps that count, of each chain.
        acceptance: share of the proposals that were accepted.
        moved: share of the steps after which the text was another one.
        effective: effective sample size of the energy, over all chains. None if it cannot be told.
        r_hat: split R-hat of the energy over all chains. None if it cannot be told.
        mean_energy: mean of the energy with what is added to it, in nats.
        first_best: mean step at which a chain first reached its own lowest energy.
    """

    steps: int
    acceptance: float
    moved: float
    effective: float | None
    r_hat: float | None
    mean_energy: float
    first_best: float


@dataclass(frozen=True)
class Point:
    """What chains found at one point. There is one, unless they went from one text to another.

    Attributes:
        share: the share of the way, from 0 to 1. None if there is no way.
        diagnostics: how well they moved.
        energies: the energy of each chain, with what is added to it, after each step. Of the first point before it too.
        samples: the texts of the steps that count, those of the lowest energy first. While annealing, all steps count.
    """

    share: float | None
    diagnostics: Diagnostics
    energies: tuple[tuple[float, ...], ...]
    samples: tuple[Sample, ...]


def summarize(chains: Chains, lines: Sequence[dict[str, Any]]) -> list[Point]:
    """What the lines of a finished job say, point by point."""
    settings, num = chains.settings, len(chains.kernels)
    points = []
    for index in range(num):
        own = lines[index * settings.steps : (index + 1) * settings.steps + 1]
        share = index / (num - 1) if num > 1 else None
        points.append(_point(chains, own, share))
    return points


def write_result(chains: Chains, points: Sequence[Point], out: Path) -> None:
    """Write samples.jsonl and result.json, which ends the job.

    Raises:
        RunError: a file cannot be written.
    """
    rows = [{"share": point.share, **asdict(sample)} for point in points for sample in point.samples]
    run.write_json_lines(out / SAMPLES, rows)
    run.write_json(
        out / RESULT,
        {
            "settings": asdict(chains.settings),
            "points": [{"share": point.share, **asdict(point.diagnostics)} for point in points],
        },
    )


def _point(chains: Chains, lines: Sequence[dict[str, Any]], share: float | None) -> Point:
    settings = chains.settings
    taken, first = lines[1:], math.ceil((len(lines) - 1) / 2)
    counted = taken[first:] or taken
    totals = [[a + b for a, b in zip(line["energy"], line["extra"], strict=True)] for line in lines]
    # Where a later point begins, the last energy is still that of the law before it.
    begin = 1 if share else 0
    energies = tuple(tuple(row[chain] for row in totals[begin:]) for chain in range(settings.chains))
    kept = [chain[len(chain) - len(counted) :] for chain in energies]
    before = lines[len(lines) - len(counted) - 1 : -1]
    moved = [
        old != new
        for one, other in zip(before, counted, strict=True)
        for old, new in zip(one["tokens"], other["tokens"], strict=True)
    ]
    accepted = [value for line in counted for value in line["accepted"]]
    values = [value for chain in kept for value in chain]
    best = [begin + chain.index(min(chain)) for chain in energies]
    diagnostics = Diagnostics(
        len(counted),
        sum(accepted) / len(accepted),
        sum(moved) / len(moved),
        effective_sample_size(kept),
        split_r_hat(kept),
        sum(values) / len(values),
        sum(best) / len(best),
    )
    return Point(share, diagnostics, energies, _samples(chains, counted if settings.anneal_to is None else lines))


def _samples(chains: Chains, lines: Sequence[dict[str, Any]]) -> tuple[Sample, ...]:
    found: dict[tuple[int, ...], list[float]] = {}
    for line in lines:
        for tokens, energy, extra in zip(line["tokens"], line["energy"], line["extra"], strict=True):
            # The first energy is kept: rows of another batch round otherwise in the last digits.
            found.setdefault(tuple(tokens), [energy, extra, 0])[2] += 1
    samples = [
        Sample(text_of(chains, list(tokens)), energy, extra, int(visits))
        for tokens, (energy, extra, visits) in found.items()
    ]
    return tuple(sorted(samples, key=lambda sample: (sample.energy + sample.extra, sample.text)))
