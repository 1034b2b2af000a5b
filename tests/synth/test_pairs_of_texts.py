"""Questions and answers that a writer finds in texts: the places of answers, filters, and the resumable command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palmette.data.chat import read_chat
from palmette.synth.instruct import pairs
from palmette.synth.instruct.pairs import place_of
from tests.support.chat_server import Act, ChatServer, fails, says
from tests.support.command import palmette

FERRY = (
    "The ferry to Gull Rock leaves at 7:40 from the old pier. Ada Byrne steers it each day of the year, and she has "
    "done so since 4 May\n1906. The passengers pay $3.50 to her."
)
MILL = (
    "The mill in Whitby grinds oats for the ferry and its passengers, and it leaves nothing for the gulls. The miller, "
    "Ben Cole, keeps the old pier of the harbour free of stones all through the year."
)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("Ada Byrne", "Ada Byrne"),
        ("“Ada Byrne.”", "Ada Byrne"),
        ("4 May 1906", "4 May\n1906"),
        ("to her.", "to her."),
        ("$3.50", "$3.50"),
        ("ada byrne", None),
        ("Ada Byrnes", None),
        ("7:4", None),
        ("3.50 to", "3.50 to"),
        ("Byrne steers the ferry", None),
        ("", None),
        ("\u201d.", None),
    ],
)
def test_an_answer_stands_in_the_passage_or_not(answer: str, words: str | None) -> None:
    place = place_of(answer, FERRY)
    assert (place and FERRY[slice(*place)]) == words


SAID = {
    FERRY: [
        ("Who steers the ferry to Gull Rock?", "Ada Byrne."),
        ("Who steers this ferry to Gull Rock?", "Ada Byrne"),
        ("Since when has Ada Byrne steered the ferry?", "4 May 1906"),
        ("When does it go?", "at 8:40"),
        ("Does the ferry leave at 7:40 each day?", "7:40"),
        ("Who pays?", "The passengers"),
        ("What do the passengers pay?", ""),
    ],
    MILL: [("Who is the miller of Whitby?", "Ben Cole"), ("What does the mill in Whitby grind?", "oats")],
}


def server_says(request: dict[str, Any]) -> Act:
    asked = request["messages"][-1]["content"]
    passage = asked.partition("\n\n")[0]
    text = "\n\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in SAID[passage])
    return says(text, "length" if passage == MILL else "stop")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(server_says) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text(FERRY)
    (tmp_path / "docs" / "b.txt").write_text(MILL)
    return tmp_path


def command(server: ChatServer, folder: Path, *words: Any) -> tuple[Any, ...]:
    base = ("synth", "from-text", folder / "docs", "--endpoint", server.url, "--model-name", "m")
    return (*base, "--out", folder / "found.jsonl", *words)


def test_questions_are_found_read_back_and_reported(
    server: ChatServer, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert palmette(monkeypatch, *command(server, folder, "--licence", "CC0")) == 0
    assert "3 of 9 questions are kept, about 2 of 2 passages" in capsys.readouterr().out
    rows = [json.loads(line) for line in (folder / "found.jsonl").read_text().splitlines()]
    assert [row["messages"][1]["content"] for row in rows] == ["Ada Byrne", "4 May\n1906", "Ben Cole"]
    assert rows[0]["messages"][0]["content"] == f"{FERRY}\n\nWho steers the ferry to Gull Rock?"
    for row in rows:
        place = row["place"]
        document = (folder / "docs" / Path(place["document"]).name).read_text()
        assert document[place["start"] : place["end"]] == row["messages"][1]["content"]
    assert read_chat(str(folder / "found.jsonl")).num_turns == 3
    report = json.loads((folder / "found.jsonl.report.json").read_text())
    numbers = {reason: about["number"] for reason, about in report["dropped"]["pairs"].items()}
    assert numbers == dict.fromkeys(
        ["alike", "not in the text", "holds the answer", "too short", "no answer", "cut off"], 1
    )
    assert (report["licence"], report["tokens_written"]) == ("CC0", 14)
    stories = [json.loads(line) for line in (folder / "found.jsonl.tasks.jsonl").read_text().splitlines()]
    assert [(one["question"], one["reason"] == "") for one in stories if one["answer"] == "oats"] == [
        ("What does the mill in Whitby grind?", False)
    ]
    assert not (folder / "found.jsonl.work").exists()


def test_places_count_from_the_beginning_of_the_document(
    server: ChatServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both texts as one document of two passages."""
    (folder / "docs" / "b.txt").unlink()
    (folder / "docs" / "a.txt").write_text(f"{FERRY}\n\n{MILL}")
    assert palmette(monkeypatch, *command(server, folder, "--passage-words", 50)) == 0
    rows = [json.loads(line) for line in (folder / "found.jsonl").read_text().splitlines()]
    (miller,) = [row["place"] for row in rows if row["messages"][1]["content"] == "Ben Cole"]
    assert f"{FERRY}\n\n{MILL}"[miller["start"] : miller["end"]] == "Ben Cole"
    assert miller["start"] > len(FERRY)


def test_a_job_that_was_stopped_continues(
    server: ChatServer, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pairs, "_GROUP", 1)
    assert palmette(monkeypatch, *command(server, folder)) == 0
    whole = (folder / "found.jsonl").read_bytes()
    (folder / "found.jsonl").unlink()
    lines = pairs._lines

    def stopped(passages: Any, *rest: Any) -> Iterator[Any]:
        if passages[0].text == MILL:
            raise KeyboardInterrupt
        yield from lines(passages, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(pairs, "_lines", stopped)
        assert palmette(patch, *command(server, folder, "--cache", folder / "other")) == 130
    assert not (folder / "found.jsonl").exists()
    assert palmette(monkeypatch, *command(server, folder, "--pairs", 2)) == 2
    assert "was begun with settings.pairs" in capsys.readouterr().err
    server.asked.clear()
    assert palmette(monkeypatch, *command(server, folder, "--cache", folder / "third")) == 0
    assert [prompt.partition("\n\n")[0] for prompt in server.prompts()] == [MILL]
    assert (folder / "found.jsonl").read_bytes() == whole


@pytest.mark.parametrize(("act", "reason"), [(says("Nothing to ask."), "no pairs"), (fails(400), "failed")])
def test_where_nothing_is_kept_the_report_says_why(
    act: Act, reason: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(lambda _: act) as server:
        assert palmette(monkeypatch, *command(server, folder)) == 2
    assert "nothing was kept" in capsys.readouterr().err
    report = json.loads((folder / "found.jsonl.report.json").read_text())
    assert report["dropped"]["texts"][reason]["number"] == 2


def test_what_stands_in_an_evaluation_set_is_dropped(
    server: ChatServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "eval.jsonl").write_text(json.dumps({"prompt": "Since when has Ada Byrne steered the ferry?"}) + "\n")
    assert palmette(monkeypatch, *command(server, folder, "--against", folder / "eval.jsonl")) == 0
    report = json.loads((folder / "found.jsonl.report.json").read_text())
    assert report["dropped"]["pairs"]["in an evaluation set"]["number"] == 1
