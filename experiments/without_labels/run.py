"""Documents of a new domain and nobody's labels: what does a model gain from their text alone?

    python experiments/without_labels/run.py --texts documents/ contracts/ --squad dev.json --labels train.json \\
        --writer MODEL --output runs/without_labels

The texts are cut into passages, and three ways to learn from them are tried: cloze questions, questions that a writer
asks, and continued pre-training. `stages.yaml` has the settings and the runs. Every model is measured on SQuAD v2 and
on questions about three documents, which are among the texts (`questions.py`). Stopped or killed, the same command goes
on. table.py then writes the tables.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from questions import find_documents, read_questions  # noqa: E402
from steps import about, filled, stop, thinned  # noqa: E402

from palmette import run  # noqa: E402
from palmette.config.recipes import read_settings  # noqa: E402
from palmette.data.records import Document  # noqa: E402
from palmette.data.source import read_source  # noqa: E402
from palmette.data.squad import dump_squad  # noqa: E402
from palmette.decode.effort import Effort  # noqa: E402
from palmette.decode.posterior import Decision  # noqa: E402
from palmette.errors import DataError, PalmetteError  # noqa: E402
from palmette.evaluate.squad import evaluate_squad  # noqa: E402
from palmette.inference.answerer import load_answerer  # noqa: E402
from palmette.model.embedded import DEFAULT_MODEL  # noqa: E402
from palmette.synth.cloze import ClozeSettings  # noqa: E402
from palmette.synth.cloze_job import write_cloze  # noqa: E402
from palmette.synth.passages import read_passages  # noqa: E402
from palmette.synth.question_job import write_document_questions  # noqa: E402
from palmette.synth.question_settings import QuestionSettings  # noqa: E402
from palmette.synth.writers import load_writer  # noqa: E402
from palmette.train.run import resume, train  # noqa: E402
from palmette.train.stages import recipe_from  # noqa: E402
from palmette.train.steps.callbacks import TrainingInterrupted  # noqa: E402

PLAN, TEXTS, CLOZE, QUESTIONS, ANSWERS = "plan.json", "texts.jsonl", "cloze.jsonl", "questions.jsonl", "answers"
SETS = ("squad", "asked")
READER, BASE = "reader", "base"
PROMPT = "echo"  # of the runs from the base. The reader has its own, which reads a document twice
PASSAGE_WORDS = 400
EACH = 4  # labels of a document at most
PASSES = 2  # of the span decoder, which answers nearly as with more


@dataclass(frozen=True)
class Study:
    """What is done where.

    Attributes:
        given: the options.
        stages: the settings of each stage.
        runs: the seeds of each run.
        deadline: when no further step is begun, on the clock of `time.monotonic`. None if there is no limit.
    """

    given: argparse.Namespace
    stages: dict[str, Any]
    runs: dict[str, list[int]]
    deadline: float | None = field(default=None)

    def begin(self, what: str) -> None:
        """Say what comes next, or stop if the time is over."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            stop(0)
        print(what, flush=True)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--texts", nargs="+", required=True, help="files and folders of texts, without labels")
    parser.add_argument("--squad", required=True, help="SQuAD v2 JSON to measure on")
    parser.add_argument("--labels", required=True, help="questions with known answers, of which few are learned")
    parser.add_argument("--output", type=Path, default=Path("runs/without_labels"))
    parser.add_argument(
        "--writer", help=f"the model that writes questions. Without one, OUTPUT/{QUESTIONS} is used if it exists"
    )
    parser.add_argument("--passages", type=int, default=36, help="passages to learn from")
    parser.add_argument("--questions", type=int, default=8, help="cloze questions about a passage at most")
    parser.add_argument("--spans", type=int, default=4, help="spans of a passage that the writer asks for at most")
    parser.add_argument("--every-squad", type=int, default=2, help="measure on every so manyth paragraph of SQuAD")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="the base model")
    parser.add_argument("--reader", default=READER, help="the run that stands for `reader`")
    parser.add_argument("--stages", type=Path, default=HERE / "stages.yaml", help="the stages and the runs")
    parser.add_argument("--runs", nargs="+", metavar="RUN", help="these runs only, for now")
    parser.add_argument("--sets", nargs="*", default=SETS, choices=SETS, help="measure on these only, for now")
    parser.add_argument("--minutes", type=float, help="begin no further step after so many minutes")
    parser.add_argument("--plan", action="store_true", help="write the data, and stop")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    """Prepare and run."""
    given = parse(words)
    try:
        settings = read_settings(given.stages.read_text(encoding="utf-8"), str(given.stages))
        deadline = None if given.minutes is None else time.monotonic() + 60 * given.minutes
        study = Study(given, settings["stages"], settings["runs"], deadline)
        prepare(study)
        for name, seeds in study.runs.items():
            if not given.plan and (given.runs is None or name in given.runs):
                for seed in seeds:
                    work_through(study, name, seed)
    except PalmetteError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, TrainingInterrupted):  # a training saves a checkpoint first
        stop()
    print(f"for the tables: python {HERE / 'table.py'} {given.output}")


