"""Which questions should people judge? Queue strategies against random, with annotators simulated from known answers.

    python experiments/active_learning/run.py --pool train.json --data dev.json --start runs/quickstart untouched \\
        --output runs/active_learning

A cell is a starting model, a strategy, a share of wrong verdicts and a seed. In each cell people judge questions in
rounds, up to each budget. After a round the starting model is trained on all verdicts so far and measured, and its
answers to the pool make the next queue. Everything goes through the store, the queue and the export of
`palmette review`. Stopped or killed, the same command goes on. table.py then writes the tables.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
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
from palmette.decode.prediction import Prediction  # noqa: E402
from palmette.errors import PalmetteError  # noqa: E402
from palmette.evaluate.squad import Evaluation, evaluate_squad  # noqa: E402
from palmette.inference.answerer import load_answerer  # noqa: E402
from palmette.inference.names import resolve_model  # noqa: E402
from palmette.inference.task import recipe_prompt  # noqa: E402
from palmette.model.embedded import DEFAULT_MODEL  # noqa: E402
from palmette.review.events import Event, document_hash, now  # noqa: E402
from palmette.review.export import export_store  # noqa: E402
from palmette.review.queue import Item, make_queue  # noqa: E402
from palmette.review.state import State, fold  # noqa: E402
from palmette.review.store import Store  # noqa: E402
from palmette.train.run import resume, train  # noqa: E402
from palmette.train.stages import recipe_from  # noqa: E402

UNTOUCHED = "untouched"
PLAN, VERDICTS, TEST, STORE, LEARNED, RUN = "plan.json", "verdicts.json", "test", "review.db", "learned.jsonl", "run"
# "disagreement" compares the models of the last two rounds. In the first round there is one, and it is "uncertain".
STRATEGIES = ("random", "uncertain", "margin", "mixed", "disagreement")
BUDGETS = (50, 100, 200, 400)
PERSON = "simulated"
# Questions a second on one core, for the budget only.
_TRAINING, _ANSWERING = 4.3, 7.0


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
    parser.add_argument("--data", required=True, help="questions to measure on, of other documents")
    parser.add_argument("--output", type=Path, default=Path("runs/active_learning"))
    parser.add_argument("--start", nargs="+", default=["runs/quickstart", UNTOUCHED], help="starting models")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS), help="verdicts, rising")
    parser.add_argument("--wrong", nargs="+", type=float, default=[0.0, 0.1], help="shares of wrong verdicts")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--every", type=int, default=4, help="take every so manyth document of the pool")
    parser.add_argument("--every-data", type=int, default=1, help="measure on every so manyth document")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="the untouched model")
    parser.add_argument("--plan", action="store_true", help="write the data, say what it will take, and stop")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    """Prepare and run."""
    given = parse(words)
    try:
        pool, test = prepare(given)
        cells = list(cells_of(given))
        print(estimate(given, pool, test, len(cells)), flush=True)
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
    """All cells, those without wrong verdicts first."""
    for wrong, seed, start, strategy in itertools.product(given.wrong, given.seeds, given.start, given.strategies):
        yield Cell(start, strategy, wrong, seed)


def prepare(given: argparse.Namespace) -> tuple[DataSet, DataSet]:
    """Read the pool and the test data, and write down what is done.

    Raises:
        RunError: the folder was begun with other settings.
        DataError: the data cannot be read.
    """
    pool = thinned(read_source(given.pool), given.every)
    test = thinned(read_source(given.data, default_split="validation"), given.every_data)
    settings = {
        "budgets": given.budgets,
        "epochs": given.epochs,
        "learning_rate": given.learning_rate,
        "model": given.model,
        "pool": about(pool, given.every),
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


def estimate(given: argparse.Namespace, pool: DataSet, test: DataSet, num_cells: int) -> str:
    """What it will take, in words."""
    rounds = len(given.budgets)
    answers = rounds * (pool.num_questions + test.num_questions) / _ANSWERING
    learning = given.epochs * sum(given.budgets) / _TRAINING
    hours = num_cells * (answers + learning) / 3600
    return (
        f"{num_cells} cells of {rounds} rounds; {pool.num_questions} questions in the pool, {test.num_questions} to "
        f"measure on; about {hours:.1f} hours on one core"
    )


def run_cell(folder: Path, cell: Cell, given: argparse.Namespace, pool: DataSet, test: DataSet) -> None:
    """All rounds of a cell. What is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    models = [given.model if cell.start == UNTOUCHED else cell.start]
    if not (folder / "round-0" / TEST).is_dir():
        measured(folder / "round-0" / TEST, models[0], test)
    with Store.open(folder / STORE) as store:
        store.add_documents(without_answers(pool.documents))
        for number, budget in enumerate(given.budgets, start=1):
            place = folder / f"round-{number}"
            state = fold(store.events())
            if len(state.judgements) < budget:
                predictions = answered(folder, cell, models, pool, state)
                judge(store, state, cell, budget, predictions, pool)
            if not (place / TEST).is_dir():
                learn(place, cell, given, store, budget)
                measured(place / TEST, str(place / RUN), test)
            models.append(str(place / RUN))
            result = Evaluation.read(place / TEST)
            print(f"  {budget} verdicts: exact match {result.metrics['exact']:.1f} %", flush=True)


