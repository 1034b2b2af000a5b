"""`palmette review export`, `import`, `agreement` and `retrain`: what verdicts are good for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from palmette.cli.options import DATA, MODEL, PATH, SeedOption
from palmette.cli.packages import check_web_packages

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.cli.tables import TextTable
    from palmette.review.agreement import Agreement
    from palmette.review.state import State

Format = Literal["answers", "pairs", "labels", "events", "label-studio", "doccano", "argilla"]
Foreign = Literal["answers", "events", "label-studio", "doccano", "argilla"]
ReviewedArgument = Annotated[
    str, typer.Argument(help="The run whose answers were reviewed.", **{**MODEL, "metavar": "RUN"})
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Where the verdicts are: a file, or postgresql://USER@HOST/NAME. By default review.db in the run.",
        **{**DATA, "metavar": "STORE"},
    ),
]
_STORED = ("verdicts are kept with packages", "alembic", "sqlalchemy")  # what is said, and what is needed


def review_export(
    run: ReviewedArgument,
    out: Annotated[Path, typer.Argument(help="The file to write. It must not exist.", **{**PATH, "metavar": "OUT"})],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="The right answers (SQuAD v2 if the file ends in .json), preference pairs, labels for KTO, all "
            "events, or the file of another tool.",
        ),
    ] = "answers",
    store: StoreOption = None,
) -> None:
    """Write verdicts to a file, to learn from or for another tool.

    Questions of the audit set, and those on which people disagree, are left out of what is learned, and counted.
    """
    check_web_packages(*_STORED)
    from palmette.cli.console import stderr
    from palmette.studies.review_files import export_review

    export_review(_store(run, store), run, form, out, stderr().print)


def review_import(
    run: ReviewedArgument,
    source: Annotated[Path, typer.Argument(help="The file to read.", **{**PATH, "metavar": "FILE"})],
    form: Annotated[
        Foreign,
        typer.Option(
            "--format",
            help="What the file holds: all events, right answers (JSON Lines or SQuAD v2), or what another tool wrote.",
        ),
    ] = "events",
    store: StoreOption = None,
) -> None:
    """Add verdicts from a file, of palmette or of another tool."""
    check_web_packages(*_STORED)
    from palmette.cli.console import stderr
    from palmette.studies.review_files import import_review

    import_review(_store(run, store), form, source, stderr().print)


def review_agreement(run: ReviewedArgument, store: StoreOption = None, seed: SeedOption = 0) -> None:
    """Say how far people agree, and whether suggestions sway them.

    Figures have 95 % intervals over documents.
    """
    check_web_packages(*_STORED)
    from palmette.cli.console import stdout
    from palmette.review.agreement import measure_agreement
    from palmette.review.state import fold
    from palmette.review.store import Store
    from palmette.studies.review_files import existing

    with Store.open(existing(_store(run, store))) as opened:
        state, documents = fold(opened.events()), opened.questions()
    console = stdout()
    if not state.annotators:
        console.print("There are no verdicts yet. Judge some with palmette review.")
        return
    console.print(people_table(state), "")
    found = measure_agreement(state, documents, seed=seed)
    if not found.num_questions:
        console.print("No question was judged by two people yet, so agreement is not known.")
        return
    console.print(agreement_table(found), "")
    console.print(
        f"{found.num_questions:,} questions have verdicts of several people, in {found.num_pairs:,} pairs.\n"
        f"{len(state.conflicts()):,} questions are disputed and not decided."
    )


def review_retrain(
    run: ReviewedArgument,
    out: Annotated[
        Path | None,
        typer.Option(help="The new run. By default RUN-review-1 beside the old one, or the next number.", **PATH),
    ] = None,
    method: Annotated[
        Literal["sft", "dpo", "kto"],
        typer.Option(help="Learn the right answers (sft), preference pairs (dpo), or labels (kto)."),
    ] = "sft",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the verdicts.")] = 2,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=1e-9, help="Peak learning rate. By default that of the old run, and 1e-4 for dpo and kto."),
    ] = None,
    replay: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Documents of the old run's own data that are learned again, for each document with verdicts.",
        ),
    ] = 1.0,
    store: StoreOption = None,
    seed: SeedOption = 0,
) -> None:
    """Train a run further on verdicts, and compare it with the old one on the audit set.

    The new run stands beside the old one, which stays as it is. A page says what changed and what it cost. A job that
    was stopped continues with the same command.
    """
    check_web_packages(*_STORED)
    from palmette.cli.console import command_line, stderr, stdout
    from palmette.inference.names import resolve_run
    from palmette.startup import quick_imports
    from palmette.studies.review_files import existing

    resolve_run(run)
    existing(_store(run, store))
    with quick_imports(freeze=True):
        from palmette.cli.measure.comparison import comparison_table, remarks
        from palmette.studies.retraining.job import retrain
        from palmette.studies.retraining.settings import RetrainSettings
        from palmette.train.steps.callbacks import TrainingInterrupted

    settings, news = RetrainSettings(method, epochs, learning_rate, replay, seed), stderr()
    try:
        done = retrain(run, _store(run, store), settings, news.print, out)
    except TrainingInterrupted as stop:
        news.print(f"{str(stop).partition('.')[0]}. Continue with the same command.")
        raise typer.Exit(stop.exit_code) from stop
    if done.compared:
        stdout().print(f"A: {run}\nB: {done.run}\n", comparison_table(done.compared), "", sep="\n")
        stdout().print(*remarks(done.compared), sep="\n")
    else:
        news.print("No comparison: no question of the audit set has a right answer yet.")
    news.print(f"the page: {done.page}")
    news.print(f"try it: {command_line('review', '--model', str(done.run), '--store', _store(run, store))} --data FILE")


def people_table(state: State) -> TextTable:
    """What each person said, how fast, and how often suggestions were found right, shown and hidden."""
    from palmette.cli.tables import TextTable
    from palmette.numbers import duration, readable

    table = TextTable("person", "verdicts", "a minute", "time", "right, %", "right when hidden, %")
    for name in state.annotators:
        shown, blind = state.accept_rate(name), state.accept_rate(name, blind=True)
        pace = state.rate(name)
        table.add_row(
            name,
            f"{sum(state.counts(name).values()):,}",
            "" if pace is None else readable(pace, 2),
            duration(state.seconds(name)),
            "" if shown is None else f"{100 * shown:.0f}",
            "" if blind is None else f"{100 * blind:.0f}",
        )
    return table


_NAMES: Mapping[str, str] = {
    "raw_verdict": "same verdict, share",
    "alpha_verdict": "same verdict, Krippendorff's alpha",
    "raw_answer": "same answer, share",
    "alpha_answer": "same answer, Krippendorff's alpha",
    "exact": "answers, exact match",
    "f1": "answers, F1",
}


def agreement_table(found: Agreement) -> TextTable:
    """The measures of agreement with their intervals."""
    from palmette.cli.tables import TextTable
    from palmette.numbers import fixed, interval

    rows = {_NAMES[name]: measure for name, measure in found.measures.items()}
    rows |= {f"same verdict, Cohen's kappa of {one} and {other}": kappa for (one, other), kappa in found.kappa.items()}
    table = TextTable("agreement", "value", "95 % interval")
    for name, measure in rows.items():
        value = "undefined" if measure.value is None else fixed(measure.value, 2)
        table.add_row(name, value, interval(measure.interval, 2))
    return table


def _store(run: str, store: str | None) -> str:
    """The store that is meant: the one named, or that of `palmette review` for this model."""
    from palmette.cli.judge.review import default_store

    return store or str(default_store(run))
