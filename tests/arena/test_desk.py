"""Who is shown which answers, and what becomes of votes."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from palmette.arena.desk import Desk
from palmette.arena.events import Event, Shown
from palmette.arena.export import vote_rows
from palmette.arena.folder import answer_hash, read_arena
from palmette.arena.leaderboard import rank
from palmette.arena.store import VoteStore
from palmette.arena.votes import read_votes
from palmette.errors import DataError
from tests.support.arena import MODELS, desk_of, make_arena


def judge_all(desk: Any, voter: str, said: str = "left") -> list[Any]:
    """Judge whatever is asked. What was shown."""
    shown = []
    while (asked := desk.ask(voter, "s")) is not None:
        desk.vote(voter, "s", asked.key, said, 1.0)
        shown.append(asked.shown)
    return shown


def test_every_comparison_comes_once_and_pairs_of_models_in_turn(tmp_path: Path) -> None:
    """3 models and 4 prompts are 12 comparisons. After every 3 votes each of the 3 pairs has as many votes."""
    with desk_of(make_arena(tmp_path / "a")) as desk:
        shown = judge_all(desk, "ann")
        assert len({(one.prompt, one.models) for one in shown}) == len(shown) == 12
        for end in (3, 6, 9, 12):
            assert set(Counter(one.models for one in shown[:end]).values()) == {end // 3}
        assert {one.left for one in shown} == {one.right for one in shown} == set(MODELS)
        assert desk.progress("ann").left == 0


def test_both_sides_come_equally_often(tmp_path: Path) -> None:
    """190 pairs of one prompt: the first model of the folder stands left about half the time (5 standard errors)."""
    models = [f"m{number:02}" for number in range(20)]
    with desk_of(make_arena(tmp_path / "a", models, 1)) as desk:
        shown = judge_all(desk, "ann")
    left = sum(one.left < one.right for one in shown)
    assert len(shown) == 190
    assert abs(left - 95) < 5 * (190 / 4) ** 0.5


def test_two_voters_are_not_shown_the_same_at_once(tmp_path: Path) -> None:
    with desk_of(make_arena(tmp_path / "a")) as desk:
        asked = [desk.ask(name, "s") for name in ("ann", "bob", "cid")]
        assert len({one.shown.models for one in asked}) == 3


def test_what_is_asked_stays_the_same_and_a_vote_counts_once(tmp_path: Path) -> None:
    folder = make_arena(tmp_path / "a")
    with desk_of(folder) as desk:
        asked = desk.ask("ann", "s")
        assert desk.ask("ann", "t") == asked
        for _ in range(2):
            desk.vote("ann", "s", asked.key, "tie", 1.0)
        with pytest.raises(DataError, match="judged already, with another vote"):
            desk.vote("ann", "s", asked.key, "left", 1.0)
        with pytest.raises(DataError, match="not to be judged here"):
            desk.vote("bob", "s", asked.key, "left", 1.0)
    with desk_of(folder) as desk:  # as after the server was started again
        desk.vote("ann", "s", asked.key, "tie", 1.0)
        assert desk.progress("ann").votes == 1
    assert len(vote_rows(folder)) == 1


def test_an_undone_vote_is_asked_again_on_the_same_sides_and_then_what_was_open(tmp_path: Path) -> None:
    folder = make_arena(tmp_path / "a")
    with desk_of(folder) as desk:
        first = desk.ask("ann", "s")
        desk.vote("ann", "s", first.key, "left", 1.0)
        second = desk.ask("ann", "s")
        vote = desk.last("ann").vote
        for _ in range(2):
            desk.undo("ann", "s", vote)
        again = desk.ask("ann", "s")
        assert (again.shown, again.key > second.key) == (first.shown, True)
        desk.vote("ann", "s", again.key, "right", 1.0)
        assert desk.ask("ann", "s").shown == second.shown
        with pytest.raises(DataError, match="not your last vote"):
            desk.undo("ann", "s", second.key)
    [row] = vote_rows(folder)
    assert (row["winner"], row["model_b"]) == ("model_b", first.shown.right)


def test_names_come_after_the_vote_and_then_it_stays(tmp_path: Path) -> None:
    with desk_of(make_arena(tmp_path / "a")) as desk:
        asked = desk.ask("ann", "s")
        assert desk.last("ann") is None
        desk.vote("ann", "s", asked.key, "both bad", 1.0)
        last = desk.last("ann")
        assert (last.said, last.names) == ("both bad", None)
        with pytest.raises(DataError, match="not your last vote"):
            desk.reveal("bob", "s", last.vote)
        desk.reveal("ann", "s", last.vote)
        assert desk.last("ann").names == (asked.shown.left, asked.shown.right)
        with pytest.raises(DataError, match="were named, so it stays"):
            desk.undo("ann", "s", last.vote)


def test_no_answer_is_shown_again_whose_model_was_named(tmp_path: Path) -> None:
    """One prompt and four models: after A and B were named to Ann, only C against D is left for her."""
    models = ["a", "b", "c", "d"]
    with desk_of(make_arena(tmp_path / "a", models, 1)) as desk:
        first = desk.ask("ann", "s")
        desk.vote("ann", "s", first.key, "left", 1.0)
        opened = desk.ask("ann", "s")
        while opened.shown.models.isdisjoint(first.shown.models):  # so that the open pair shares an answer
            desk.vote("ann", "s", opened.key, "skip", 1.0)
            opened = desk.ask("ann", "s")
        for _ in range(desk.ledger.state.num_standing("ann") - 1):
            desk.undo("ann", "s", desk.last("ann").vote)
        desk.reveal("ann", "s", desk.last("ann").vote)
        with pytest.raises(DataError, match="was named"):
            desk.vote("ann", "s", opened.key, "left", 1.0)
        left = judge_all(desk, "ann")
        assert [one.models for one in left] == [frozenset(models) - first.shown.models]
        assert len(judge_all(desk, "bob")) == 6


def test_a_pair_that_another_window_judged_meanwhile_does_not_come_again(tmp_path: Path) -> None:
    """An undo puts the open pair off. A window that still shows it may send a vote on it, once."""
    with desk_of(make_arena(tmp_path / "a")) as desk:
        first = desk.ask("ann", "s")
        desk.vote("ann", "s", first.key, "left", 1.0)
        opened = desk.ask("ann", "s")
        desk.undo("ann", "s", desk.last("ann").vote)
        desk.vote("ann", "other window", opened.key, "tie", 1.0)
        asked = [(one.prompt, one.models) for one in judge_all(desk, "ann")]
        assert (opened.shown.prompt, opened.shown.models) not in asked
        assert len(set(asked)) == len(asked) == 11


def test_what_two_servers_store_at_once_counts_once(tmp_path: Path) -> None:
    """Both take a vote, and both take it back, before either sees the event of the other. The first of both counts."""
    folder = make_arena(tmp_path / "a")
    with VoteStore.open(folder / "votes.db") as store:
        desk = Desk(store, read_arena(folder))
        shown = desk.ask("ann", "s")
        votes = [
            Event("vote", datetime.now(UTC), "ann", "s", shown.key, said=said, seconds=1.0) for said in ("left", "tie")
        ]
        vote, _ = store.append(votes)
        assert [row["winner"] for row in vote_rows(folder)] == ["model_a"]
        back = [
            Event("undo", datetime.now(UTC), "ann", "s", vote),
            Event("shown", datetime.now(UTC), "ann", "s", shown=shown.shown),
        ]
        keys = store.append([*back, *back])
        assert desk.progress("ann").votes == 0
        again = desk.ask("ann", "s")
        assert again.shown == shown.shown
        desk.vote("ann", "s", again.key, "right", 1.0)
        with pytest.raises(DataError, match="were judged already"):
            desk.vote("ann", "s", keys[1], "right", 1.0)
        assert (desk.progress("ann").votes, desk.last("ann").said) == (1, "right")


def test_a_vote_whose_models_were_named_by_another_server_stays(tmp_path: Path) -> None:
    folder = make_arena(tmp_path / "a")
    with VoteStore.open(folder / "votes.db") as store:
        desk = Desk(store, read_arena(folder))
        desk.vote("ann", "s", desk.ask("ann", "s").key, "left", 1.0)
        vote = desk.last("ann").vote
        desk.reveal("ann", "s", vote)
        store.append([Event("undo", datetime.now(UTC), "ann", "s", vote)])
        assert Desk(store, read_arena(folder)).last("ann").names is not None


def test_a_skipped_pair_is_no_vote_and_is_not_named(tmp_path: Path) -> None:
    folder = make_arena(tmp_path / "a", num_prompts=1)
    with desk_of(folder) as desk:
        judge_all(desk, "ann", "skip")
        assert (desk.progress("ann").votes, desk.progress("ann").skipped) == (0, 3)
        with pytest.raises(DataError, match="were skipped"):
            desk.reveal("ann", "s", desk.last("ann").vote)
    with pytest.raises(DataError, match="has no votes yet"):
        vote_rows(folder)


def test_identical_answers_are_not_asked(tmp_path: Path) -> None:
    same = {(MODELS[0], 0): " Four.\n", (MODELS[1], 0): "Four."}
    with desk_of(make_arena(tmp_path / "a", answers=same)) as desk:
        shown = judge_all(desk, "ann")
        assert desk.identical == 1
        assert ("p0", frozenset(MODELS[:2])) not in {(one.prompt, one.models) for one in shown}
        assert len(shown) == 11


def test_answers_that_tell_their_model_are_left_out_or_marked(tmp_path: Path) -> None:
    folder = make_arena(tmp_path / "a", answers={(MODELS[2], 1): "As Sundew, I think so."}, num_prompts=2)
    with desk_of(folder) as desk:
        assert desk.named == 2
        assert not [one for one in judge_all(desk, "ann") if one.prompt == "p1" and MODELS[2] in one.models]
    with desk_of(folder, with_named=True) as desk:
        assert [one.named for one in judge_all(desk, "bob") if one.prompt == "p1" and MODELS[2] in one.models] == [
            True,
            True,
        ]
    rows = [row for row in vote_rows(folder) if row["judge"] == "bob"]
    assert Counter(row["anony"] for row in rows) == {True: 4, False: 2}
    assert read_votes(str(folder)).num_named == 2


def test_votes_are_exported_in_fastchats_columns_and_ranked_from_the_folder(tmp_path: Path) -> None:
    folder = make_arena(tmp_path / "a", num_prompts=2)
    said = {}
    with desk_of(folder) as desk:
        for outcome in ("left", "right", "tie", "both bad"):
            asked = desk.ask("ann", "s")
            desk.vote("ann", "s", asked.key, outcome, 2.5)
            said[asked.shown.prompt, asked.shown.left, asked.shown.right] = outcome
    rows = vote_rows(folder)
    winners = {"left": "model_a", "right": "model_b", "tie": "tie", "both bad": "tie (bothbad)"}
    assert {(row["question_id"], row["model_a"], row["model_b"]): row["winner"] for row in rows} == {
        key: winners[outcome] for key, outcome in said.items()
    }
    row = rows[0]
    number = int(row["question_id"][1])
    assert row["conversation_a"] == [
        {"role": "user", "content": f"Question {number}?"},
        {"role": "assistant", "content": f"Reply {chr(97 + MODELS.index(row['model_a']))} to {number}."},
    ]
    assert (row["judge"], row["seconds"], row["turn"]) == ("ann", 2.5, 1)
    found = read_votes(str(folder), style=True)
    assert [(one.prompt, one.left, one.right) for one in found.votes] == list(said)
    assert [one.outcome for one in found.votes] == list(said.values())
    assert {one.voter for one in found.votes} == {"ann"}
    assert all(one.weight == 1.0 and one.styles for one in found.votes)


def test_weights_go_from_the_store_into_the_ranking(tmp_path: Path) -> None:
    """Weights of 0.5 and 2 on two votes of two models, one for each: the odds are those of the weights, 4."""
    folder = make_arena(tmp_path / "a", MODELS[:2], 2)
    arena = read_arena(folder)
    with VoteStore.open(folder / "votes.db") as store:
        for one, weight, said in zip(arena.comparisons(), (0.5, 2.0), ("left", "right"), strict=True):
            shown = Shown(one.prompt, *one.models, *one.hashes, 0.25, weight=weight)
            [key] = store.append([Event("shown", datetime.now(UTC), f"voter {weight}", "s", shown=shown)])
            store.append([Event("vote", datetime.now(UTC), f"voter {weight}", "s", key, said=said, seconds=1.0)])  # type: ignore[arg-type]
    assert [row["weight"] for row in vote_rows(folder)] == [0.5, 2.0]
    votes = read_votes(str(folder)).votes
    assert [one.weight for one in votes] == pytest.approx([0.4, 1.6])  # their mean is 1
    board = rank(votes, num_samples=0, ridge=1e-9)
    assert board.rows[0].model == MODELS[1]
    assert board.rows[0].rating - board.rows[1].rating == pytest.approx(400 * math.log10(4))


def test_an_answer_that_changed_since_the_vote_is_named(tmp_path: Path) -> None:
    folder = make_arena(tmp_path / "a")
    with desk_of(folder) as desk:
        asked = desk.ask("ann", "s")
        desk.vote("ann", "s", asked.key, "left", 1.0)
    changed = int(asked.shown.prompt[1])
    make_arena(folder, answers={(asked.shown.left, changed): "Another reply."})
    assert answer_hash(["Another reply."]) != asked.shown.left_sha256
    with pytest.raises(DataError, match=f"an answer of {asked.shown.left} to '{asked.shown.prompt}'"):
        vote_rows(folder)


def test_rows_are_never_changed(tmp_path: Path) -> None:
    folder = make_arena(tmp_path / "a")
    with desk_of(folder) as desk:
        asked = desk.ask("ann", "s")
        desk.vote("ann", "s", asked.key, "left", 1.0)
    with sqlite3.connect(folder / "votes.db") as raw:
        for change in (
            "UPDATE arena_events SET outcome = 'right'",
            "DELETE FROM arena_events",
            "INSERT OR REPLACE INTO arena_events SELECT * FROM arena_events",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
                raw.execute(change)


def test_a_folder_without_answers_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not the folder of an arena"), desk_of(tmp_path):
        pass
    one = make_arena(tmp_path / "one", MODELS[:1])
    with pytest.raises(DataError, match="has answers of one model"), desk_of(one):
        pass
    short = make_arena(tmp_path / "short")
    file = short / "answers" / "02.jsonl"
    file.write_text("".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[:3]), encoding="utf-8")
    with pytest.raises(DataError, match=rf"lacks 1 of 4 answers of {MODELS[1]}: the first is to 'p3'"), desk_of(short):
        pass
    same = {(model, number): "Yes." for model in MODELS for number in range(4)}
    with (
        pytest.raises(DataError, match="12 pairs of answers are identical"),
        desk_of(make_arena(tmp_path / "same", answers=same)),
    ):
        pass
