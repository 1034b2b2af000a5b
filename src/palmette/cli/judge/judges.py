"""`palmette judge pairs` and `palmette judge validate`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from palmette.cli.options import DATA, MODEL, PATH, SeedOption

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.cli.console import Figure
    from palmette.judge.judging import PairJudged
    from palmette.judge.spec import Estimate
    from palmette.judge.validation import Validation

# The rows of the table: their labels, and whether they are in percent.
_LABELS = {
    "agreement": ("agreement with people, %", True),
    "kappa": ("kappa", False),
    "agreement_decided": ("agreement without ties, %", True),
    "kappa_decided": ("kappa without ties", False),
    "agreement_votes": ("agreement with each single vote, %", True),
    "agreement_people": ("two people, %", True),
    "agreement_people_decided": ("two people, without ties, %", True),
    "inconsistent": ("other verdict in the other order, %", True),
    "first": ("the first answer wins, %", True),
    "judge_agreement": ("agreement, where people decided and lengths are known, %", True),
    "judge_kappa": ("kappa of the same", False),
    "longer_agreement": ('"the longer one wins", on the same, %', True),
    "longer_kappa": ("kappa of that", False),
    "length_judge": ("log-odds for e times the length", False),
    "length_people": ("the same, of people", False),
    "length_bias": ("difference of both", False),
    "own": ("preference for its own models, points", True),
}

JudgeOption = Annotated[
    str,
    typer.Option(
        "--judge",
        help="Who judges: a chat model, or a YAML file that names a model, a reward model or an endpoint.",
        **{**MODEL, "metavar": "JUDGE"},
    ),
]
EstimateOption = Annotated[
    bool, typer.Option("--estimate", help="Only say how many verdicts and tokens it takes, and what they cost.")
]
ValidationOption = Annotated[
    Path | None, typer.Option("--validation", help="What `palmette judge validate` wrote about the judge.", **PATH)
]
ForceOption = Annotated[bool, typer.Option("--force", help="Use a judge that is not known to agree with people.")]
SwapOption = Annotated[
    Literal["mean", "mt-bench"],
    typer.Option(help="How verdicts in both orders become one: the side of their mean, or MT-Bench's rule."),
]


def judge_pairs(
    pairs: Annotated[
        str,
        typer.Argument(
            help="Pairs of answers: a .jsonl file or a table with question, answer_a and answer_b, or votes with their "
            "conversations.",
            **{**DATA, "metavar": "PAIRS"},
        ),
    ],
    judge: JudgeOption,
    out: Annotated[
        Path | None, typer.Option(help="File for the verdicts, as JSON Lines. It must not exist.", **PATH)
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="File that keeps verdicts as they come. By default OUT.store.", **PATH)
    ] = None,
    only_estimate: EstimateOption = False,
) -> None:
    """Ask a judge which of two answers is better.

    Each pair is shown in both orders. A local judge writes nothing: its possible verdicts are scored. The same command
    continues a job that was stopped.
    """

    from palmette import run
    from palmette.cli.console import stderr, stdout
    from palmette.errors import PalmetteError
    from palmette.judge import judging
    from palmette.judge.pairs import read_pairs
    from palmette.judge.spec import estimate, open_judge, read_judge

    spec, given = read_judge(judge), read_pairs(pairs)
    if only_estimate:
        stdout().print(estimate_line(estimate(spec, [case for pair in given for case in judging.both_orders(pair)])))
        return
    if out is None:
        raise PalmetteError("there is no file for the verdicts", "Give --out, or --estimate.")
    run.check_absent(out)
    opened = open_judge(spec)
    found = judging.judge_pairs(opened, given, store or out.with_name(out.name + ".store"))
    name = judging.signature(opened)
    run.write_json_lines(out, (one.row(name) for one in found))
    for line in (*judged_remarks(found), *opened.notes):
        stdout().print(line)
    stderr().print(f"{name}: {len(found)} pairs. written: {out}")


def judged_remarks(found: Sequence[PairJudged]) -> Iterator[str]:
    """What a judge said, in short."""
    from palmette.numbers import percent

    decided = [one.orders for one in found if one.orders.first and one.orders.second]
    unread = sum(odds is None for one in found for odds in one.odds)
    if decided:
        differ = sum(one.inconsistent for one in decided) / len(decided)
        yield f"other verdict in the other order: {percent(differ, len(decided))} %"
        shown = [(o.first == "A") + (o.second == "B") for o in decided]
        ties = sum((o.first == "tie") + (o.second == "tie") for o in decided)
        if wins := 2 * len(decided) - ties:
            yield f"the first answer wins: {percent(sum(shown) / wins, wins)} % of the verdicts without ties"
    if unread:
        yield f"unread: {unread} of {2 * len(found)} verdicts"


def estimate_line(found: Estimate) -> str:
    """An estimate as a sentence."""
    from palmette.numbers import count

    cost = "" if found.cost is None else f", at a cost of about {found.cost:.4f}"
    return f"{count(found.requests, 'verdict')}, about {found.tokens:,} tokens to read{cost}."


def judge_validate(
    verdicts: Annotated[
        str,
        typer.Argument(
            help="A judge's verdicts on pairs: a .jsonl file or a table.", **{**DATA, "metavar": "VERDICTS"}
        ),
    ],
    votes: Annotated[str, typer.Argument(help="Votes of people on the same pairs.", **{**DATA, "metavar": "VOTES"})],
    out: Annotated[Path | None, typer.Option(help="File for the figures, as JSON. It must not exist.", **PATH)] = None,
    own: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A model of the judge's own family, for self-preference. May be repeated."),
    ] = None,
    swap: SwapOption = "mean",
    floor: Annotated[float, typer.Option(help="The least lower bound of kappa without ties for leaderboards.")] = 0.2,
    resamples: Annotated[
        int, typer.Option(min=2, metavar="N", help="How often questions are drawn for intervals.")
    ] = 1000,
    seed: SeedOption = 0,
) -> None:
    """Compare a judge's verdicts with votes of people.

    It says how far they agree beyond chance, and whether order, length or the judge's own models sway it.
    """
    from palmette import run
    from palmette.cli.console import figures_table, stderr, stdout
    from palmette.judge.pair_verdicts import read_pair_verdicts
    from palmette.judge.validation import validate

    if out is not None:
        run.check_absent(out)
    judged, voted = read_pair_verdicts(verdicts, swap), read_pair_verdicts(votes, swap)
    found = validate(judged.verdicts, voted.verdicts, own=own or (), floor=floor, num_samples=resamples, seed=seed)
    stdout().print(figures_table(_rows(found), measure=found.judge or "judge"), "")
    for line in _remarks(found):
        stdout().print(line)
    if out is not None:
        sources = {"verdicts": judged.source, "verdicts_sha256": judged.sha256}
        sources |= {"votes": voted.source, "votes_sha256": voted.sha256}
        run.write_json(out, {**run.environment(), **sources, "swap": swap, **found.record()})
        stderr().print(f"written: {out}")


def _rows(found: Validation) -> Iterator[Figure]:
    from palmette.cli.console import Figure

    for name, (label, percent) in _LABELS.items():
        figure = found.figures.get(name)
        if figure is not None and figure.value is not None:
            scale, ends = 100.0 if percent else 1.0, figure.interval
            scaled = None if ends is None else (scale * ends[0], scale * ends[1])
            yield Figure(label, scale * figure.value, scaled, 1 if percent else 3)


def _remarks(found: Validation) -> Iterator[str]:
    """What the table does not say."""
    from palmette.numbers import count

    decided = found.figures["agreement_decided"].number if "agreement_decided" in found.figures else 0
    yield (
        f"{count(found.comparisons, 'comparison')} that both judged, {decided:,} of them without a tie. Intervals draw "
        "questions."
    )
    for number, who in ((found.only_judge, "the judge"), (found.only_people, "people")):
        if number:
            yield f"Judged by {who} alone: {number:,}."
    if found.unread:
        yield f"Unread: {count(found.unread, 'verdict')}. They count as wrong."
    if "first" not in found.figures and "inconsistent" in found.figures:
        yield "The file does not hold the verdicts in both orders, so there is no figure on the first answer."
    kappa = found.figures.get("kappa_decided")
    if kappa is None or kappa.interval is None:
        yield "There is no interval of kappa without ties: the judge is refused for leaderboards."
    elif found.trusted:
        yield f"The lower bound of kappa without ties is at least {found.floor:g}: the judge may rank models."
    else:
        yield f"The lower bound of kappa without ties is below {found.floor:g}: the judge is refused for leaderboards."
