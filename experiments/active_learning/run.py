"""Which questions should people judge? Queue strategies against random, with annotators simulated from known answers.

    python experiments/active_learning/run.py --pool train.json --apart Huguenot Islamism \\
        --start runs/builtin untouched --output runs/active_learning

A cell is a starting model, a strategy, a share of wrong verdicts and a seed. It grows through all budgets: in each
round people judge questions up to the budget, the model is trained on with the new verdicts and measured, and its
answers to other questions of the pool make the next queue. Everything goes through the store, the queue and the export
of `palmette review`. Stopped or killed, the same command goes on. table.py then writes the tables.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from annotators import READING, SECONDS, Annotator  # noqa: E402
from steps import about, thinned  # noqa: E402

from palmette import run  # noqa: E402
from palmette.config.recipes import Recipe  # noqa: E402
from palmette.data.records import DataSet, Document, Question  # noqa: E402
from palmette.data.source import read_source  # noqa: E402
from palmette.decode.effort import Effort  # noqa: E402
from palmette.decode.prediction import Prediction  # noqa: E402
from palmette.errors import DataError, PalmetteError  # noqa: E402
from palmette.evaluate.squad import Evaluation, evaluate_squad  # noqa: E402
from palmette.inference.answerer import Answerer, load_answerer  # noqa: E402
from palmette.inference.names import resolve_model  # noqa: E402
from palmette.inference.task import recipe_prompt  # noqa: E402
from palmette.model.embedded import DEFAULT_MODEL  # noqa: E402
from palmette.review.events import Event, document_hash  # noqa: E402
from palmette.review.export import export_store  # noqa: E402
from palmette.review.queue import Item, make_queue  # noqa: E402
from palmette.review.state import fold  # noqa: E402
from palmette.review.store import Store  # noqa: E402
from palmette.train.run import resume, train  # noqa: E402
from palmette.train.stages import recipe_from  # noqa: E402

UNTOUCHED = "untouched"
PLAN, VERDICTS, TEST, STORE, LEARNED, RUN = "plan.json", "verdicts.json", "test", "review.db", "learned.jsonl", "run"
# "disagreement" compares the models of the last two rounds. In the first round there is one, and it is "uncertain".
STRATEGIES = ("random", "uncertain", "mixed", "margin", "disagreement")
BUDGETS = (50, 100, 200, 400)
PERSON = "simulated"
EACH = 5  # candidates of a document at most, so that no queue has to choose among few documents
PASSES = 2  # of the span decoder, which answers nearly as with more
TREES = 2  # documents in a step of training
# Questions a second on one core, for the estimate only.
_TRAINING, _ANSWERING = 3.5, 12.0


@dataclass(frozen=True)
class Cell:
    """What is varied.

    Attributes:
        start: the starting model: a run, or "untouched" for the model as it was published.
        strategy: how the queue chooses.
        wrong: the share of verdicts that are wrong.
        seed: random seed of the queue, the mistakes and the training.
    """

    start: str
    strategy: str
    wrong: float
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{Path(self.start).name}-{self.strategy}-wrong{100 * self.wrong:g}-seed{self.seed}"


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pool", required=True, help="questions that may be judged, with their answers")
    parser.add_argument("--apart", nargs="+", default=[], help="articles of the pool that are only measured on")
    parser.add_argument("--data", help="questions to measure on, of other documents, in place of --apart")
    parser.add_argument("--output", type=Path, default=Path("runs/active_learning"))
    parser.add_argument("--start", nargs="+", default=["runs/builtin", UNTOUCHED], help="starting models")
    parser.add_argument("--strategies", nargs="+", default=["random", "uncertain", "mixed"], choices=STRATEGIES)
    parser.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS), help="verdicts, rising")
    parser.add_argument("--wrong", nargs="+", type=float, default=[0.0, 0.1], help="shares of wrong verdicts")
    parser.add_argument(
        "--strategies-if-wrong", nargs="+", default=["random", "mixed"], help="strategies where some verdicts are wrong"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--candidates", type=float, default=3.0, help="questions that a queue chooses one from")
    parser.add_argument("--every-data", type=int, default=5, help="measure on every so manyth document")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="the untouched model")
    parser.add_argument("--plan", action="store_true", help="write the data, say what it will take, and stop")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    """Prepare and run."""
    given = parse(words)
    try:
        pool, test = prepare(given)
        cells = list(cells_of(given))
        print(estimate(given, pool, test, cells), flush=True)
        for number, cell in enumerate(cells, start=1):
            if given.plan:
                break
            print(f"cell {number} of {len(cells)}: {cell.name}", flush=True)
            run_cell(given.output / cell.name, cell, given, pool, test)
    except PalmetteError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"for the tables: python {HERE / 'table.py'} {given.output}")


def cells_of(given: argparse.Namespace) -> Iterator[Cell]:
    """All cells: those without wrong verdicts first, and all seeds of a starting model before the next one."""
    for wrong, start, seed, strategy in itertools.product(given.wrong, given.start, given.seeds, given.strategies):
        if not wrong or strategy in given.strategies_if_wrong:
            yield Cell(start, strategy, wrong, seed)


def prepare(given: argparse.Namespace) -> tuple[DataSet, DataSet]:
    """Read the pool and the test data, and write down what is done.

    Raises:
        RunError: the folder was begun with other settings.
        DataError: the data cannot be read, or nothing says what to measure on.
    """
    pool, test = split(given)
    settings = {
        "candidates": given.candidates,
        "epochs": given.epochs,
        "learning_rate": given.learning_rate,
        "model": given.model,
        "pool": about(pool, 1),
        "data": about(test, given.every_data),
        "cost": {"reading": READING, **SECONDS},
    }
    path = given.output / PLAN
    if path.is_file():
        written = json.loads(path.read_text(encoding="utf-8"))
        begun = {key: value for key, value in written.items() if key in settings}
        run.check_same(begun, settings, where=given.output, way_out="Give the same options, or another --output.")
    else:
        given.output.mkdir(parents=True, exist_ok=True)
        run.write_json(path, {**settings, **run.environment()})
    return pool, test


def split(given: argparse.Namespace) -> tuple[DataSet, DataSet]:
    """The pool, and the questions to measure on, which are about other articles."""
    pool = read_source(given.pool)
    titles = {document.title for document in pool.documents}
    if unknown := [title for title in given.apart if title not in titles]:
        raise DataError(f"{given.pool} has no article {unknown[0]!r}", f"It has {', '.join(sorted(titles))}.")
    if (given.data is None) != bool(given.apart):
        raise DataError("what to measure on is not clear", "Give either --apart ARTICLE or --data FILE.")
    if given.data is not None:
        return thinned(pool, 1), thinned(read_source(given.data, default_split="validation"), given.every_data)
    apart = [document.title in given.apart for document in pool.documents]
    sides = [tuple(itertools.compress(pool.documents, chosen)) for chosen in ([not one for one in apart], apart)]
    return replace(pool, documents=sides[0]), thinned(replace(pool, documents=sides[1]), given.every_data)


def estimate(given: argparse.Namespace, pool: DataSet, test: DataSet, cells: Sequence[Cell]) -> str:
    """What it will take, in words."""
    verdicts, rounds = given.budgets[-1], len(given.budgets)
    seconds = 0.0
    for cell in cells:
        answers = rounds * test.num_questions + verdicts * (1.0 if cell.strategy == "random" else given.candidates)
        seconds += answers / _ANSWERING + given.epochs * verdicts / _TRAINING
    return (
        f"{len(cells)} cells of {rounds} rounds; {pool.num_questions} questions in the pool, {test.num_questions} to "
        f"measure on; about {seconds / 3600:.1f} hours on one core"
    )


def run_cell(folder: Path, cell: Cell, given: argparse.Namespace, pool: DataSet, test: DataSet) -> None:
    """All rounds of a cell. What is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    models = [given.model if cell.start == UNTOUCHED else cell.start]
    before = given.output / Path(cell.start).name / TEST
    if not before.is_dir():
        measured(before, models[0], test)
    with Store.open(folder / STORE) as store:
        store.add_documents(without_answers(pool.documents))
        for number, budget in enumerate(given.budgets, start=1):
            place = folder / f"round-{number}"
            check_budget(place, budget)
            if not (place / TEST).is_dir():
                judge(store, place, cell, given, pool, models)
                learn(place, cell, given, store, models[-1])
                measured(place / TEST, str(place / RUN), test)
            models.append(str(place / RUN))
            result = Evaluation.read(place / TEST)
            print(f"  {budget} verdicts: exact match {result.metrics['exact']:.1f} %", flush=True)


