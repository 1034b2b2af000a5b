"""`palmette extract` on files of several kinds, with a tiny model."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palmette.decode.effort import Effort
from palmette.decode.posterior import Decision
from palmette.errors import DataError, RunError
from palmette.extraction.job import extract, extract_files, lines_of, read_results
from palmette.extraction.promise import Promise
from palmette.extraction.schema import read_schema
from palmette.inference.answerer import load_answerer
from palmette.inference.calibration import Calibration, Guarantee
from tests.support.command import palmette
from tests.support.papers import lines, pdf

FERRY = "The ferry leaves at 7:40 from pier 3."
SCHEMA = """\
fields:
  time: When does the ferry leave?
  pier: {question: "From which pier?", type: number}
  piers: {question: "Which piers are there?", many: true, least_probability: 0.0001}
  kind: {question: "What leaves?", type: choice, options: [ferry, train]}
"""


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "a.txt").write_text(FERRY)
    (folder / "b.pdf").write_bytes(pdf(lines(["Terms"]), lines(["Contract", FERRY])))
    (folder / "c.txt").write_text("")
    (tmp_path / "ferry.yaml").write_text(SCHEMA)
    return folder


def test_a_folder_becomes_a_table_and_a_page(
    run_folder: Path,
    papers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, page = tmp_path / "table.csv", tmp_path / "page.html"
    words = ["extract", tmp_path / "ferry.yaml", papers, "--out", out, "--page", page, "--model", run_folder]
    assert palmette(monkeypatch, *words) == 0
    assert "3 documents" in (said := capsys.readouterr().err)
    assert "1 of which could not be read" in said
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [Path(row["document"]).name for row in rows] == ["a.txt", "b.pdf", "c.txt"]
    assert "is empty" in rows[2]["error"]
    for row in rows[:2]:
        assert 0.0 <= float(row["time.absent_probability"]) <= 1.0
        assert bool(row["time"]) != (row["time.reason"] in ("absent", "unsure"))
    html = page.read_text(encoding="utf-8")
    assert "a.txt" in html
    assert "is empty" in html
    before = lines_of(out).read_bytes()
    assert palmette(monkeypatch, *words) == 0  # the job is finished, and the table is written again
    assert lines_of(out).read_bytes() == before
    (tmp_path / "ferry.yaml").write_text(SCHEMA.replace("From which pier?", "Which pier is it?"))
    assert palmette(monkeypatch, *words) == 2
    assert "schema" in capsys.readouterr().err


def test_a_job_that_was_killed_goes_on(run_folder: Path, papers: Path, tmp_path: Path) -> None:
    """The lines of the first document and half a line of the next are what a kill leaves behind."""
    answerer, schema = load_answerer(str(run_folder)), read_schema(tmp_path / "ferry.yaml")
    files = tuple(map(str, sorted(papers.iterdir())))
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    assert extract_files(answerer, schema, files, whole).rows == 12
    left = b"".join(whole.read_bytes().splitlines(keepends=True)[:5])[:-10]
    part.write_bytes(left)
    manifest = whole.with_name("whole.jsonl.manifest.json")
    part.with_name("part.jsonl.manifest.json").write_bytes(manifest.read_bytes())
    tally = extract_files(answerer, schema, files, part)
    assert (tally.earlier, tally.rows) == (4, 12)
    assert part.read_bytes() == whole.read_bytes()


def test_a_promise_decides_which_values_are_given(run_folder: Path, papers: Path, tmp_path: Path) -> None:
    """No value reaches a probability of 1. What the promise does not cover stays as it was. A job is continued under
    its own promise alone.
    """
    answerer, schema = load_answerer(str(run_folder)), read_schema(tmp_path / "ferry.yaml")
    files, free, bound = (str(papers / "a.txt"),), tmp_path / "free.jsonl", tmp_path / "bound.jsonl"
    always = replace(answerer, calibration=calibration(Decision(always_answer=True), answerer.fitted_for(Effort())))
    extract_files(always, schema, files, free)
    strict = Guarantee(0.1, 0.95, 1.0, 100, 0, 100, 50, 1.0)
    promise = Promise(Decision(), ((("time", "pier", "piers"), strict),), ("kind",), 1)
    extract_files(always, schema, files, bound, fitted=promise)
    (before,), (after,) = read_results(free, schema), read_results(bound, schema)
    assert all(one.values for one in (before.fields[0], before.fields[1], before.fields[3]))
    assert [bool(one.values) for one in after.fields] == [False, False, False, True]
    assert after.fields[3].values == before.fields[3].values
    with pytest.raises(RunError, match="promise"):
        extract_files(always, schema, files, bound)


def calibration(decision: Decision, fitted_for: dict[str, Any]) -> Calibration:
    return Calibration(decision, None, "data", "0", (), 1, fitted_for, "2026-01-01", 1)


@pytest.mark.parametrize("command", ["extract", "predict"])
def test_documents_longer_than_those_of_the_calibration_are_flagged(
    command: str,
    run_folder: Path,
    papers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The calibration rests on documents of one part, and one of two documents has several."""
    run = tmp_path / "calibrated"
    shutil.copytree(run_folder, run)
    trained = load_answerer(str(run))
    calibration(Decision(), trained.fitted_for(Effort())).write(run / "adapter")
    (papers / "b.pdf").unlink()
    (papers / "c.txt").write_text("It stays in port. " * 200)
    monkeypatch.setenv("COLUMNS", "300")
    for flag, said in ((["--calibration"], True), (["--no-calibration"], False)):
        out = tmp_path / f"{said}.{'csv' if command == 'extract' else 'jsonl'}"
        words: list[Any] = ["predict", papers, out, "--question", "When does it leave?"]
        if command == "extract":
            words = ["extract", tmp_path / "ferry.yaml", papers, "--out", out]
        assert palmette(monkeypatch, *words, *flag, "--model", run) == 0
        assert ("and the calibration was fitted on documents of at most 1" in capsys.readouterr().err) == said


def test_a_text_gives_what_its_file_gives(run_folder: Path, papers: Path, tmp_path: Path) -> None:
    answerer, schema = load_answerer(str(run_folder)), read_schema(tmp_path / "ferry.yaml")
    extract_files(answerer, schema, (str(papers / "a.txt"),), tmp_path / "a.jsonl")
    (from_file,) = read_results(tmp_path / "a.jsonl", schema)
    found = extract(answerer, tmp_path / "ferry.yaml", FERRY)
    assert list(found) == ["time", "pier", "piers", "kind"]
    for field in from_file.fields:
        same = found[field.name]
        assert (same.absent_probability, same.refusal, same.candidates) == (
            field.absent_probability,
            field.refusal,
            field.candidates,
        )
        assert [(one.text, one.start, one.value) for one in same.values] == [
            (one.text, one.start, one.value) for one in field.values
        ]
        assert all(FERRY[one.start : one.end] == one.text for one in same.values)
    with pytest.raises(DataError, match="the text is bytes"):
        extract(answerer, schema, b"text")  # type: ignore[arg-type]


def test_a_table_that_no_job_wrote_is_left_alone(
    papers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.csv").write_text("my table")
    assert palmette(monkeypatch, "extract", tmp_path / "ferry.yaml", papers, "--out", tmp_path / "mine.csv") == 2
    assert "mine.csv" in capsys.readouterr().err
    assert (tmp_path / "mine.csv").read_text() == "my table"
    assert palmette(monkeypatch, "extract", tmp_path / "ferry.yaml", papers, "--out", tmp_path / "mine.doc") == 2
    assert "is no table" in capsys.readouterr().err
