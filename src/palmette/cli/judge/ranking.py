"""`palmette arena rank`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from palmette.cli.options import DATA, PATH, SeedOption

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.arena.leaderboard import Leaderboard
    from palmette.cli.tables import TextTable
    from palmette.studies.arena_ranking import Ranking

VotesOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Where votes are kept: a file, or postgresql://USER@HOST/NAME. By default votes.db in the folder.",
        **{**DATA, "metavar": "STORE"},
    ),
]


def arena_rank(
    votes: Annotated[
        str,
        typer.Argument(
            help="Votes: the folder of an arena, a .jsonl file, a table (.csv, .tsv, .xlsx, .parquet), or a hub data "
            "set.",
            **{**DATA, "metavar": "VOTES"},
        ),
    ],
    store: VotesOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for ranking.html, ranking.csv and ranking.json. It must not exist.", **PATH),
    ] = None,
    ties: Annotated[
        Literal["half", "drop"], typer.Option(help="Count a tie as half a win of each side, or leave ties out.")
    ] = "half",
    style: Annotated[
        bool,
        typer.Option(
            "--style", help="Rank at equal length, headers, lists and bold passages. The votes must hold the answers."
        ),
    ] = False,
    by: Annotated[
        Literal["category", "language", "prompt"] | None,
        typer.Option(help="Rank the votes of each category, language or prompt too."),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=0, metavar="N", help="How often voters are drawn for intervals. 0 leaves these out.")
    ] = 300,
    seed: SeedOption = 0,
) -> None:
    """Rank models by votes of people on pairs of answers.

    It fits Bradley-Terry strengths, with intervals that take the votes of one person as one observation, and says what
    weakens the ranking.
    """
    from palmette.cli.console import stdout
    from palmette.studies.arena_ranking import PAGE, rank_votes

    found = rank_votes(votes, store=store, ties=ties, style=style, by=by, num_samples=resamples, seed=seed, out=out)
    console = stdout()
    console.print(ranking_table(found.whole), "")
    for line in _remarks(found):
        console.print(line)
    if out is not None:
        console.print(f"written: {out / PAGE}")


def ranking_table(board: Leaderboard) -> TextTable:
    """The models, best first."""
    from palmette.cli.tables import TextTable
    from palmette.numbers import fixed, interval

    table = TextTable("model", "rank", "rating", "95 % interval", "votes", "ties")
    for row in board.rows:
        best, worst = row.ranks
        tally = row.tally
        ranks = str(best) if best == worst else f"{best} to {worst}"
        ties = f"{100 * (tally.ties + tally.both_bad) / tally.votes:.0f} %"
        table.add_row(row.model, ranks, fixed(row.rating, 0), interval(row.interval, 0), str(tally.votes), ties)
    return table


def _remarks(found: Ranking) -> Iterator[str]:
    """What the table does not say."""
    from palmette.numbers import count, fixed

    board = found.whole
    yield (
        f"{board.num_votes:,} votes of {count(board.num_voters, 'voter')}. 400 points are odds of 10. A range of ranks "
        "holds for all models together."
    )
    for slope in board.slopes:
        ends = f"{fixed(slope.low, 0)} to {fixed(slope.high, 0)}"
        yield f"one standard deviation more of {slope.feature}: {fixed(slope.points, 0, sign=True)} points ({ends})"
    if board.flip is not None:
        flip = board.flip
        yield f"{flip.first} would be first if {count(flip.votes, 'vote')} were missing."
    if found.moved is not None:
        other = "left out" if board.ties == "half" else "counted as half a win"
        yield f"With ties {other}, {count(found.moved, 'model')} would have another rank."
    yield from board.cautions()
    if board.flags:
        voters = len({flag.voter for flag in board.flags})
        yield f"Votes to look at: those of {count(voters, 'voter')}. The page says why (--out)."
    if found.votes.num_named:
        yield f"Left out: {count(found.votes.num_named, 'vote')} before which the names were shown."
    for name, part in found.parts.items():
        rivals = sum(row.ranks[0] == 1 for row in part.rows) - 1
        equal = f", and {count(rivals, 'other')} may be as good" if rivals else ""
        yield f"{name}: {part.rows[0].model} is first by {count(part.num_votes, 'vote')}{equal}"
    for name, reason in found.left_out.items():
        yield f"{name} has no ranking: {reason}"
