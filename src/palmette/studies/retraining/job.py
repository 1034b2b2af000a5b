"""A run trained further on verdicts, measured before and after, in a job that continues where it was stopped.

It leaves two new folders beside the old run, and changes nothing that was there: the new run, and `NEW-verdicts` with
what was learned, both evaluations, and the page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palmette import processes, run
from palmette.errors import RunError
from palmette.evaluate.changes import changed_answers
from palmette.evaluate.compare import Compared, compare_evaluations
from palmette.evaluate.squad import Evaluation, evaluate_squad
from palmette.files import expand
from palmette.inference.answerer import load_answerer
from palmette.inference.names import ModelSource, resolve_run
from palmette.inference.reader import stands_at
from palmette.lock import locked
from palmette.model.loading import weights_hash
from palmette.numbers import count
from palmette.pages.evaluation.before import Before
from palmette.pages.evaluation.folder import facts_of, loss_of, write_evaluation
from palmette.pages.retraining import RetrainingPage, write_retraining
from palmette.pages.training.pictures import draw_run
from palmette.progress import Say
from palmette.review.effort import smallest_gain, standard_error, verdicts_needed
from palmette.review.export import left_out_lines
from palmette.review.store import Store
from palmette.studies.retraining.material import MATERIAL, Material, make_material, read_material
from palmette.studies.retraining.newest import NUMBERED
from palmette.studies.retraining.settings import RetrainSettings, retraining_recipe
from palmette.studies.review_files import existing
from palmette.train.run import resume, train

RESULT, PAGE = "retraining.json", "retraining.html"
GAINS = (1.0, 2.0, 5.0, 10.0)  # percentage points of exact match


@dataclass(frozen=True)
class Retraining:
    """A finished retraining.

    Attributes:
        run: the new run.
        folder: the folder with what was learned, the evaluations and the page.
        compared: each measure before and after. Empty if the audit set has no judged question.
    """

    run: Path
    folder: Path
    compared: Sequence[Compared]

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder / PAGE


def retrain(model: str, store: str | Path, settings: RetrainSettings, say: Say, out: Path | None = None) -> Retraining:
    """Train a run further on the verdicts of a store, and compare both on the audit set. A stopped job continues.

    Args:
        model: the old run, which stays as it is.
        store: the store of the review.
        settings: how verdicts are learned.
        say: called with a line at each step.
        out: the new run. By default beside the old run, as RUN-review-1, or the next number that is free.

    Raises:
        RunError: the old run is not finished, the new one exists, or another process is working on it.
        DataError: the store has nothing to learn from.
        PalmetteError: training is not possible, see `train`.
        TrainingInterrupted: Ctrl-C or SIGTERM. The same command continues.
    """
    processes.check_alone("a retraining")
    source = resolve_run(model)
    assert source.folder is not None
    assert source.trained is not None
    wanted = {
        "settings": asdict(settings),
        "run_sha256": weights_hash(str(source.trained)),
        "store": str(store),
    }
    new = expand(out) if out is not None else _place(source.folder, wanted)
    folder = new.with_name(f"{new.name}-verdicts")
    with locked(folder, wait=False) as held:
        if not held:
            raise RunError(f"another process is working on {new}", "Wait for it, or give another name with --out.")
        material = _material(folder, new, store, source, settings, wanted, say)
        before = _evaluated(folder, "before", model, material, say)
        _trained(source, settings, new, material, say)
        after = _evaluated(folder, "after", str(new), material, say, before)
        return _concluded(source, settings, new, material, before, after)


def _place(old: Path, wanted: dict[str, Any]) -> Path:
    """The new run's folder: of a job that was begun and not finished, else with the next number.

    Below the working folder its path is relative, since it is printed and typed.
    """
    old = stands_at(old).absolute()
    if old.is_relative_to(Path.cwd()):
        old = old.relative_to(Path.cwd())
    match = NUMBERED.fullmatch(old.name)
    name, number = (match["name"], int(match["number"])) if match else (old.name, 0)
    while True:
        number += 1
        new = old.with_name(f"{name}-review-{number}")
        work = new.with_name(f"{new.name}-verdicts")
        if not new.exists() and not work.exists():
            return new
        if (work / MATERIAL).is_file() and not (work / RESULT).is_file():
            begun = json.loads((work / MATERIAL).read_text(encoding="utf-8"))["begun_with"]
            if begun == json.loads(json.dumps(wanted)):
                return new


def _material(
    folder: Path,
    new: Path,
    store: str | Path,
    source: ModelSource,
    settings: RetrainSettings,
    wanted: dict[str, Any],
    say: Say,
) -> Material:
    if (folder / MATERIAL).is_file():
        if (folder / RESULT).is_file():
            raise RunError(f"{new} is finished, and {folder / PAGE} shows it", "Give another name with --out.")
        say(f"continuing {new}, with the verdicts that it was begun with")
        return read_material(folder, json.loads(json.dumps(wanted)))
    run.check_absent(new)
    with Store.open(existing(store)) as opened:
        material = make_material(folder, opened, source, settings, wanted)
    about = material.about
    asked = count(about["questions"], "question")
    say(f"{asked} with a right answer, {count(about['pairs'], 'pair')}, from {count(about['verdicts'], 'verdict')}")
    for line in left_out_lines(about["left_out"]):
        say(line)
    if about["replayed"]:
        say(f"learned again, against forgetting: {count(about['replayed'], 'document')} of the old run's own data")
    return material


def _trained(source: ModelSource, settings: RetrainSettings, new: Path, material: Material, say: Say) -> None:
    """Train the new run, or continue it."""
    if run.is_run(new) and run.is_finished(new):
        return
    if run.is_run(new):
        resume(new, say)
    else:
        labels = {True: material.about["labels"]["good"], False: material.about["labels"]["bad"]}
        train(retraining_recipe(settings, source, new, material.data(settings.method), labels), say)
    draw_run(new, say)


def _evaluated(
    folder: Path, name: str, model: str, material: Material, say: Say, before: Evaluation | None = None
) -> Evaluation | None:
    """A model's answers to the audit set, found before or now."""
    audit = material.audit()
    if audit is None:
        return None
    if not (folder / name).is_dir():
        # A calibration was fitted to one model, so both are compared without.
        answerer = load_answerer(model, calibrated=False)
        result = evaluate_squad(answerer.decoder(), audit.documents, what=f"the audit set, {name}")
        compared = Before("before", "after", before.scored) if before is not None else None
        with run.whole_folder(folder / name) as staging:
            title = f"{Path(model).name} on the audit set"
            facts = facts_of(model, audit.source, "span")
            write_evaluation(result, staging, title, facts, loss_of(expand(model)), compared)
    result = Evaluation.read(folder / name)
    say(f"{name}: exact match {result.metrics['exact']:.1f} %, F1 {result.metrics['f1']:.1f} %")
    return result


