"""Measuring from the command line: evaluate, calibrate, compare, predict, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from palmette.data.source import read_data, read_source
from tests.support.command import palmette
from tests.support.data import squad_file


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Two documents that no calibration of these tests has seen."""
    text = squad_file(tmp_path / "test.json").read_text().replace("tower", "column").replace("pier 3", "pier 5")
    data = json.loads(text)
    for question in (q for p in data["data"][0]["paragraphs"] for q in p["qas"]):
        for answer in question["answers"]:
            context = next(p["context"] for p in data["data"][0]["paragraphs"] if question in p["qas"])
            answer["answer_start"] = context.index(answer["text"])
    (tmp_path / "test.json").write_text(json.dumps(data))
    return tmp_path / "test.json"


def test_an_evaluation_leaves_its_files_and_can_be_read_back(
    run_folder: Path,
    held_out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The span decoder; then its own prediction files, read as anybody's: the same official numbers."""
    words = ["eval", "squad", "--model", run_folder, "--data", held_out]
    assert palmette(monkeypatch, *words, "--out", tmp_path / "span") == 0
    assert {path.name for path in (tmp_path / "span").iterdir()} == {
        "answers.jsonl",
        "documents.jsonl",
        "evaluation.json",
        "metrics.json",
        "na_prob.json",
        "predictions.json",
        "report.html",
    }
    files = [tmp_path / "span" / "predictions.json", "--na-prob", tmp_path / "span" / "na_prob.json"]
    again = ["eval", "predictions", *files, "--data", held_out, "--out", tmp_path / "read"]
    assert palmette(monkeypatch, *again) == 0
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("span", "read"))
    official = ("exact", "f1", "HasAns_exact", "NoAns_exact", "best_exact", "best_exact_thresh", "best_f1")
    assert {key: first[key] for key in official} == {key: second[key] for key in official}
    assert first["verbatim"] in (100.0, None)
    assert (first["valid_json"], second["valid_json"]) == (100.0, None)
    made_by = json.loads((tmp_path / "span" / "evaluation.json").read_text())
    assert (made_by["decoder"], made_by["max_words"], made_by["calibrated_on"]) == ("span", 30, None)
    assert first["median_passes"] >= 1
    low, high = first["intervals"]["exact"]
    assert 0.0 <= low <= first["exact"] <= high <= 100.0
    assert palmette(monkeypatch, *words, "--decoder", "greedy", "--out", tmp_path / "greedy") == 0
    capsys.readouterr()
    assert palmette(monkeypatch, "compare-runs", tmp_path / "greedy", tmp_path / "span") == 0
    shown = capsys.readouterr().out
    assert "right in B only: " in shown
    greedy = json.loads((tmp_path / "greedy" / "metrics.json").read_text())
    difference = first["exact"] - greedy["exact"]  # shown in whole percents, or as equal: there are three questions
    assert f"{difference:+.0f}" in shown if difference else "Equal in A and B: exact match (EM)" in shown
    assert palmette(monkeypatch, "compare-runs", tmp_path / "greedy", run_folder) == 2


