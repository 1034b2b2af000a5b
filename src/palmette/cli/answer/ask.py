"""`palmette ask`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from palmette.cli.options import (
    MODEL,
    Answering,
    ChosenModelOption,
    expanded,
    read_answering,
)


def _refuse_old_form(value: str | None) -> None:
    """`--document FILE` was how a document was given before it became the first argument."""
    if value is not None:
        import shlex

        from palmette.cli.console import invoked_as
        from palmette.errors import DataError

        raise DataError(
            "the document is the first argument, and there is no option --document any more",
            f'Write: {invoked_as()} ask {shlex.quote(value)} "QUESTION"',
        )


DocumentArgument = Annotated[
    str,
    typer.Argument(
        help="A text, Markdown, HTML, PDF, Word or table file, or - for standard input.",
        **{**MODEL, "metavar": "DOCUMENT"},
    ),
]
QuestionsArgument = Annotated[
    list[str] | None, typer.Argument(help="One question or more. Without any, a prompt asks for them.")
]
FullOption = Annotated[bool, typer.Option("--full", help="Show the whole document, with the answers marked.")]
WhyOption = Annotated[bool, typer.Option("--why", help="Show all candidates, and how each decision came about.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for each question.")]
ReadAllOption = Annotated[
    bool,
    typer.Option("--read-all", help="Read all of a long document, and not just the parts nearest to the question."),
]
OldDocumentOption = Annotated[
    str | None,
    typer.Option(
        "--document",
        help="Refused, since the document is the first argument.",
        hidden=True,
        is_eager=True,
        callback=_refuse_old_form,
        **{**MODEL, "metavar": "FILE"},
    ),
]


@expanded("answering", read_answering)
def ask(
    *,
    document: DocumentArgument,
    questions: QuestionsArgument = None,
    model: ChosenModelOption = None,
    full: FullOption = False,
    why: WhyOption = False,
    as_json: JsonOption = False,
    read_all: ReadAllOption = False,
    answering: Answering,
    _old_form: OldDocumentOption = None,
) -> None:
    """Answer questions about a document.

    The answer is copied from the document, with its probability and its place. The model says so if the document does
    not hold it, and shows candidates if it is unsure. The exit code is 0 in all of these cases, 2 after a mistake, and
    130 after Ctrl-C.
    """
    from palmette.documents import read_document
    from palmette.inference.asking import check_questions, check_text

    asked = questions or []
    check_questions(asked)
    if not asked:
        _check_prompt(document, as_json=as_json)
    opened = read_document(document)
    check_text(opened.text, opened.name)

    from palmette.cli.answer.answers import show
    from palmette.cli.choice import named_or_chosen
    from palmette.cli.console import stderr, stdout
    from palmette.inference.excerpt import printable
    from palmette.inference.names import resolve_answerer
    from palmette.startup import quick_imports

    news, out = stderr(), stdout()
    for note in opened.notes:
        news.print(printable(f"{opened.name}: {note}"))
    source = resolve_answerer(named_or_chosen(model, news))
    with quick_imports(freeze=True):
        from palmette.cli.answer.conversation import converse
        from palmette.inference.answerer import open_answerer
        from palmette.inference.asking import open_session
    decoder, cost = answering.decoder, answering.cost_wrong
    calibrated = answering.calibration and decoder == "span"
    answerer = open_answerer(source, attention=answering.attention, calibrated=calibrated, cost_wrong=cost)
    effort = answerer.effort(answering.max_words, answering.inside_words)
    session = open_session(answerer, opened.text, opened.name, decoder=decoder, effort=effort, read_all=read_all)
    record = answerer.calibration
    if record and (line := record.warn_of_windows([session.num_windows])):
        news.print(line)
    if not asked:
        news.print(printable(f"Ask about {opened.name}. :help lists the commands, and Ctrl-D ends."))
        converse(session, opened, out, news, full=full, why=why)
        return
    answers = list(zip(asked, session.ask(asked), strict=True))
    if session.unread:
        news.print(session.unread)
    show(out, opened, answers, full=full, why=why, as_json=as_json)


def _check_prompt(document: str, *, as_json: bool) -> None:
    """Check that a prompt can ask for the questions."""
    from palmette.errors import DataError

    if document == "-":
        raise DataError(
            "there is no question, and standard input is the document", "Write the question after the document."
        )
    if as_json or not sys.stdin.isatty():
        why = "--json was given" if as_json else "standard input is no terminal to ask for one"
        raise DataError(f"there is no question, and {why}", "Write the question after the document, between quotes.")
