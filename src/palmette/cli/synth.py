"""`palmette synth`: reasoning for every question of a data set, written by a teacher behind an endpoint or quoted by rule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from palmette.cli.endpoint import CacheOption, endpoint_options, open_client, reporting_usage
from palmette.cli.preferences import synth_preferences
from palmette.endpoint.settings import Endpoint
from palmette.errors import DataError, RunError

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.data.records import DataSet
    from palmette.endpoint.client import Client
    from palmette.synth.rationales import Rationales

synth_app = typer.Typer(no_args_is_help=True, help="Make training data with a teacher.")
synth_app.command("preferences")(synth_preferences)
RATIONALE_TOKENS, MAX_WORDS = 512, 120
_FORMATS = (".json", ".jsonl")


DataArgument = Annotated[str, typer.Argument(help="builtin:train, a SQuAD v2 .json, a .jsonl, or a hub data set.")]
OutOption = Annotated[Path, typer.Option(help="The .jsonl (or SQuAD v2 .json) to write, which must not exist.")]
KeepOption = Annotated[
    bool, typer.Option("--keep-all", help="Keep questions whose rationale was dropped, without one.")
]
WordsOption = Annotated[int, typer.Option(min=1, help="Longer rationales are dropped.")]
LimitOption = Annotated[Optional[int], typer.Option(min=1, help="Use the first N documents only.")]  # noqa: UP045


@synth_app.command("rationales")
@endpoint_options(max_tokens=RATIONALE_TOKENS)
def synth_rationales(
    *,
    data: DataArgument,
    out: OutOption,
    endpoint: Endpoint,
    keep_all: KeepOption = False,
    max_words: WordsOption = MAX_WORDS,
    limit: LimitOption = None,
    cache: CacheOption = None,
) -> None:
    """Ask a teacher that knows the answers for the reasoning. Refusals and contradictions are dropped and counted."""
    out, source = _opened(data, out, limit)
    _synthesize(open_client(endpoint, cache, out), source, out, keep_all=keep_all, max_words=max_words)


@synth_app.command("quotes")
def synth_quotes(
    data: DataArgument,
    out: OutOption,
    keep_all: KeepOption = False,
    max_words: WordsOption = MAX_WORDS,
    limit: LimitOption = None,
) -> None:
    """Write the reasoning by rule, without a teacher: the sentence that decides the question, and whether it answers."""
    from palmette.synth.quotes import ANSWERED, UNANSWERED, quote_rationales

    out, source = _opened(data, out, limit)
    done = quote_rationales(source.documents, max_words=max_words)
    _write(done, source, out, {"teacher": "quotes", "words": [ANSWERED, UNANSWERED]}, keep_all, max_words)


def _opened(data: str, out: Path, limit: int | None) -> tuple[Path, DataSet]:
    """Where to write, and the data to write for."""
    from palmette import run
    from palmette.data.source import read_source

    out = out.expanduser()
    if out.suffix not in _FORMATS:
        raise RunError(f"{out} ends neither in .jsonl nor in .json", "Name a file that can be read back.")
    run.check_absent(out)
    return out, read_source(data, limit_documents=limit)


def _synthesize(client: Client, source: DataSet, out: Path, *, keep_all: bool, max_words: int) -> None:
    from palmette.synth.rationales import make_rationales, prompt_sha256

    with reporting_usage(client):
        done = make_rationales(client, source.documents, max_words=max_words)
    _write(done, source, out, {**client.about(), "prompt_sha256": prompt_sha256()}, keep_all, max_words)


def _write(
    done: Rationales, source: DataSet, out: Path, teacher: dict[str, Any], keep_all: bool, max_words: int
) -> None:
    """The data with their rationales, and a report beside them."""
    from palmette import run
    from palmette.cli.console import stderr
    from palmette.data.rows import dump_rows
    from palmette.data.squad import dump_squad

    out.parent.mkdir(parents=True, exist_ok=True)
    report = out.with_name(out.name + ".report.json")
    run.write_json(report, {**run.environment(), **teacher, **_about(source, done, max_words)})
    _tell(done, source)
    if not done.num_kept:
        raise DataError(
            "no rationale is fit to learn from", f"Read the completions in {report}. A more capable teacher may help."
        )
    documents = done.documents if keep_all else done.with_rationale_only()
    run.write_text(out, dump_squad(documents) if out.suffix == ".json" else dump_rows(documents))
    num_questions = sum(len(document.questions) for document in documents)
    stderr().print(f"{num_questions} questions in {out}. What was dropped, and why, is in {report}.")


def _about(source: DataSet, done: Rationales, max_words: int) -> dict[str, Any]:
    from palmette.synth.rationales import REASONS

    dropped = [
        {"id": question, "reason": verdict.reason, "completion": verdict.completion}
        for question, verdict in done.verdicts.items()
        if verdict.reason
    ]
    return {
        "max_words": max_words,
        "data": source.describe(),
        "kept": done.num_kept,
        "dropped": done.counts,
        "reasons": {reason: REASONS[reason] for reason in done.counts},
        "dropped_questions": dropped,
    }


def _tell(done: Rationales, source: DataSet) -> None:
    from rich.table import Table

    from palmette.cli.console import stdout
    from palmette.synth.rationales import REASONS

    table = Table(show_edge=False, pad_edge=False)
    for name in ("rationales", "number", "percent", "why"):
        table.add_column(name, justify="right" if name in ("number", "percent") else "left")
    total = source.num_questions
    table.add_row("kept", str(done.num_kept), f"{100 * done.num_kept / total:.1f}", "")
    for reason, count in done.counts.items():
        table.add_row(f"dropped: {reason}", str(count), f"{100 * count / total:.1f}", REASONS[reason])
    stdout().print(table)