def check_budget(place: Path, budget: int) -> None:
    """Check that a round that was begun is one of this budget. Larger budgets may be added behind it.

    Raises:
        RunError: it is another.
    """
    if (place / VERDICTS).is_file():
        begun = json.loads((place / VERDICTS).read_text(encoding="utf-8"))
        way_out = "Give the budgets that it was begun with, and larger ones behind them."
        run.check_same({"budget": begun["budget"]}, {"budget": budget}, where=place, way_out=way_out)


def without_answers(documents: Sequence[Document]) -> Iterator[Document]:
    """Documents as people get them: nobody has answered their questions."""
    for document in documents:
        asked = tuple(Question(question.id, question.text) for question in document.questions)
        yield Document(document.id, document.text, asked, document.title)


def candidates(pool: DataSet, judged: set[str], number: int, seed: int) -> tuple[Document, ...]:
    """Documents with questions that a queue may choose from: random documents, and `EACH` random questions of each.

    Args:
        pool: all documents.
        judged: the questions that are not asked again.
        number: how many questions are wanted.
        seed: random seed.
    """
    generator, drawn = random.Random(f"candidates {seed}"), list[Document]()
    for document in generator.sample(pool.documents, len(pool.documents)):
        left = [question for question in document.questions if question.id not in judged]
        taken = generator.sample(left, min(EACH, len(left), number))
        number -= len(taken)
        if taken:
            drawn.append(replace(document, questions=tuple(taken)))
    return tuple(drawn)


