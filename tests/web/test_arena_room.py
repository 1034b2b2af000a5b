"""The routes of the arena: nothing names a model before the vote, and what may be sent."""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from palmette.arena.chats import Speaker
from palmette.arena.export import vote_rows
from palmette.arena.folder import read_arena
from palmette.arena.store import VoteStore
from palmette.errors import RunError
from palmette.web.arena.opening import open_arena
from palmette.web.languages import LANGUAGES
from tests.support.arena import MODELS, Scripted, make_arena, wait_for


class Room:
    """An arena, and a browser that was let in."""

    def __init__(self, folder: Path, seed: int = 0, speakers: Sequence[Speaker] = ()) -> None:
        self.store = VoteStore.open(folder / "votes.db")
        self.opened = open_arena(
            self.store,
            read_arena(folder),
            voters=["ann", "bob"],
            names=["127.0.0.1"],
            port=80,
            speakers=speakers,
            source=random.Random(seed),
        )
        self.chats = self.opened.chats
        self.client = TestClient(self.opened.app, base_url="http://127.0.0.1")
        self.client.post("/api/session", json={"token": self.opened.sessions.tokens["ann"]})

    def state(self) -> Any:
        return self.client.get("/api/arena/desk").json()

    def send(self, path: str, **body: Any) -> Any:
        return self.client.post(f"/api/arena/{path}", json=body)

    def vote(self, said: str = "left") -> Any:
        return self.send("votes", asked=self.state()["asked"]["key"], said=said, seconds=1.0).json()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(make_arena(tmp_path / "arena"))
    yield made
    made.store.close()


def named_in(text: str) -> list[str]:
    """The models, or parts of their names, that a text holds."""
    words = {"quillwort", "horsetail", "sundew", *(model.lower() for model in MODELS)}
    return sorted(word for word in words if word in text.lower())


def test_the_page_names_no_model(room: Room) -> None:
    for language in LANGUAGES:
        html = room.client.get(f"/?language={language}").text
        assert named_in(html) == []
        assert "Question 0?" not in html  # it says nothing about the arena at all
        for link in re.findall(r'(?:href|src)="(/[^"?]+)"', html):
            file = room.client.get(link)
            assert (file.status_code, named_in(file.text)) == (200, []), link


def test_what_the_page_is_told_names_no_model(room: Room) -> None:
    """Every answer of the server over a whole session, headers and cookies too, but for what was asked to be named."""
    while (state := room.client.get("/api/arena/desk")).json()["asked"]:
        assert named_in(state.text + str(dict(state.headers)) + str(room.client.cookies)) == []
        asked = state.json()["asked"]
        assert asked.keys() == {"key", "turns", "document"}
        assert [turn.keys() for turn in asked["turns"]] == [{"prompt", "left", "right"}]
        sent = room.send("votes", asked=asked["key"], said="tie", seconds=1.0)
        assert (sent.status_code, named_in(sent.text)) == (200, [])
    assert room.state()["progress"] == {"votes": 12, "skipped": 0, "left": 0}


def test_keys_do_not_depend_on_the_models(tmp_path: Path) -> None:
    """Keys are numbers of events. With the models in another order, and the same draws, they are the same."""
    keys = []
    for index, order in enumerate(itertools.permutations(MODELS)):
        made = Room(make_arena(tmp_path / str(index), order))
        keys.append([made.vote()["asked"]["key"] for _ in range(6)])
        made.store.close()
    assert len(keys) == 6
    assert all(one == keys[0] for one in keys)


def test_no_answer_is_read_or_written_while_people_vote(tmp_path: Path) -> None:
    """So the time of a request cannot depend on the model. The files are gone, and everything is still shown."""
    folder = make_arena(tmp_path / "arena")
    made = Room(folder)
    shutil.rmtree(folder / "answers")
    while made.state()["asked"]:
        made.vote()
    assert made.state()["progress"]["votes"] == 12
    made.store.close()


def test_messages_of_refusals_name_no_model(room: Room) -> None:
    key = room.state()["asked"]["key"]
    room.vote()
    for path, body in (
        ("votes", {"asked": key, "said": "right", "seconds": 1.0}),
        ("votes", {"asked": 999, "said": "right", "seconds": 1.0}),
        ("undo", {"vote": 999}),
        ("names", {"vote": 999}),
    ):
        refused = room.send(path, **body)
        assert (refused.status_code, named_in(refused.text)) == (422, []), path


def test_names_come_on_request_after_the_vote_and_to_the_voter_only(room: Room) -> None:
    key = room.state()["asked"]["key"]
    shown = next(one.shown for one in room.store.events() if one.id == key)
    assert shown is not None
    vote = room.vote("right")["last"]["vote"]
    room.client.post("/api/session", json={"token": room.opened.sessions.tokens["bob"]})
    assert room.send("names", vote=vote).status_code == 422
    assert room.state()["last"] is None
    room.client.post("/api/session", json={"token": room.opened.sessions.tokens["ann"]})
    state = room.send("names", vote=vote).json()
    assert state["last"] == {"vote": vote, "said": "right", "names": [shown.left, shown.right]}
    assert named_in(json.dumps(state["asked"])) == []
    undone = room.send("undo", vote=vote)
    assert undone.status_code == 422
    assert "so it stays" in undone.json()["problem"]


