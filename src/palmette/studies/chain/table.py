"""The results of a chain: a table of its policies over all seeds, its reward models, and failures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palmette import run
from palmette.numbers import with_interval
from palmette.pages.plots import FrontierPoint, plot_frontier
from palmette.studies.chain.measuring import MEASURING_ERROR, RANKING
from palmette.studies.chain.recipe import Chain, ChainStage
from palmette.studies.measuring import DIVERGENCE, ERROR, refusal
from palmette.studies.sweep.table import Outcome, read_outcome, rows_of
from palmette.studies.tables import MEANINGS, Spread, Table, definitions, flat, markdown, tables_of

PAGE, RECORD, FRONTIER = "chain.md", "chain.json", "frontier.png"
_RANKING = {
    "accuracy": ("accuracy, percent", 100.0, 1),
    "log_loss": ("log loss, nats", 1.0, 3),
    "margin": ("margin", 1.0, 3),
    "calibration_error": ("calibration error, percent", 100.0, 1),
    "comparisons": ("comparisons", 1.0, 0),
}
# Figures of completions sampled from a run: label, scale, digits.
_SAMPLED = {
    "sampled_exact": ("EM", 100.0, 1),
    "sampled_f1": ("F1", 100.0, 1),
    "sampled_abstained": ("abstained", 100.0, 1),
    "completion_kl": ("KL a completion", 1.0, 3),
    "entropy": ("entropy a token", 1.0, 3),
    "completion_tokens": ("tokens a completion", 1.0, 1),
    "ended": ("ended", 100.0, 1),
}
# What the words of the page mean, besides those of `tables.MEANINGS`.
_MEANINGS = {
    "sampled": "completions drawn at temperature 1 and cut after {most} tokens, in percent",
    "KL a completion": "KL divergence of the policy from {reference}, in nats",
    "entropy a token": "how varied the completions are, in nats",
    "final loss": "the stage's own objective, mean over the last tenth of its steps. Only losses of one kind compare",
    "training s": "seconds of that stage alone",
}


def outcomes_of(chain: Chain, stages: Sequence[ChainStage]) -> list[Outcome]:
    """The results of the policies so far, in the order of the stages, with the seeds of a stage together."""
    names = list(dict.fromkeys(stage.name for stage in stages))
    policies = [stage for stage in stages if stage.makes_policy]
    policies.sort(key=lambda stage: names.index(stage.name))
    return [read_outcome(stage.cell(chain.evaluate)) for stage in policies]


def write_results(folder: Path, chain: Chain, stages: Sequence[ChainStage], measured_on: Mapping[str, Any]) -> None:
    """Write chain.md and chain.json into a folder, and frontier.png if samples were measured."""
    outcomes = outcomes_of(chain, stages)
    rows = rows_of(outcomes, chain.reference)
    rankings = _rankings(stages)
    failed, refused = failures_of_stages(stages), refusals_of_stages(chain, stages)
    run.write_json(
        folder / RECORD,
        {
            **run.environment(),
            "chain": chain.model_dump(),
            "measured_on": dict(measured_on),
            "stages": [asdict(row) for row in rows],
            "rewards": {
                name: {figure: asdict(spread) for figure, spread in spreads.items()}
                for name, spreads in rankings.items()
            },
            "runs": [
                {"stage": one.cell.name, "seed": one.cell.seed, "measures": dict(one.measures)} for one in outcomes
            ],
            "failed": failed,
            "refused": refused,
        },
    )
    seeds = ", ".join(map(str, chain.seeds))
    facts = {"questions": f"{measured_on['questions']:,} of {measured_on['data']}", "seeds": seeds}
    own = {
        name: words.format(reference=chain.reference, most=chain.evaluate.max_new_tokens)
        for name, words in _MEANINGS.items()
    }
    lines = [f"# Chain {folder.name}", "", *definitions({**facts, **MEANINGS, **own}), ""]
    for table in tables_of(rows, None, chain.reference):
        lines += [*markdown(*table), ""]
    if points := _points(outcomes):
        plot_frontier(points, folder / FRONTIER, reference=str(chain.reference))
        lines += [f"![Exact match of sampled completions against the KL divergence from the reference]({FRONTIER})", ""]
    if sampled := _sampled(stages):
        headings = ["stage", "seed", *(label for label, _, _ in _SAMPLED.values())]
        lines += ["## Completions sampled from each run", "", *markdown(headings, sampled), ""]
    if rankings:
        lines += ["## Reward models", "", *markdown(*_ranking_table(rankings)), ""]
    lines += ["## Stages", ""]
    for name, values in chain.stages.items():
        lines += [f"### {name}", "", *definitions(flat(values)), ""]
    if failed or refused:
        lines += ["## Failed or refused", "", *(f"- {text}" for text in [*failed, *refused]), ""]
    run.write_text(folder / PAGE, "\n".join(lines))


def _points(outcomes: Sequence[Outcome]) -> list[FrontierPoint]:
    """A point for each policy: its KL divergence from the chain's reference, and the exact match of its samples."""
    found = []
    for outcome in outcomes:
        values = next(iter(outcome.measures.values()), {})
        if "completion_kl" in values and "sampled_exact" in values:
            found.append(FrontierPoint(outcome.cell.name, values["completion_kl"], values["sampled_exact"]))
    return found


