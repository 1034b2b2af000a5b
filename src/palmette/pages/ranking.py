"""The page of a ranking: the models with their intervals, how far to trust them, who met whom, and votes to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.arena.leaderboard import Leaderboard, RankedModel
from palmette.arena.voters import Flag
from palmette.numbers import count, fixed, interval, readable
from palmette.pages.charts import interval_bar
from palmette.pages.page import render_page, write_page

_MOST_PAIRS = 25  # models in the table of who met whom
_FLAGS = {
    "repeated": "voted again on a pair and a prompt judged before",
    "fast": "voted too fast to read the answers",
    "against all": "votes against the ranking by all others, more than chance explains",
}


@dataclass(frozen=True)
class RankingPage:
    """What the page shows.

    Attributes:
        source: where the votes are from.
        whole: the ranking of all votes.
        parts: rankings of parts of them, by name.
        left_out: why a part has no ranking, by name.
        moved: how many models would have another rank if ties were treated the other way. None if that is not known.
        num_named: votes that were left out since the models' names were shown first.
    """

    source: str
    whole: Leaderboard
    parts: Mapping[str, Leaderboard]
    left_out: Mapping[str, str]
    moved: int | None
    num_named: int


def write_ranking(path: Path, page: RankingPage) -> None:
    """Write the page.

    Raises:
        RunError: the file cannot be written.
    """
    write_page(path, render_ranking(page))


def render_ranking(page: RankingPage) -> str:
    """The page as HTML."""
    board = page.whole
    low = min(row.interval_of_all[0] for row in board.rows)
    high = max(row.interval_of_all[1] for row in board.rows)
    return render_page(
        "ranking.html",
        styles=("page.css", "report.css", "ranking.css"),
        scripts=(),
        title=f"Ranking, {Path(page.source).name}",
        facts=[("Votes", f"{board.num_votes:,} of {count(board.num_voters, 'voter')}"), ("Source", page.source)],
        conclusion=_conclusion(board),
        rows=[_shown(row, low, high) for row in board.rows],
        scale=[fixed(low, 0), fixed(high, 0)],
        trust=list(_trust(page)),
        cautions=list(board.cautions()),
        slopes=[
            {"feature": one.feature, "points": fixed(one.points, 0, sign=True), "ends": _ends((one.low, one.high))}
            for one in board.slopes
        ],
        parts=[_part(name, part) for name, part in page.parts.items()],
        left_out=list(page.left_out.items()),
        models=[row.model for row in board.rows[:_MOST_PAIRS]],
        met=list(_met(board)),
        cut=max(0, len(board.rows) - _MOST_PAIRS),
        flags=[_flag(one) for one in board.flags],
    )


def _conclusion(board: Leaderboard) -> str:
    first, rivals = board.rows[0], [row for row in board.rows[1:] if row.ranks[0] == 1]
    if not rivals:
        return f"{first.model} is first, beyond the intervals of all differences."
    others = count(len(rivals), "other model", "other models")
    return f"{first.model} has the highest rating, and {others} may be as good: these votes cannot tell."


def _ends(ends: tuple[float, float] | None) -> str:
    return interval(ends, 0) if ends else ""


def _shown(row: RankedModel, low: float, high: float) -> dict[str, Any]:
    def place(rating: float) -> float:
        return 100.0 * (rating - low) / ((high - low) or 1.0)

    best, worst = row.ranks
    return {
        "ranks": str(best) if best == worst else f"{best} to {worst}",
        "model": row.model,
        "rating": fixed(row.rating, 0),
        "bar": interval_bar(place(row.rating), (place(row.interval[0]), place(row.interval[1]))),
        "ends": _ends(row.interval),
        "of_all": _ends(row.interval_of_all),
        "votes": f"{row.tally.votes:,}",
        "won": f"{100 * row.win_rate:.0f} %",
        "tied": f"{100 * row.tally.ties / row.tally.votes:.0f} %",
        "bad": f"{100 * row.tally.both_bad / row.tally.votes:.0f} %",
    }


def _trust(page: RankingPage) -> Iterator[tuple[str, str]]:
    board = page.whole
    if board.left_share is not None:
        share, ends = board.left_share
        between = f" (95 % interval {100 * ends[0]:.1f} to {100 * ends[1]:.1f})" if ends else ""
        yield "The left answer wins", f"{100 * share:.1f} % of the votes that choose one{between}"
    yield "Ties", f"{100 * board.tied:.1f} % of the votes, of which both answers are bad {100 * board.both_bad:.1f} %"
    treated = {"half": "counted as half a win for each side", "drop": "left out"}
    yield "Ties are", treated[board.ties]
    if page.moved is not None:
        yield "Treated the other way", f"{count(page.moved, 'model')} of {len(board.rows)} would have another rank"
    if board.flip is not None:
        flip = board.flip
        yield (
            "Another model is first",
            f"{flip.first}, if {count(flip.votes, 'vote')} of {board.num_votes:,} were missing",
        )
    else:
        yield "Votes that decide the first place", "none were found among a third of them"
    if page.num_named:
        yield "Left out", f"{count(page.num_named, 'vote')} before which the names were shown"


def _part(name: str, board: Leaderboard) -> dict[str, Any]:
    return {
        "name": name,
        "votes": f"{board.num_votes:,}",
        "first": board.rows[0].model,
        "rating": fixed(board.rows[0].rating, 0),
        "ends": _ends(board.rows[0].interval),
        "rivals": str(sum(row.ranks[0] == 1 for row in board.rows) - 1),
    }


def _met(board: Leaderboard) -> Iterator[dict[str, Any]]:
    models = [row.model for row in board.rows[:_MOST_PAIRS]]
    for number, model in enumerate(models, start=1):
        cells = []
        for other in models:
            won, votes = board.pair_wins[model].get(other, (0.0, 0))
            share = won / votes if votes else None
            cells.append(
                {"share": "" if share is None else f"{100 * share:.0f}", "votes": votes, "shade": _shade(share)}
            )
        yield {"number": number, "model": model, "cells": cells}


def _shade(share: float | None) -> str:
    """A class for the background of a cell, in five steps."""
    return "none" if share is None else f"step{min(int(5 * share), 4)}"


def _flag(one: Flag) -> dict[str, str]:
    figure = ""
    if one.kind == "fast":
        figure = f"{readable(one.figure)} s between votes"
    elif one.kind == "against all":
        figure = f"{-one.figure:.1f} standard errors"
    return {"voter": one.voter, "what": _FLAGS[one.kind], "votes": f"{one.votes:,}", "figure": figure}