def without_answers(documents: Sequence[Document]) -> Iterator[Document]:
    """Documents as people get them: nobody has answered their questions."""
    for document in documents:
        asked = tuple(Question(question.id, question.text) for question in document.questions)
        yield Document(document.id, document.text, asked, document.title)


def answered(
    folder: Path, cell: Cell, models: Sequence[str], pool: DataSet, state: State
) -> dict[str, tuple[Prediction, ...]]:
    """The answers of the latest model to the questions of the pool that are not judged, and for `disagreement` those
    of the model before it.

    A random queue needs no answers to be made, but people are shown suggestions all the same.
    """
    judged = {question for _, question in state.judgements}
    left = []
    for document in pool.documents:
        questions = tuple(question for question in document.questions if question.id not in judged)
        if questions:
            left.append(Document(document.id, document.text, questions, document.title))
    taken = models[-2:] if cell.strategy == "disagreement" else models[-1:]
    found: dict[str, list[Prediction]] = {}
    for model in reversed(taken):
        number = models.index(model)
        place = folder / f"round-{number}" / f"pool-{len(judged)}"
        if not place.is_dir():
            measured(place, model, DataSet("pool", tuple(left), ""))
        for one in Evaluation.read(place).scored:
            found.setdefault(one.question.id, []).append(one.prediction)
    return {question: tuple(predictions) for question, predictions in found.items()}


def judge(
    store: Store,
    state: State,
    cell: Cell,
    budget: int,
    predictions: Mapping[str, tuple[Prediction, ...]],
    pool: DataSet,
) -> None:
    """Let the simulated person judge what the queue asks, up to the budget. Each verdict is stored at once."""
    asked = {question.id: (document, question) for document in pool.documents for question in document.questions}
    items = [Item(name, document_hash(asked[name][0].text), found) for name, found in predictions.items()]
    strategy: Any = cell.strategy
    if strategy == "disagreement" and len(next(iter(predictions.values()))) < 2:
        strategy = "uncertain"
    round_seed = 1000 * cell.seed + len(state.judgements)
    queue = make_queue(items, strategy, seed=round_seed, overlap_share=0.0, blind_share=0.0)
    person = Annotator(cell.seed, cell.wrong)
    while len(state.judgements) < budget and (chosen := queue.next_for(PERSON, state, now())) is not None:
        document, question = asked[chosen.place.question]
        shown, verdict = person.judge(document, question, predictions[question.id][0])
        values = {"document_sha256": document_hash(document.text), "verdict": verdict, "shown": shown}
        (number,) = store.append([Event("verdict", now(), PERSON, "simulation", question.id, **values)])
        fold(store.events(after=number - 1), state)


def learn(place: Path, cell: Cell, given: argparse.Namespace, store: Store, budget: int) -> None:
    """Train the starting model on the first verdicts, as many as the budget, or continue the training."""
    place.mkdir(parents=True, exist_ok=True)
    verdicts = [event for event in store.events() if event.kind == "verdict"][:budget]
    state = fold(verdicts)
    base = given.model if cell.start == UNTOUCHED else cell.start
    recipe = resolve_model(base).recipe or Recipe(output="")
    exported = export_store(store, state, recipe_prompt(recipe))
    run.write_text(place / LEARNED, exported.rows())
    counts = {"verdicts": exported.num_verdicts, "seconds": exported.seconds, "kinds": dict(state.counts())}
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
            "trees_per_step": 4,
            "row_tokens": 4096,
        },
    }
    values |= {"model": {"name": given.model}} if cell.start == UNTOUCHED else {"start": cell.start}
    train(recipe_from(values, "active learning", "sft"))


def measured(place: Path, model: str, data: DataSet) -> None:
    """A model's answers to questions, as files."""
    place.parent.mkdir(parents=True, exist_ok=True)
    answerer = load_answerer(model, calibrated=False)
    with run.whole_folder(place) as staging:
        evaluate_squad(answerer.decoder(), data.documents, what=f"answering, {place.parent.name}").write(staging)


if __name__ == "__main__":
    main()
