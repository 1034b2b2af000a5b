"""Rankings of votes: style, ties, what decides the top, and votes to look at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from palmette.arena.leaderboard import rank
from palmette.arena.style import style_of
from palmette.arena.votes import Outcome, Vote
from palmette.errors import DataError

PLAIN, LONG = style_of("By ferry."), style_of("By ferry. " * 30)


def vote(left: str, right: str, outcome: Outcome, voter: str = "", prompt: str = "", time: float | None = None) -> Vote:
    return Vote("", left, right, outcome, voter, prompt, time=time)


def a_against_b(wins: int, losses: int) -> list[Vote]:
    """Wins of a and of b, each on the left half of the time."""
    return [
        *(vote("a", "b", "left") if index % 2 else vote("b", "a", "right") for index in range(wins)),
        *(vote("a", "b", "right") if index % 2 else vote("b", "a", "left") for index in range(losses)),
    ]


def test_two_models_by_hand() -> None:
    """Odds of 3 are 400 * log10(3) points apart, about a mean of 1000."""
    board = rank([*a_against_b(300, 100)], ridge=1e-9, num_samples=0)
    first, second = board.rows
    assert (first.model, second.model) == ("a", "b")
    assert first.rating - second.rating == pytest.approx(400 * np.log10(3), rel=1e-6)
    assert first.rating + second.rating == pytest.approx(2000)
    assert (first.ranks, second.ranks) == ((1, 1), (2, 2))
    assert (first.tally.wins, first.tally.losses, first.win_rate, first.count) == (300, 100, 0.75, 300.0)
    assert board.left_share is not None
    assert board.left_share[0] == 0.5
    assert board.left_share[1] == pytest.approx((0.45, 0.55), abs=0.01)


def test_how_many_votes_decide_the_top() -> None:
    """Of 60 to 50, at least 11 of the 60 have to go before b is first."""
    flip = rank(a_against_b(60, 50), num_samples=0).flip
    assert flip is not None
    assert (flip.first, flip.votes) == ("b", 11)
    assert rank(a_against_b(90, 10), num_samples=0).flip is None


def test_one_vote_may_decide_the_top() -> None:
    """One model has a single vote, which it won. The first-order influence of that vote is far too low."""
    generator = np.random.default_rng(6)
    strength = dict(zip("abcde", (0.6, 0.3, 0.0, -0.3, -0.6), strict=True))
    votes = []
    for _ in range(300):
        left, right = map(str, generator.choice(list(strength), 2, replace=False))
        wins = generator.random() < 1 / (1 + np.exp(strength[right] - strength[left]))
        votes.append(vote(left, right, "left" if wins else "right"))
    board = rank([*votes, vote("z", "a", "left")], num_samples=0)
    assert board.rows[0].model == "z"
    assert board.flip is not None
    assert (board.flip.votes, board.flip.first) == (1, rank(votes, num_samples=0).rows[0].model)


def test_without_ties_a_model_that_lost_nothing_is_named() -> None:
    votes = [*(vote("z", "a", "left") for _ in range(3)), *(vote("z", "a", "tie") for _ in range(27))]
    votes += [vote("a", "b", "left"), vote("b", "a", "left")]
    assert rank(votes, ties="drop", num_samples=0).unbeaten == ("z",)
    assert rank(votes, num_samples=0).unbeaten == ()


def test_ties_are_half_a_win_or_left_out() -> None:
    votes = [*a_against_b(30, 10), *(vote("a", "b", "tie") for _ in range(30)), vote("b", "a", "both bad")]
    half, dropped = rank(votes, num_samples=0, ridge=1e-9), rank(votes, ties="drop", num_samples=0, ridge=1e-9)
    for board, odds in ((half, 45.5 / 25.5), (dropped, 3.0)):
        assert board.rows[0].rating - board.rows[1].rating == pytest.approx(400 * np.log10(odds), rel=1e-6)
    assert (dropped.num_votes, half.num_votes) == (40, 71)
    assert half.both_bad == dropped.both_bad == 1 / 71
    assert half.rows[0].tally.both_bad == 1
    with pytest.raises(DataError, match="no votes to rank"):
        rank([vote("a", "b", "tie")], ties="drop")


def by_length(generator: np.random.Generator, votes: int) -> Iterator[Vote]:
    """Equal models, one of which is long-winded: the longer answer wins two thirds of the votes."""
    for index in range(votes):
        left, right = [("long", "short"), ("short", "long"), ("other", "short"), ("long", "other")][index % 4]
        styles = tuple(LONG if (name == "long") is not (generator.random() < 0.2) else PLAIN for name in (left, right))
        longer = (styles[0].length > styles[1].length) - (styles[0].length < styles[1].length)
        p = {1: 2 / 3, 0: 0.5, -1: 1 / 3}[longer]
        yield Vote("", left, right, "left" if generator.random() < p else "right", styles=(styles[0], styles[1]))


def test_at_equal_style_a_long_winded_model_is_no_better() -> None:
    votes = list(by_length(np.random.default_rng(3), 6000))
    plain, styled = rank(votes, num_samples=0), rank(votes, style=True, num_samples=0)
    assert plain.rows[0].model == "long"
    assert plain.rows[0].ranks == (1, 1)
    assert all(row.ranks == (1, 3) for row in styled.rows)
    assert plain.together
    assert styled.together, "features that never differ say nothing about voters"
    assert [slope.feature for slope in styled.slopes] == ["length"]
    (length,) = styled.slopes
    widths = [[row.interval[1] - row.interval[0] for row in board.rows] for board in (plain, styled)]
    assert max(widths[1]) < 2 * max(widths[0])
    # A long answer against a short one is 1 / sd standard deviations from an equal one, and wins with odds of 2.
    contrasts = [
        (a.length - b.length) / (a.length + b.length + 1) for one in votes if one.styles for a, b in [one.styles]
    ]
    expected = 400 * np.log10(2) / max(contrasts) * np.std(contrasts)
    assert length.low < expected < length.high
    assert length.high - length.low < expected


def test_style_needs_the_answers() -> None:
    with pytest.raises(DataError, match="vote 'v1' does not hold its answers"):
        rank([Vote("v1", "a", "b", "left")], style=True)


def test_models_that_never_met_are_named() -> None:
    with pytest.raises(DataError, match="2 parts that never met: a, b; c, d"):
        rank([vote("a", "b", "left"), vote("c", "d", "left")])


def test_who_never_lost_is_named_and_who_always_votes_left_is_noticed() -> None:
    board = rank([vote("a", "b", "left", f"voter{index}") for index in range(20)], num_samples=0)
    assert board.unbeaten == ("a",)
    assert board.winless == ("b",)
    said = " ".join(board.cautions())
    assert "Never lost: a." in said
    assert "The left answer wins more often than chance explains: 100.0 %" in said
    assert "narrow" not in said
    few = rank([vote("a", "b", "left", "ann"), vote("b", "a", "left", "bob")], num_samples=0)
    assert "Only 2 voters for 2 models" in " ".join(few.cautions())


def test_voters_who_fit_nobody_are_flagged_and_no_others() -> None:
    """Forty people vote by the same strengths, and one always for the other side of theirs."""
    generator, strength = np.random.default_rng(5), {"a": 1.2, "b": 0.4, "c": -0.4, "d": -1.2}
    votes = []
    for voter in range(41):
        for _ in range(40):
            left, right = generator.choice(list(strength), 2, replace=False)
            wins = generator.random() < 1 / (1 + np.exp(strength[right] - strength[left]))
            votes.append(vote(left, right, "left" if bool(wins) is not (voter == 40) else "right", f"voter{voter}"))
    found = rank(votes, num_samples=0).flags
    assert [(flag.voter, flag.kind, flag.votes) for flag in found] == [("voter40", "against all", 40)]


def test_repeated_and_hasty_votes_are_flagged() -> None:
    votes = [
        *(vote("a", "b", "left", "ann", prompt) for prompt in ("p1", "p2", "p1")),
        vote("b", "a", "left", "ann", "p1"),
        *(vote("a", "b", "right", "bob", f"p{index}", time=100.0 + 2 * index) for index in range(6)),
        *(vote("a", "b", "right", "cid", f"p{index}", time=100.0 + 40 * index) for index in range(6)),
    ]
    flags = rank(votes, num_samples=0).flags
    found = [(flag.voter, flag.kind, flag.votes, flag.figure) for flag in flags if flag.kind != "against all"]
    assert found == [("ann", "repeated", 2, 0.0), ("bob", "fast", 6, 2.0)]


def test_intervals_by_drawing_voters() -> None:
    """Two voters who disagree: a third of the samples holds one of them alone, so the interval reaches both."""
    votes = [vote("a", "b", "left", "ann") for _ in range(10)] + [vote("a", "b", "right", "bob") for _ in range(10)]
    board = rank(votes, num_samples=200)
    drawn = board.rows[0].drawn
    assert drawn is not None
    assert drawn[0] < 900 < 1100 < drawn[1]
    assert rank(votes, num_samples=0).rows[0].drawn is None
