"""From verdicts to a new run: what is learned and what never is, resuming, and how many verdicts a gain takes."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palmette.config.recipes import load_run_recipe
from palmette.data.joined import join
from palmette.data.leakage import alike_documents
from palmette.data.records import Document, Question
from palmette.data.source import read_source
from palmette.errors import DataError, RunError
from palmette.evaluate.squad import Evaluation
from palmette.inference.names import resolve_run
from palmette.inference.reader import READER
from palmette.model.loading import weights_hash
from palmette.review.effort import smallest_gain, standard_error, verdicts_needed
from palmette.review.events import Event, Shown, Span, Verdict, document_hash
from palmette.review.store import Store
from palmette.studies.retraining.job import _place, retrain
from palmette.studies.retraining.material import _own_documents
from palmette.studies.retraining.settings import RetrainSettings
from palmette.train.run import train
from palmette.train.steps.callbacks import TrainingInterrupted
from tests.support.command import palmette
from tests.support.recipes import sft_recipe
from tests.support.runs import adapter, assert_same, log, on_step, quiet

AUDITED = ("builtin:test", 3)  # documents


def judged(documents: Sequence[Document], wrong: int = 2) -> list[Event]:
    """Verdicts of a person who knows the answers. Every second suggestion is right, the others are the first word.

    Every fifth verdict is a plain rejection.
    """
    events = []
    for document in documents:
        first = document.text.split()[0]
        for number, question in enumerate(document.questions):
            gold = Span(a.text, a.start, a.start + len(a.text)) if (a := next(iter(question.answers), None)) else None
            suggestion = Span(first, document.text.index(first), document.text.index(first) + len(first))
            if number % wrong:
                verdict = Verdict("edit", gold, 6.0) if gold else Verdict("no_answer", None, 3.0)
                verdict = Verdict("reject", None, 2.0) if number % 5 == 0 else verdict
            else:
                suggestion, verdict = gold, Verdict("accept", gold, 1.5)  # type: ignore[assignment]
            shown = Shown(suggestion, 0.6, 0.1, strategy="random", sampling_probability=0.5)
            sha256 = document_hash(document.text)
            values: dict[str, Any] = {"document_sha256": sha256, "shown": shown, "verdict": verdict}
            events.append(Event("verdict", datetime.now(UTC), "ann", "s", question.id, **values))
    return events


@pytest.fixture(scope="module")
def old(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained on two documents, with a store of verdicts in it: learned on four others, audited on three."""
    folder = tmp_path_factory.mktemp("runs") / "old"
    train(sft_recipe(tiny_folder, folder, data__limit_documents=2, train__save_every=0), quiet)
    learned = read_source("builtin:train", limit_documents=4).documents
    audited = read_source(AUDITED[0], limit_documents=AUDITED[1]).documents
    with Store.open(folder / "review.db") as store:
        store.add_documents([*learned, *audited])
        store.freeze_audit([question.id for one in audited for question in one.questions], 0.4)
        store.append(judged([*learned, *audited]))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("review.db")
    }


SETTINGS = RetrainSettings(epochs=1, learning_rate=1e-3)


@pytest.fixture(scope="module")
def retrained(old: Path) -> tuple[Path, Path, list[str], dict[str, bytes]]:
    """The new run, its material, what was said, and the old run's files before."""
    before, news = files(old), list[str]()
    done = retrain(str(old), old / "review.db", SETTINGS, news.append)
    return done.run, done.folder, news, before


def test_a_run_below_the_working_folder_is_named_as_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _place(Path("runs/old"), {}) == Path("runs/old-review-1")
    (tmp_path / "runs" / "old-review-1").mkdir(parents=True)
    assert _place(tmp_path / "runs" / "old-review-1", {}) == Path("runs/old-review-2")
    assert _place(tmp_path.parent / "old", {}) == tmp_path.parent / "old-review-1"


def test_a_retraining_leaves_the_old_run_and_puts_the_new_one_beside_it(
    old: Path, retrained: tuple[Path, Path, list[str], dict[str, bytes]]
) -> None:
    new, folder, news, before = retrained
    assert new == old.with_name("old-review-1")
    assert folder == old.with_name("old-review-1-verdicts")
    assert files(old) == before
    recipe, given = load_run_recipe(new / "recipe.yaml"), load_run_recipe(old / "recipe.yaml")
    assert (recipe.start, recipe.train.epochs, recipe.train.learning_rate) == (str(old), 1, 1e-3)
    assert (recipe.lora, recipe.model, recipe.train.trees_per_step) == (
        given.lora,
        given.model,
        given.train.trees_per_step,
    )
    manifest = json.loads((new / "manifest.json").read_text())
    assert manifest["start"]["sha256"] == weights_hash(str(old / "adapter"))
    moved = [float((adapter(new)[name] - value).abs().max()) for name, value in adapter(old).items()]
    assert 0 < max(moved) < 0.05, "it goes on from the old adapter"
    assert any(line.startswith("before: exact match") for line in news)


