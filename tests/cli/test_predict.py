"""`palmette predict` on documents and tables, and tables wherever questions with answers are taken, on a tiny model."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import palmette
from tests.support.papers import lines, pdf

FERRY = "The ferry leaves at 7:40 from pier 3."
NOTICE = "The notice period is 28 days."


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "a.txt").write_text(FERRY)
    (folder / "b.pdf").write_bytes(pdf(lines(["Terms"]), lines(["Contract", NOTICE])))
    (folder / "c.txt").write_text("")
    (folder / "logo.png").write_bytes(b"\x89PNG")
    return folder


def test_the_same_questions_are_put_to_every_document(
    run_folder: Path,
    papers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The answers are those that the texts get as lines of JSON. A PDF's answer has its page and the box of it."""
    asked, out = ["When?", "How long is the notice period?"], tmp_path / "out.jsonl"
    (tmp_path / "q.csv").write_text(f"id,question\nlong,{asked[1]}\n")
    words = ["predict", papers, out, "--question", asked[0], "--questions", tmp_path / "q.csv", "--model", run_folder]
    assert palmette(monkeypatch, *words) == 0
    said = capsys.readouterr().err
    assert "left out 1 file of other kinds" in said
    assert "6 rows" in said
    assert "2 with an error, the first in line 5" in said
    found = records(out)
    assert [(record["line"], record["id"], record["question"]) for record in found] == [
        (number, identifier, question)
        for number, (identifier, question) in enumerate([(None, asked[0]), ("long", asked[1])] * 3, start=1)
    ]
    names = [str(papers / name) for name in ("a.txt", "b.pdf", "c.txt")]
    assert [record["document"] for record in found] == [name for name in names for _ in asked]
    assert all(f"the document {names[2]!r} is empty" in record["error"] for record in found[4:])

    rows = [{"context": text, "question": one} for text in (FERRY, f"Terms\nContract\n{NOTICE}") for one in asked]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert palmette(monkeypatch, "predict", tmp_path / "in.jsonl", tmp_path / "j.jsonl", "--model", run_folder) == 0
    added = {"document", "document_sha256", "place", "id"}
    without = [{name: value for name, value in record.items() if name not in added} for record in found[:4]]
    assert without == [
        {name: value for name, value in one.items() if name != "id"} for one in records(tmp_path / "j.jsonl")
    ]
    for record in found[:4]:
        assert (record["place"] is None) == (record["start"] is None)


def test_a_job_over_documents_goes_on_and_notices_what_changed(
    run_folder: Path, papers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    words = ["predict", papers, out, "--question", "When?", "--model", run_folder]
    assert palmette(monkeypatch, *words) == 0
    whole = out.read_bytes()
    out.write_bytes(whole[:200])
    assert palmette(monkeypatch, *words, "--strict") == 3
    assert out.read_bytes() == whole
    (papers / "a.txt").write_text(FERRY.replace("7:40", "8:40"))
    capsys.readouterr()
    assert palmette(monkeypatch, *words) == 2
    assert "'document_sha256' differs at line 1 of the input" in capsys.readouterr().err
    (papers / "c.txt").unlink()
    assert palmette(monkeypatch, *words[:2], tmp_path / "new.jsonl", *words[3:], "--strict") == 0


def test_the_place_of_an_answer_in_a_pdf(
    run_folder: Path, papers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every document is answered where the model may not refuse: the answer stands at the place that is given."""
    from palmette.data.inputs import Documents, SharedQuestion
    from palmette.decode.posterior import Decision
    from palmette.inference.answerer import load_answerer
    from palmette.inference.job import predict_file

    given = Documents((str(papers / "b.pdf"),), (SharedQuestion(None, "How long?"),))
    out = tmp_path / "out.jsonl"
    predict_file(load_answerer(str(run_folder)), given, out, decision=Decision(max_no_answer=1.0))
    (record,) = records(out)
    text = f"Terms\nContract\n{NOTICE}"
    assert text[record["start"] : record["end"]] == record["answer"] != ""
    number = text.count("\n", 0, record["start"])
    page, line = [(1, 1), (2, 1), (2, 2)][number]
    assert (record["place"]["page"], record["place"]["line"]) == (page, line)
    assert [box["page"] for box in record["place"]["boxes"]] == [page]
    left, bottom, right, top = record["place"]["boxes"][0]["box"]
    base = 700.0 - 14.0 * (line - 1)
    assert 72.0 <= left < right < 600.0
    assert base - 5.0 < bottom < base < top < base + 15.0


@pytest.fixture
def table(tmp_path: Path, papers: Path) -> Path:
    """Questions in a spreadsheet, about documents beside it."""
    rows = [
        ("Question", "File", "Answer"),
        ("When does it leave?", "papers/a.txt", "7:40"),
        ("Who steers it?", "papers/a.txt", ""),
        ("How long is the notice period?", "papers/b.pdf", "28 days"),
    ]
    with (tmp_path / "data.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return tmp_path / "data.csv"


def test_a_table_trains_and_measures(
    tiny_folder: Path,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run learns from it, and an evaluation of it has the figures of the same questions as JSON Lines."""
    recipe = {
        "output": str(tmp_path / "run"),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [str(table)]},
        "train": {"epochs": 1},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert palmette(monkeypatch, "train", "sft", tmp_path / "recipe.yaml") == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert [(source["documents"], source["questions"]) for source in manifest["data"]] == [(2, 3)]
    contract = f"Terms\nContract\n{NOTICE}"
    rows = [
        {"id": "row-2", "context": FERRY, "question": "When does it leave?", "answers": ["7:40"]},
        {"id": "row-3", "context": FERRY, "question": "Who steers it?", "answers": []},
        {"id": "row-4", "context": contract, "question": "How long is the notice period?", "answers": ["28 days"]},
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = []
    for name in ("data.csv", "data.jsonl"):
        out = tmp_path / name.replace(".", "-")
        words = ["eval", "squad", "--model", tmp_path / "run", "--data", tmp_path / name, "--out", out]
        assert palmette(monkeypatch, *words) == 0
        found.append([json.loads((out / one).read_text()) for one in ("predictions.json", "na_prob.json")])
    assert found[0] == found[1]


def test_words_that_cannot_be_meant_are_refused(
    run_folder: Path, papers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any model is loaded."""
    for words, message in [
        ([papers, tmp_path / "o"], "holds no questions. To ask about documents, add --question"),
        ([papers / "a.txt", papers / "b.pdf", tmp_path / "o"], "2 files are given, and no question about them"),
        ([papers / "a.txt", papers / "b.pdf", "--question", "When?"], "exists already"),
        ([papers / "x.txt", tmp_path / "o", "--question", "When?"], "there is no document"),
        ([papers, tmp_path / "o", "--question", " "], "has no text"),
    ]:
        assert palmette(monkeypatch, "predict", *words, "--model", run_folder) == 2
        assert message in capsys.readouterr().err
