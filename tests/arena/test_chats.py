"""Free conversations with two models at once: what is said to whom, what is stored, and when names are told."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from palmette.arena.chats import LONGEST, MOST_TURNS, Chats
from palmette.arena.desk import Desk
from palmette.arena.export import vote_rows
from palmette.arena.folder import Arena, answer_hash, read_arena, write_entries
from palmette.arena.source import open_votes
from palmette.arena.store import VoteStore
from palmette.arena.votes import read_votes
from palmette.data.preference_sets import read_comparisons
from palmette.errors import DataError
from tests.support.arena import MODELS, Scripted, make_arena, wait_for


class Place:
    """An arena with a free chat, whose models reply at once unless they are held."""

    def __init__(self, folder: Path, store: VoteStore, models: tuple[str, ...] = MODELS[:2], seed: int = 0) -> None:
        self.folder, self.store, self.models = folder, store, Scripted(models)
        self.desk = Desk(store, read_arena(folder), source=random.Random(seed))
        self.chats = Chats(self.desk.ledger, self.models.speakers, random.Random(seed))

    def say(self, text: str, voter: str = "ann") -> None:
        self.chats.say(voter, "s", self.chats.talk(voter).key, text)
        wait_for(self.chats, voter)

    def vote(self, said: str = "left", voter: str = "ann") -> None:
        key = self.chats.talk(voter).key
        assert key is not None
        self.desk.vote(voter, "s", key, said, 2.0)  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    folder = make_arena(tmp_path / "arena")
    with VoteStore.open(folder / "votes.db") as store:
        yield Place(folder, store)


def test_each_model_sees_its_own_replies_and_both_come_together(place: Place) -> None:
    place.say("Hello?")
    place.say("And then?")
    talk = place.chats.talk("ann")
    assert talk.chat is not None
    assert talk.chat.turns == ("Hello?", "And then?")
    assert {talk.chat.left, talk.chat.right} == {("Reply a1.", "Reply a2."), ("Reply b1.", "Reply b2.")}
    second = {model: said for model, said, message in place.models.asked if message == "And then?"}
    assert second == {MODELS[0]: [("Hello?", "Reply a1.")], MODELS[1]: [("Hello?", "Reply b1.")]}


@pytest.mark.parametrize("slow", MODELS[:2])
def test_the_faster_reply_waits_for_the_slower_one(place: Place, slow: str) -> None:
    place.models.hold[slow].clear()
    place.chats.say("ann", "s", None, "Hello?")
    talk = place.chats.talk("ann")
    assert (talk.key, talk.chat, talk.writing) == (None, None, "Hello?")
    with pytest.raises(DataError, match="went on elsewhere"):
        place.chats.say("ann", "s", None, "Hello again?")
    place.models.hold[slow].set()
    assert wait_for(place.chats, "ann").chat is not None


def test_a_conversation_is_stored_with_its_sides_and_survives_the_server(place: Place) -> None:
    place.say("Hello?")
    place.say("And then?")
    events = [one for one in place.store.events() if one.chat is not None]
    assert [len(one.chat.turns) for one in events if one.chat] == [1, 2]
    first, second = (one.shown for one in events)
    assert first is not None
    assert second is not None
    assert (first.prompt, first.left, first.right) == (second.prompt, second.left, second.right)
    assert second.sampling_probability == 1.0  # there is one pair of models
    again = Place(place.folder, place.store)
    talk = again.chats.talk("ann")
    assert (talk.key, talk.chat) == (events[1].id, events[1].chat)
    letter = dict(zip(MODELS, "ab", strict=False))
    assert talk.chat is not None
    assert talk.chat.left == tuple(f"Reply {letter[first.left]}{turn}." for turn in (1, 2))
    assert second.left_sha256 == answer_hash(talk.chat.left)


def test_sides_and_pairs_are_drawn_anew_for_each_conversation(tmp_path: Path) -> None:
    folder = make_arena(tmp_path / "arena")
    with VoteStore.open(folder / "votes.db") as store:
        place = Place(folder, store, MODELS)
        for _ in range(12):
            place.say("Hello?")
            place.vote()
        shown = [one.shown for one in store.events() if one.chat is not None and one.shown is not None]
    assert len({one.prompt for one in shown}) == 12
    assert {one.left for one in shown} == {one.right for one in shown} == set(MODELS)
    counted = [sum(one.models == pair for one in shown) for pair in {one.models for one in shown}]
    assert counted == [4, 4, 4]


def test_a_vote_is_on_the_conversation_and_names_come_after_it(place: Place) -> None:
    place.say("Hello?")
    first = place.chats.talk("ann").key
    place.say("And then?")
    with pytest.raises(DataError, match="not your last vote"):
        place.desk.reveal("ann", "s", first or 0)
    place.vote("right")
    talk = place.chats.talk("ann")
    assert (talk.key, talk.chat) == (None, None)
    assert first is not None
    with pytest.raises(DataError, match="judged already"):
        place.desk.vote("ann", "s", first, "left", 1.0)
    last = place.desk.last("ann")
    assert last is not None
    assert (last.said, last.names) == ("right", None)
    place.desk.reveal("ann", "s", last.vote)
    named = place.desk.last("ann")
    assert named is not None
    assert named.names is not None
    assert set(named.names) == set(MODELS[:2])


def test_an_undone_vote_opens_the_conversation_again(place: Place) -> None:
    asked = place.desk.ask("ann", "s")
    place.say("Hello?")
    before = place.chats.talk("ann").chat
    place.vote("tie")
    last = place.desk.last("ann")
    assert last is not None
    place.desk.undo("ann", "s", last.vote)
    assert place.chats.talk("ann").chat == before
    assert place.desk.ask("ann", "s") == asked  # the pair that was open stays
    place.vote("left")
    assert [row["winner"] for row in vote_rows(place.folder)] == ["model_a"]


def test_an_undone_vote_does_not_lose_the_conversation_that_came_after_it(place: Place) -> None:
    """The first one is open again, and after the vote on it the second one goes on where it was."""
    place.say("Hello?")
    place.vote("tie")
    place.say("Good day?")
    place.say("And then?")
    last, second = place.desk.last("ann"), place.chats.talk("ann").chat
    assert last is not None
    place.desk.undo("ann", "s", last.vote)
    again = place.chats.talk("ann").chat
    assert again is not None
    assert again.turns == ("Hello?",)
    place.vote("left")
    for chats in (place.chats, Place(place.folder, place.store).chats):
        assert chats.talk("ann").chat == second
    place.vote("right")
    assert place.chats.talk("ann").chat is None
    assert len(vote_rows(place.folder)) == 2


def test_a_conversation_that_is_left_counts_for_nothing(place: Place) -> None:
    place.say("Hello?")
    place.vote("skip")
    assert place.chats.talk("ann").chat is None
    with pytest.raises(DataError, match="no votes yet"):
        vote_rows(place.folder)


def test_a_model_that_fails_leaves_the_conversation_as_it_was(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.say("Hello?")
    before = place.chats.talk("ann")
    place.models.broken.add(MODELS[1])
    place.say("And then?")
    talk = place.chats.talk("ann")
    assert (talk.key, talk.chat, talk.failed) == (before.key, before.chat, True)
    assert f"{MODELS[1]} is broken" in caplog.text
    place.models.broken.clear()
    place.say("And then?")
    talk = place.chats.talk("ann")
    assert talk.chat is not None
    assert (talk.chat.turns, talk.failed) == (("Hello?", "And then?"), False)


def test_a_new_conversation_has_not_failed_where_the_last_one_did(place: Place) -> None:
    place.say("Hello?")
    place.models.broken.add(MODELS[1])
    place.say("And then?")
    place.vote("skip")
    assert place.chats.talk("ann").failed is False
    place.say("Good day?")
    talk = place.chats.talk("ann")
    assert (talk.key, talk.failed) == (None, True)


def test_nobody_sees_replies_that_are_still_being_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks right before the message is done with. The page would show the replies and wait for them."""
    seen = []
    looking = threading.Thread(target=lambda: seen.append(place.chats.talk("ann")))

    class Watched(dict[str, str]):
        def __delitem__(self, voter: str) -> None:
            looking.start()
            looking.join(0.2)
            super().__delitem__(voter)

    monkeypatch.setattr(place.chats, "_writing", Watched())
    place.say("Hello?")
    looking.join(30)
    [talk] = seen
    assert talk.chat is not None
    assert talk.writing is None


