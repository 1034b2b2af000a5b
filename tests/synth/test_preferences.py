"""A model's own answers as preferences: ranked by hand-worked rewards, read back, and gone on with after a stop."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palmette.data.preference_sets import read_comparisons
from palmette.errors import DataError
from palmette.rollouts.rewards import RewardMixture
from palmette.rollouts.sampling import Sampling
from palmette.synth.preferences import PreferenceMaker, make_preferences
from palmette.tasks.extractive_qa import ExtractiveQa, Reasoning, qa_messages
from palmette.tasks.qa_prompt import load_prompt
from palmette.tasks.rewards import QaReward
from palmette.tree.chat import ChatTemplate
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.scripted import DOCUMENT, HALF, NONE, RIGHT, WRONG, Script


@pytest.fixture(scope="module")
def task(tokenizer: Any) -> ExtractiveQa:
    return ExtractiveQa(ChatTemplate(tokenizer))


def maker(task: ExtractiveQa, said: Sequence[Sequence[str]], form: Any = "pairs") -> PreferenceMaker:
    samplings = (Sampling(0.7, seed=0), Sampling(1.3, seed=1))
    return PreferenceMaker(
        Script(said), task, RewardMixture(QaReward(task.prompt, {"f1": 1.0, "valid_json": 0.5})), samplings, 3, form
    )


def test_answers_are_ranked_by_their_reward(task: ExtractiveQa, tmp_path: Path) -> None:
    """Rewards: right 1.5; half, F1 of one word of two: 2/3 + 1/2; wrong 0.5; broken 0; what was cut is not compared."""
    said = [
        ["cut...", WRONG, HALF, f" {HALF}", "broken", RIGHT],
        [NONE, NONE, RIGHT, NONE, NONE, NONE],
        [NONE, NONE, NONE, "", " ", "cut..."],
    ]
    pairs = make_preferences(maker(task, said), [DOCUMENT], tmp_path / "a.work", {})
    assert pairs.counts == {"too few": 1}
    values = [0, 0.5, 7 / 6, 7 / 6, 0, 1.5, *[1.5] * 5, 0.5, *[1.5] * 3, *[0] * 3]
    assert pairs.mean_reward == pytest.approx(sum(values) / 18)
    first, second = pairs.rows
    assert (first["id"], first["chosen"], first["rejected"], first["margin"]) == ("when", RIGHT, "broken", 1.5)
    assert (second["id"], second["chosen"], second["rejected"], second["margin"]) == ("who", NONE, RIGHT, 1.0)
    assert first["prompt"] == qa_messages(task.prompt, DOCUMENT, DOCUMENT.questions[0])
    assert [(sample["setting"], sample["index"]) for sample in first["samples"]] == [
        (setting, index) for setting in (0, 1) for index in (0, 1, 2)
    ]
    assert first["samples"][2]["rewards"] == pytest.approx({"f1": 2 / 3, "valid_json": 1.0})
    assert (first["samples"][2]["logprobs"], first["samples"][2]["tokens"]) == ([-0.5, -0.25], (5, 6))
    ranked = make_preferences(maker(task, said, "ranked"), [DOCUMENT], tmp_path / "b.work", {})
    assert [row["ranked"] for row in ranked.rows] == [[RIGHT, HALF, WRONG, "broken"], [NONE, RIGHT]]
    for name, rows in (("pairs", pairs.rows), ("ranked", ranked.rows)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        read = read_comparisons(str(path)).records
        assert [record.id for record in read] == ["when", "who"]
        assert read[0].completions == ((RIGHT, "broken") if name == "pairs" else (RIGHT, HALF, WRONG, "broken"))


def test_answers_that_earn_the_same_say_nothing(task: ExtractiveQa, tmp_path: Path) -> None:
    done = make_preferences(maker(task, [[WRONG, '{"answer": "pier"}', NONE]]), [DOCUMENT], tmp_path / "w", {})
    assert done.counts == {"tied": 1}  # for the two others "?" is right
    assert [row["id"] for row in done.rows] == ["who", "where"]


def test_completions_that_the_model_does_not_write_alone_are_refused(task: ExtractiveQa, tokenizer: Any) -> None:
    two_turns = ExtractiveQa(task.template, load_prompt("two_turn"))
    placeholders = ExtractiveQa(task.template, reasoning=Reasoning("blah"))
    for other in (two_turns, placeholders):
        with pytest.raises(DataError, match="two turns or placeholders"):
            replace(maker(task, [[NONE]]), task=other)


def test_the_command_goes_on_where_it_was_stopped(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped by Ctrl-C after the first question, in the midst of a line; the same file as without the stop."""
    script = Script([[RIGHT, NONE, "broken"]])
    monkeypatch.setattr("palmette.synth.preference_job.Sampler", lambda *_, **__: script)
    monkeypatch.setattr("palmette.synth.preferences._QUESTIONS", 1)
    data = squad_file(tmp_path / "a.json")
    words = ("synth", "preferences", data, "--model", tiny_folder, "--samples", 3, "--temperature", 1)
    assert palmette(monkeypatch, *words, "--out", tmp_path / "whole.jsonl") == 0
    asked, script.asked = script.asked, 0
    assert asked == 3
    assert "--source-licence puts it into the report" in capsys.readouterr().out
    assert palmette(monkeypatch, *words, "--out", tmp_path / "no.jsonl", "--source-licence", "other.json=mit") == 2
    assert "'other.json' is no source of this job" in capsys.readouterr().err
    assert script.asked == 0, "the mistake shows after the sampling"

    def stopped(self: PreferenceMaker, chunk: Any) -> Iterator[Any]:
        if script.asked:
            raise KeyboardInterrupt
        yield from lines(self, chunk)

    out, work = tmp_path / "out.jsonl", tmp_path / "out.jsonl.work"
    lines = PreferenceMaker.lines
    with monkeypatch.context() as patch:
        patch.setattr(PreferenceMaker, "lines", stopped)
        assert palmette(monkeypatch, *words, "--out", out) == 130
    assert not out.exists()
    with work.open("a") as stream:
        stream.write('{"id": "q2", "rew')
    assert palmette(monkeypatch, *words, "--out", out, "--reward", "exact") == 2
    assert "was begun with reward" in capsys.readouterr().err
    assert palmette(monkeypatch, *words, "--out", out) == 0
    assert script.asked == 3, "finished questions are asked again"
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not work.exists()
    assert len(read_comparisons(str(out)).records) == 3
    report = json.loads((tmp_path / "out.jsonl.report.json").read_text())
    assert (report["kept"], report["left_out"], report["samplings"][0]["temperature"]) == (3, {}, 1.0)
    assert palmette(monkeypatch, *words, "--out", out) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_model_that_never_does_better_is_said_to(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A random model, really sampled: nothing that it says is worth anything."""
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out.jsonl"
    words = ("--out", out, "--samples", 2, "--max-new-tokens", 4, "--reward", "exact")
    assert palmette(monkeypatch, "synth", "preferences", data, "--model", tiny_folder, *words) == 2
    said = capsys.readouterr()
    assert "preferences for 0 of 3 questions. The mean reward of all answers is 0.000" in said.out
    assert "no question has answers of different rewards" in said.err
    report = json.loads((tmp_path / "out.jsonl.report.json").read_text())
    assert sum(report["left_out"].values()) == 3
    assert [sampling["temperature"] for sampling in report["samplings"]] == [0.7, 1.0, 1.3]
    assert len({sampling["seed"] for sampling in report["samplings"]}) == 3
    line = json.loads((tmp_path / "out.jsonl.work").read_text().splitlines()[1])
    assert line["rewards"] == [0.0] * 6
