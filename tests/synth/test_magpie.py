"""Tasks that a model writes where its template lets the user speak."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from palmette.synth.instruct.magpie import Magpie
from palmette.synth.instruct.settings import InstructSettings
from palmette.synth.writers import LocalWriter, Request, Written, load_writer
from palmette.tree.chat import ChatTemplate
from tests.support.command import palmette
from tests.support.tokenizers import STYLES


@pytest.mark.parametrize("style", sorted(STYLES))
def test_the_prefix_is_what_the_template_writes_before_a_user(style: str) -> None:
    """And what ends the turn is the first thing that it writes after one. Blanks are left aside: tokens hold them."""
    tokenizer = STYLES[style]()
    turns = [{"role": "user", "content": "MARK"}, {"role": "assistant", "content": "x"}]
    before, after = tokenizer.apply_chat_template(turns, tokenize=False, date_string="26 Jul 2024").split("MARK")
    prefix, end, mark = ChatTemplate(tokenizer).open_user()
    assert tokenizer.decode(prefix).replace(" ", "") == before.replace(" ", "")
    ended = mark if end is None else tokenizer.convert_ids_to_tokens(end)
    assert ended
    assert after.strip().startswith(ended)
    assert (end is None) == (style == "llama2")


def test_what_is_drawn_depends_on_its_key_alone(tiny_folder: Path) -> None:
    writer = load_writer(str(tiny_folder), {"max_tokens": 4}, seed=5)
    together = writer.imagine([1, 2, 3], 6)
    assert [one.text for one in writer.imagine([3, 1], 6)] == [together[2].text, together[0].text]
    assert len({one.text for one in together}) == 3
    prefix = len(ChatTemplate(writer._loaded.tokenizer).open_user()[0])
    assert {one.read for one in together} == {prefix}
    assert all(one.tokens is not None and one.tokens <= 6 for one in together)


DRAWN = [
    ("What does a canal lock do, and how?", "end"),
    ("What does a canal lock do, and why?", "end"),  # 7 of 8 words are those of the first
    ("Sort these rivers by length:", "end"),
    ("Name a river that flows through", "length"),
    ("Hello there!", "end"),
    ("Say the word that ends <|turn|> a turn.", "end"),
    ("Which towns lie on the Danube today?", "end"),
    ("Which sea does the Rhine flow into?", "end"),
    ("Is this one looked at, too?", "end"),
]


class Scripted(LocalWriter):
    """A local writer that says what the script says."""

    def __init__(self) -> None:
        self.identity, self.licence = {"model": "script"}, "mit"
        self.asked: list[str] = []

    @property
    def most_tokens(self) -> int | None:
        return 9

    def imagine(self, keys: Sequence[int], most_tokens: int) -> list[Written]:
        return [Written(text, finish, 5, 3) for text, finish in DRAWN]

    def takes(self, turns: tuple[tuple[str, str], ...]) -> bool:
        return "<|turn|>" not in turns[0][1]

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Written]]:
        for index, one in enumerate(requests):
            self.asked.append(one.turns[-1][1])
            yield index, Written("I am sorry." if "Danube" in self.asked[-1] else "It lifts boats.", "end", 2, 4)


def test_what_is_drawn_is_filtered_and_replied_to() -> None:
    """It ends with the third task that is fit, so the last text is not looked at."""
    writer = Scripted()
    line = Magpie(writer, InstructSettings(3, magpie=True), lambda _: False)("round 1", [], [])
    assert [task["reason"] for task in line["tasks"]] == [
        "",
        "alike",
        "ends with a colon",
        "cut off",
        "too short",
        "not for the template",
        "nothing to learn",
        "",
    ]
    assert writer.asked == [DRAWN[0][0], DRAWN[6][0], DRAWN[7][0]]
    assert line["tasks"][0]["instances"] == [{"input": "", "output": "It lifts boats.", "reason": ""}]
    assert line["tasks"][6]["instances"][0]["reason"] == "apologises"
    assert (line["tokens"], line["tokens_read"]) == (9 * 5 + 3 * 2, 9 * 3 + 3 * 4)


def test_the_command_makes_conversations_without_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palmette.synth.writers.load_writer", lambda *_: Scripted())
    words = ("synth", "instruct", "--magpie", "--number", 2, "--writer", "m", "--out", tmp_path / "made.jsonl")
    assert palmette(monkeypatch, *words) == 0
    rows = [json.loads(line) for line in (tmp_path / "made.jsonl").read_text().splitlines()]
    assert [[one["content"] for one in row["messages"]] for row in rows] == [
        [DRAWN[0][0], "It lifts boats."],
        [DRAWN[7][0], "It lifts boats."],
    ]
    report = json.loads((tmp_path / "made.jsonl.report.json").read_text())
    assert (report["seeds"], report["licences"]) == (None, {"writer": "mit", "sources": {}})


def test_a_real_local_model_runs(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has learned nothing, so its tasks have no end."""
    monkeypatch.setattr("palmette.synth.instruct.magpie.LONGEST", 8)
    words = ("synth", "instruct", "--magpie", "--number", 1, "--writer", tiny_folder, "--max-new-tokens", 4)
    palmette(monkeypatch, *words, "--out", tmp_path / "made.jsonl")
    report = json.loads((tmp_path / "made.jsonl.report.json").read_text())
    assert report["listed"] >= 16
    assert report["settings"]["magpie"] is True


def test_an_endpoint_cannot_speak_as_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("synth", "instruct", "--magpie", "--number", 1, "--endpoint", "http://localhost:1/v1", "--model-name", "m")
    assert palmette(monkeypatch, *words, "--out", tmp_path / "made.jsonl") == 2
    assert "an endpoint does not let a model speak as the user" in capsys.readouterr().err
