"""Tasks that a writer thinks up: seeds, how its lists and solutions are read, filters, and the resumable command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palmette.corpus.words import words_of
from palmette.data.chat import read_chat
from palmette.errors import DataError
from palmette.synth.instruct.faults import fault_of_task, faults_of_instances
from palmette.synth.instruct.rouge import rouge_l
from palmette.synth.instruct.seeds import Instance, read_seeds
from palmette.synth.instruct.self_instruct import SelfInstruct
from palmette.synth.instruct.settings import MOST_ALIKE
from palmette.synth.instruct.text import read_instances, read_kind, read_list
from palmette.synth.writers import Written
from tests.support.chat_server import Act, ChatServer, fails, says
from tests.support.command import palmette

# ---- seeds


def test_our_own_seeds_pass_their_own_filters() -> None:
    """Sixty, a third of them with labels, none too much like another, and each with a sound solution."""
    tasks = read_seeds().tasks
    assert len(tasks) == 60
    assert sum(task.classification for task in tasks) == 20
    for index, task in enumerate(tasks):
        assert fault_of_task(task.instruction) == "", task.id
        found = faults_of_instances(task.instances, classification=task.classification, last_cut=False)
        assert not any(found), task.id
        words = words_of(task.instruction)
        assert max([rouge_l(words, words_of(other.instruction)) for other in tasks[:index]] or [0]) <= MOST_ALIKE


SEED = {
    "id": "a",
    "name": "n",
    "instruction": "Say it.",
    "instances": [{"input": "", "output": "It."}],
    "is_classification": False,
}


def seed_file(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "seeds.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def nine(**changes: Any) -> list[dict[str, Any]]:
    """Nine good tasks, three of them with labels, of which the last one is changed."""
    rows = [{**SEED, "id": f"t{n}", "is_classification": n < 3} for n in range(9)]
    return [*rows[:-1], {**rows[-1], **changes}]


def test_seeds_of_a_file_in_the_format_of_the_original(tmp_path: Path) -> None:
    columns = {"input": ["x", "y"], "output": ["1", "2"]}  # as the hub gives a list of objects
    seeds = read_seeds(seed_file(tmp_path, nine(instances=columns)))
    assert [task.id for task in seeds.tasks] == [f"t{n}" for n in range(9)]
    assert seeds.tasks[-1].instances == (Instance("x", "1"), Instance("y", "2"))
    assert seeds.describe()["tasks"] == 9


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (nine(is_classification=None), "row 9: 'is_classification' is null"),
        (nine(instances=[]), r"row 9: 'instances' is \[\]"),
        (nine(instances=["x"]), "row 9: an instance is 'x'"),
        (nine(instances=[{"input": "x", "output": " "}]), "row 9: an instance has an empty 'output'"),
        (nine(instances=[{"input": 1, "output": "x"}]), "row 9: 'input' is 1, not a text"),
        (nine(instruction=""), "row 9: 'instruction' is empty"),
        (nine(id="t0"), "two tasks with the id 't0'"),
        (nine()[:7], "has 7 tasks, 3 of them with labels"),
        (nine()[2:], "has 7 tasks, 1 of them with labels"),
    ],
)
def test_seeds_that_are_none(rows: list[dict[str, Any]], told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        read_seeds(seed_file(tmp_path, rows))


# ---- reading what was written


@pytest.mark.parametrize(
    ("text", "finish", "tasks", "cut"),
    [
        ("9. Name a river.\n10) Say why\nit is long.", "end", ["Name a river.", "Say why it is long."], False),
        ("Sure:\n**9.** Name a river.\n**10. Say why.**", "end", ["Name a river.", "Say why."], False),
        ("Task 9: 9. Name a river.\nTask 10: **10.** Say why.", "end", ["Name a river.", "Say why."], False),
        ("Task 9: **Rivers.** Name one.\n- 10. Say 2**3.", "length", ["Rivers. Name one.", "Say 2**3."], True),
        ("<think>\n1. No\n</think>\n9. Yes, this one.", "end", ["Yes, this one."], False),
        ("1. No\n</think>\n9. Yes, this one.", "end", ["Yes, this one."], False),
        ("<think>\n1. No\n2. Nor this", "length", [], False),
        ("I cannot think of any.", "length", [], False),
    ],
)
def test_a_list_is_read(text: str, finish: str, tasks: list[str], cut: bool) -> None:
    assert read_list(Written(text, finish, None)) == (tasks, cut)


@pytest.mark.parametrize(
    ("text", "finish", "kind"),
    [("Yes.", "end", True), ("**no**, it is", "end", False), ("Nobody knows", "end", None), ("Yes", "failed", None)],
)
def test_whether_a_task_has_labels(text: str, finish: str, kind: bool | None) -> None:
    assert read_kind(Written(text, finish, None)) is kind


@pytest.mark.parametrize(
    ("text", "labels", "found"),
    [
        ("Input: 4 + 5\nOutput: 9", False, [("4 + 5", "9")]),
        ("Input: none\nOutput: First\n1. stir\n2", False, [("", "First\n1. stir\n2")]),
        ("Output: Because.", False, [("", "Because.")]),
        ("**Input:** <noinput>\n**Output:**\nA line.\n\nAnother.", False, [("", "A line.\n\nAnother.")]),
        ("Class label: even\nInput: 4\n\nExample 2:\nLabel: odd", True, [("4", "even"), ("", "odd")]),
        ("1. Label: A\n   Input: x\n---\n2. Label: B\n   Input: y", True, [("x", "A"), ("y", "B")]),
        ("No idea.", True, []),
    ],
)
def test_inputs_and_outputs_are_read(text: str, labels: bool, found: list[tuple[str, str]]) -> None:
    instances, cut = read_instances(Written(text, "end", None), labels)
    assert [(one.input, one.output) for one in instances] == found
    assert not cut
    assert read_instances(Written(text, "length", None), labels)[1] == bool(found)


# ---- filters


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("Name three rivers.", "too short"),
        ("Name " + "old " * 150 + "rivers.", "too long"),
        ("Name " + "old " * 148 + "rivers.", ""),
        ("Describe the Picture in one line.", "not a task of text"),
        ("Tell me where to go to eat.", "not a task of text"),
        ("Map each word to its opposite.", ""),
        ("Write a program that sorts names.", "a program"),
        ("- Name three long rivers.", "begins with a mark"),
        ("Назови три длинные реки Азии.", ""),
    ],
)
def test_a_task_is_dropped_for_one_reason(task: str, reason: str) -> None:
    assert fault_of_task(task) == reason


def test_inputs_and_outputs_are_dropped_for_one_reason_each() -> None:
    pairs = [("a", "1"), ("b", ""), ("c", "The list:"), ("d:", "1"), ("e", "e"), ("a", "1"), ("", "2"), ("f", "3")]
    instances = [Instance(*pair) for pair in pairs]
    told = ["", "no output", "ends with a colon", "ends with a colon", "repeats the input", "repeated"]
    assert faults_of_instances(instances, classification=True, last_cut=True) == [*told, "no input", "cut off"]
    assert faults_of_instances(instances, classification=False, last_cut=False) == [*told, "", ""]
    several = [*instances, Instance("f", "4")]
    told = [one or "two outputs" for one in told]
    assert faults_of_instances(several, classification=False, last_cut=False) == [*told, *["two outputs"] * 3]


# ---- the command, with a server as the writer

RIVERS = "Name three rivers that flow through more than one country."
REVIEW = "Decide whether the review below is positive or negative."
LOCK = "Explain how a canal lock lifts a boat from one level to the next."
CAFE = "Suggest a name for a café on a bridge."
FIRST = [
    RIVERS,
    REVIEW,
    "Draw a picture of your garden.",
    "Name three rivers that flow through more than one land.",
    "Too short task",
    "Convert the length to metres and show every step.",
    "Write a program that sorts names.",
    LOCK,
    CAFE,
]
SECOND = [
    "Sum up the letter in two lines.",
    "Which of these towns lies farthest north?",
    "Turn the recipe into a shopping list for six people.",
    "Tell a joke about an umbrella that has been lost.",
]
SOLUTIONS = {
    REVIEW: "Label: positive\nInput: I would come again.\nLabel: negative\nInput: Never again.\nLabel: mixed\nInput:",
    CAFE: "Input: none\nOutput:",
}


def server_says(request: dict[str, Any]) -> Act:
    asked = request["messages"][-1]["content"]
    if asked.startswith("Think of"):
        items = SECOND if any(one in asked for one in (RIVERS, REVIEW)) else FIRST
        return says("\n".join(f"{number}. {text}" for number, text in enumerate(items, start=9)))
    task = asked.partition("Task: ")[2].partition("\n")[0]
    if "few fixed labels" in asked:
        return says({REVIEW: "Yes", LOCK: "Perhaps"}.get(task, "No"))
    assert ("Label: ..." in asked) == (task == REVIEW)
    return says(SOLUTIONS.get(task, f"Input: about {task[:9]}\nOutput: done"))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(server_says) as started:
        yield started


def command(server: ChatServer, folder: Path, *words: Any) -> tuple[Any, ...]:
    base = ("synth", "instruct", "--endpoint", server.url, "--model-name", "m", "--number", 5)
    return (*base, "--out", folder / "made.jsonl", *words)


def test_tasks_are_made_read_back_and_reported(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the first list two tasks are kept, so three of the second are enough, and the fourth is not looked at."""
    assert palmette(monkeypatch, *command(server, tmp_path, "--licence", "CC0", "--price-in", 1)) == 0
    told = capsys.readouterr()
    assert "5 of 12 tasks are kept, 1 of them with labels" in told.out
    assert "Cost: " in told.err
    rows = [json.loads(line) for line in (tmp_path / "made.jsonl").read_text().splitlines()]
    chat = read_chat(str(tmp_path / "made.jsonl"))
    asked = [["".join(part.text for part in turn.parts) for turn in one.turns] for one in chat.conversations]
    assert asked[:3] == [
        [f"{RIVERS}\n\nabout Name thre", "done"],
        [f"{REVIEW}\n\nI would come again.", "positive"],
        [f"{REVIEW}\n\nNever again.", "negative"],
    ]
    assert [row["classification"] for row in rows] == [False, True, True, False, False, False]
    report = json.loads((tmp_path / "made.jsonl.report.json").read_text())
    assert (report["rounds"], report["listed"], report["kept"], report["conversations"]) == (2, 12, 5, 6)
    assert report["licences"] == {"writer": "CC0", "sources": {"builtin": "apache-2.0"}}
    assert report["writer"]["endpoint"] == server.url
    assert report["sources"][0]["source"] == "builtin"
    requests = len(server.asked)  # each of 11 tokens with a reply of 7
    assert report["after"] == {
        "tokens_read": 11 * requests,
        "tokens_written": 7 * requests,
        "cost": pytest.approx(11 * requests / 1e6),
    }
    assert report["before"]["requests"] == 11  # a list of ten tasks, and two for each of five
    assert report["before"]["most_tokens_written"] == 11 * 1024
    page = (tmp_path / "made.jsonl.html").read_text()
    assert "I would come again." in page
    assert "Draw a picture of your garden." in page
    assert server.asked[0]["temperature"] == 0.7
    numbers = {reason: about["number"] for reason, about in report["dropped"]["tasks"].items()}
    assert numbers == {
        "not a task of text": 1,
        "alike": 2,
        "too short": 1,
        "a program": 1,
        "kind unclear": 1,
        "nothing to learn": 1,
    }
    likes = [one["like"] for one in report["dropped"]["tasks"]["alike"]["examples"]]
    assert likes == ["round 1/1", "seed-02"]
    assert set(report["dropped"]["instances"]) == {"no input", "no output"}
    stories = [json.loads(line) for line in (tmp_path / "made.jsonl.tasks.jsonl").read_text().splitlines()]
    assert [one["instruction"] for one in stories] == [*FIRST, *SECOND[:3]]
    assert not (tmp_path / "made.jsonl.work").exists()
    assert palmette(monkeypatch, *command(server, tmp_path)) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_prompt_shows_six_seeds_and_two_tasks_that_were_made(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert palmette(monkeypatch, *command(server, tmp_path, "--concurrency", 1)) == 0
    first, second = (one for one in server.prompts() if one.startswith("Think of"))
    seeds = {task.instruction for task in read_seeds().tasks}
    shown = [[line.partition(". ")[2] for line in text.splitlines() if line[:1].isdigit()] for text in (first, second)]
    assert [len(one) for one in shown] == [8, 8]
    assert set(shown[0]) <= seeds
    assert set(shown[1]) - seeds == {RIVERS, REVIEW}
    for request in server.asked:
        if "few fixed labels" in request["messages"][-1]["content"]:
            said = [one["content"] for one in request["messages"] if one["role"] == "assistant"]
            assert sorted(said) == ["No", "No", "Yes", "Yes"]


def test_a_job_that_was_stopped_continues(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert palmette(monkeypatch, *command(server, tmp_path)) == 0
    whole = (tmp_path / "made.jsonl").read_bytes()
    (tmp_path / "made.jsonl").unlink()
    made = SelfInstruct.__call__

    def stopped(self: SelfInstruct, name: str, *rest: Any) -> Any:
        if name == "round 2":
            raise KeyboardInterrupt
        return made(self, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(SelfInstruct, "__call__", stopped)
        assert palmette(patch, *command(server, tmp_path, "--cache", tmp_path / "other")) == 130
    assert not (tmp_path / "made.jsonl").exists()
    assert palmette(monkeypatch, *command(server, tmp_path, "--max-alike", 0.5)) == 2
    assert "was begun with settings.max_alike" in capsys.readouterr().err
    server.asked.clear()
    assert palmette(monkeypatch, *command(server, tmp_path, "--cache", tmp_path / "third")) == 0
    lists = [one for one in server.prompts() if one.startswith("Think of")]
    assert len(lists) == 1
    assert (tmp_path / "made.jsonl").read_bytes() == whole


def test_what_stands_in_an_evaluation_set_is_dropped(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "eval.jsonl").write_text(json.dumps({"instruction": "Please name three " + RIVERS[11:]}) + "\n")
    assert palmette(monkeypatch, *command(server, tmp_path, "--against", tmp_path / "eval.jsonl")) == 0
    report = json.loads((tmp_path / "made.jsonl.report.json").read_text())
    assert report["dropped"]["tasks"]["in an evaluation set"]["examples"][0]["instruction"] == RIVERS
    assert RIVERS not in (tmp_path / "made.jsonl").read_text()


@pytest.mark.parametrize(("act", "reason"), [(says("None come to mind."), "no list"), (fails(400), "failed")])
def test_where_nothing_is_kept_the_report_says_why(
    act: Act, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five rounds without a task are the end of it."""
    with ChatServer(lambda _: act) as server:
        assert palmette(monkeypatch, *command(server, tmp_path)) == 2
    assert "no task was kept" in capsys.readouterr().err
    report = json.loads((tmp_path / "made.jsonl.report.json").read_text())
    assert report["rounds"] == report["dropped"]["lists"][reason]["number"] == 5
    assert not (tmp_path / "made.jsonl").exists()


def test_a_local_model_writes(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has learned nothing, so it lists nothing."""
    words = ("synth", "instruct", "--writer", tiny_folder, "--number", 1, "--max-new-tokens", 4, "--seed", 3)
    assert palmette(monkeypatch, *words, "--out", tmp_path / "made.jsonl") == 2
    assert "no task was kept" in capsys.readouterr().err
    report = json.loads((tmp_path / "made.jsonl.report.json").read_text())
    assert report["writer"]["model"] == str(tiny_folder)
    assert (report["writer"]["seed"], report["writer"]["temperature"]) == (3, 0.7)
    assert 5 <= report["after"]["tokens_written"] <= 5 * 4
    assert report["after"]["cost"] is None


def test_fewer_than_were_asked_for_are_written_and_said(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two lists hold six tasks in all, and are given again and again."""
    assert palmette(monkeypatch, *command(server, tmp_path, "--number", 9)) == 0
    told = capsys.readouterr().out
    assert "6 of" in told
    assert "9 were asked for, but the last rounds gave none" in told