def test_nothing_of_the_audit_set_is_learned_and_old_data_are_learned_again(
    retrained: tuple[Path, Path, list[str], dict[str, bytes]],
) -> None:
    new, folder, news, _ = retrained
    recipe = load_run_recipe(new / "recipe.yaml")
    learned = [one for source in recipe.data.train for one in read_source(source).documents]
    audited = read_source(AUDITED[0], limit_documents=AUDITED[1]).documents
    assert not {one.text for one in learned} & {one.text for one in audited}
    names = [Path(source).name for source in recipe.data.train]
    assert names == ["train.jsonl", "replay.jsonl"]
    own = {one.text for one in read_source("builtin:dev", limit_documents=2).documents}
    assert {one.text for one in read_source(recipe.data.train[1]).documents} == own
    measured = Evaluation.read(folder / "before")
    assert {answer.question.id for answer in measured.scored} <= {q.id for one in audited for q in one.questions}
    material = json.loads((folder / "material.json").read_text())
    assert material["audit_drawn"] == sum(len(one.questions) for one in audited)
    assert material["left_out"]["audit"] == material["audit_drawn"]
    rejected = sum(number % 5 == 0 and number % 2 for one in audited for number, _ in enumerate(one.questions))
    assert material["audit_questions"] == material["audit_drawn"] - rejected == len(measured.scored)
    assert material["audit_seen_before"] == 0
    assert any("learned again" in line for line in news)


def test_the_page_says_what_changed_and_what_it_cost(
    old: Path, retrained: tuple[Path, Path, list[str], dict[str, bytes]]
) -> None:
    _, folder, _, _ = retrained
    html = (folder / "retraining.html").read_text()
    material = json.loads((folder / "material.json").read_text())
    for part in ("Before and after", "What flipped", "What was learned", "Cost", "Cautions", "old-review-1"):
        assert part in html
    assert f"{material['pairs']}" in html
    seconds = 1.5 * sum(row == 1.5 for row in material["audit_seconds"]) + sum(
        one for one in material["audit_seconds"] if one != 1.5
    )
    assert sum(material["audit_seconds"]) == seconds
    result = json.loads((folder / "retraining.json").read_text())
    for name in ("before", "after"):
        exact = Evaluation.read(folder / name).metrics["exact"]
        assert result["measures"]["exact"][name] == pytest.approx(exact)
    assert result["old"] == str(old)


