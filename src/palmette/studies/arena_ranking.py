"""Votes in a file become a ranking, for all of them and for each category, language or prompt."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from palmette.arena.leaderboard import Leaderboard, Ties, order, rank
from palmette.arena.votes import Vote, VoteSet, read_votes
from palmette.errors import DataError
from palmette.pages.ranking import RankingPage, write_ranking
from palmette.run import check_absent, whole_folder, write_json, write_text

By = Literal["category", "language", "prompt"]
_RATINGS = ("model", "best_rank", "worst_rank", "rating", "low", "high", "low_of_all", "high_of_all")
_COUNTS = ("drawn_low", "drawn_high", "votes", "wins", "losses", "ties", "both_bad", "count", "win_rate", "elo")
JSON, TABLE, PAGE = "ranking.json", "ranking.csv", "ranking.html"


@dataclass(frozen=True)
class Ranking:
    """A ranking of all votes, and one of each part of them.

    Attributes:
        votes: the votes.
        whole: the ranking of all.
        parts: the rankings of the parts, by the value that their votes have in common.
        left_out: why a part has no ranking, by the same value.
        moved: how many models would have another rank if ties were treated the other way. None if that cannot be done.
    """

    votes: VoteSet
    whole: Leaderboard
    parts: dict[str, Leaderboard]
    left_out: dict[str, str]
    moved: int | None


def rank_votes(
    source: str,
    *,
    store: str | None = None,
    ties: Ties = "half",
    style: bool = False,
    by: By | None = None,
    num_samples: int = 300,
    seed: int = 0,
    out: Path | None = None,
) -> Ranking:
    """Read votes, rank their models, and write the ranking to a folder if one is given.

    Args:
        source: see `read_votes`.
        store: see `read_votes`.
        ties: see `rank`.
        style: see `rank`.
        num_samples: see `rank`.
        seed: see `rank`.
        by: also rank the votes of each category, language or prompt by themselves.
        out: a folder for the ranking as JSON, as a table and as a page. It must not exist.

    Raises:
        DataError: as for `read_votes` and `rank`, or no vote has what the parts are to be made by.
        RunError: the folder exists, or cannot be written.
    """
    if out is not None:
        check_absent(out)
    votes = read_votes(source, style=style, store=store)
    whole = rank(votes.votes, ties=ties, style=style, num_samples=num_samples, seed=seed)
    parts, left_out = {}, {}
    for name, some in _parts(votes, by).items():
        try:
            parts[name] = rank(some, ties=ties, style=style, num_samples=0, seed=seed)
        except DataError as error:
            left_out[name] = error.problem
    found = Ranking(votes, whole, parts, left_out, _moved(votes.votes, whole, style=style))
    if out is not None:
        _write(out, found)
    return found


def _parts(votes: VoteSet, by: By | None) -> dict[str, list[Vote]]:
    parts: dict[str, list[Vote]] = {}
    if by is None:
        return parts
    for vote in votes.votes:
        if value := getattr(vote, by):
            parts.setdefault(value, []).append(vote)
    if not parts:
        raise DataError(f"no vote of {votes.source} has a {by}", f"Give a column '{by}', or leave out --by.")
    return dict(sorted(parts.items(), key=lambda part: (-len(part[1]), part[0])))


def _moved(votes: Sequence[Vote], whole: Leaderboard, *, style: bool) -> int | None:
    """How many models stand elsewhere if ties are treated the other way."""
    try:
        other = order(votes, ties="drop" if whole.ties == "half" else "half", style=style)
    except DataError:
        return None
    place = {model: index for index, model in enumerate(other)}
    return sum(place.get(row.model) != index for index, row in enumerate(whole.rows))


def _write(out: Path, found: Ranking) -> None:
    with whole_folder(out) as folder:
        write_json(folder / JSON, _record(found))
        write_text(folder / TABLE, _table(found.whole))
        page = RankingPage(
            found.votes.source, found.whole, found.parts, found.left_out, found.moved, found.votes.num_named
        )
        write_ranking(folder / PAGE, page)


def _record(found: Ranking) -> dict[str, Any]:
    return {
        "source": found.votes.source,
        "sha256": found.votes.sha256,
        "names_shown_first": found.votes.num_named,
        "ranking": found.whole.record(),
        "parts": {name: part.record() for name, part in found.parts.items()},
        "parts_left_out": found.left_out,
        "moved_by_other_ties": found.moved,
    }


def _table(board: Leaderboard) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_RATINGS, *_COUNTS])
    for row in board.rows:
        tally = row.tally
        counted = [tally.votes, tally.wins, tally.losses, tally.ties, tally.both_bad]
        ends = [*row.interval, *row.interval_of_all, *(row.drawn or ("", ""))]
        writer.writerow([row.model, *row.ranks, row.rating, *ends, *counted, row.count, row.win_rate, row.elo])
    return text.getvalue()