def _sampled(stages: Sequence[ChainStage]) -> list[list[str]]:
    """The figures of each run's sampled completions, with 95 % intervals, as lines of a table."""
    lines = []
    for stage in sorted(stages, key=lambda stage: [one.name for one in stages].index(stage.name)):
        found = _read(stage.place / DIVERGENCE)
        if found is None:
            continue
        cells = []
        for name, (_, scale, digits) in _SAMPLED.items():
            cells.append(with_interval(found[name], found["intervals"].get(name), digits=digits, scale=scale))
        lines.append([stage.name, str(stage.seed), *cells])
    return lines


def _rankings(stages: Sequence[ChainStage]) -> dict[str, dict[str, Spread]]:
    """The figures of the reward models over the seeds, by stage and then by figure."""
    values: dict[str, list[dict[str, Any]]] = {}
    for stage in stages:
        found = _read(stage.place / RANKING)
        if found is not None:
            values.setdefault(stage.name, []).append(found)
    return {
        name: {figure: Spread.of([scale * one[figure] for one in found]) for figure, (_, scale, _) in _RANKING.items()}
        for name, found in values.items()
    }


def _ranking_table(rankings: Mapping[str, Mapping[str, Spread]]) -> tuple[list[str], list[list[str]]]:
    headings = ["stage", *(label for label, _, _ in _RANKING.values())]
    lines = []
    for name, spreads in rankings.items():
        lines.append([name, *(spreads[figure].format(digits) for figure, (_, _, digits) in _RANKING.items())])
    return headings, lines


def failures_of_stages(stages: Sequence[ChainStage]) -> list[str]:
    """Messages about stages that failed and figures that could not be measured."""
    found = []
    for stage in stages:
        error, errors = _read(stage.place / ERROR), _read(stage.place / MEASURING_ERROR)
        named = f"{stage.name}, seed {stage.seed}"
        found += [f"failed: {named}: {error['error']}"] if error else []
        found += [f"not measured: {named}: {text}" for text in (errors["errors"] if errors else [])]
    return found


def refusals_of_stages(chain: Chain, stages: Sequence[ChainStage]) -> list[str]:
    """Messages of decoders that refused the model of a stage."""
    asked = [stage for stage in stages if stage.makes_policy]
    files = [
        (stage, name, _read(stage.place / refusal(name)))
        for stage in asked
        for name in stage.cell(chain.evaluate).decoders
    ]
    return [f"refused: {stage.name}, seed {stage.seed}, {name}: {kept['error']}" for stage, name, kept in files if kept]


def _read(path: Path) -> dict[str, Any] | None:
    """The JSON of a file. None if the file does not exist."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return values


def terminal_tables(chain: Chain, stages: Sequence[ChainStage]) -> list[Table]:
    """The figures of the policies, then those of any reward models, as headings and lines of tables."""
    rows = rows_of(outcomes_of(chain, stages), chain.reference)
    tables = list(tables_of(rows, None, chain.reference, intervals=False))
    rankings = _rankings(stages)
    return [*tables, _ranking_table(rankings)] if rankings else tables