def test_replies_that_come_after_the_vote_are_dropped(place: Place) -> None:
    place.say("Hello?")
    place.models.hold[MODELS[0]].clear()
    place.chats.say("ann", "s", place.chats.talk("ann").key, "And then?")
    place.vote("left")
    place.models.hold[MODELS[0]].set()
    assert wait_for(place.chats, "ann").chat is None
    [row] = vote_rows(place.folder)
    assert row["turn"] == 1


def test_a_reply_that_names_its_model_marks_the_vote(place: Place) -> None:
    place.say("Who are you?")
    place.vote()
    place.say("Hello?")
    place.vote()
    assert [row["anony"] for row in vote_rows(place.folder)] == [False, True]
    assert read_votes(str(place.folder)).num_named == 1


def test_people_have_conversations_of_their_own(place: Place) -> None:
    place.say("Hello?")
    place.say("Good day?", "bob")
    chats = [place.chats.talk(voter).chat for voter in ("ann", "bob")]
    assert [one.turns for one in chats if one] == [("Hello?",), ("Good day?",)]
    key = place.chats.talk("ann").key
    assert key is not None
    with pytest.raises(DataError, match="not to be judged here"):
        place.desk.vote("bob", "s", key, "left", 1.0)


def test_messages_have_limits(place: Place) -> None:
    for text in ("", " \n", "a" * (LONGEST + 1)):
        with pytest.raises(DataError, match=r"characters|Write 1 to"):
            place.chats.say("ann", "s", None, text)
    with pytest.raises(DataError, match="surrogate"):
        place.chats.say("ann", "s", None, "\ud800")
    with pytest.raises(DataError, match="went on elsewhere"):
        place.chats.say("ann", "s", 999, "Hello?")
    for turn in range(MOST_TURNS):
        place.say(f"Hello {turn}?")
    with pytest.raises(DataError, match=f"{MOST_TURNS} messages at most"):
        place.say("One more?")
    with pytest.raises(DataError, match="needs two models"):
        Chats(place.desk.ledger, Scripted(MODELS[:1]).speakers)
    with pytest.raises(DataError, match=f"called {MODELS[0]}"):
        Chats(place.desk.ledger, Scripted().speakers + Scripted(MODELS[:1]).speakers)


