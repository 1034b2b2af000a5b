"""What is kept up to date while people vote is what a walk over all events would find."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from palmette.arena.desk import Desk
from palmette.arena.events import SAID
from palmette.arena.folder import read_arena
from palmette.arena.store import VoteStore
from palmette.errors import DataError
from tests.support.arena import make_arena

MODELS = ("m1", "m2", "m3", "m4")


def by_walking(desk: Desk, store: VoteStore, voter: str) -> tuple[Counter[Any], set[Any]]:
    """The votes that count on each prompt and pair of models, and what a voter can still be asked."""
    events = list(store.events())
    shown = {one.id: one.shown for one in events if one.kind == "shown"}
    undone = {one.about for one in events if one.kind == "undo"}
    standing = {one.id: one for one in events if one.kind == "vote" and one.id not in undone}
    counted = Counter(shown[one.about].key for one in standing.values() if one.said != "skip")
    judged = {shown[one.about].key for one in standing.values() if one.voter == voter}
    told = {
        answer
        for one in events
        if one.kind == "revealed" and one.voter == voter
        for answer in shown[standing[one.about].about].answers
    }
    left = {one.key for one in desk.arena.comparisons() if one.key not in judged and not one.answers & told}
    return counted, left


@pytest.mark.parametrize("seed", range(4))
def test_running_counts_are_those_of_a_walk_over_all_events(tmp_path: Path, seed: int) -> None:
    """Three people at two servers vote, skip, take back and ask for names, in an order that is drawn."""
    folder, source = make_arena(tmp_path / "arena", MODELS, 3), random.Random(seed)
    done = Counter[str]()
    with VoteStore.open(folder / "votes.db") as store:
        desks = [Desk(store, read_arena(folder), source=source) for _ in range(2)]
        for _ in range(90):
            desk, voter = source.choice(desks), source.choice(("ann", "bob", "cid"))
            what = source.choices(("vote", "undo", "reveal"), (6, 2, 1))[0]
            last = desk.last(voter)
            try:
                if what == "vote" and (asked := desk.ask(voter, "s")) is not None:
                    desk.vote(voter, "s", asked.key, source.choice(SAID), 1.0)
                    done[what] += 1
                elif what != "vote" and last is not None:
                    getattr(desk, what)(voter, "s", last.vote)
                    done[what] += 1
            except DataError:
                continue
        for desk, voter in itertools.product(desks, ("ann", "bob", "cid")):
            progress = desk.progress(voter)
            counted, left = by_walking(desk, store, voter)
            state = desk.ledger.state
            assert +state.tally.keys == counted
            pairs = Counter[Any]()
            for (_, models), number in counted.items():
                pairs[models] += number
            assert +state.tally.pairs == pairs
            assert {(prompt, pair) for pair, prompts in desk._left.of(voter).items() for prompt in prompts} == left
            assert progress.left == len(left)
            wins = {key: value for key, value in state.tally.wins.items() if value}
            assert sum(wins.values()) == counted.total()
    assert min(done[what] for what in ("vote", "undo", "reveal")) >= 2
