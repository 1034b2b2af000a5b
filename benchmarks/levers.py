"""What settings of a training bring: seed, epochs, rank, all weights, learning rate. Each is changed alone.

    python benchmarks/levers.py --train train.json --test dev.json [--every 2] [--work runs/levers] [NAME ...]

trains one model for each NAME (for all of them if none is given) on every second document of a SQuAD file, from the
untouched base, with the reader's prompt. Then it asks the questions of the other file, without a calibration, and
prints a table of all models that have been measured in this folder. A training that was stopped goes on, and what was
measured is not measured again. The models of a folder learn from the same data and answer the same questions.

EM and F1 are SQuAD v2's, of the most probable outcome, in percent. The number in brackets is the EM at the threshold
that is best for these very questions. AUROC says how well the probability of an answer tells the questions that have
one. *Forced* is the best span of the questions that have an answer: EM / F1.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import palmette
from palmette import run
from palmette.data.squad import dump_squad
from palmette.decode.posterior import Decision
from palmette.errors import PalmetteError
from palmette.evaluate.squad import score
from palmette.inference.answerer import load_answerer
from palmette.tasks.answer_match import exact_match, gold_answers, token_f1
from palmette.train.run import resume, train
from palmette.train.stages import recipe_from
from palmette.train.steps.callbacks import TrainingInterrupted

# What each training changes. Everything else is as in `recipe`.
LEVERS: dict[str, dict[str, dict[str, Any]]] = {
    "one epoch, rank 16, 1e-3": {},
    "seed 1": {"train": {"seed": 1}},
    "seed 2": {"train": {"seed": 2}},
    "two epochs": {"train": {"epochs": 2}},
    "rank 8": {"lora": {"rank": 8, "alpha": 16}},
    "rank 64": {"lora": {"rank": 64, "alpha": 128}},
    "learning rate 3e-4": {"train": {"learning_rate": 3e-4}},
    "learning rate 2e-3": {"train": {"learning_rate": 2e-3}},
    "all weights, 3e-5": {"train": {"method": "full", "learning_rate": 3e-5}},
    "all weights, 1e-4": {"train": {"method": "full", "learning_rate": 1e-4}},
}


def recipe(data: Path, folder: Path, changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The settings of one training."""
    settings: dict[str, Any] = {
        "stage": "sft",
        "output": str(folder),
        "data": {"train": [str(data)], "on_bad_record": "drop", "on_too_long": "drop"},
        "prompt": {"name": "echo_twice"},
        "train": {"epochs": 1},
    }
    for section, values in changes.items():
        settings[section] = {**settings.get(section, {}), **values}
    return settings


def trained(name: str, data: Path, work: Path) -> Path:
    """The folder of a model that is trained to its end, now if it is not yet."""
    folder = work / name.replace(" ", "-").replace(",", "")
    if not run.is_run(folder):
        train(recipe_from(recipe(data, folder, LEVERS[name]), name, "sft"), print)
    elif not run.is_finished(folder):
        resume(folder, print)
    return folder


def measure(folder: Path, test: Path) -> dict[str, float]:
    """The figures of a model on the questions of a file."""
    documents = palmette.read_data(str(test)).documents
    answerer = load_answerer(str(folder), calibrated=False)
    decoder = answerer.span_decoder(answerer.effort())
    posteriors = dict(decoder.posteriors(documents))
    metrics = score(documents, {key: Decision().decide(one) for key, one in posteriors.items()}).metrics
    held = [replace(one, questions=tuple(q for q in one.questions if q.answerable)) for one in documents]
    forced_decoder = answerer.span_decoder(answerer.effort(), Decision(always_answer=True))
    found = {key: one.text for key, one in forced_decoder.predict(held)}
    pairs = [(found[question.id], gold_answers(question)) for one in held for question in one.questions]
    names = {"exact": "EM", "f1": "F1", "best_exact": "best", "auroc_answerable": "AUROC"}
    names |= {"HasAns_exact": "EM with", "NoAns_exact": "EM without"}
    figures = {short: float(metrics[name] or 0.0) for name, short in names.items()}
    for short, measure_of in (("forced EM", exact_match), ("forced F1", token_f1)):
        figures[short] = 100 * sum(measure_of(text, gold) for text, gold in pairs) / len(pairs)
    return figures


def table(work: Path) -> None:
    """Print the figures of all models that were measured."""
    print("| changed | EM | F1 | EM with an answer | EM without | AUROC | forced |")
    print("|---|---|---|---|---|---|---|")
    for name in LEVERS:
        file = work / f"{name}.json"
        if file.is_file():
            one = json.loads(file.read_text(encoding="utf-8"))
            print(
                f"| {name} | {one['EM']:.1f} ({one['best']:.1f}) | {one['F1']:.1f} | {one['EM with']:.1f} | "
                f"{one['EM without']:.1f} | {one['AUROC']:.3f} | {one['forced EM']:.1f} / {one['forced F1']:.1f} |"
            )


def parse(words: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {'; '.join(LEVERS)}")
    parser.add_argument("--train", type=Path, required=True, help="a SQuAD file to learn from")
    parser.add_argument("--test", type=Path, required=True, help="a SQuAD file of other articles")
    parser.add_argument("--every", type=int, default=1, help="learn from every n-th document only")
    parser.add_argument("--work", type=Path, default=Path("runs/levers"), help="the folder for everything made")
    options = parser.parse_args(words)
    if unknown := [name for name in options.names if name not in LEVERS]:
        parser.error(f"no lever is called {unknown[0]!r}. There are: {'; '.join(LEVERS)}")
    return options


def prepare(options: argparse.Namespace, work: Path) -> Path:
    """The file to learn from, in the folder for everything made.

    Raises:
        RunError: the folder was begun with other data.
    """
    work.mkdir(parents=True, exist_ok=True)
    asked = {"train": str(options.train), "test": str(options.test), "every": options.every}
    if (begun := work / "data.json").exists():
        way_out = "Give the same files, or another --work."
        run.check_same(json.loads(begun.read_text(encoding="utf-8")), asked, where=work, way_out=way_out)
    run.write_json(begun, asked)
    data = work / f"every-{options.every}.json"
    if not data.exists():
        documents = palmette.read_data(str(options.train)).documents[:: options.every]
        run.write_text(data, dump_squad(documents))
        print(f"{sum(len(one.questions) for one in documents)} questions of {len(documents)} documents", flush=True)
    return data


def main(words: list[str] | None = None) -> None:
    """Train and measure what is asked for, and print the table."""
    options = parse(words)
    work: Path = options.work.absolute()
    try:
        data = prepare(options, work)
        for name in options.names or LEVERS:
            if not (file := work / f"{name}.json").exists():
                run.write_json(file, measure(trained(name, data, work), options.test))
    except PalmetteError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except TrainingInterrupted as stop:
        print(f"stopped after step {stop.step}. The same command goes on.", file=sys.stderr)
        sys.exit(stop.exit_code)
    table(work)


if __name__ == "__main__":
    main()
