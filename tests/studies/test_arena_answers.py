"""Answers of models to the prompts of an arena: local models, files, endpoints, and jobs that were stopped."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from palmette.arena.folder import VOTES, read_arena, write_entries
from palmette.errors import DataError, RunError
from palmette.judge import answers
from palmette.judge.repliers import Asked, Replier
from palmette.studies.arena_answers import Replying, sample_answers
from tests.support.chat_server import Act, ChatServer, says

FEW = Replying(temperature=0.7, max_new_tokens=4)


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.jsonl"
    rows = [{"id": "a", "prompt": "One?"}, {"id": "b", "turns": ["Two?", "And then?"], "language": "English"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def answer_file(path: Path, model: str) -> str:
    rows = [
        {"question_id": "a", "model_id": model, "choices": [{"turns": ["First."]}]},
        {"question_id": "b", "model_id": model, "choices": [{"turns": ["Second.", "Third."]}]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_model_a_file_and_an_endpoint(tmp_path: Path, prompts: str, tiny_folder: Path) -> None:
    out = tmp_path / "arena"
    with ChatServer(lambda request: says(f"reply {len(request['messages'])}")) as server:
        spec = tmp_path / "server.yaml"
        spec.write_text(f"endpoint: {{url: '{server.url}', model: served}}", encoding="utf-8")
        given = [str(tiny_folder), answer_file(tmp_path / "file.jsonl", "fir"), str(spec)]
        found = sample_answers(prompts, given, out, FEW)
        asked = list(server.asked)
    assert found.num_prompts == 2
    assert [(one.model, one.answers) for one in found.entries] == [
        (str(tiny_folder), "answers/01.jsonl"),
        ("fir", "answers/02.jsonl"),
        ("served", "answers/03.jsonl"),
    ]
    arena = read_arena(out)
    assert len(arena.replies[str(tiny_folder)]["b"]) == 2
    assert arena.replies["fir"] == {"a": ("First.",), "b": ("Second.", "Third.")}
    assert arena.replies["served"] == {"a": ("reply 1",), "b": ("reply 1", "reply 3")}
    assert [(one["temperature"], one["max_tokens"]) for one in asked] == [(0.7, 4)] * 3
    assert asked[2]["messages"] == [
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "reply 1"},
        {"role": "user", "content": "And then?"},
    ]


def test_an_endpoint_keeps_its_pace_and_its_cost(tmp_path: Path, prompts: str) -> None:
    """Three requests of one client: at 600 a minute the third goes out a fifth of a second after the first.

    Each reads 12 tokens and writes 5, so at 2 and 4 for a million they cost 3 * (24 + 20) / 1e6.
    """
    moments: list[float] = []

    def answer(_: dict[str, Any]) -> Act:
        moments.append(time.monotonic())
        return says("Yes.", usage={"prompt_tokens": 12, "completion_tokens": 5})

    with ChatServer(answer) as server:
        spec = tmp_path / "server.yaml"
        prices = "requests_per_minute: 600, price_in: 2, price_out: 4"
        spec.write_text(f"endpoint: {{url: '{server.url}', model: served, {prices}}}", encoding="utf-8")
        found = sample_answers(prompts, [str(spec), answer_file(tmp_path / "f.jsonl", "fir")], tmp_path / "arena", FEW)
    assert found.costs == {"served": pytest.approx(3 * (12 * 2 + 5 * 4) / 1e6)}
    assert moments[2] - moments[0] >= 0.19


def test_answers_from_documents(tmp_path: Path, tiny_folder: Path) -> None:
    """A model of this machine copies or refuses. A server's JSON is read, and what it says need not stand there."""
    text = "The ferry leaves pier 3 at noon."
    rows = [{"id": "a", "question": "Where from?", "context": text}, {"id": "b", "question": "Why?", "context": text}]
    source = tmp_path / "exact.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def answer(request: dict[str, Any]) -> Act:
        asked = request["messages"][-1]["content"]
        assert text in asked
        return says(json.dumps({"answer": "?" if "Why?" in asked else "the third pier"}))

    with ChatServer(answer) as server:
        spec = tmp_path / "server.yaml"
        spec.write_text(f"endpoint: {{url: '{server.url}', model: served}}", encoding="utf-8")
        sample_answers(str(source), [str(tiny_folder), str(spec)], tmp_path / "arena", FEW)
        assert {one["temperature"] for one in server.asked} == {0.0}
    arena = read_arena(tmp_path / "arena")
    assert arena.replies["served"] == {"a": ("the third pier",), "b": ("",)}
    assert all(reply in text for replies in arena.replies[str(tiny_folder)].values() for reply in replies)
    assert arena.prompts["a"].document == text


