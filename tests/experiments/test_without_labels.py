"""The experiment on documents without labels: its questions, its data, and its one command on a tiny model."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from palmette.data.records import Answer, Document, Question
from palmette.data.source import read_source
from palmette.decode.prediction import Candidate, Prediction
from palmette.errors import DataError
from palmette.evaluate.squad import Evaluation, score
from palmette.evaluate.squad_metrics import ScoredAnswer
from tests.support.paths import ROOT
from tests.support.scripts import script

FOLDER = ROOT / "experiments" / "without_labels"
TEXT = "The ferry leaves at 7:40 from pier 3. The ferry of Lisbon returns at noon, and the captain of Lisbon waits. "
STAGES = """
stages:
  cloze: {data: {train: [$cloze]}, train: {epochs: 1}}
  questions: {data: {train: [$questions]}, train: {epochs: 1}}
  pretrain:
    stage: pretrain
    data: {train: [$texts]}
    pretrain: {tokens_per_step: 128, piece_tokens: 128}
    train: {epochs: 1}
  labels-4: {data: {train: [$labels-4]}, train: {epochs: 1}}
runs:
  reader+pretrain+cloze: [0]
  base+cloze+labels-4: [0, 1]
  reader+questions: [0]
"""


@pytest.fixture(scope="module")
def experiment() -> ModuleType:
    return script("experiments/without_labels/run.py")


def test_a_hundred_questions_of_which_thirty_have_no_answer() -> None:
    """What can be said without the texts, which are not in the repository."""
    rows = [json.loads(line) for line in (FOLDER / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({row["question"] for row in rows}) == len(rows) == 100
    assert sum(not row["answers"] for row in rows) == 30
    assert {row["document"] for row in rows} == {"tock", "terms", "supply"}
    for row in rows:
        assert row["question"].endswith("?")
        assert all(0 <= start < end <= start + 200 for start, end in row["answers"])
        assert len({tuple(span) for span in row["answers"]}) == len(row["answers"])


@pytest.fixture
def texts(experiment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of texts, one of which two questions are about."""
    folder, here = tmp_path / "texts", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text(TEXT.replace("pier 3", f"pier {number}") * (number + 1))
    (folder / "asked.txt").write_text(TEXT)
    digest = hashlib.sha256((folder / "asked.txt").read_bytes()).hexdigest()
    (here / "documents.yaml").write_text(f"ferry: {{sha256: {digest}, name: The ferry, licence: CC0 1.0}}\n")
    start = TEXT.index("7:40")
    rows = [("When does it leave?", [[start, start + 4]]), ("What does it cost?", [])]
    lines = [json.dumps({"document": "ferry", "question": text, "answers": spans}) for text, spans in rows]
    (here / "questions.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(sys.modules["questions"], "HERE", here)
    return folder


def words(texts: Path, out: Path, *more: str) -> list[str]:
    stages = out.with_name("stages.yaml")
    stages.write_text(STAGES)
    options = ["--texts", str(texts), "--squad", "builtin:dev", "--every-squad", "10", "--labels", "builtin:train"]
    return [*options, "--passages", "3", "--stages", str(stages), "--output", str(out), *more]


def test_the_experiment_runs_resumes_and_makes_its_tables(
    experiment: ModuleType,
    texts: Path,
    tiny_folder: Path,
    sft_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    options = words(texts, out, "--model", str(tiny_folder), "--reader", str(sft_run))
    experiment.main([*options, "--plan"])
    written = {path.name for path in out.iterdir()}
    assert {"asked.json", "cloze.jsonl", "plan.json", "squad.json", "texts.jsonl"} <= written
    assert not {"runs", "answers", "questions.jsonl"} & written
    when, cost = read_source(str(out / "asked.json")).documents[0].questions
    assert (when.answers[0].text, cost.answers) == ("7:40", ())
    with pytest.raises(SystemExit) as stopped:
        experiment.main([*options, "--minutes", "0"])
    assert (stopped.value.code, (out / "runs").exists()) == (0, False)

    experiment.main([*options, "--runs", "reader+pretrain+cloze", "--sets"])
    assert (len(list((out / "runs").iterdir())), (out / "answers").exists()) == (2, False)
    experiment.main(options)
    assert "reader+questions: left out, since there are no questions" in capsys.readouterr().out
    starts = {
        path.name: json.loads((path / "manifest.json").read_text()).get("start", {}).get("run")
        for path in (out / "runs").iterdir()
    }
    assert starts == {
        "reader+pretrain-seed0": str(sft_run),
        "reader+pretrain+cloze-seed0": str(out / "runs" / "reader+pretrain-seed0"),
        "base+cloze-seed0": None,  # the later labels of both seeds begin from this one
        "base+cloze+labels-4-seed0": str(out / "runs" / "base+cloze-seed0"),
        "base+cloze+labels-4-seed1": str(out / "runs" / "base+cloze-seed0"),
    }
    answers = sorted(str(path.relative_to(out / "answers")) for path in (out / "answers").glob("*/*"))
    assert answers == [
        f"{name}/{kind}"
        for name in ("base+cloze+labels-4-seed0", "base+cloze+labels-4-seed1", "reader+pretrain+cloze-seed0")
        for kind in ("asked", "squad")
    ]

    place = out / "answers" / "reader+pretrain+cloze-seed0" / "squad"
    before = Evaluation.read(place).metrics["exact"]
    shutil.rmtree(place)
    shutil.copy(out / "cloze.jsonl", out / "questions.jsonl")  # as if a writer had written them
    experiment.main(options)
    assert Evaluation.read(place).metrics["exact"] == before
    assert (out / "runs" / "reader+questions-seed0" / "manifest.json").is_file()

    found = script("experiments/without_labels/table.py").tables(out)
    assert sorted(found) == [
        f"without-labels-{start}-{kind}" for start in ("base", "reader") for kind in ("asked", "squad")
    ]
    head, _, row = found["without-labels-base-asked"]
    assert head == "| model | seeds | exact match | F1 of the best span | AUROC |"
    assert row.startswith("| base + cloze + labels-4 | 2 | ")
    with pytest.raises(SystemExit):
        experiment.main([*options, "--passages", "2"])
    assert "was begun with documents = 3, and now it is 2" in capsys.readouterr().err


def test_passages_are_those_that_are_asked_about_and_others_evenly(experiment: ModuleType, texts: Path) -> None:
    asked = str(texts / "asked.txt")
    chosen = experiment.chosen_passages([str(texts)], [asked], 3)
    assert [Path(passage.title).name for passage in chosen] == ["asked.txt", "0.txt", "2.txt"]
    with pytest.raises(DataError, match="9 passages are wanted, but there are 1 of the documents"):
        experiment.chosen_passages([str(texts)], [asked], 9)


def test_a_document_is_found_by_its_hash(experiment: ModuleType, texts: Path) -> None:
    (texts / "asked.txt").rename(texts / "other name.txt")
    assert experiment.find_documents([str(texts)]) == {"ferry": texts / "other name.txt"}
    (texts / "other name.txt").write_text(TEXT + "More.")
    with pytest.raises(DataError, match=r"none of 5 files in .* is The ferry"):
        experiment.find_documents([str(texts)])


def test_fewer_labels_are_among_more_of_them(experiment: ModuleType) -> None:
    documents = read_source("builtin:train").documents
    drawn = {n: experiment.drawn_labels(documents, n, 7) for n in (5, 18)}
    names = {n: [question.id for document in found for question in document.questions] for n, found in drawn.items()}
    assert [len(set(found)) for found in names.values()] == [5, 18]
    assert names[18][:5] == names[5]
    assert max(len(document.questions) for document in drawn[18]) == 4
    assert experiment.drawn_labels(documents, 5, 8) != drawn[5]
    with pytest.raises(DataError, match="9999 labels are wanted"):
        experiment.drawn_labels(documents, 9999, 0)


def scored(answers: dict[str, str], gold: dict[str, str]) -> Evaluation:
    """An evaluation in which every question is refused, with one candidate each."""
    questions = tuple(
        Question(name, "?", (Answer(text, TEXT.index(text)),) if text else ()) for name, text in gold.items()
    )
    document = Document("d", TEXT, questions)
    found: dict[str, Any] = {
        name: Prediction("", no_answer_probability=0.9, candidates=(Candidate(text, 0, 0, 0.1),) if text else ())
        for name, text in answers.items()
    }
    return score([document], found)


def test_the_best_span_counts_though_it_was_not_given() -> None:
    """Of three answerable questions one is right, one has half of the words (F1 2/3) and one has no span."""
    script("experiments/without_labels/table.py")
    measures = sys.modules["measures"]
    found = scored(
        {"a": "7:40", "b": "Lisbon", "c": "", "d": "noon"}, {"a": "7:40", "b": "of Lisbon", "c": "pier 3", "d": ""}
    )
    assert all(isinstance(one, ScoredAnswer) and not one.answered for one in found.scored)
    weight_BN = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 3.0, 1.0, 5.0]])
    assert measures.forced_f1(found, weight_BN) == pytest.approx([100 * (1 + 2 / 3) / 3, 100 * 3 * (2 / 3) / 4])


