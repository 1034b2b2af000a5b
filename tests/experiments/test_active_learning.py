"""The experiment: its simulated people, its one command from end to end on a tiny model, resuming, and its tables."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Candidate, Prediction
from palmette.errors import RunError
from palmette.evaluate.squad import Evaluation
from palmette.review.state import fold
from palmette.review.store import Store
from tests.support.paths import ROOT

FOLDER = ROOT / "experiments" / "active_learning"
TEXT = "The ferry leaves at 7:40 from pier 3."


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"active_learning_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # where dataclasses look for their module
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def annotators() -> ModuleType:
    return module("annotators")


def predicted(text: str, *others: str) -> Prediction:
    candidates = tuple(Candidate(one, at := TEXT.index(one), at + len(one), 0.2) for one in (text, *others) if one)
    start = TEXT.index(text) if text else None
    return Prediction(text, start=start, probability=0.5, no_answer_probability=0.3, candidates=candidates)


def test_people_say_what_is_right_and_it_takes_them_as_long_as_it_is_hard(annotators: ModuleType) -> None:
    when = Question("when", "When?", (Answer("7:40", TEXT.index("7:40")),))
    who = Question("who", "Who?")
    document = Document("d", TEXT, (when, who))
    person = annotators.Annotator()
    for question, prediction, expected in (
        (when, predicted("7:40"), ("accept", "7:40", 9.0)),
        (when, predicted("pier 3", "7:40"), ("edit", "7:40", 10.0)),
        (when, predicted("pier 3"), ("edit", "7:40", 16.0)),
        (when, predicted(""), ("edit", "7:40", 16.0)),
        (who, predicted(""), ("accept", None, 9.0)),
        (who, predicted("pier 3"), ("no_answer", None, 13.0)),
    ):
        shown, verdict = person.judge(document, question, prediction)
        assert (verdict.kind, verdict.span and verdict.span.text, verdict.seconds) == expected
        assert (shown.span.text if shown.span else "") == prediction.text


def test_a_tenth_of_the_verdicts_is_wrong(annotators: ModuleType) -> None:
    """Of 4,000 the share is within four standard errors of 0.1, which is 0.019."""
    person, wrong = annotators.Annotator(seed=1, wrong=0.1), 0
    for number in range(4000):
        question = Question(f"q{number}", "When?", (Answer("7:40", TEXT.index("7:40")),))
        document = Document("d", TEXT, (question,))
        _, verdict = person.judge(document, question, predicted("7:40" if number % 2 else "pier 3"))
        wrong += verdict.span is None or verdict.span.text != "7:40"
    assert wrong / 4000 == pytest.approx(0.1, abs=0.019)


@pytest.fixture(scope="module")
def experiment() -> ModuleType:
    return module("run")


def words(tiny_folder: Path, sft_run: Path, out: Path) -> list[str]:
    options = ["--pool", "builtin:train", "--data", "builtin:dev", "--every", "35", "--every-data", "10"]
    options += ["--budgets", "4", "8", "--seeds", "0", "--wrong", "0.1", "--epochs", "1"]
    options += ["--strategies", "random", "disagreement", "--start", str(sft_run), "untouched"]
    return [*options, "--model", str(tiny_folder), "--output", str(out)]


def test_the_experiment_runs_resumes_and_makes_its_tables(
    experiment: ModuleType,
    tiny_folder: Path,
    sft_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Four cells of two rounds. One round is removed, and the same command makes it again from the same verdicts."""
    out = tmp_path / "out"
    experiment.main([*words(tiny_folder, sft_run, out), "--plan"])
    assert "4 cells of 2 rounds" in capsys.readouterr().out
    assert [path.name for path in out.iterdir()] == ["plan.json"]
    experiment.main(words(tiny_folder, sft_run, out))
    cells = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert len(cells) == 4
    place = out / f"{sft_run.name}-disagreement-wrong10-seed0"
    with Store.open(place / "review.db") as store:
        events = list(store.events())
        assert not any(question.answers for one in store.documents() for question in one.questions)
    assert len(fold(events).judgements) == len(events) == 8
    first, second = (json.loads((place / f"round-{n}" / "verdicts.json").read_text()) for n in (1, 2))
    assert (first["budget"], second["budget"]) == (4, 8)
    assert 0 < first["seconds"] < second["seconds"] == sum(one.verdict.seconds for one in events if one.verdict)
    lines = [(place / f"round-{n}" / "learned.jsonl").read_text(encoding="utf-8").splitlines() for n in (1, 2)]
    learned = [{json.loads(line)["id"] for line in found} for found in lines]
    assert learned[0] < learned[1]
    assert learned[1] == {one.question for one in events}
    manifest = json.loads((place / "round-2" / "run" / "manifest.json").read_text())
    assert manifest["start"]["run"] == str(sft_run), "always from the starting model"
    untouched = json.loads((out / "untouched-random-wrong10-seed0" / "round-1" / "run" / "manifest.json").read_text())
    assert "start" not in untouched
    before = Evaluation.read(place / "round-2" / "test").metrics["exact"]
    shutil.rmtree(place / "round-2")
    experiment.main(words(tiny_folder, sft_run, out))
    assert Evaluation.read(place / "round-2" / "test").metrics["exact"] == before
    with Store.open(place / "review.db") as store:
        assert list(store.events()) == events
    tables = module("table").tables(out)
    assert sorted(tables) == [f"active-{sft_run.name}-wrong10", "active-untouched-wrong10"]
    head, _, zero, four, eight = tables["active-untouched-wrong10"]
    assert head == "| verdicts | random | time | disagreement | time |"
    assert [line.split(" | ")[0] for line in (zero, four, eight)] == ["| 0", "| 4", "| 8"]
    with pytest.raises(SystemExit):
        experiment.main([*words(tiny_folder, sft_run, out), "--learning-rate", "0.5"])
    assert "learning_rate" in capsys.readouterr().err


def test_the_interval_of_a_difference_draws_seeds_and_documents() -> None:
    """Known truth: seed and document effects of standard deviation 2 and 3, and noise of 10, about a mean of 1.

    The variance of the mean over 6 seeds, 40 documents and 5 questions each is 4/6 + 9/40 + 100/1200 = 0.975. The mean
    half-width over simulations is within a fifth of 1.96 times its root, where the seeds' part has the factor 5/6 of a
    bootstrap over 6.
    """
    table, generator = module("table"), np.random.default_rng(0)
    seeds, documents, each = 6, 40, 5
    clusters = [f"d{n // each}" for n in range(documents * each)]
    widths, covered = [], 0
    for _ in range(60):
        effects = generator.normal(0, 2, (seeds, 1)) + np.repeat(generator.normal(0, 3, documents), each)
        low, high = table.difference_interval(
            1 + effects + generator.normal(0, 10, (seeds, documents * each)), clusters
        )
        widths.append((high - low) / 2)
        covered += low < 1 < high
    expected = 1.96 * np.sqrt(4 / 6 * 5 / 6 + 9 / 40 + 100 / 1200)
    assert np.mean(widths) == pytest.approx(expected, rel=0.2)
    assert covered >= 48
    with pytest.raises(SystemExit):
        table.tables(Path("nowhere"))


def test_the_settings_cannot_change_halfway(experiment: ModuleType, tmp_path: Path) -> None:
    options = ["--pool", "builtin:train", "--data", "builtin:dev", "--output", str(tmp_path / "x")]
    experiment.prepare(experiment.parse(options))
    with pytest.raises(RunError, match="epochs"):
        experiment.prepare(experiment.parse([*options, "--epochs", "9"]))