def test_a_job_that_was_stopped_goes_on_with_one_model_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prompts: str, tiny_folder: Path
) -> None:
    loaded: list[str] = []
    written: list[tuple[str, str]] = []
    other = str(tiny_folder) + "/."  # the same folder under another name

    def replier(model: str, *_: Any) -> Replier:
        loaded.append(model)

        def write(asked: Asked) -> list[str]:
            if len(written) == 3:
                raise KeyboardInterrupt
            written.append((model, asked.turns[0]))
            return [f"{turn} {len(model)}" for turn in asked.turns]

        return write

    monkeypatch.setattr(answers, "local_replier", replier)
    out, models = tmp_path / "arena", [str(tiny_folder), other]
    with pytest.raises(KeyboardInterrupt):
        sample_answers(prompts, models, out, FEW)
    assert loaded == models
    assert written == [(models[0], "One?"), (models[0], "Two?"), (other, "One?")]
    with pytest.raises(DataError, match="lacks 1 of 2 answers"):
        read_arena(out)
    written.clear()
    loaded.clear()
    sample_answers(prompts, models, out, FEW)
    assert (loaded, written) == ([other], [(other, "Two?")])
    assert len(read_arena(out).entries) == 2
    sample_answers(prompts, [answer_file(tmp_path / "file.jsonl", "fir")], out, FEW)
    assert list(read_arena(out).entries) == [*models, "fir"]


def test_mistakes_are_named(tmp_path: Path, prompts: str) -> None:
    fir, elm = (answer_file(tmp_path / f"{name}.jsonl", name) for name in ("fir", "elm"))
    again = answer_file(tmp_path / "again.jsonl", "fir")
    with pytest.raises(DataError, match="two models are called fir"):
        sample_answers(prompts, [fir, again], tmp_path / "a", FEW)
    with pytest.raises(DataError, match="has no answer to the prompt 'en-01'"):
        sample_answers("builtin", [fir, elm], tmp_path / "b", FEW)
    sample_answers(prompts, [fir, elm], tmp_path / "c", FEW)
    with pytest.raises(RunError, match=r"was begun with temperature = 0\.7"):
        sample_answers(prompts, [fir], tmp_path / "c", Replying(0.0, 4))
    with pytest.raises(RunError, match="was begun with prompts_sha256"):
        sample_answers("builtin", [fir], tmp_path / "c", FEW)
    with pytest.raises(RunError, match="holds something else"):
        sample_answers(prompts, [fir], tmp_path, FEW)
    judge = tmp_path / "judge.yaml"
    judge.write_text("model: elm", encoding="utf-8")
    with pytest.raises(DataError, match="describes no endpoint"):
        sample_answers(prompts, [str(judge)], tmp_path / "d", FEW)


def test_an_arena_of_free_chats_takes_answers(tmp_path: Path, prompts: str) -> None:
    """`palmette arena serve --chat` begins with a folder of no models, and keeps votes there."""
    out = tmp_path / "arena"
    out.mkdir()
    write_entries(out, [])
    (out / VOTES).write_bytes(b"votes")
    given = [answer_file(tmp_path / f"{model}.jsonl", model) for model in ("fir", "elm")]
    sample_answers(prompts, given, out, FEW)
    assert list(read_arena(out).entries) == ["fir", "elm"]
    assert (out / VOTES).read_bytes() == b"votes"


def test_two_prompts_of_one_text_keep_the_answers_of_each(tmp_path: Path) -> None:
    prompts = tmp_path / "same.jsonl"
    prompts.write_text('{"id": "a", "prompt": "One?"}\n{"id": "b", "prompt": "One?"}\n', encoding="utf-8")
    given = [answer_file(tmp_path / f"{model}.jsonl", model) for model in ("fir", "elm")]
    sample_answers(str(prompts), given, tmp_path / "arena", FEW)
    replies = read_arena(tmp_path / "arena").replies["fir"]
    assert replies == {"a": ("First.",), "b": ("Second.",)}


def test_an_answer_that_cannot_be_encoded_is_named(tmp_path: Path, prompts: str) -> None:
    source = answer_file(tmp_path / "file.jsonl", "fir")
    Path(source).write_text(Path(source).read_text(encoding="utf-8").replace("Third.", "\\ud800"), encoding="utf-8")
    with pytest.raises(DataError, match=r"half a surrogate pair"):
        sample_answers(prompts, [source], tmp_path / "arena", FEW)