def test_a_span_counts_where_it_is_likelier_than_no_answer() -> None:
    """Of four questions a right span at 0.95 and a refused one without an answer are right. A right span at 0.1, behind
    no answer at 0.9, and one at 0.95 where there is no answer are wrong.
    """
    found = scored({"a": "7:40", "b": "noon", "c": "", "d": "pier 3"}, {"a": "7:40", "b": "noon", "c": "", "d": ""})
    likely = [replace(one.prediction.candidates[0], probability=0.95) for one in (found.scored[0], found.scored[3])]
    predictions = [one.prediction for one in found.scored]
    predictions[0], predictions[3] = (
        replace(predictions[place], candidates=(best,)) for place, best in zip((0, 3), likely, strict=True)
    )
    found = score(
        [found.scored[0].document], {one.question.id: p for one, p in zip(found.scored, predictions, strict=True)}
    )
    weight_BN = np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 1.0, 0.0, 1.0]])
    script("experiments/without_labels/table.py")
    assert sys.modules["measures"].likelier_exact(found, weight_BN) == pytest.approx([50.0, 50.0])


def test_a_row_is_compared_with_the_run_that_lacks_only_what_is_tried() -> None:
    table = script("experiments/without_labels/table.py")
    names = [
        "base+cloze+labels-64",
        "reader+cloze",
        "base+labels-16",
        "reader",
        "base+labels-64",
        "reader+cloze+questions",
    ]
    assert [table.compared_with(name) for name in names] == ["base+labels-64", "reader", None, None, None, "reader"]
    assert sorted(names, key=table.order) == [
        "reader", "reader+cloze", "reader+cloze+questions", "base+labels-16", "base+labels-64", "base+cloze+labels-64"
    ]  # fmt: skip
    right, wrong = ({0: scored({"a": text, "b": ""}, {"a": "7:40", "b": ""})} for text in ("7:40", "noon"))
    rows = table.table({"reader": wrong, "reader+cloze": right}, by_question=True)[2:]
    assert [row.split(" | ")[3] for row in rows] == ["0.0", "100.0 (+100.0)"]
