"""`palmette arena sample`, `serve`, `export` and `rank`, one after the other, and a server that is killed."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from palmette.arena.export import vote_rows
from palmette.arena.votes import read_votes
from palmette.cli.serving import serve_pages
from palmette.data.votes import read_contests
from palmette.web import serving
from palmette.web.gate import Gate
from palmette.web.sessions import Sessions
from tests.support.arena import MODELS, desk_of, make_arena
from tests.support.chat_server import Act, ChatServer, says
from tests.support.command import palmette
from tests.support.web_command import enter, starting


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    with starting(tmp_path) as start:
        yield start


def test_from_models_to_a_ranking(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_folder: Path, capsys: Any, started: Any
) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "arena"
    prompts.write_text('{"prompt": "One?"}\n{"prompt": "Two?"}\n', encoding="utf-8")
    answers = [
        {"question_id": f"line-{number}", "model_id": "fir", "choices": [{"turns": ["Yes."]}]} for number in (1, 2)
    ]
    (tmp_path / "fir.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")
    sample = ("arena", "sample", "--prompts", prompts, "--max-new-tokens", "4", "--out", out, "--model")
    assert palmette(monkeypatch, *sample, tiny_folder) == 0
    assert "Votes need two models." in capsys.readouterr().err
    assert palmette(monkeypatch, *sample, tmp_path / "fir.jsonl") == 0
    assert "2 models, 2 prompts" in capsys.readouterr().out
    assert palmette(monkeypatch, "arena", "rank", out) == 2
    assert "has no votes yet" in capsys.readouterr().err
    _, links = started("arena", "serve", "arena", "--port", "0", "--voter", "ann", "--voter", "bob", people=2)
    for link in links.values():
        with enter(link) as client:
            while asked := client.get("/api/arena/desk").json()["asked"]:
                [turn] = asked["turns"]
                body = {"asked": asked["key"], "said": "left" if turn["left"] == "Yes." else "right", "seconds": 1.0}
                assert client.post("/api/arena/votes", json=body).status_code == 200
    assert palmette(monkeypatch, "arena", "rank", out, "--resamples", "0") == 0
    said = capsys.readouterr().out
    assert "4 votes of 2 voters." in said
    assert said.index("fir") < said.index(tiny_folder.name)
    votes = tmp_path / "votes.jsonl"
    assert palmette(monkeypatch, "arena", "export", out, "--out", votes) == 0
    assert "4 votes" in capsys.readouterr().out
    rows = [json.loads(line) for line in votes.read_text(encoding="utf-8").splitlines()]
    assert [row["winner"] for row in rows] == ["model_a" if row["model_a"] == "fir" else "model_b" for row in rows]
    assert palmette(monkeypatch, "arena", "rank", votes, "--resamples", "0", "--style") == 0
    assert palmette(monkeypatch, "arena", "export", out, "--out", votes) == 2


def test_a_free_chat_with_a_model_and_a_server_in_a_new_folder(tiny_folder: Path, tmp_path: Path, started: Any) -> None:
    """The server of the other model is slow. Nothing is shown before it has replied, and then a vote is ranked."""
    hold = threading.Event()

    def answer(request: dict[str, Any]) -> Act:
        assert hold.wait(60)
        return says(f"reply {len(request['messages'])}")

    with ChatServer(answer) as server:
        (tmp_path / "server.yaml").write_text(f"endpoint: {{url: '{server.url}', model: served}}", encoding="utf-8")
        chat = ("--chat", str(tiny_folder), "--chat", "server.yaml", "--max-new-tokens", "4")
        process, links = started("arena", "serve", "new", *chat, "--port", "0", "--voter", "ann")
        with enter(links["ann"]) as client:

            def state(turns: int) -> Any:
                until = time.monotonic() + 60
                while (found := client.get("/api/arena/desk").json()["chat"])["writing"] is not None:
                    assert time.monotonic() < until
                    time.sleep(0.05)
                assert len(found["turns"]) == turns, process.poll()
                return found

            assert client.get("/api/arena/desk").json()["asked"] is None
            assert client.post("/api/arena/messages", json={"chat": None, "text": "Hello?"}).status_code == 200
            time.sleep(1.0)
            assert client.get("/api/arena/desk").json()["chat"]["turns"] == []
            hold.set()
            key = state(1)["key"]
            assert client.post("/api/arena/messages", json={"chat": key, "text": "And then?"}).status_code == 200
            chat_state = state(2)
            [side] = {side for side in ("left", "right") if chat_state["turns"][1][side] == "reply 3"}
            body = {"asked": chat_state["key"], "said": side, "seconds": 1.0}
            last = client.post("/api/arena/votes", json=body).json()["last"]
            names = client.post("/api/arena/names", json={"vote": last["vote"]}).json()["last"]["names"]
    assert names[side == "right"] == "served"
    [row] = vote_rows(tmp_path / "new")
    assert row[f"model_{'a' if side == 'left' else 'b'}"] == "served"
    assert [one.outcome for one in read_votes(str(tmp_path / "new")).votes] == [side]


def test_a_killed_server_loses_no_confirmed_vote(started: Any, tmp_path: Path) -> None:
    """Killed with SIGKILL right after each of three confirmations. A vote that is sent again is stored once."""
    folder = make_arena(tmp_path / "arena")
    confirmed = []
    for said in ("left", "tie", "right"):
        process, links = started("arena", "serve", "arena", "--port", "0", "--voter", "ann")
        with enter(links["ann"]) as client:
            state = client.get("/api/arena/desk").json()
            assert state["progress"]["votes"] == len(confirmed)
            for body in confirmed[-1:]:
                assert client.post("/api/arena/votes", json=body).status_code == 200
            confirmed.append({"asked": state["asked"]["key"], "said": said, "seconds": 1.0})
            assert client.post("/api/arena/votes", json=confirmed[-1]).status_code == 200
            process.kill()  # SIGKILL, at once
            process.wait()
    with sqlite3.connect(folder / "votes.db") as raw:
        stored = raw.execute("SELECT about, outcome FROM arena_events WHERE kind = 'vote' ORDER BY id").fetchall()
    raw.close()
    assert stored == [(body["asked"], body["said"]) for body in confirmed]
    assert len(vote_rows(folder)) == 3


def test_what_is_not_asked_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, started: Any) -> None:
    same = {(MODELS[0], 0): "Four.", (MODELS[1], 0): "Four.", (MODELS[2], 1): "I am Sundew."}
    make_arena(tmp_path / "arena", answers=same)
    for words, line in (
        ((), "Not asked: 2 pairs with an answer that tells its model. --with-named shows them."),
        (("--with-named",), "Not blind: 2 pairs with an answer that tells its model. Rankings leave them out."),
    ):
        process, _ = started("arena", "serve", "arena", "--port", "0", *words)
        process.terminate()
        _, said = process.communicate(timeout=60)
        assert "Not asked: 1 pair of identical answers." in said
        assert line in said


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("serve", "nowhere"), "nowhere is not the folder of an arena"),
        (("serve", "arena", "--host", "0.0.0.0"), "no voter is named"),
        (("serve", "arena", "--voter", "a", "--voter", "a"), "two voters have the same name"),
        (("serve", "new", "--chat", "no/where", "--chat", "at/all"), "no/where"),
        (("serve", "new", "--chat", "no/where"), "a free chat needs two models, and has 1"),
        (
            ("serve", "new", *("--chat", "no/where") * 2, "--chat", "at/all"),
            "two models of the free chat are called no/",
        ),
        (("serve", "votes", "--chat", "no/where", "--chat", "at/all"), "votes exists already"),
        (("export", "nowhere", "--out", "votes.jsonl"), "nowhere is not the folder of an arena"),
        (("rank", "arena", "--store", "new"), "there is no store of votes new"),
        (("sample", "--model", "no/where/at/all", "--out", "new"), "no/where/at/all"),
        (("sample", "--prompts", "nowhere.jsonl", "--model", "x", "--out", "new"), "nowhere.jsonl"),
    ],
)
def test_mistakes_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any, words: tuple[str, ...], problem: str
) -> None:
    make_arena(tmp_path / "arena")
    (tmp_path / "votes").mkdir()
    monkeypatch.chdir(tmp_path)
    assert palmette(monkeypatch, "arena", *words) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert "Traceback" not in error
    assert not (tmp_path / "new").exists()


def test_the_password_of_a_store_is_not_printed(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(serving, "run_application", lambda *_: None)
    with contextlib.closing(serving.listen("127.0.0.1", 0)) as opened:
        where = "postgresql://ann:s3cret@db/votes"
        serve_pages(Gate(FastAPI(), hosts=[]), Sessions(["ann"]), opened, "127.0.0.1", "Votes", where)
    said = capsys.readouterr()
    assert "Votes are kept in postgresql://ann@db/votes. Ctrl-C ends the server." in said.err
    assert "s3cret" not in said.err + said.out


def test_a_reward_model_is_measured_on_votes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reward_run: Path, capsys: Any
) -> None:
    """The folder of an arena is what a file of its pairs is: two votes that choose make two comparisons, a tie none."""
    folder = make_arena(tmp_path / "arena", num_prompts=2)
    with desk_of(folder) as desk:
        for said in ("left", "right", "tie"):
            asked = desk.ask("ann", "s")
            assert asked is not None
            desk.vote("ann", "s", asked.key, said, 1.0)  # type: ignore[arg-type]
    pairs = tmp_path / "pairs.jsonl"
    rows = read_contests(vote_rows(folder), "arena").pair_rows()
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    printed = []
    for data, out in ((folder, tmp_path / "of-votes"), (pairs, tmp_path / "of-pairs")):
        assert palmette(monkeypatch, "eval", "reward", "--model", reward_run, "--data", data, "--out", out) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    records = [json.loads((tmp_path / out / "metrics.json").read_text()) for out in ("of-votes", "of-pairs")]
    assert [record["data"]["records"] for record in records] == [2, 2]
    assert records[0]["data"]["votes"]["ties"] == 1
    empty = make_arena(tmp_path / "empty")
    assert palmette(monkeypatch, "eval", "reward", "--model", reward_run, "--data", empty) == 2
    assert "has no votes yet" in capsys.readouterr().err
