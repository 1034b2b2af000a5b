"""`palmette quickstart`: the main job, end to end, on the built-in model and corpus."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from palmette import run
from palmette.cli.console import answer_text, invoked_as, metrics_table, stderr, stdout
from palmette.config import DataSection, Recipe, TrainSection
from palmette.data.source import read_source
from palmette.evaluate.calibration import calibrate
from palmette.evaluate.squad import Evaluation, evaluate_squad
from palmette.inference.answerer import Answerer, load_answerer
from palmette.inference.base import load_base
from palmette.inference.task import recipe_task
from palmette.pages.evaluation.folder import REPORT, loss_of, subtitle, write_evaluation
from palmette.pages.training.pictures import draw_run
from palmette.run import trained_folder
from palmette.train.callbacks import TrainingInterrupted
from palmette.train.run import train

HELD_OUT, CALIBRATED_ON = "builtin:test", "builtin:dev"
NUM_EXAMPLES = 3


def run_quickstart(out: Path, *, smoke: bool) -> None:
    """Evaluate the untouched model, fine-tune it, evaluate it again, and show both."""
    run.check_absent(out)
    news, started = stderr(), time.monotonic()

    def say(line: str) -> None:
        news.print(f"[{time.monotonic() - started:5.0f} s] {line}")

    recipe = quickstart_recipe(out, smoke=smoke)
    documents = read_source(HELD_OUT, limit_documents=1 if smoke else None).documents
    say(f"loading {recipe.model.name} (the first time, it is converted to safetensors)")
    loaded = load_base(recipe)
    opened = Answerer(loaded, recipe_task(recipe, loaded.tokenizer))
    say(f"answering {sum(len(d.questions) for d in documents)} questions of {HELD_OUT} with the untouched model")
    before = {
        "untouched, greedy": evaluate_squad(opened.decoder("greedy"), documents, what="untouched model, greedy"),
        "untouched": evaluate_squad(opened.decoder(), documents, what="untouched model, span decoder"),
    }
    del loaded, opened  # training loads the model again, with an adapter on it
    say(f"fine-tuning on {', '.join(recipe.data.train)}, one prefix tree per document")
    try:
        train(recipe, say)
    except TrainingInterrupted as stop:
        say(str(stop))
        say(f"then evaluate it with: {invoked_as()} eval squad --model {out} --data {HELD_OUT} --out {out}/test")
        raise typer.Exit(130) from stop
    opened = load_answerer(str(out))
    if not smoke:
        say(f"calibrating on {CALIBRATED_ON}")
        calibration = calibrate(opened, read_source(CALIBRATED_ON), opened.effort())
        calibration.write(trained_folder(out))
        opened = replace(opened, calibration=calibration)
    say("answering the same questions with the fine-tuned model")
    after = evaluate_squad(opened.decoder(), documents, what="fine-tuned model")
    _write(out, before, after)
    _show(stdout(), before, after)
    say(f"everything is in {out}; look at {out / REPORT}")
    _next_steps(stdout(), out)


def quickstart_recipe(out: Path, *, smoke: bool) -> Recipe:
    """The recipe: the defaults, or a few documents for one epoch."""
    if smoke:
        data, train = DataSection(limit_documents=2), TrainSection(epochs=1, trees_per_step=1)
        return Recipe(output=str(out), data=data, train=train)
    return Recipe(output=str(out))


def _write(out: Path, before: Mapping[str, Evaluation], after: Evaluation) -> None:
    model = Recipe(output="").model.name
    for name, evaluation in before.items():
        decoder = "greedy" if name.endswith("greedy") else "span"
        with run.whole_folder(out / name.replace(", ", "-")) as staging:
            write_evaluation(evaluation, staging, f"Quickstart, {name}", subtitle(model, HELD_OUT, decoder))
    title = "Quickstart, fine-tuned and calibrated"
    write_evaluation(after, out, title, subtitle(str(out), HELD_OUT, "span"), loss_of(out))
    draw_run(out, stderr().print)


def _show(console: Console, before: Mapping[str, Evaluation], after: Evaluation) -> None:
    console.print()
    columns = {**{name: evaluation.metrics for name, evaluation in before.items()}, "fine-tuned": after.metrics}
    console.print(metrics_table(columns, after.intervals))
    console.print("\nSome answers of the fine-tuned model:\n", style="bold")
    right = [answer for answer in after.scored if answer.exact == 1.0 and answer.answered]
    refused = [answer for answer in after.scored if answer.exact == 1.0 and not answer.answered]
    wrong = [answer for answer in after.scored if answer.exact == 0.0]
    console.print(_legend())
    for answer in (*right[:NUM_EXAMPLES], *refused[:1], *wrong[:NUM_EXAMPLES]):
        console.print(answer_text(answer, brackets=console.color_system is None))


def _legend() -> Text:
    legend = Text("In the documents: ")
    for style, meaning in (("green", "a right answer"), ("red", "a wrong one"), ("cyan", "what was right instead")):
        legend.append(f" {meaning} ", f"black on bright_{style}").append(" ")
    return legend.append("\n")


def _next_steps(console: Console, out: Path) -> None:
    palmette, document = invoked_as(), "The ferry leaves at 7:40 from pier 3."
    console.print("Next:", style="bold")
    for command in (
        f'echo "{document}" | {palmette} ask --model {out} --document - "When does the ferry leave?"',
        f"{palmette} compare-runs {out}/untouched {out}",
        f"{palmette} inspect --model {out} --questions 2",
    ):
        console.print(f"  {command}", soft_wrap=True)
