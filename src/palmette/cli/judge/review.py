"""`palmette review`: the page on which people judge a model's answers."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from palmette.cli.options import (
    DATA,
    MODEL,
    QUESTIONS,
    SOURCES,
    ChosenModelOption,
    LimitOption,
    LimitQuestionsOption,
    SeedOption,
    expanded_path,
)
from palmette.cli.packages import check_web_packages
from palmette.cli.serving import PortOption, login, serve_pages

if TYPE_CHECKING:  # commands import what they need when they run
    import socket

    from palmette.data.records import DataSet
    from palmette.decode.span_decoder import SpanDecoder
    from palmette.inference.names import ModelSource
    from palmette.review.showing import Choosing, Run

Strategy = Literal["mixed", "uncertain", "margin", "disagreement", "diverse", "random"]
_DEMO = "builtin:dev"


ReviewedOption = Annotated[
    str | None,
    typer.Option("--data", help=f"Questions to review, with or without known answers: {SOURCES}.", **QUESTIONS),
]
DemoOption = Annotated[
    bool, typer.Option("--demo", help="Review questions of the built-in corpus, with nothing prepared.")
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Where verdicts are kept: a file, or postgresql://USER@HOST/NAME. By default review.db in the run.",
        **{**DATA, "metavar": "STORE"},
    ),
]
AnnotatorOption = Annotated[
    list[str] | None,
    typer.Option(
        "--annotator",
        metavar="NAME",
        help="Name of a person who judges. May be repeated. Each gets a link of their own.",
    ),
]
StrategyOption = Annotated[Strategy, typer.Option("--strategy", help="How the next question is chosen.")]
AlsoOption = Annotated[
    list[str] | None,
    typer.Option(
        "--also",
        help="Another run to compare the model with, for --strategy disagreement. May be repeated.",
        **{**MODEL, "metavar": "RUN"},
    ),
]
OverlapOption = Annotated[
    float | None,
    typer.Option(
        "--overlap",
        min=0.0,
        max=1.0,
        help="Share of the questions that two people judge. By default 0.2 with several annotators, and none with one.",
    ),
]
BlindOption = Annotated[
    float, typer.Option("--blind", min=0.0, max=1.0, help="Share of the questions shown without the model's answer.")
]
HostOption = Annotated[
    str,
    typer.Option(
        "--host", metavar="ADDRESS", help="Address to listen at. Any but this machine's own needs --annotator."
    ),
]


def review(
    context: typer.Context,
    model: ChosenModelOption = None,
    data: ReviewedOption = None,
    demo: DemoOption = False,
    store: StoreOption = None,
    annotator: AnnotatorOption = None,
    strategy: StrategyOption = "random",
    also: AlsoOption = None,
    overlap: OverlapOption = None,
    blind: BlindOption = 0.1,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8765,
    limit: LimitOption = None,
    limit_questions: LimitQuestionsOption = None,
    seed: SeedOption = 0,
) -> None:
    """Judge a model's answers in the browser.

    The page shows a question, its document, the model's answer and the runners-up. Each verdict takes one key, and is
    kept before the next question is shown. Without a command, this opens the page.
    """
    if context.invoked_subcommand is not None:
        return
    check_web_packages("the review page needs packages", "alembic", "fastapi", "jinja2", "sqlalchemy", "uvicorn")
    from palmette.data.unanswered import read_to_judge
    from palmette.web.serving import check_people, listen

    names, questions = annotator or [], _source(data, demo=demo)
    check_people(names, host, "annotator")
    read = read_to_judge(questions, limit_documents=limit)  # before anything heavy is imported

    from palmette.cli.choice import named_or_chosen
    from palmette.cli.console import stderr
    from palmette.inference.names import resolve_answerer
    from palmette.review.queue import OVERLAP_SHARE
    from palmette.review.showing import Choosing
    from palmette.studies.measuring import first_questions

    asked = first_questions(read, limit_questions)
    source = resolve_answerer(named_or_chosen(model, stderr()))
    others = _others(source, strategy, also or [])
    kept = store or str(default_store(source.name, demo=demo))
    with contextlib.closing(listen(host, port)) as opened:
        shared = (OVERLAP_SHARE if len(names) > 1 else 0.0) if overlap is None else overlap
        choosing = Choosing(strategy, shared, blind, seed)
        _serve(source, others, asked, kept, choosing, names or [login()], opened, host)


def default_store(model: str, *, demo: bool = False) -> Path:
    """Where the verdicts on a model's answers are kept if nobody says where: in its folder, or else here.

    Args:
        model: the model's name.
        demo: whether the questions are those of the demo.
    """
    folder, name = expanded_path(model), "review-demo.db" if demo else "review.db"
    return folder / name if folder.is_dir() else Path(name)


def _source(data: str | None, *, demo: bool) -> str:
    from palmette.cli.console import command_line
    from palmette.errors import DataError

    if data is not None and demo:
        raise DataError("--demo brings its own data, and --data was given too", "Leave out one of them.")
    if data is None and not demo:
        raise DataError(
            "there are no questions to review", f"Give --data FILE, or try it out: {command_line('review', '--demo')}"
        )
    return data or _DEMO


def _others(source: ModelSource, strategy: Strategy, also: Sequence[str]) -> list[ModelSource]:
    """The runs that a model is compared with."""
    from palmette.errors import DataError
    from palmette.inference.names import resolve_answerer

    if (strategy == "disagreement") != bool(also):
        raise DataError(
            "--strategy disagreement compares runs, and " + ("there is one" if not also else f"this is {strategy}"),
            "Give both --strategy disagreement and --also RUN, or neither.",
        )
    others = [resolve_answerer(name) for name in also]
    if len({one.name for one in (source, *others)}) <= len(others):
        raise DataError("a run is compared with itself", "Name each run once, with --model or with --also.")
    return others


def _load(source: ModelSource) -> tuple[Run, SpanDecoder]:
    """A model under review, and what gives its answers."""
    from palmette.inference.answerer import open_answerer
    from palmette.review.showing import Run
    from palmette.startup import quick_imports

    with quick_imports(freeze=True):
        answerer = open_answerer(source)
    effort = answerer.effort()
    prompt = answerer.task.prompt.sha256
    run = Run(source.name, answerer.weights or "", prompt, effort.max_words, effort.inside_words)
    return run, answerer.span_decoder(effort)


def _serve(
    source: ModelSource,
    others: Sequence[ModelSource],
    data: DataSet,
    kept: str,
    choosing: Choosing,
    annotators: Sequence[str],
    opened: socket.socket,
    host: str,
) -> None:
    """Load the model, print a link for each annotator, and serve the page until Ctrl-C."""
    from palmette.inference.names import resolve_answerer
    from palmette.review.answers import OtherRun
    from palmette.review.store import Store
    from palmette.studies.retraining.newest import newest_retraining
    from palmette.web.review.opening import open_review
    from palmette.web.serving import known_names

    with Store.open(kept) as store:
        run, decoder = _load(source)
        review = open_review(
            store,
            data.documents,
            decoder,
            run,
            data=data.source,
            annotators=annotators,
            names=known_names(host),
            port=opened.getsockname()[1],
            choosing=choosing,
            newer=(newest_retraining, lambda name: _load(resolve_answerer(name))),
            also=[OtherRun(_load(one)[1]) for one in others],
        )
        serve_pages(review.app, review.sessions, opened, host, "Verdicts", kept)
        review.answers.stop()
        review.answers.join()