def judge(
    store: Store, place: Path, cell: Cell, given: argparse.Namespace, pool: DataSet, models: Sequence[str]
) -> None:
    """Let the simulated person judge what the queue asks, up to the round's budget. Each verdict is stored at once.

    A random queue needs no answers to be made, so the model answers only the questions that are asked. People are shown
    suggestions all the same.
    """
    before, budget = (0, *given.budgets)[len(models) - 1 : len(models) + 1]
    given_so_far = verdicts_of(store)
    judged = {event.question for event in given_so_far[:before]}
    seed = 1000 * cell.seed + before
    drawn = candidates(pool, judged, round(given.candidates * (budget - before)), seed)
    asked = {question.id: (document, question) for document in drawn for question in document.questions}
    if len(asked) < budget - before:
        raise DataError(f"the pool has {len(asked)} questions for {budget} verdicts", "Give a larger --pool.")
    found: dict[str, tuple[Prediction, ...]] = {}
    strategy: Any = cell.strategy
    if strategy != "random":
        found = answered(place, models[-2:] if strategy == "disagreement" else models[-1:], drawn)
    if strategy == "disagreement" and len(models) < 2:
        strategy = "uncertain"
    items = [Item(name, document_hash(document.text), found.get(name, ())) for name, (document, _) in asked.items()]
    queue = make_queue(items, strategy, seed=seed, overlap_share=0.0, blind_share=0.0)
    chosen = [one.question for one in queue.places[: budget - before]]
    if strategy == "random":
        found = answered(place, models[-1:], narrowed(drawn, set(chosen)))
    person = Annotator(cell.seed, cell.wrong)
    for name in chosen[len(given_so_far) - before :]:
        document, question = asked[name]
        shown, verdict = person.judge(document, question, found[name][0])
        values = {"document_sha256": document_hash(document.text), "verdict": verdict, "shown": shown}
        store.append([Event("verdict", datetime.now(UTC), PERSON, "simulation", name, **values)])


def narrowed(documents: Sequence[Document], kept: set[str]) -> tuple[Document, ...]:
    """The documents with only some of their questions."""
    found = (
        replace(document, questions=tuple(question for question in document.questions if question.id in kept))
        for document in documents
    )
    return tuple(document for document in found if document.questions)


def verdicts_of(store: Store) -> list[Event]:
    """The verdicts so far."""
    return [event for event in store.events() if event.kind == "verdict"]


def answered(place: Path, models: Sequence[str], documents: tuple[Document, ...]) -> dict[str, tuple[Prediction, ...]]:
    """The answers of models to questions, those of the last model first."""
    found: dict[str, list[Prediction]] = {}
    for number, model in enumerate(reversed(models)):
        folder = place / f"candidates-{number}"
        if not folder.is_dir():
            measured(folder, model, DataSet("pool", documents, ""))
        for one in Evaluation.read(folder).scored:
            found.setdefault(one.question.id, []).append(one.prediction)
    return {question: tuple(predictions) for question, predictions in found.items()}


def learn(place: Path, cell: Cell, given: argparse.Namespace, store: Store, model: str) -> None:
    """Train the model of the round before on the verdicts of this round, or continue the training."""
    place.mkdir(parents=True, exist_ok=True)
    number = int(place.name.removeprefix("round-"))
    before, budget = (0, *given.budgets)[number - 1 : number + 1]
    verdicts = verdicts_of(store)[:budget]
    prompt = recipe_prompt(resolve_model(model).recipe or Recipe(output=""))
    new, all_so_far = (export_store(store, fold(taken), prompt) for taken in (verdicts[before:], verdicts))
    run.write_text(place / LEARNED, new.rows())
    counts = {
        "verdicts": all_so_far.num_verdicts,
        "seconds": all_so_far.seconds,
        "kinds": dict(fold(verdicts).counts()),
    }
    run.write_json(place / VERDICTS, {**asdict(cell), "budget": budget, **counts})
    if run.is_run(place / RUN):
        if not run.is_finished(place / RUN):
            resume(place / RUN)
        return
    values: dict[str, Any] = {
        "output": str(place / RUN),
        "data": {"train": [str(place / LEARNED)], "on_too_long": "drop"},
        "train": {
            "epochs": given.epochs,
            "learning_rate": given.learning_rate,
            "seed": cell.seed,
            "trees_per_step": TREES,
        },
    }
    values |= {"model": {"name": given.model}} if model == given.model else {"start": model}
    train(recipe_from(values, "active learning", "sft"))


@functools.lru_cache(maxsize=1)
def loaded(model: str) -> Answerer:
    """A model. The last one is kept, since it is measured and then makes the next queue."""
    return load_answerer(model, calibrated=False)


def measured(place: Path, model: str, data: DataSet) -> None:
    """A model's answers to questions, as files."""
    place.parent.mkdir(parents=True, exist_ok=True)
    decoder = loaded(model).decoder(effort=Effort(max_passes=PASSES))
    with run.whole_folder(place) as staging:
        evaluate_squad(decoder, data.documents, what=f"answering, {place.parent.name}").write(staging)


if __name__ == "__main__":
    main()
