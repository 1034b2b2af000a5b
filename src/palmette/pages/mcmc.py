"""The page of texts that chains found: the texts with their energies, and how well the chains moved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palmette.encoders.diagnostics import ENOUGH, MIXED, steps_needed
from palmette.encoders.settings import McmcSettings
from palmette.encoders.summary import Point, Sample
from palmette.numbers import fixed, percent, readable
from palmette.pages.charts import StepLine, steps_chart
from palmette.pages.page import render_page, write_page

PAGE = "mcmc.html"
SHOWN, SHOWN_OF_WAY = 20, 3  # texts of a point


def write_mcmc_page(out: Path, settings: McmcSettings, points: Sequence[Point]) -> None:
    """Write the page into the folder of a job.

    Raises:
        RunError: it cannot be written.
    """
    write_page(out / PAGE, mcmc_page(settings, points))


def mcmc_page(settings: McmcSettings, points: Sequence[Point]) -> str:
    """The page as HTML."""
    last = points[-1]
    return render_page(
        "mcmc.html",
        styles=("page.css", "mcmc.css"),
        scripts=(),
        title=settings.text if settings.to is None else f"{settings.text} → {settings.to}",
        facts=facts_of(settings),
        conclusion=conclusion(settings, points),
        points=[_shown(settings, point) for point in points],
        charts=[
            {
                "title": f"Chain {number}",
                "drawing": steps_chart(
                    f"chain{number}",
                    [StepLine(tuple(enumerate(energies)))],
                    title=f"Energy of chain {number}",
                    label="energy (nats)",
                    unit="step",
                ),
                "note": "",
            }
            for number, energies in enumerate(last.energies, 1)
        ],
        asked=settings.question is not None or settings.to is not None,
        way=settings.to is not None,
    )


def facts_of(settings: McmcSettings) -> list[tuple[str, str]]:
    """What was asked for, in words."""
    facts = [
        ("Model", settings.model),
        ("Chains", f"{settings.chains} of {settings.steps:,} steps, {_words(settings.most_words)} at a time"),
        ("What they do", _rule(settings)),
    ]
    if settings.keep:
        facts.append(("Words that stay", ", ".join(settings.keep)))
    if settings.question is not None:
        asked = f"{settings.question} {settings.reader} must answer with blank {settings.blank}"
        facts.append(("Question", f"{asked} (weight {settings.weight:g})"))
    return facts


def conclusion(settings: McmcSettings, points: Sequence[Point]) -> str:
    """Whether the samples can be taken for samples of the law, in a sentence or two."""
    if settings.anneal_to is not None:
        return "The temperature fell, so these are texts of low energy, and not samples of a law."
    if settings.rule == "gibbs":
        return "Every proposal was accepted. What this samples belongs to no law that is known."
    found = [(one.r_hat, one.effective) for one in (point.diagnostics for point in points)]
    told = [(r_hat, effective) for r_hat, effective in found if r_hat is not None and effective is not None]
    if len(told) < len(found):
        return "Too few steps, or chains that do not move: nothing says whether they have mixed. Run them for longer."
    top, fewest = max(r_hat for r_hat, _ in told), min(effective for _, effective in told)
    if top <= MIXED:
        return f"R-hat is {top:.3f}. Nothing says that the chains have not mixed."
    steps = steps_needed(settings.steps, settings.chains, fewest)
    more = f"about {max(steps, 2 * settings.steps):,} steps"
    how = f"The same command with {more} goes on." if settings.can_grow else f"Give {more}, and another folder."
    return (
        f"R-hat is {top:.2f}, above {MIXED}: the chains have not mixed, so do not take the shares of the texts for "
        f"probabilities. {settings.chains * ENOUGH} effective values are usually enough, and there are {fewest:,.0f}. "
        f"{how}"
    )


def diagnostics_row(point: Point) -> dict[str, str]:
    """The figures of a point as they are shown."""
    found = point.diagnostics
    num = found.steps * len(point.energies)
    return {
        "share": "" if point.share is None else percent(point.share, 1),
        "accepted": percent(found.acceptance, num),
        "moved": percent(found.moved, num),
        "effective": "-" if found.effective is None else f"{found.effective:,.0f}",
        "r_hat": fixed(found.r_hat, 3),
        "energy": fixed(found.mean_energy, 2),
        "first": readable(found.first_best),
    }


def sample_row(sample: Sample, total: int) -> dict[str, str]:
    """A text as it is shown, with the share of the steps that were spent there."""
    return {
        "text": sample.text,
        "energy": fixed(sample.energy, 2),
        "extra": fixed(sample.extra, 2),
        "share": percent(sample.visits / total, total),
    }


def _shown(settings: McmcSettings, point: Point) -> dict[str, Any]:
    total = sum(sample.visits for sample in point.samples)
    rows = [sample_row(sample, total) for sample in point.samples[: SHOWN_OF_WAY if settings.to else SHOWN]]
    return {**diagnostics_row(point), "samples": rows, "num_texts": f"{len(point.samples):,}"}


def _words(number: int) -> str:
    return "one word" if number == 1 else f"up to {number} words"


def _rule(settings: McmcSettings) -> str:
    if settings.rule == "gibbs":
        return "Gibbs: every proposal is accepted"
    if settings.anneal_to is not None:
        return f"simulated annealing, from temperature {settings.temperature:g} to {settings.anneal_to:g}"
    return f"Metropolis-Hastings at temperature {settings.temperature:g}"
