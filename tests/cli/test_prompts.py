"""`palmette prompts`: the list, a prompt in full, and prompts tried on the same questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from palmette.tasks.qa_prompt import load_prompt, prompt_names
from tests.support.command import palmette

OWN = {
    "system": "Answer <b>briefly</b>.",
    "before_document": "",
    "before_question": "\n\n",
    "after_question": "",
    "before_answer": '{"answer": "',
    "after_answer": '"}',
}


def test_prompts_are_listed_and_shown(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert palmette(monkeypatch, "prompts") == 0
    listed = capsys.readouterr().out
    assert palmette(monkeypatch, "prompts", "list") == 0
    assert capsys.readouterr().out == listed
    assert "echo_twice" in listed


def test_a_shown_prompt_is_a_file_to_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in prompt_names():
        assert palmette(monkeypatch, "prompts", "list", name) == 0
        copy = tmp_path / "copy.yaml"
        copy.write_text(capsys.readouterr().out, encoding="utf-8")
        assert load_prompt(str(copy)) == load_prompt(name)
    assert palmette(monkeypatch, "prompts", "list", "ecko") == 2
    assert "Did you mean 'echo'?" in capsys.readouterr().err


def test_prompts_are_tried_and_the_best_is_checked(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    own, out = tmp_path / "own.yaml", tmp_path / "tried"
    own.write_text(yaml.safe_dump(OWN))
    words: list[str | Path] = [
        "prompts",
        "try",
        "plain",
        own,
        "--model",
        tiny_folder,
        "--data",
        "builtin:test",
        "--decoder",
        "span",
    ]
    words += ["--limit-questions", "24"]
    assert palmette(monkeypatch, *words, "--final", "builtin:dev", "--out", out) == 0
    said = capsys.readouterr().out
    assert "final check: " in said
    record = json.loads((out / "prompts.json").read_text())
    by_name = {one["name"]: one for one in record["prompts"]}
    assert set(by_name) == {"plain", str(own)}
    assert [one["metrics"]["total"] for one in record["prompts"]] == [24, 24]
    assert by_name["plain"]["tokens"] > by_name[str(own)]["tokens"]
    best, other = record["prompts"]
    assert best["metrics"]["exact"] >= other["metrics"]["exact"]
    assert best["to_the_best"]["difference"] is None
    assert other["to_the_best"]["difference"]["value"] == other["metrics"]["exact"] - best["metrics"]["exact"]
    assert [one["questions"] for one in record["data"]] == [24, 24]
    assert (out / "choice" / "own" / "report.html").is_file()
    assert (out / "final" / "plain" / "metrics.json").is_file()
    page = (out / "prompts.html").read_text()
    assert "Answer &lt;b&gt;briefly&lt;/b&gt;." in page
    assert "Final check" in page
    assert "24 questions with known answers, and 48 answers of the model" in page
    assert "How many labels it saves" in page
    moved = [record["final"][which] for which in ("first", "best")]
    assert (f"from {moved[0]:.1f} to {moved[1]:.1f} %" in page) is (best["name"] != "plain")


def test_one_document_has_no_intervals_and_says_so(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words: list[str | Path] = ["--model", tiny_folder, "--data", "builtin:test", "--decoder", "span"]
    words += ["--limit-questions", "3", "--out", tmp_path / "tried"]
    assert palmette(monkeypatch, "prompts", "try", "plain", "json", *words) == 0
    assert "no intervals, since they need at least two documents" in " ".join(capsys.readouterr().out.split())
    assert palmette(monkeypatch, "prompts", "try", "plain", "json", *words) == 2
    assert "exists already" in capsys.readouterr().err


def test_mistakes_are_one_line(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    words: list[str | Path] = ["--model", tiny_folder, "--data", "builtin:test", "--out", tmp_path / "out"]
    for given, said in (
        (["plain"], "two or more different ones are needed"),
        (["plain", "plain"], "two or more different ones are needed"),
        (["plain", "other/plain.yaml"], "two or more different ones are needed"),
        (["plain", "plan"], "Did you mean 'plain'?"),
        (["plain", "json", "--final", "builtin:test"], "builtin:test shares"),
    ):
        assert palmette(monkeypatch, "prompts", "try", *given, *words) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