def test_the_sides_are_those_of_the_store(room: Room) -> None:
    letters = dict(zip(MODELS, "abc", strict=True))
    for _ in range(12):
        asked = room.state()["asked"]
        shown = next(one.shown for one in room.store.events() if one.id == asked["key"])
        assert shown is not None
        [turn] = asked["turns"]
        number = shown.prompt[1:]
        assert turn["left"] == f"Reply {letters[shown.left]} to {number}."
        assert turn["right"] == f"Reply {letters[shown.right]} to {number}."
        room.vote()


@pytest.mark.parametrize(
    "changes", [{"said": "both_bad"}, {"said": ""}, {"seconds": -1.0}, {"asked": "1"}, {"model": "quillwort-7"}]
)
def test_other_votes_are_refused(room: Room, changes: Mapping[str, Any]) -> None:
    body = {"asked": room.state()["asked"]["key"], "said": "left", "seconds": 1.0, **changes}
    assert room.send("votes", **body).status_code == 422
    assert room.state()["progress"]["votes"] == 0


def test_without_a_session_nothing_is_told(room: Room) -> None:
    room.client.cookies.clear()
    assert room.client.get("/api/arena/desk").status_code == 401
    for path in ("votes", "undo", "names"):
        assert room.send(path, vote=1, asked=1, said="left", seconds=1.0).status_code in (401, 422)
    assert room.send("undo", vote=1).status_code == 401


def test_a_full_disk_is_said(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    key = room.state()["asked"]["key"]

    def full(*_: Any) -> None:
        raise RunError("votes.db cannot be used: database or disk is full", "Free some space.")

    with monkeypatch.context() as patched:
        patched.setattr(room.store, "append", full)
        assert room.send("votes", asked=key, said="left", seconds=1.0).status_code == 507
    assert room.send("votes", asked=key, said="left", seconds=1.0).status_code == 200


def test_a_document_comes_with_the_places_of_both_answers(tmp_path: Path) -> None:
    """Model a copies "Pier 3", which stands there twice, b says something else, and c refuses. In code points."""
    text = "🎉 Pier 3 is closed. Use pier 4, not Pier 3."
    answers = dict(zip(((model, 0) for model in MODELS), ("Pier 3", "pier three", ""), strict=True))
    room = Room(make_arena(tmp_path / "arena", num_prompts=1, answers=answers, documents={0: text}))
    places = {"Pier 3": [[2, 8], [36, 42]], "pier three": [], "": []}
    seen = set()
    while asked := room.state()["asked"]:
        [turn] = asked["turns"]
        assert asked["document"] == {"text": text, **{side: places[turn[side]] for side in ("left", "right")}}
        seen |= {turn["left"], turn["right"]}
        room.vote()
    assert seen == set(places)
    row = vote_rows(tmp_path / "arena")[0]
    assert row["conversation_a"][0]["content"] == f"{text}\n\nQuestion 0?"
    room.store.close()


def test_a_free_chat_names_no_model_before_the_vote(tmp_path: Path) -> None:
    """Everything that the server says, while models write, when one has failed, and after both have replied."""
    models = Scripted()
    room = Room(make_arena(tmp_path / "arena"), speakers=models.speakers)

    def told() -> Any:
        answer = room.client.get("/api/arena/desk")
        assert named_in(answer.text + str(dict(answer.headers))) == []
        return answer.json()["chat"]

    assert told() == {"key": None, "turns": [], "writing": None, "failed": False, "most": 20}
    models.hold[MODELS[0]].clear()
    sent = room.send("messages", chat=None, text="Hello?")
    assert (sent.status_code, named_in(sent.text)) == (200, [])
    assert (told()["writing"], told()["turns"]) == ("Hello?", [])
    assert room.send("messages", chat=None, text="Hello?").status_code == 422
    models.broken.add(MODELS[0])
    models.hold[MODELS[0]].set()
    assert room.chats is not None
    wait_for(room.chats, "ann")
    assert told()["failed"]
    models.broken.clear()
    room.send("messages", chat=None, text="Hello?")
    wait_for(room.chats, "ann")
    chat = told()
    assert [turn.keys() for turn in chat["turns"]] == [{"prompt", "left", "right"}]
    voted = room.send("votes", asked=chat["key"], said="left", seconds=1.0)
    assert named_in(voted.text) == []
    named = room.send("names", vote=voted.json()["last"]["vote"]).json()
    assert set(named["last"]["names"]) == set(MODELS[:2])
    room.store.close()


@pytest.mark.parametrize("changes", [{"text": ""}, {"text": "a" * 8001}, {"chat": 7}, {"chat": "1"}, {"model": "x"}])
def test_other_messages_are_refused(tmp_path: Path, changes: Mapping[str, Any]) -> None:
    room = Room(make_arena(tmp_path / "arena"), speakers=Scripted().speakers)
    assert room.send("messages", **{"chat": None, "text": "Hello?", **changes}).status_code == 422
    room.store.close()


def test_without_models_to_talk_with_there_is_no_chat(room: Room) -> None:
    assert room.state()["chat"] is None
    assert room.send("messages", chat=None, text="Hello?").status_code == 404
