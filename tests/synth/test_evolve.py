"""Tasks that are evolved: how what was written is read, why it is dropped, and the steps of the resumable command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palmette.data.chat import read_chat
from palmette.synth.instruct.evolve import Evolution, text_of
from palmette.synth.instruct.evolve_text import WAYS, draw_way, evolve_request, fault_of_evolved, read_evolved
from palmette.synth.instruct.faults import fault_of_matter, fault_of_reply
from palmette.synth.writers import Written
from tests.support.chat_server import Act, ChatServer, says
from tests.support.command import palmette

TASK = "Name three rivers that flow through more than one country."


@pytest.mark.parametrize(
    ("text", "task"),
    [
        (f"  {TASK}\n", TASK),
        (f"Rewritten task: {TASK}", TASK),
        (f"**New task:**\n{TASK}", TASK),
        (f"Here is the rewritten task that you asked for:\n\u201c{TASK}\u201d", TASK),
        (f"<think>Harder?</think>{TASK}", TASK),
        ("**Task**: Name a river.", "Name a river."),
        ("Tasks of a judge: name five of them.", "Tasks of a judge: name five of them."),
        ("The task of a judge is hard: say why.", "The task of a judge is hard: say why."),
        ('"Yes" is shorter than "maybe"', '"Yes" is shorter than "maybe"'),
        ('"', '"'),
        ("Plan a walk:\n- along the river\n- past the mill", "Plan a walk:\n- along the river\n- past the mill"),
    ],
)
def test_the_evolved_task_is_read_out_of_what_was_written(text: str, task: str) -> None:
    assert read_evolved(Written(text, "end", None)) == task


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{TASK} Give the length of each in kilometres.", ""),
        ("Sort the rivers below by length:", "ends with a colon"),
        ("Answer the given prompt about rivers in two lines.", "speaks of the request"),
        (TASK.upper(), "unchanged"),
        (TASK + " and more" * 75, ""),
        (TASK + " and more" * 76, "too long"),
    ],
)
def test_an_evolution_is_dropped_for_its_words(text: str, reason: str) -> None:
    """150 words more are allowed: 75 times two."""
    assert fault_of_evolved(text, TASK) == reason


def test_words_that_the_task_had_before_are_none_of_the_request() -> None:
    assert (
        fault_of_evolved("Say in two lines what the first task of a nurse is.", "What is the first task of one?") == ""
    )
    assert fault_of_evolved("Say what the first task of a nurse is.", "What does one do?") == "speaks of the request"


def test_the_length_of_a_task_with_its_input_is_no_fault() -> None:
    assert fault_of_matter("Sum up. " + "word " * 400) == ""
    assert [fault_of_matter(one) for one in ("Sum it up.", "- Sum all of it up.", "Draw a picture of the river.")] == [
        "too short",
        "begins with a mark",
        "not a task of text",
    ]


@pytest.mark.parametrize(
    ("reply", "finish", "reason"),
    [
        ("The Rhine, the Danube and the Congo.", "end", ""),
        ("42", "end", ""),
        ("I am sorry, but I cannot do that.", "end", "apologises"),
        ("I am sorry that it took so long. " + "river " * 80, "end", ""),
        ("It is what it is.", "end", "says nothing"),
        ("...", "end", "says nothing"),
        ("", "end", "no output"),
        ("The rivers are:", "end", "ends with a colon"),
        (TASK, "end", "repeats the input"),
        ("The Rhine, the", "length", "cut off"),
        ("no such model", "failed", "failed"),
    ],
)
def test_replies_are_dropped_for_one_reason(reply: str, finish: str, reason: str) -> None:
    assert fault_of_reply(TASK, reply, Written(reply, finish, None)) == reason


def test_every_way_is_drawn_and_asked_for_in_its_own_words() -> None:
    assert {draw_way(str(number)) for number in range(100)} == set(WAYS)
    asked = {evolve_request(TASK, way)[0][1] for way in WAYS}
    assert len(asked) == len(WAYS)
    assert all(TASK in one for one in asked)


def test_a_task_with_its_input_is_one_text() -> None:
    instances = [{"input": "a", "reason": "cut off"}, {"input": "b c", "reason": ""}]
    assert text_of({"instruction": "Sort:", "instances": instances}) == "Sort:\n\nb c"
    assert text_of({"instruction": "Sort.", "instances": [{"input": "", "reason": ""}]}) == "Sort."


# ---- the command, with a server as the writer

TASKS = [TASK, "Suggest a name for a café on a bridge.", "Tell a joke about an umbrella that has been lost."]
EVOLVED = {
    TASK: TASK + " Sort them by length.",
    TASK + " Sort them by length.": TASK + " Sort them by length, and say which seas they reach.",
    TASKS[1]: "Find a name for the café of the given task.",
    TASKS[2]: "Tell a joke about an umbrella that was lost twice.",
}


def server_says(request: dict[str, Any]) -> Act:
    asked = request["messages"][-1]["content"]
    if asked.startswith("Think of"):
        return says("\n".join(f"{number}. {text}" for number, text in enumerate(TASKS, start=9)))
    if asked.startswith("First task"):
        return says("Yes, both do." if "umbrella" in asked else "No")
    task = asked.partition("Task: ")[2].partition("\n")[0]
    if "few fixed labels" in asked:
        return says("No")
    if "Input: ..." in asked:
        return says("Input: none\nOutput: done")
    return says(EVOLVED[task] if task else f"Here you are, with {len(asked)} letters.")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(server_says) as started:
        yield started


def command(server: ChatServer, folder: Path, *words: Any) -> tuple[Any, ...]:
    base = ("synth", "instruct", "--endpoint", server.url, "--model-name", "m", "--number", 3, "--evolve", 2)
    return (*base, "--out", folder / "made.jsonl", *words)


def test_each_step_goes_on_from_what_was_kept(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three tasks one evolves twice, one shows the words of the request, and one asks for the same as before.

    The last two are tried again from where they were.
    """
    assert palmette(monkeypatch, *command(server, tmp_path)) == 0
    assert "3 of 3 tasks are kept, and 2 of 6 evolutions" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "made.jsonl").read_text().splitlines()]
    first, second = (row for row in rows if "evolved_from" in row)
    assert first["messages"][0]["content"] == EVOLVED[TASK]
    assert second["messages"][0]["content"] == EVOLVED[EVOLVED[TASK]]
    assert (first["evolved_from"], second["evolved_from"]) == ("round 1/1", first["id"])
    assert first["messages"][1]["content"].startswith("Here you are")
    assert read_chat(str(tmp_path / "made.jsonl")).num_turns == 5
    report = json.loads((tmp_path / "made.jsonl.report.json").read_text())
    numbers = {reason: about["number"] for reason, about in report["dropped"]["evolutions"].items()}
    assert numbers == {"speaks of the request": 2, "nothing gained": 2}
    assert (report["evolutions"], report["kept_evolutions"], report["conversations"]) == (6, 2, 5)
    assert sum(report["kept_by_way"].values()) == 2
    assert "speaks of the request: 2" in (tmp_path / "made.jsonl.html").read_text()