def test_a_calibrated_model_is_not_measured_on_what_it_was_calibrated_on(
    run_folder: Path,
    held_out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fitted = tmp_path / "dev.json"
    fitted.write_text(squad_file(tmp_path / "made.json").read_text().replace("Harbour", "Quay"))
    try:
        assert palmette(monkeypatch, "calibrate", "--model", run_folder, "--data", fitted) == 0
        assert "temperature" in capsys.readouterr().out
        assert (run_folder / "adapter" / "calibration.json").is_file()
        evaluate = ["eval", "squad", "--model", run_folder, "--data"]
        assert palmette(monkeypatch, *evaluate, fitted, "--out", tmp_path / "a") == 2
        assert "2 of 2 documents" in capsys.readouterr().err
        assert palmette(monkeypatch, *evaluate, fitted, "--no-calibration", "--out", tmp_path / "a") == 0
        assert palmette(monkeypatch, *evaluate, held_out, "--out", tmp_path / "b") == 0
        assert palmette(monkeypatch, *evaluate, held_out, "--max-words", "5", "--out", tmp_path / "c") == 2
        assert "fitted for max_words = 30, and this is 5" in capsys.readouterr().err
        promise = ["calibrate", "--model", run_folder, "--data", fitted, "--target-error", "0.05"]
        assert palmette(monkeypatch, *promise) == 2
        assert "a half of its documents has no question" in capsys.readouterr().err
        trained_on = run_folder.parent / "train.json"
        assert palmette(monkeypatch, "calibrate", "--model", run_folder, "--data", trained_on) == 2
        assert "was trained on" in capsys.readouterr().err
    finally:
        (run_folder / "adapter" / "calibration.json").unlink(missing_ok=True)


def test_long_documents_can_be_calibrated_too(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate = ["calibrate", "--model", run_folder, "--data", "builtin:test", "--joined", "2"]
    kept = run_folder / "adapter" / "calibration.json"
    try:
        assert palmette(monkeypatch, *calibrate) == 0
        fitted = json.loads(kept.read_text())
        assert fitted["max_windows"] > 1
        num_documents = len(read_data("builtin:test").documents)
        assert len(fitted["documents"]) == num_documents + 2
        assert f"times k to the power of {fitted['decision']['window_power']:.2f}" in capsys.readouterr().out
        assert palmette(monkeypatch, *calibrate, "--target-error", "0.1") == 2
        assert "a guarantee cannot rest on joined documents" in capsys.readouterr().err
    finally:
        kept.unlink(missing_ok=True)


def test_calibrating_needs_a_run(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert palmette(monkeypatch, "calibrate", "--model", tiny_folder, "--data", "builtin:dev") == 2


def test_predict_answers_a_file(
    run_folder: Path,
    held_out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same answers as `ask` in one go gives, and an error line for the bad row."""
    documents = read_source(str(held_out)).documents
    rows = [{"context": d.text, "question": q.text, "id": q.id} for d in documents for q in d.questions]
    lines = [*map(json.dumps, rows[:2]), "{not json", json.dumps(rows[2])]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out.jsonl"
    assert palmette(monkeypatch, "predict", tmp_path / "in.jsonl", out, "--model", run_folder) == 0
    strict = ["predict", tmp_path / "in.jsonl", out, "--model", run_folder, "--strict"]
    assert palmette(monkeypatch, *strict) == 3
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["line"] for record in found] == [1, 2, 3, 4]
    assert "not JSON" in found[2]["error"]
    assert (
        palmette(monkeypatch, "eval", "squad", "--model", run_folder, "--data", held_out, "--out", tmp_path / "e") == 0
    )
    (tmp_path / "good.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert palmette(monkeypatch, "predict", tmp_path / "good.jsonl", tmp_path / "good-out.jsonl", *strict[3:]) == 0
    expected = json.loads((tmp_path / "e" / "predictions.json").read_text())
    assert {record["id"]: record["answer"] or "" for record in found if "answer" in record} == expected


def test_answers_that_the_decoder_cannot_give_are_counted(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Training, evaluation and calibration say how many, and name the first with the reason.

    "gran" ends inside "granite".
    """
    monkeypatch.setenv("COLUMNS", "300")
    data = squad_file(tmp_path / "part.json", answers=[{"text": "gran", "answer_start": 13}])
    said = (
        "1 of 2 questions have no answer that the span decoder can give. "
        "The first is 'q1': its answer 'gran' ends inside"
    )
    recipe = {
        "output": str(tmp_path / "run"),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [str(data)]},
        "train": {"epochs": 1},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert palmette(monkeypatch, "train", "sft", tmp_path / "recipe.yaml") == 0
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
    first = {"num_questions": 2, "num_unreachable": 1, "question": "q1", "answer": "gran"}
    first["reason"] = "ends inside a word"
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["unreachable"] == first

    words = ["--model", tmp_path / "run", "--data", data]
    assert palmette(monkeypatch, "eval", "squad", *words, "--out", tmp_path / "e") == 0
    assert said in capsys.readouterr().err
    assert json.loads((tmp_path / "e" / "evaluation.json").read_text())["unreachable"] == first
    assert palmette(monkeypatch, "eval", "squad", *words, "--inside-words", "--out", tmp_path / "i") == 0
    assert "that the span decoder can give" not in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "i" / "answers.jsonl").read_text().splitlines()]
    assert {line["prediction"]["num_windows"] for line in lines} == {1}

    held_out = tmp_path / "held-out.json"
    held_out.write_text(data.read_text().replace("Harbour", "Quay"))
    calibrate = ["calibrate", "--model", tmp_path / "run", "--data", held_out]
    assert palmette(monkeypatch, *calibrate) == 0
    assert said in capsys.readouterr().err
    assert palmette(monkeypatch, *calibrate, "--inside-words") == 0
    assert "that the span decoder can give" not in capsys.readouterr().err
    fitted = json.loads((tmp_path / "run" / "adapter" / "calibration.json").read_text())["fitted_for"]
    assert fitted["inside_words"] is True
    other = squad_file(tmp_path / "other.json", question="Of what is it?")
    other.write_text(other.read_text().replace("white", "grey").replace("pier 3", "pier 4"))
    again = ["eval", "squad", "--model", tmp_path / "run", "--data", other, "--out", tmp_path / "o"]
    assert palmette(monkeypatch, *again) == 0, "as it was calibrated"
    assert palmette(monkeypatch, *again[:-1], tmp_path / "w", "--whole-words") == 2
    assert "fitted for inside_words" in capsys.readouterr().err
