"""The experiment: its simulated people, its one command from end to end on a tiny model, resuming, and its tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from palmette.data.records import Answer, DataSet, Document, Question
from palmette.decode.prediction import Candidate, Prediction
from palmette.errors import DataError, RunError
from palmette.evaluate.confidence import auroc
from palmette.evaluate.squad import Evaluation
from palmette.evaluate.squad_metrics import ScoredAnswer
from palmette.review.state import fold
from palmette.review.store import Store
from tests.support.paths import ROOT
from tests.support.scripts import script

FOLDER = ROOT / "experiments" / "active_learning"
TEXT = "The ferry leaves at 7:40 from pier 3."


@pytest.fixture(scope="module")
def annotators() -> ModuleType:
    return script("experiments/active_learning/annotators.py")


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
    return script("experiments/active_learning/run.py")


def words(tiny_folder: Path, sft_run: Path, out: Path, *budgets: str) -> list[str]:
    options = ["--pool", "builtin:train", "--data", "builtin:dev", "--every-data", "10", "--candidates", "2"]
    options += ["--budgets", *(budgets or ("4", "8")), "--seeds", "0", "--wrong", "0.1"]
    options += ["--strategies", "random", "disagreement", "margin", "--strategies-if-wrong", "random", "disagreement"]
    return [*options, "--start", str(sft_run), "untouched", "--model", str(tiny_folder), "--output", str(out)]


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
    cells = sorted(path.name for path in out.glob("*-seed0"))
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
    learned = [[json.loads(line)["id"] for line in found] for found in lines]
    assert [set(found) for found in learned] == [{one.question for one in events[n : n + 4]} for n in (0, 4)]
    manifests = [json.loads((place / f"round-{n}" / "run" / "manifest.json").read_text()) for n in (1, 2)]
    assert [one["start"]["run"] for one in manifests] == [str(sft_run), str(place / "round-1" / "run")]
    untouched = json.loads((out / "untouched-random-wrong10-seed0" / "round-1" / "run" / "manifest.json").read_text())
    assert "start" not in untouched
    before = Evaluation.read(place / "round-2" / "test").metrics["exact"]
    shutil.rmtree(place / "round-2")
    partial = script("experiments/active_learning/table.py").tables(out)[f"active-{sft_run.name}-wrong10-exact"]
    assert [line.split(" | ")[0] for line in partial[2:]] == ["| 0", "| 4"]  # not all cells have come to 8
    experiment.main(words(tiny_folder, sft_run, out))
    assert Evaluation.read(place / "round-2" / "test").metrics["exact"] == before
    with Store.open(place / "review.db") as store:
        assert list(store.events()) == events
    tables = script("experiments/active_learning/table.py").tables(out)
    assert sorted(tables) == [
        f"active-{start}-wrong10-{measure}" for start in (sft_run.name, "untouched") for measure in ("auroc", "exact")
    ]
    head, _, zero, four, eight = tables["active-untouched-wrong10-exact"]
    assert head == "| verdicts | random | seeds | time | disagreement | seeds | time |"
    assert [line.split(" | ")[0] for line in (zero, four, eight)] == ["| 0", "| 4", "| 8"]
    for option, value in (("--learning-rate", "0.5"), ("--budgets", "5")):
        with pytest.raises(SystemExit):
            experiment.main([*words(tiny_folder, sft_run, out), option, value])
        assert option.removeprefix("--").replace("-", "_").removesuffix("s") in capsys.readouterr().err


def test_a_cell_that_was_stopped_goes_on_with_the_same_questions_and_larger_budgets_come_behind(
    experiment: ModuleType, tiny_folder: Path, sft_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    for name in ("whole", "stopped"):
        out = tmp_path / name
        options = [*words(tiny_folder, sft_run, out, "6"), "--start", "untouched", "--strategies-if-wrong", "random"]
        if name == "stopped":
            judge, calls = experiment.Annotator.judge, iter((1, 1, 0))

            def stop(*given: Any, judge: Any = judge, calls: Any = calls) -> Any:
                if not next(calls):
                    raise KeyboardInterrupt
                return judge(*given)

            with monkeypatch.context() as patched:
                patched.setattr(experiment.Annotator, "judge", stop)
                with pytest.raises(KeyboardInterrupt):
                    experiment.main(options)
        experiment.main(options)
        with Store.open(out / "untouched-random-wrong10-seed0" / "review.db") as store:
            asked.append([one.question for one in store.events()])
    assert len(asked[0]) == 6
    assert asked[0] == asked[1]
    experiment.main([*options, "--budgets", "6", "9"])
    with Store.open(out / "untouched-random-wrong10-seed0" / "review.db") as store:
        found = [one.question for one in store.events()]
    assert found[:6] == asked[0]
    assert len(set(found)) == 9


def test_candidates_are_whole_in_number_few_of_a_document_and_new(experiment: ModuleType) -> None:
    documents = tuple(
        Document(f"d{n}", TEXT, tuple(Question(f"{n}/{m}", "When?") for m in range(8))) for n in range(20)
    )
    pool, judged = DataSet("pool", documents, ""), {f"{n}/{m}" for n in range(10) for m in range(6)}
    drawn = experiment.candidates(pool, judged, 33, 0)
    names = [question.id for document in drawn for question in document.questions]
    assert len(set(names)) == len(names) == 33
    assert not judged & set(names)
    assert max(len(document.questions) for document in drawn) == experiment.EACH
    assert experiment.candidates(pool, judged, 33, 1) != drawn
    assert sum(len(one.questions) for one in experiment.candidates(pool, judged, 999, 0)) == 10 * 2 + 10 * 5


def test_articles_that_are_measured_on_are_not_in_the_pool(experiment: ModuleType, tmp_path: Path) -> None:
    rows = [
        {"id": f"q{n}", "title": f"A{n % 3}", "context": f"{TEXT} {n}", "question": "When?", "answers": ["7:40"]}
        for n in range(9)
    ]
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--pool", str(path), "--every-data", "2", "--apart"]
    pool, test = experiment.split(experiment.parse([*options, "A1"]))
    assert [document.title for document in pool.documents] == ["A0", "A2"] * 3
    assert [document.title for document in test.documents] == ["A1", "A1"]  # every second of three
    with pytest.raises(DataError, match="no article 'A7'"):
        experiment.split(experiment.parse([*options, "A7"]))
    for more in ([], ["--apart", "A1", "--data", str(path)]):
        with pytest.raises(DataError, match="what to measure on is not clear"):
            experiment.split(experiment.parse([*options[:-1], *more]))


def test_the_interval_of_a_difference_draws_seeds_and_documents() -> None:
    """Known truth: seed and document effects of standard deviation 2 and 3, and noise of 10, about a mean of 1.

    The variance of the mean over 6 seeds, 40 documents and 5 questions each is 4/6 + 9/40 + 100/1200 = 0.975. The mean
    half-width over simulations is within a fifth of 1.96 times its root, where the seeds' part has the factor 5/6 of a
    bootstrap over 6.
    """
    table, generator = script("experiments/active_learning/table.py"), np.random.default_rng(0)
    seeds, documents, each = 6, 40, 5
    clusters = [f"d{n // each}" for n in range(documents * each)]
    widths, covered = [], 0
    for _ in range(60):
        effects = generator.normal(0, 2, (seeds, 1)) + np.repeat(generator.normal(0, 3, documents), each)
        value_SN = 1 + effects + generator.normal(0, 10, (seeds, documents * each))
        _, (low, high) = table.mean_and_interval(
            [lambda weight_BN, n=row: weight_BN @ n / weight_BN.sum(1) for row in value_SN], clusters
        )
        widths.append((high - low) / 2)
        covered += low < 1 < high
    expected = 1.96 * np.sqrt(4 / 6 * 5 / 6 + 9 / 40 + 100 / 1200)
    assert np.mean(widths) == pytest.approx(expected, rel=0.2)
    assert covered >= 48
    with pytest.raises(SystemExit):
        table.tables(Path("nowhere"))


def test_the_auroc_under_weights_is_that_of_repeated_questions() -> None:
    """Against `evaluate.confidence.auroc`, with each question written down as often as drawn."""
    table, generator = script("experiments/active_learning/table.py"), np.random.default_rng(3)
    document = Document("d", TEXT, ())
    scored = [
        ScoredAnswer(
            Question(str(n), "When?", (Answer("7:40", TEXT.index("7:40")),) if n % 3 else ()),
            document,
            Prediction("", no_answer_probability=float(generator.integers(5)) / 4),
            *(0.0,) * 3,
        )
        for n in range(30)
    ]
    weight_BN = generator.integers(0, 4, (6, 30))
    expected = []
    for weight_N in weight_BN:
        repeated = [one for one, times in zip(scored, weight_N, strict=True) for _ in range(times)]
        scores = [one.prediction.no_answer_probability for one in repeated]
        expected.append(100 * (auroc(scores, [not one.question.answerable for one in repeated]) or 0.0))
    assert table.auroc(Evaluation(tuple(scored)), weight_BN.astype(float)) == pytest.approx(expected)
    assert table.exact(Evaluation(tuple(scored)), weight_BN.astype(float)) == pytest.approx(0.0)


def test_the_settings_cannot_change_halfway(experiment: ModuleType, tmp_path: Path) -> None:
    options = ["--pool", "builtin:train", "--data", "builtin:dev", "--output", str(tmp_path / "x")]
    experiment.prepare(experiment.parse(options))
    with pytest.raises(RunError, match="epochs"):
        experiment.prepare(experiment.parse([*options, "--epochs", "9"]))
