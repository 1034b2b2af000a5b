"""The routes of the arena: nothing names a model before the vote, and what may be sent."""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from palmette.arena.folder import read_arena
from palmette.arena.store import VoteStore
from palmette.errors import RunError
from palmette.web.arena.opening import open_arena
from palmette.web.languages import LANGUAGES, texts_of
from tests.support.arena import MODELS, make_arena
from tests.support.html import ParsedPage

_LABELS = ("aria-label", "alt", "placeholder", "title")
WEB = Path(__file__).parents[2] / "src" / "palmette" / "web"


class Room:
    """An arena, and a browser that was let in."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.store = VoteStore.open(folder / "votes.db")
        self.opened = open_arena(
            self.store,
            read_arena(folder),
            voters=["ann", "bob"],
            names=["127.0.0.1"],
            port=80,
            source=random.Random(seed),
        )
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
        assert asked.keys() == {"key", "turns"}
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


def test_the_language_is_that_of_the_browser_or_the_chosen_one(room: Room) -> None:
    def language(path: str, accepted: str) -> str:
        page = room.client.get(path, headers={"Accept-Language": accepted})
        assert page.headers["vary"] == "Accept-Language, Cookie"
        found = re.search(r'<html lang="(\w+)">', page.text)
        assert found is not None
        assert str(texts_of(found[1])["title"]) in page.text
        return found[1]

    assert language("/", "ru-RU,ru;q=0.9,en;q=0.8") == "ru"
    assert language("/", "en-GB,en;q=0.9,ru;q=0.8") == "en"
    assert language("/", "de") == "en"
    assert language("/?language=ru", "en") == "ru"
    assert language("/", "en") == "ru"  # the browser keeps the choice
    assert language("/?language=en", "ru") == "en"
    assert language("/", "ru") == "en"


def test_every_text_is_there_in_every_language_and_every_one_is_used() -> None:
    english = texts_of("en")
    places = re.compile(r"\{\w+\}")
    for language in LANGUAGES:
        texts = texts_of(language)
        assert texts.keys() == english.keys()
        for key, text in texts.items():
            forms = [text] if isinstance(text, str) else list(text.values())
            wanted = english[key] if isinstance(english[key], str) else dict(english[key])["other"]
            assert all(form.strip() for form in forms)
            assert all(sorted(places.findall(form)) == sorted(places.findall(str(wanted))) for form in forms), key
    forms = {
        language: {len(text) for text in texts_of(language).values() if not isinstance(text, str)}
        for language in LANGUAGES
    }
    assert forms == {"en": {2}, "ru": {4}}  # the categories of CLDR
    same = [key for key in english if english[key] == texts_of("ru")[key]]
    assert same == []
    sources = (WEB / "templates" / "arena.html").read_text(encoding="utf-8")
    sources += "".join(file.read_text(encoding="utf-8") for file in sorted((WEB / "static" / "arena").glob("*.js")))
    used = {key for key in english if re.search(rf"""texts\.{re.escape(key)}\b|["'`]{re.escape(key)}["'`]""", sources)}
    built = {key for key in english if key.startswith(("problem_", "answer_"))}
    assert used | built == english.keys()
    asked = set(re.findall(r"(?<!/)\btexts\.(\w+)\b", sources)) | set(re.findall(r'\btext\("([^"]+)"', sources))
    assert asked <= english.keys()


def test_the_template_holds_no_text_of_its_own(room: Room) -> None:
    """Each piece of text of the page is one of the catalogue, a key of the keyboard, or the name of a language."""
    for language in LANGUAGES:
        page = ParsedPage(room.client.get(f"/?language={language}").text)
        known = {text for text in texts_of(language).values() if isinstance(text, str)}
        letters = {"A", "B", "T", "X", "N", "⌫", "=", "✗", "»", "\u0410", "\u0411"}
        assert [text for text in page.texts if text not in known | letters | set(LANGUAGES.values())] == []
        labels = [value for _, given in page.elements for name, value in given.items() if name in _LABELS]
        assert len(labels) == 4
        assert set(labels) <= known
