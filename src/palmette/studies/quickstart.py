"""The quickstart: the main job from end to end, on the built-in model and corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from palmette import processes, run
from palmette.config.recipes import Recipe
from palmette.config.sections import DataSection, TrainSection
from palmette.data.source import read_source
from palmette.evaluate.calibration import calibrate
from palmette.evaluate.squad import Evaluation, evaluate_squad
from palmette.inference.answerer import Answerer, load_answerer
from palmette.inference.base import load_base
from palmette.inference.reader import READER
from palmette.inference.task import recipe_task
from palmette.numbers import count
from palmette.pages.evaluation.before import Before
from palmette.pages.evaluation.folder import facts_of, loss_of, write_evaluation
from palmette.pages.training.pictures import draw_run
from palmette.progress import Say
from palmette.run import trained_folder
from palmette.train.run import train

HELD_OUT, CALIBRATED_ON = "builtin:test", "builtin:dev"


@dataclass(frozen=True)
class Quickstart:
    """The results of the quickstart.

    Attributes:
        before: the untouched model, by the name of its decoder, and the reader.
        after: the fine-tuned and calibrated model.
    """

    before: Mapping[str, Evaluation]
    after: Evaluation


def run_quickstart(out: Path, say: Say, *, smoke: bool = False) -> Quickstart:
    """Evaluate the untouched model and the reader, fine-tune and calibrate the reader, and evaluate it again.

    Args:
        out: the run folder, which must not exist. It gets all results.
        say: called with a line at each step.
        smoke: use only a few documents, to see that everything works.

    Raises:
        RunError: the folder exists or cannot be written.
        TrainingInterrupted: training was stopped, after a checkpoint was saved.
    """
    processes.check_alone("the quickstart")
    run.check_absent(out)
    recipe = quickstart_recipe(out, smoke=smoke)
    documents = read_source(HELD_OUT, limit_documents=1 if smoke else None).documents
    num = count(sum(len(document.questions) for document in documents), "question")
    untouched = Recipe(output="")
    say(f"1 of 5: loading the model {untouched.model.name}. The first time this takes a minute longer")
    loaded = load_base(untouched)
    answerer = Answerer(loaded, recipe_task(untouched, loaded.tokenizer))
    say(f"2 of 5: the untouched model answers {num} ({HELD_OUT}), by plain generation and with the span decoder")
    before = {
        "untouched, greedy": evaluate_squad(answerer.decoder("greedy"), documents, what="untouched model, greedy"),
        "untouched": evaluate_squad(answerer.decoder(), documents, what="untouched model, span decoder"),
    }
    del loaded, answerer  # the reader is that model with an adapter on it
    say("3 of 5: the reader that comes with palmette answers them, which has not seen these documents either")
    answerer = load_answerer(READER)
    before["reader"] = evaluate_squad(answerer.decoder(), documents, what="reader")
    del answerer
    say(f"4 of 5: fine-tuning the reader on {', '.join(recipe.data.train)}. All questions of a document share one tree")
    train(recipe, say)
    answerer = load_answerer(str(out))
    if not smoke:
        say(f"calibrating on {CALIBRATED_ON}, so that probabilities are honest and the model knows when to refuse")
        calibration = calibrate(answerer, read_source(CALIBRATED_ON), answerer.effort())
        calibration.write(trained_folder(out))
        assert calibration.costs is not None
        say(f"it counts a wrong answer as {calibration.costs.wrong:g} refusals, as the reader does")
        answerer = replace(answerer, calibration=calibration)
    say(f"5 of 5: the fine-tuned model answers the same {num}")
    results = Quickstart(before, evaluate_squad(answerer.decoder(), documents, what="fine-tuned model"))
    _write(out, results, say)
    return results


def quickstart_recipe(out: Path, *, smoke: bool) -> Recipe:
    """The recipe: from the reader with the defaults, or a few documents for one epoch."""
    if smoke:
        data, train = DataSection(limit_documents=2), TrainSection(epochs=1, trees_per_step=1)
        return Recipe(output=str(out), start=READER, data=data, train=train)
    return Recipe(output=str(out), start=READER)


def _write(out: Path, results: Quickstart, say: Say) -> None:
    for name, evaluation in results.before.items():
        decoder = "greedy" if name.endswith("greedy") else "span"
        model = READER if name == READER else Recipe(output="").model.name
        with run.whole_folder(out / name.replace(", ", "-")) as staging:
            write_evaluation(evaluation, staging, f"Quickstart, {name}", facts_of(model, HELD_OUT, decoder))
    title = "Quickstart, fine-tuned and calibrated"
    before = Before("untouched", "fine-tuned", results.before["untouched"].scored)
    write_evaluation(results.after, out, title, facts_of(str(out), HELD_OUT, "span"), loss_of(out), before)
    draw_run(out, say)
