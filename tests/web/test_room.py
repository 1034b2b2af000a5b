"""The routes of the review: what a page is told, and what it may send."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from palmette.data.records import Document
from palmette.decode.spans import words
from palmette.review.events import Event, Verdict, document_hash
from palmette.review.showing import Choosing, Run
from palmette.review.store import Store
from palmette.review.succession import Succession
from palmette.web.review.opening import Review, open_review
from tests.support.html import ParsedPage
from tests.support.review_page import RUN, StubDecoder, question

# 🎉 is one code point and two UTF-16 units, 👩‍🚀 three and five. "é" is two here, a letter and its mark.
EMOJI = "🎉🎉👩‍🚀 landed at the cafe\u0301 <b>7</b>.\r\nThen </script> came. ‏שלום עולם‏ 东京塔 是红色的。"
DOCUMENT = Document("d", EMOJI, (question("q", "<i>When?</i>", EMOJI, "7", "cafe\u0301"),), "A <title>")
SEEN = Choosing("random", overlap_share=0.0, blind_share=0.0)


class Desk:
    """A review, and a browser that was let in."""

    def __init__(
        self, folder: Path, choosing: Choosing = SEEN, document: Document = DOCUMENT, newer: Any = None
    ) -> None:
        self.store = Store.open(folder / "review.db")
        self.review: Review = open_review(
            self.store,
            [document],
            StubDecoder(),
            RUN,
            data="harbour.json",
            annotators=["ann", "bob"],
            names=["127.0.0.1"],
            port=80,
            choosing=choosing,
            newer=newer,
        )
        assert self.review.answers.wait()
        self.client = TestClient(self.review.app, base_url="http://127.0.0.1")
        self.client.post("/api/session", json={"token": self.review.sessions.tokens["ann"]})

    def state(self) -> Any:
        return self.client.get("/api/review/desk").json()

    def send(self, kind: str, span: Any = None, **changes: Any) -> Any:
        body = {"asked": self.state()["asked"]["key"], "kind": kind, "span": span, "seconds": 1.5, **changes}
        return self.client.post("/api/review/verdicts", json=body)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def place(text: str) -> dict[str, Any]:
    start = EMOJI.index(text)
    return {"text": text, "start": start, "end": start + len(text)}


def test_a_question_comes_with_what_the_model_said(desk: Desk) -> None:
    state = desk.state()
    asked = state["asked"]
    assert asked["question"] == "<i>When?</i>"
    assert asked["suggestion"] == place("7")
    assert asked["candidates"] == [{**place("7"), "probability": 0.6}, {**place("cafe\u0301"), "probability": 0.15}]
    assert (asked["probability"], asked["no_answer_probability"], asked["max_words"]) == (0.6, 0.1, 5)
    assert (state["annotator"], state["run"], state["undoable"]) == ("ann", "runs/tiny", None)


def test_the_text_and_the_words_of_a_document_are_in_code_points(desk: Desk) -> None:
    sha256 = desk.state()["asked"]["document"]
    assert sha256 == document_hash(EMOJI)
    given = desk.client.get(f"/api/review/documents/{sha256}").json()
    assert given["text"] == EMOJI
    shown = [EMOJI[start:end] for start, *_, end in given["words"]]
    assert {"👩‍🚀", "cafe\u0301", "7", "שלום", "东", "红"} <= set(shown)
    assert len(shown) == len(words(EMOJI))
    assert desk.client.get("/api/review/documents/0").status_code == 404


@pytest.mark.parametrize("text", ["🎉", "👩‍🚀 landed", "cafe\u0301", "7</b>.\r\nThen", "‏שלום עולם‏", "东京塔"])
def test_a_span_of_any_script_is_stored_as_it_was_marked(desk: Desk, text: str) -> None:
    assert desk.send("edit", place(text)).status_code == 200
    *_, last = [one for one in desk.store.events() if one.kind == "verdict"]
    assert last.verdict is not None
    assert last.verdict.span is not None
    assert last.verdict.span.text == text
    assert EMOJI[last.verdict.span.start : last.verdict.span.end] == text


@pytest.mark.parametrize(
    "span",
    [
        {"text": "7", "start": place("7")["start"] + 4, "end": place("7")["end"] + 4},  # counted in UTF-16
        {"text": "7\n", "start": 0, "end": 2},
        {**place("7"), "text": "8"},
        {**place("7"), "end": place("7")["end"] + 1},
        {"text": " ", "start": EMOJI.index(" "), "end": EMOJI.index(" ") + 1},
        {"text": "7", "start": -1, "end": 0},
        {"text": "7", "start": 1.0, "end": 2},
        {"text": "7"},
        "7",
    ],
)
def test_a_span_that_differs_from_the_document_is_refused(desk: Desk, span: Any) -> None:
    refused = desk.send("edit", span)
    assert refused.status_code == 422
    assert set(refused.json()) == {"problem", "way_out"}
    assert [one.kind for one in desk.store.events()] == ["shown"]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "perhaps"},
        {"kind": "edit", "span": None},
        {"kind": "reject", "span": place("7")},
        {"seconds": -1},
        {"seconds": 1e9},
        {"seconds": "1"},
        {"asked": "1"},
        {"run": "another"},
    ],
)
def test_a_verdict_of_another_shape_is_refused(desk: Desk, changes: dict[str, Any]) -> None:
    kind = changes.pop("kind", "skip")
    assert desk.send(kind, changes.pop("span", None), **changes).status_code == 422


def test_a_verdict_that_is_sent_twice_answers_twice_and_another_is_refused(desk: Desk) -> None:
    key = desk.state()["asked"]["key"]
    first = desk.send("no_answer", asked=key)
    assert first.status_code == 200
    assert first.json()["asked"] is None
    again = desk.client.post(
        "/api/review/verdicts", json={"asked": key, "kind": "no_answer", "span": None, "seconds": 1.5}
    )
    assert (again.status_code, again.json()["undoable"]) == (200, first.json()["undoable"])
    other = desk.client.post("/api/review/verdicts", json={"asked": key, "kind": "skip", "span": None, "seconds": 1.5})
    assert other.status_code == 409
    assert [one.kind for one in desk.store.events()] == ["shown", "verdict"]


def test_undo_brings_the_question_back(desk: Desk) -> None:
    undoable = desk.send("reject").json()["undoable"]
    back = desk.client.post("/api/review/undo", json={"verdict": undoable}).json()
    assert back["asked"]["question"] == "<i>When?</i>"
    assert back["undoable"] is None
    assert desk.client.post("/api/review/undo", json={"verdict": 77}).status_code == 422


def test_undo_of_a_decision_brings_the_disagreement_back(desk: Desk) -> None:
    assert desk.send("edit", place("7")).status_code == 200
    other = Event("verdict", datetime.now(UTC), "bob", "s", "q", document_hash(EMOJI), verdict=Verdict("no_answer"))
    desk.store.append([other])
    decided = desk.client.post("/api/review/decisions", json={"question": "q", "span": None, "seconds": 2.0})
    assert (decided.json()["asked"], decided.json()["conflicts"]) == (None, 0)
    back = desk.client.post("/api/review/undo", json={"verdict": decided.json()["undoable"]}).json()
    assert (back["deciding"], back["conflicts"], back["asked"]["key"]) == (True, 1, "q")
    assert {"who": "bob", "wrong": None} in back["asked"]["said"]


def test_who_judges_is_known_by_the_cookie_and_not_by_the_request(desk: Desk) -> None:
    stranger = TestClient(desk.review.app, base_url="http://127.0.0.1")
    for path in ("/api/review/desk", f"/api/review/documents/{document_hash(EMOJI)}"):
        assert stranger.get(path).status_code == 401
    assert stranger.post("/api/review/undo", json={"verdict": 1}).status_code == 401
    assert desk.send("skip", annotator="bob").status_code == 422
    # Bob has a key of his own, and cannot use Ann's.
    key = desk.state()["asked"]["key"]
    stranger.post("/api/session", json={"token": desk.review.sessions.tokens["bob"]})
    body = {"asked": key, "kind": "skip", "span": None, "seconds": 1.0}
    assert stranger.post("/api/review/verdicts", json=body).status_code == 409
    assert [one.annotator for one in desk.store.events()] == ["ann"]


def test_nothing_of_a_hidden_answer_leaves_the_server(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Choosing("random", overlap_share=0.0, blind_share=1.0))
    state = desk.state()
    asked = state["asked"]
    assert asked["blind"]
    assert (asked["suggestion"], asked["candidates"], asked["probability"]) == (None, [], None)
    assert asked["no_answer_probability"] is None
    assert asked["why"] == "random"
    assert "0.6" not in json.dumps(state)
    assert desk.send("accept").status_code == 422
    assert desk.send("edit", place("7")).status_code == 200
    desk.store.close()


def test_a_full_disk_refuses_the_verdict_and_keeps_the_rest(tmp_path: Path) -> None:
    """SQLite itself says that the disk is full: the database may not grow, and a span of 20,000 characters needs it to.

    Once there is room again, the same verdict is taken.
    """
    long = Document("long", "word " * 4000, (question("q", "Which?", "word " * 4000, "word"),))
    desk = Desk(tmp_path, document=long)
    body = {"asked": desk.state()["asked"]["key"], "kind": "edit", "seconds": 1.0}
    body["span"] = {"text": long.text[:19_999], "start": 0, "end": 19_999}
    engine = desk.store._engine

    def shrink(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # as many as there are

    engine.dispose()
    event.listen(engine, "connect", shrink)
    refused = desk.client.post("/api/review/verdicts", json=body)
    event.remove(engine, "connect", shrink)
    engine.dispose()
    assert refused.status_code == 507
    assert "disk is full" in refused.json()["problem"]
    assert "Free some space" in refused.json()["way_out"]
    assert [one.kind for one in desk.store.events()] == ["shown"]
    assert desk.client.post("/api/review/verdicts", json=body).status_code == 200
    assert [one.kind for one in desk.store.events()] == ["shown", "verdict"]
    desk.store.close()


def test_the_page_says_nothing_to_strangers_and_holds_nothing_inline(desk: Desk) -> None:
    html = TestClient(desk.review.app, base_url="http://127.0.0.1").get("/").text
    page = ParsedPage(html)
    assert "<h1>Review</h1>" in html
    assert not [name for name in ("tiny", "harbour", "ann", "bob") if re.search(rf"\b{name}\b", html)]
    assert not [tag for tag, _ in page.elements if tag == "style"]
    assert not [a for _, a in page.elements if "style" in a or any(name.startswith("on") for name in a)]
    scripts = [a for tag, a in page.elements if tag == "script"]
    assert scripts
    assert all(a.get("src", "").startswith("/static/") for a in scripts)  # type: ignore[union-attr]
    linked = [a["href"] for tag, a in page.elements if tag == "link"] + [a["src"] for a in scripts]
    assert all(desk.client.get(str(path)).status_code == 200 for path in linked)


def test_no_script_of_the_page_makes_markup_of_text() -> None:
    from palmette.web import application

    scripts = sorted((Path(application.__file__).parent / "static").rglob("*.js"))
    assert len(scripts) >= 7
    for script in scripts:
        source = script.read_text(encoding="utf-8")
        for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "http"):
            assert name not in source, script


def test_a_run_that_gets_ready_while_the_page_is_told_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page stops asking once nothing is being prepared, so it must then know the run that was."""
    newer, asked = replace(RUN, name="runs/tiny-review-1", sha256="3" * 64), threading.Event()

    def load(_: str) -> tuple[Run, StubDecoder]:
        assert asked.wait(60)
        return newer, StubDecoder()

    def ready_now(succession: Succession) -> bool:
        """Whether a run is being prepared: it gets ready just when this is asked."""
        if succession._thread is not None:
            asked.set()
            succession._thread.join()
        return False

    desk = Desk(tmp_path, newer=(lambda name: newer.name if name == RUN.name else None, load))
    with desk.store:
        assert desk.state()["newer"] == newer.name
        monkeypatch.setattr(Succession, "preparing", property(ready_now))
        told = desk.client.post("/api/review/run", json={"run": newer.name}).json()
    assert (told["preparing"], told["run"], told["newer"]) == (False, newer.name, None)