def test_a_finished_retraining_is_not_done_again_and_the_next_one_gets_its_own_name(
    old: Path, retrained: tuple[Path, Path, list[str], dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    new, folder, _, _ = retrained
    before = files(new) | files(folder)
    with pytest.raises(RunError, match="is finished"):
        retrain(str(old), old / "review.db", SETTINGS, quiet, new)
    with monkeypatch.context() as patch:
        on_step(patch, 1, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterrupted):
            retrain(str(old), old / "review.db", SETTINGS, quiet)
    second = old.with_name("old-review-2")
    assert (second / "manifest.json").is_file()
    with Store.open(old / "review.db") as store:
        document = read_source("builtin:train", limit_documents=5).documents[4]
        store.add_documents([document])
        store.append(judged([document]))
    news: list[str] = []
    done = retrain(str(old), old / "review.db", SETTINGS, news.append)
    assert done.run == second
    assert any("with the verdicts that it was begun with" in line for line in news)
    assert_same(adapter(second), adapter(new))
    assert [line["loss"] for line in log(second)] == [line["loss"] for line in log(new)]
    assert files(new) | files(folder) == before
    with pytest.raises(RunError, match="exists already"):
        retrain(str(old), old / "review.db", SETTINGS, quiet, old)


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_preferences_are_learned_by_a_flag(
    old: Path, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / method
    options = ["--method", method, "--out", out, "--epochs", "1"]
    assert palmette(monkeypatch, "review", "retrain", old, *options) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["stage"] == method
    assert manifest["start"]["run"] == str(old)
    material = json.loads((tmp_path / f"{method}-verdicts" / "material.json").read_text())
    assert manifest["trees"] == (material["pairs"] if method == "dpo" else manifest["trees"]) > 0
    printed = capsys.readouterr()
    assert f"the page: {tmp_path}/{method}-verdicts/retraining.html" in " ".join(printed.err.split())
    assert f"A: {old}" in printed.out
    if method == "kto":
        weights = (out / "recipe.yaml").read_text()
        good, bad = material["labels"]["good"], material["labels"]["bad"]
        assert f"undesirable_weight: {max(0.25, min(4, good / bad))}"[:26] in weights


def test_a_document_that_is_like_one_of_the_audit_set_is_not_learned(old: Path, tmp_path: Path) -> None:
    """It has another heading and other line breaks, which is another document to a hash."""
    audited = read_source(AUDITED[0], limit_documents=2).documents
    copy = Document("copy", "Second edition.\n" + audited[0].text.replace(" ", "  "), (Question("c", "What edition?"),))
    other = read_source("builtin:train", limit_documents=1).documents[0]
    with Store.open(tmp_path / "review.db") as store:
        store.add_documents([copy, other, *audited])
        store.freeze_audit([question.id for one in audited for question in one.questions], 0.4)
        store.append(judged([other]))
        values = {"document_sha256": document_hash(copy.text), "verdict": Verdict("no_answer", None, 1.0)}
        store.append([Event("verdict", datetime.now(UTC), "ann", "s", "c", **values)])
    done = retrain(str(old), tmp_path / "review.db", SETTINGS, quiet, tmp_path / "new")
    assert done.compared == [], "nothing of the audit set was judged"
    material = json.loads((done.folder / "material.json").read_text())
    assert material["left_out"]["like the audit set"] == 1
    assert [one.text for one in read_source(str(done.folder / "train.jsonl")).documents] == [other.text]
    assert "There is no comparison" in done.page.read_text()


def test_a_judged_document_that_is_longer_than_a_row_is_learned_in_windows(tiny_folder: Path, tmp_path: Path) -> None:
    folder, news = tmp_path / "old", list[str]()
    train(sft_recipe(tiny_folder, folder, data__limit_documents=2, train__save_every=0, train__row_tokens=2048), quiet)
    long = join(read_source("builtin:train", limit_documents=8).documents, "long")
    audited = read_source(AUDITED[0], limit_documents=AUDITED[1]).documents
    with Store.open(folder / "review.db") as store:
        store.add_documents([long, *audited])
        store.freeze_audit([question.id for one in audited for question in one.questions], 0.4)
        store.append(judged([long, *audited]))
    retrain(str(folder), folder / "review.db", SETTINGS, news.append)
    assert any(line.startswith("1 document longer than a row is read in") for line in news), news


def test_alike_means_most_of_the_shorter_one() -> None:
    words = " ".join(f"w{n}" for n in range(100))
    window = Document("window", " ".join(f"w{n}" for n in range(30, 60)), ())
    whole, part = (
        Document("whole", words, ()),
        Document("part", words[: words.index("w20")] + " ".join(f"x{n}" for n in range(60)), ()),
    )
    assert [one.id for one, _ in alike_documents([window, part], [whole])] == ["window"]
    assert alike_documents([Document("a", "Short.", ())], [Document("b", "short.", ()), whole])[0][1].id == "b"
    assert alike_documents([], [whole]) == []


@pytest.mark.parametrize(
    ("said", "method", "message"),
    [
        ([], "sft", "there are no verdicts"),
        ([Verdict("skip")], "sft", "no question has a right answer (left out: 1 skipped, 29 unjudged)"),
        ([Verdict("no_answer")], "dpo", "no suggestion was replaced by another answer"),
        ([Verdict("no_answer")], "kto", "not both good and bad answers were judged"),
    ],
)
def test_too_few_verdicts_are_one_line(
    old: Path,
    said: list[Verdict],
    method: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    documents = read_source("builtin:dev", limit_documents=3).documents
    if said:
        with Store.open(tmp_path / "review.db") as store:
            store.add_documents(documents)
            sha256 = document_hash(documents[0].text)
            asked = documents[0].questions[0].id
            store.append([Event("verdict", datetime.now(UTC), "ann", "s", asked, sha256, verdict=one) for one in said])
    options = ["--store", tmp_path / "review.db", "--method", method, "--out", tmp_path / "new"]
    assert palmette(monkeypatch, "review", "retrain", old, *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()
    with pytest.raises((DataError, RunError)):
        retrain(str(tmp_path), tmp_path / "review.db", SETTINGS, quiet)


def test_a_gain_is_seen_as_often_as_promised_with_the_verdicts_that_were_asked_for() -> None:
    """Pilots of 30 documents with 5 questions, the number for a gain of 5 points, then 1,000 studies of that size.

    Questions of one document share a random effect, so they are worth less than as many documents. The gain is then
    seen with probability 0.8, and within three standard errors of a share of 1,000 (0.038) in this simulation. A
    single pilot's standard error is off by 13 %, so the mean square of 200 pilots is taken.
    """
    generator = np.random.default_rng(3)
    each, gain = 5, 0.05

    def study(documents: int) -> tuple[float, float]:
        """The mean difference, and its standard error over documents."""
        effect_D = generator.normal(0, 0.15, documents)
        value_DQ = gain + effect_D[:, None] + generator.normal(0, 0.45, (documents, each))
        means_D = value_DQ.mean(1)
        return float(means_D.mean()), float(means_D.std(ddof=1) / math.sqrt(documents))

    documents = 30
    pilot = math.sqrt(np.mean([study(documents)[1] ** 2 for _ in range(200)]))
    needed = verdicts_needed(pilot, documents * each, gain)
    assert 400 < needed < 2000
    found = [study(round(needed / each)) for _ in range(1000)]
    seen = np.mean([mean - 1.96 * error > 0 for mean, error in found])
    assert seen == pytest.approx(0.8, abs=0.038)
    assert smallest_gain(pilot * math.sqrt(documents * each / needed)) == pytest.approx(gain, rel=0.01)
    assert standard_error(-0.196, 0.196) == pytest.approx(0.1, rel=1e-3)


def test_nothing_of_the_reader_is_learned_again() -> None:
    """Its data do not come with the package. Those of another run have to be there."""
    assert _own_documents(resolve_run(READER), RetrainSettings()) is None