def test_votes_on_conversations_are_exported_ranked_and_learned_from(place: Place) -> None:
    """One message is one prompt, so it makes a pair. The conversation is that of each side."""
    place.say("Hello?")
    place.vote("left")
    asked = place.desk.ask("ann", "s")
    assert asked is not None
    place.desk.vote("ann", "s", asked.key, "tie", 1.0)
    chatted, sampled = vote_rows(place.folder)
    assert (chatted["category"], chatted["language"], sampled["category"]) == ("chat", None, "facts")
    letter = dict(zip(MODELS, "ab", strict=False))
    assert chatted["conversation_a"] == [
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": f"Reply {letter[chatted['model_a']]}1."},
    ]
    assert [one.category for one in read_votes(str(place.folder), style=True).votes] == ["chat", "facts"]
    learned = read_comparisons(str(place.folder), opened=open_votes(str(place.folder)))
    assert len(learned.records) == 1


def test_an_arena_of_conversations_alone(tmp_path: Path) -> None:
    folder = tmp_path / "arena"
    folder.mkdir()
    write_entries(folder, [])
    with VoteStore.open(folder / "votes.db") as store:
        desk = Desk(store, Arena(folder, {}, {}, {}), chatting=True)
        chats = Chats(desk.ledger, Scripted().speakers)
        assert desk.ask("ann", "s") is None
        chats.say("ann", "s", None, "Hello?")
        key = wait_for(chats, "ann").key
        assert key is not None
        desk.vote("ann", "s", key, "right", 1.0)
        assert (desk.progress("ann").votes, desk.progress("ann").left) == (1, 0)
    assert [row["winner"] for row in vote_rows(folder)] == ["model_b"]
