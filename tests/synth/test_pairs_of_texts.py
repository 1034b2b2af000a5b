"""Questions and answers that a writer finds in texts: the places of answers, filters, and the resumable command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palmette.corpus.sources import open_source
from palmette.corpus.texts import Text
from palmette.data.chat import read_chat
from palmette.synth.instruct import pairs
from palmette.synth.instruct.pair_text import fault_of_full_reply, place_of
from palmette.synth.writers import Written
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
        ("“ 7:4 ”", None),
        ("“ 7:40 . ”", "7:40"),
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
    assert (report["licences"]["writer"], report["after"]["tokens_written"]) == ("CC0", 14)
    assert "Since when has Ada Byrne steered the ferry?" in (folder / "found.jsonl.html").read_text()
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
    lines = pairs._Finder.lines

    def stopped(self: Any, chains: Any, *rest: Any) -> Iterator[Any]:
        if chains[0][-1].text == MILL:
            raise KeyboardInterrupt
        yield from lines(self, chains, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(pairs._Finder, "lines", stopped)
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


# ---- shots, recall, refinement, and texts

LAMP = (
    "The lamp on Gull Rock was lit in 1871 by the keeper of the harbour, and it has burned each night of the year "
    "since then. Its oil comes with the ferry."
)
FAQ = (
    "Visiting the rock. Who may land on the rock? Guests of the keeper may land. When is the rock closed to guests? It "
    "is closed in May, when the gulls have young and nobody may come near."
)


@pytest.fixture
def talker() -> Iterator[ChatServer]:
    """A server that finds one question in each passage, and puts an answer into a reply."""
    found = {
        FERRY: ("Who steers the ferry to Gull Rock?", "Ada Byrne"),
        MILL: ("Who is the miller of Whitby?", "Ben Coles"),  # does not stand there
        LAMP: ("When was the lamp on Gull Rock lit?", "1871"),
        FAQ: ("Who may land on the rock?", "Guests of the keeper"),
    }

    def answers(request: dict[str, Any]) -> Act:
        asked = request["messages"][-1]["content"]
        if "Write a full reply" in asked:
            answer = asked.partition("Answer: ")[2].partition("\n")[0]
            return says(f"It is {'18' if answer == '1871' else ''}{answer}, as the text says.")
        question, answer = found[asked.partition("\n\n")[0]]
        text = f"Question: {question}\nAnswer: {answer}"
        if asked.partition("\n\n")[0] == FAQ:
            text += "\n\nQuestion: Who is the keeper of the rock?\nAnswer: Guests of the keeper may land"
        return says(text)

    with ChatServer(answers) as started:
        yield started


@pytest.fixture
def passages(folder: Path) -> Path:
    """Four documents, in this order."""
    (folder / "docs" / "c.txt").write_text(LAMP)
    (folder / "docs" / "d.txt").write_text(FAQ)
    return folder


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_earlier_passages_with_what_was_found_come_before_the_next(
    talker: ChatServer, passages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chains of three: the second passage sees the first, and the third sees the first alone, since nothing was kept
    of the second. The fourth begins a chain.
    """
    assert palmette(monkeypatch, *command(talker, passages, "--shots", 2)) == 0
    shown = {
        request["messages"][-1]["content"].partition("\n\n")[0]: [
            (asked["content"].partition("\n\n")[0], said["content"])
            for asked, said in zip(request["messages"][2:-1:2], request["messages"][3:-1:2], strict=True)
        ]
        for request in talker.asked
    }
    ferry = (FERRY, "Question: Who steers the ferry to Gull Rock?\nAnswer: Ada Byrne")
    assert shown == {FERRY: [], MILL: [ferry], LAMP: [ferry], FAQ: []}


def test_texts_with_their_questions_are_learned_as_texts(
    talker: ChatServer, passages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two chains of two. A text of which nothing was kept stays as it is."""
    assert palmette(monkeypatch, *command(talker, passages, "--shots", 1, "--form", "text")) == 0
    source = open_source(str(passages / "found.jsonl"))
    first, second = (one.text for one in source.open() if isinstance(one, Text))
    assert first.startswith(FERRY)
    assert "Who steers the ferry to Gull Rock?" in first
    assert first.endswith(f"\n\n{MILL}")
    assert second.startswith(LAMP)
    assert (
        second.index("1871", len(LAMP)) < second.index(FAQ) < second.index("Who may land on the rock?", len(LAMP) + 200)
    )


def test_only_what_a_text_asks_itself_is_recalled(
    talker: ChatServer, passages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert palmette(monkeypatch, *command(talker, passages, "--recall")) == 0
    assert [prompt.partition("\n\n")[0] for prompt in talker.prompts()] == [FAQ]
    (row,) = rows_of(passages / "found.jsonl")
    assert row["messages"][1]["content"] == "Guests of the keeper"
    report = json.loads((passages / "found.jsonl.report.json").read_text())
    assert report["dropped"]["texts"]["asks nothing"]["number"] == 3
    assert set(report["dropped"]["pairs"]) == {"not asked in the text"}
    assert report["before"]["requests"] == 1


def test_a_refined_reply_keeps_the_answer_and_its_place(
    talker: ChatServer, passages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply "181871" has neither the answer as a word nor a number of the text."""
    assert palmette(monkeypatch, *command(talker, passages, "--refine")) == 0
    ferry, guests, keeper = rows_of(passages / "found.jsonl")
    assert ferry["messages"][1]["content"] == "It is Ada Byrne, as the text says."
    assert (ferry["answer"], FERRY[ferry["place"]["start"] : ferry["place"]["end"]]) == ("Ada Byrne", "Ada Byrne")
    assert (guests["answer"], keeper["answer"]) == ("Guests of the keeper", "Guests of the keeper may land")
    report = json.loads((passages / "found.jsonl.report.json").read_text())
    assert report["dropped"]["pairs"]["reply: lost the answer"]["examples"][0]["reply"].startswith("It is 181871")
    assert report["after"]["tokens_written"] == 7 * len(talker.asked)


@pytest.mark.parametrize(
    ("reply", "finish", "reason"),
    [
        ("It leaves at 7:40.", "end", ""),
        ("It leaves at 7:40 on 365 days.", "end", "reply: adds a number"),
        ("It leaves in the morning.", "end", "reply: lost the answer"),
        ("It leaves at 17:40.", "end", "reply: lost the answer"),
        ("It leaves at 7:40 from", "length", "reply: cut off"),
        ("", "end", "reply: failed"),
        ("no such model", "failed", "reply: failed"),
    ],
)
def test_full_replies_are_dropped_for_one_reason(reply: str, finish: str, reason: str) -> None:
    assert fault_of_full_reply(reply, Written(reply, finish, None), "When does it leave?", "7:40", FERRY) == reason