def test_a_job_that_was_stopped_between_steps_continues(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert palmette(monkeypatch, *command(server, tmp_path)) == 0
    whole = (tmp_path / "made.jsonl").read_bytes()
    (tmp_path / "made.jsonl").unlink()
    step = Evolution._step

    def stopped(self: Evolution, name: str, *rest: Any) -> Any:
        if name.startswith("step 2"):
            raise KeyboardInterrupt
        return step(self, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Evolution, "_step", stopped)
        assert palmette(patch, *command(server, tmp_path, "--cache", tmp_path / "other")) == 130
    server.asked.clear()
    assert palmette(monkeypatch, *command(server, tmp_path, "--cache", tmp_path / "third")) == 0
    assert not [one for one in server.prompts() if one.startswith("Think of")]
    assert len([one for one in server.prompts() if one.startswith("Task: ")]) == 3
    assert (tmp_path / "made.jsonl").read_bytes() == whole


def test_an_evolution_is_compared_with_tasks_it_did_not_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The café's evolution is the task about rivers, in other words."""
    with ChatServer(server_says) as server:
        monkeypatch.setitem(EVOLVED, TASKS[1], TASK + " Now.")
        assert palmette(monkeypatch, *command(server, tmp_path)) == 0
    report = json.loads((tmp_path / "made.jsonl.report.json").read_text())
    assert {one["like"] for one in report["dropped"]["evolutions"]["alike"]["examples"]} == {"round 1/1"}