def _concluded(
    source: ModelSource,
    settings: RetrainSettings,
    new: Path,
    material: Material,
    before: Evaluation | None,
    after: Evaluation | None,
) -> Retraining:
    """Compare both models, and write the result and the page."""
    compared: Sequence[Compared] = []
    changes = None
    if before is not None and after is not None:
        compared = compare_evaluations(before.scored, after.scored)
        changes = changed_answers(before.scored, after.scored)
    exact = next((one for one in compared if one.measure.key == "exact"), None)
    needs = _needs(exact, material)
    page = RetrainingPage(
        old=source.name,
        new=str(new),
        method=settings.method,
        compared=compared,
        changes=changes,
        material=material.about,
        needs=needs,
    )
    write_retraining(material.folder / PAGE, page)
    figures = {
        one.measure.key: {
            "before": one.a,
            "after": one.b,
            "interval": None if one.difference is None else [one.difference.low, one.difference.high],
        }
        for one in compared
    }
    result = {**run.environment(), "old": source.name, "new": str(new), "measures": figures, "needs": needs}
    run.write_json(material.folder / RESULT, result)
    return Retraining(new, material.folder, compared)


def _needs(exact: Compared | None, material: Material) -> dict[str, Any] | None:
    """What it would take to see smaller gains. None if the spread is unknown, since no answer changed."""
    if exact is None or exact.difference is None or exact.difference.low == exact.difference.high:
        return None
    number = material.about["audit_questions"]
    error = standard_error(exact.difference.low, exact.difference.high)
    taken = [one for one in material.about["audit_seconds"] if one > 0.0]
    pace = sum(taken) / len(taken) if taken else None
    rows = []
    for gain in GAINS:
        needed = verdicts_needed(error, number, gain)
        rows.append({"gain": gain, "verdicts": needed, "seconds": None if pace is None else needed * pace})
    return {"seen": smallest_gain(error), "questions": number, "rows": rows}