def prepare(study: Study) -> None:
    """Write the passages, the cloze questions, and what is measured on.

    Raises:
        RunError: the folder was begun with other settings.
        DataError: the data cannot be read, or a document that is asked about is not among the texts.
    """
    given, folder = study.given, study.given.output
    files = find_documents(given.texts)
    passages = chosen_passages(given.texts, [str(file) for file in files.values()], given.passages)
    squad, labels = thinned(read_source(given.squad), given.every_squad), thinned(read_source(given.labels), 1)
    settings = {
        "model": given.model,
        "reader": given.reader,
        "prompt": PROMPT,
        "passages": len(passages),
        "words": sum(len(passage.text.split()) for passage in passages),
        "documents": len({passage.title for passage in passages}),
        "questions": given.questions,
        "spans": given.spans,
        "squad": about(squad, given.every_squad),
        "labels": about(labels, 1),
        "stages": study.stages,
    }
    if (folder / PLAN).is_file():
        begun = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        begun = {key: value for key, value in begun.items() if key in settings}
        run.check_same(begun, settings, where=folder, way_out="Give the same options, or another --output.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"text": passage.text, "passage": passage.id} for passage in passages]
    run.write_text(folder / TEXTS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    run.write_text(folder / "asked.json", dump_squad(read_questions(files)))
    run.write_text(folder / "squad.json", dump_squad(squad.documents))
    if not (folder / CLOZE).exists():
        write_cloze(read_texts(folder), folder / CLOZE, ClozeSettings(questions=given.questions), print)
    run.write_json(folder / PLAN, {**settings, **run.environment()})


def chosen_passages(texts: Sequence[str], asked: Sequence[str], number: int) -> list[Document]:
    """Passages to learn from: all of the documents that are asked about, and others, evenly among the rest.

    Args:
        texts: files and folders.
        asked: the files of the documents that are asked about.
        number: how many passages.

    Raises:
        DataError: there are fewer.
    """
    own = read_passages(asked, most_words=PASSAGE_WORDS).passages
    known = {passage.text for passage in own}
    others = [one for one in read_passages(texts, most_words=PASSAGE_WORDS).passages if one.text not in known]
    wanted = number - len(own)
    if not 0 <= wanted <= len(others):
        raise DataError(
            f"{number} passages are wanted, but there are {len(own)} of the documents that are asked about, and "
            f"{len(others)} others",
            "Choose another number with --passages.",
        )
    return own + [others[place * len(others) // wanted] for place in range(wanted)]


def read_texts(folder: Path) -> Any:
    """The passages, as the commands of `palmette synth` read them."""
    return read_passages([str(folder / TEXTS)], most_words=PASSAGE_WORDS)


def work_through(study: Study, name: str, seed: int) -> None:
    """Train a run and measure it, as far as that is not done."""
    folder = study.given.output
    if "questions" in name.split("+") and not write_questions(study):
        print(f"{name}: left out, since there are no questions. Give --writer, or write {folder / QUESTIONS}.")
        return
    model = trained(study, name, seed)
    for kind in study.given.sets:
        place = folder / ANSWERS / f"{name}-seed{seed}" / kind
        if place.is_dir():
            continue
        study.begin(f"{name}, seed {seed}: answers {kind}")
        place.parent.mkdir(parents=True, exist_ok=True)
        documents = read_source(str(folder / f"{kind}.json")).documents
        # The best span is looked for even where "?" is likelier. The tables say what either gives.
        decoder = load_answerer(model, calibrated=False).span_decoder(
            Effort(max_passes=PASSES), Decision(always_answer=True)
        )
        with run.whole_folder(place) as staging:
            evaluate_squad(decoder, documents, what=f"answering, {name}").write(staging)


def write_questions(study: Study) -> bool:
    """Have the questions written, if that is not done. Whether there are any."""
    given, out = study.given, study.given.output / QUESTIONS
    if not out.exists() and given.writer is not None:
        study.begin(f"{given.writer} writes questions")
        write_document_questions(
            read_texts(given.output),
            out,
            QuestionSettings(spans=given.spans),
            lambda: load_writer(given.writer, {"max_tokens": 64, "temperature": 0.0}, 0),
            given.reader,
            print,
        )
    return out.exists()


def trained(study: Study, name: str, seed: int) -> str:
    """A model by the name of its run, trained first if that is not done."""
    given = study.given
    before, _, stage = name.rpartition("+")
    if not before:
        return str(given.reader if name == READER else given.model)
    place = given.output / "runs" / f"{name}-seed{seed}"
    if run.is_finished(place):
        return str(place)
    start = None if before == BASE else trained(study, before, seed_before(study, before, seed))
    study.begin(f"{name}, seed {seed}: trains")
    if run.is_run(place):
        resume(place, print)
        return str(place)
    names = {file.stem: str(file) for file in map(given.output.__truediv__, (CLOZE, QUESTIONS, TEXTS))}
    number = stage.removeprefix("labels-")
    if number != stage:
        names[stage] = str(write_labels(given, int(number), seed))
    values = filled(study.stages[stage], names)
    values["output"] = str(place)
    values["train"] = {**values["train"], "seed": seed}
    if start is None:
        values |= {"model": {"name": given.model}, "prompt": {"name": PROMPT}}
    else:
        values["start"] = start
    train(recipe_from(values, name, values.get("stage", "sft")), print)
    return str(place)


def seed_before(study: Study, name: str, seed: int) -> int:
    """The seed of the run that a run of a seed begins from: its own if that run has it, else the first one."""
    seeds = study.runs.get(name, [0])
    return seed if seed in seeds else seeds[0]


def write_labels(given: argparse.Namespace, number: int, seed: int) -> Path:
    """A file with so many labels. Those of a seed are among its larger numbers too.

    Raises:
        DataError: there are not as many labels.
    """
    path: Path = given.output / f"labels-{number}-seed{seed}.json"
    if not path.exists():
        run.write_text(path, dump_squad(drawn_labels(read_source(given.labels).documents, number, seed)))
    return path


def drawn_labels(documents: Sequence[Document], number: int, seed: int) -> tuple[Document, ...]:
    """Questions drawn at random, up to four of a document.

    Raises:
        DataError: there are not as many.
    """
    chance, drawn, left = random.Random(seed), [], number
    for document in chance.sample(documents, len(documents)):
        questions = chance.sample(document.questions, min(EACH, len(document.questions)))[:left]
        if questions:
            drawn.append(replace(document, questions=tuple(questions)))
        left -= len(questions)
    if left:
        raise DataError(f"{number} labels are wanted, but there are {number - left}", "Give more with --labels.")
    return tuple(drawn)


if __name__ == "__main__":
    main()
