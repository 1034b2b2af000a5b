"""The command line on a tiny model: what it prints and writes, and errors that are one line and exit code 2."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from palmette.cli.console import answer_text
from palmette.data.source import read_source
from palmette.decode.prediction import prediction_of
from palmette.evaluate.squad_metrics import ScoredAnswer, score_answers
from palmette.tasks.qa_prompt import ParsedAnswer
from tests.support.command import palmette
from tests.support.data import squad_file


def test_train_writes_a_run_with_a_plot(run_folder: Path) -> None:
    assert {path.name for path in run_folder.iterdir()} == {
        "adapter",
        "loss.png",
        "manifest.json",
        "metrics.jsonl",
        "recipe.yaml",
        "training.html",
    }
    assert yaml.safe_load((run_folder / "recipe.yaml").read_text())["train"]["learning_rate"] > 0


def test_eval_writes_the_official_files(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = squad_file(tmp_path / "dev.json"), tmp_path / "out"
    assert palmette(monkeypatch, "eval", "squad", "--model", run_folder, "--data", data, "--out", out) == 0
    ids = {question.id for document in read_source(str(data)).documents for question in document.questions}
    predictions, na_prob, metrics = (
        json.loads((out / f"{name}.json").read_text()) for name in ("predictions", "na_prob", "metrics")
    )
    assert predictions.keys() == na_prob.keys() == ids
    assert all(isinstance(answer, str) for answer in predictions.values())
    assert all(0.0 <= probability <= 1.0 for probability in na_prob.values())
    assert (metrics["total"], metrics["HasAns_total"], metrics["NoAns_total"]) == (3, 2, 1)
    assert palmette(monkeypatch, "eval", "squad", "--model", run_folder, "--data", data, "--out", out) == 2


def test_a_scored_answer_shows_both_spans() -> None:
    document = read_source("builtin:test").documents[0]
    question = next(question for question in document.questions if question.answerable)
    gold = question.answers[0].text
    other = document.text.split()[0]

    def scored(text: str) -> ScoredAnswer:
        completion = prediction_of(ParsedAnswer(text, True), "", document)
        return score_answers([replace(document, questions=(question,))], {question.id: completion})[0]

    wrong = scored(other)
    shown = answer_text(wrong, brackets=True).plain
    assert f"»{gold}«" in shown
    assert f"»{other}«" in shown
    assert shown.startswith("wrong")
    right = scored(gold)
    assert answer_text(right, brackets=True).plain.count("»") == 1
    assert answer_text(right).plain.startswith("right")


def test_inspect_shows_what_the_loss_sees(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert palmette(monkeypatch, "inspect", "--model", tiny_folder, "--limit-questions", "2", "--table") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.replace("│", " ").split() for line in lines if line.strip()[:1].isdigit() and "'" in line]
    document = read_source("builtin:train").documents[0]
    branches = [row[2] for row in rows]
    assert [name for i, name in enumerate(branches) if i == 0 or branches[i - 1] != name] == [
        "trunk",
        document.questions[0].id,
        document.questions[1].id,
    ]
    first = branches.index(document.questions[1].id)
    trunk_length = branches.count("trunk")
    # row, position, branch, predictor, subtree end, attend, learn: the second branch starts again where the trunk ends.
    assert rows[first][:7] == [
        str(first), str(trunk_length), document.questions[1].id, str(trunk_length - 1), str(len(rows)), "yes", "0"
    ]  # fmt: skip
    learned = [row for row in rows if row[6] == "1"]
    assert 0 < len(learned) < len(rows) / 4
    assert palmette(monkeypatch, "inspect", "--model", tiny_folder, "--limit-questions", "1") == 0
    shown = (
        capsys.readouterr().out
    )  # no terminal, so learned tokens stand between brackets: the completion, to the last token
    assert "".join(re.findall("»(.*?)«", shown)) == '{"answer": "?"}<|im_end|>'


def test_mistakes_are_one_line_and_exit_code_2(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """None of them takes the built-in model out of its package, as the first use of it would on a new machine."""
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    typo = tmp_path / "typo.yaml"
    typo.write_text("output: x\ntrain: {epoch: 3}")
    exists = tmp_path / "exists.yaml"
    exists.write_text(f"output: {run_folder}")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "long.txt").write_text("tower " * 3000)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    for name in ("recipe.yaml", "manifest.json"):
        (unfinished / name).write_text((run_folder / name).read_text())
    greedy = ["ask", "--decoder", "greedy"]
    cases: list[tuple[list[str | Path], str]] = [
        (["train", "sft", typo], "Did you mean 'epochs'?"),
        (["train", "sft", exists], "exists already. Choose another name"),
        (["train", "sft", "--resume", run_folder], "is finished"),
        (["train", "sft", "--resume", tmp_path], "is not a run folder"),
        (["eval", "squad", "--data", tmp_path / "bad.json", "--out", tmp_path / "o"], "not JSON"),
        (["eval", "squad", "--data", "none.json", "--out", tmp_path / "o"], "there is no data file 'none.json'"),
        (["ask", typo, "Q?", "--model", unfinished], "is not finished"),
        (["ask", typo, "Q?", "--model", "no.gguf"], "there is no GGUF file 'no.gguf'"),
        (["ask", typo, "Q?", "--model", tmp_path], "is no run and no model"),
        (
            [*greedy, tmp_path / "long.txt", "Q?", "--model", run_folder],
            "is 4096: the length of its context",
        ),
        (["inspect", "--document", "999"], "has 70 documents, no number 999"),
        (["quickstart", "--out", run_folder], "exists already"),
    ]
    for words, message in cases:
        assert palmette(monkeypatch, *words) == 2, words
        shown = capsys.readouterr().err.strip()
        assert shown.startswith("error: "), shown
        assert message in shown
        assert "\n" not in shown
    assert not (tmp_path / "o").exists()
    assert not (tmp_path / "cache" / "models").exists()


def test_usage_mistakes_exit_with_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert palmette(monkeypatch, "train", "sft") == 2
    assert "give either a recipe or --resume" in capsys.readouterr().err
    assert palmette(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("palmette 0.")
