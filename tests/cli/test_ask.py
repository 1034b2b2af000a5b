"""`palmette ask` on a tiny model: its document, its default model, and mistakes that cost no time."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tests.support.command import palmette

FERRY = "Page one: 17:40 is no hour.\x0c[red]Ferries[/red] leave\nat 7:40 from pier 3. :100:"


def test_answers_are_those_of_a_document_on_standard_input(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The ferry leaves at 7:40.")))
    words = ["ask", "-", "When does it leave?", "From where?", "--model", run_folder, "--json"]
    assert palmette(monkeypatch, *words) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["question"] for record in records] == ["When does it leave?", "From where?"]
    for record in records:
        assert 0.0 <= record["no_answer_probability"] <= 1.0
        assert record["certified"] in (True, False)
        assert (record["answer"] is None) == (record["start"] is None) == (record["place"] is None)
        assert record["answer"] is None or record["probability"] > record["no_answer_probability"]


def ask_with_completion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, completion: str, *words: str
) -> str:
    """What `ask` prints where the model completions so."""
    monkeypatch.setattr("palmette.decode.greedy.GreedyDecoder.completions", lambda *_: [(0, completion)])
    (folder / "ferry.txt").write_bytes(FERRY.encode())
    run = ["ask", str(folder / "ferry.txt"), "When [bold]exactly[/bold]?", "--model", str(folder / "run")]
    assert palmette(monkeypatch, *run, "--decoder", "greedy", *words) == 0
    return capsys.readouterr().out


def test_an_answer_is_shown_in_its_place(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Markup, emoji codes and control characters of a document are text, and do not shift the mark."""
    shown = ask_with_completion(monkeypatch, capsys, run_folder.parent, '{"answer": "7:40"}')
    assert shown.splitlines() == [
        "7:40",
        "line 2",
        "",
        "1  Page one: 17:40 is no hour. [red]Ferries[/red] leave",
        "2  at »7:40« from pier 3. :100:",
    ]
    record = json.loads(ask_with_completion(monkeypatch, capsys, run_folder.parent, '{"answer": "7:40"}', "--json"))
    assert (record["answer"], record["valid_json"], record["place"]) == ("7:40", True, {"line": 2})
    assert FERRY[record["start"] : record["end"]] == "7:40"
    assert record["start"] > FERRY.index("17:40") + 5


def test_what_is_wrong_with_a_completion_is_said(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for completion, words in (
        ('{"answer": "?"}', "not in the document"),
        ('{"answer": "8:15"}', "these words are not in the document"),
        ("At 7:40.", "did not answer in the format asked for: At 7:40."),
    ):
        assert words in ask_with_completion(monkeypatch, capsys, run_folder.parent, completion)


def test_the_reader_answers_by_default_and_the_newest_run_is_named(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(run_folder)
    (tmp_path / "ferry.txt").write_text(FERRY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("palmette.inference.choice.finished_runs", lambda _: iter([(1.0, Path("runs/mine"))]))
    monkeypatch.setattr("palmette.inference.choice.READER", str(run_folder))  # which is small
    assert palmette(monkeypatch, "ask", "ferry.txt", "When?", "--json") == 0
    shown = capsys.readouterr().err
    assert "Using the reader that comes with palmette. For your newest run, give --model runs/mine." in shown


def test_mistakes_cost_no_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each is one line before any model is loaded or even looked for."""

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("palmette.inference.answerer.load_answerer", loaded)
    monkeypatch.setattr("palmette.inference.choice.choose_model", loaded)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The ferry leaves at 7:40.")))
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "ferry.txt").write_text(FERRY)
    ferry = tmp_path / "ferry.txt"
    cases: list[tuple[list[str | Path], str]] = [
        ([tmp_path / "none.txt", "Q?"], "there is no document"),
        ([tmp_path / "empty.txt", "Q?"], "is empty"),
        ([ferry, "When?", " "], "question 2 is empty. Write the question between quotes."),
        ([ferry, "a\udc80"], "question 1 has half a surrogate pair"),
        ([ferry], "there is no question, and standard input is no terminal to ask for one"),
        ([ferry, "--json"], "there is no question, and --json was given"),
        (["-"], "there is no question, and standard input is the document"),
        (["--document", ferry, "When?"], f'Write: palmette ask {ferry} "QUESTION"'),
    ]
    for words, message in cases:
        assert palmette(monkeypatch, "ask", *words) == 2, words
        shown = capsys.readouterr().err.strip()
        assert shown.startswith("error: "), shown
        assert message in shown
        assert "\n" not in shown
