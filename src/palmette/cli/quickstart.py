"""`palmette quickstart`."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.options import PATH

if TYPE_CHECKING:  # commands import what they need when they run
    from rich.console import Console
    from rich.text import Text

    from palmette.studies.quickstart import Quickstart

NUM_EXAMPLES = 3


def quickstart(
    out: Annotated[Path, typer.Option(help="The run folder. It must not exist.", **PATH)] = Path("runs/quickstart"),
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Use only a few documents. That shows that everything works, not how well.")
    ] = False,
) -> None:
    """Fine-tune the built-in model, and compare it before and after.

    Model and corpus come with the package. The folder gets the run, its evaluations and report.html.
    """
    from palmette.cli.console import command_line, stderr, stdout
    from palmette.pages.evaluation.folder import REPORT
    from palmette.studies.quickstart import HELD_OUT, run_quickstart
    from palmette.train.callbacks import TrainingInterrupted

    news, started = stderr(), time.monotonic()

    def say(line: str) -> None:
        news.print(f"[{time.monotonic() - started:5.0f} s] {line}")

    try:
        found = run_quickstart(out, say, smoke=smoke)
    except TrainingInterrupted as stop:
        say(str(stop))
        evaluate = command_line("eval", "squad", "--model", out, "--data", HELD_OUT, "--out", out / "test")
        say(f"Then evaluate it with: {evaluate}")
        raise typer.Exit(stop.exit_code) from stop
    _print_results(stdout(), found)
    say(f"Everything is in {out}. Open {out / REPORT}.")
    _print_next_steps(stdout(), out)


def _print_results(console: Console, found: Quickstart) -> None:
    from palmette.cli.console import answer_text, metrics_table

    console.print()
    columns = {name: evaluation.metrics for name, evaluation in found.before.items()}
    console.print(metrics_table({**columns, "fine-tuned": found.after.metrics}, found.after.intervals))
    console.print("\nSome answers of the fine-tuned model:\n", style="bold")
    right = [answer for answer in found.after.scored if answer.exact == 1.0 and answer.answered]
    refused = [answer for answer in found.after.scored if answer.exact == 1.0 and not answer.answered]
    wrong = [answer for answer in found.after.scored if answer.exact == 0.0]
    console.print(_legend())
    for answer in (*right[:NUM_EXAMPLES], *refused[:1], *wrong[:NUM_EXAMPLES]):
        console.print(answer_text(answer, brackets=console.color_system is None))


def _legend() -> Text:
    from rich.text import Text

    legend = Text("In the documents: ")
    for style, meaning in (("green", "a right answer"), ("red", "a wrong one"), ("cyan", "the right one instead")):
        legend.append(f" {meaning} ", f"black on bright_{style}").append(" ")
    return legend.append("\n")


def _print_next_steps(console: Console, out: Path) -> None:
    from palmette.cli.console import command_line

    document, question = shlex.quote("The ferry leaves at 7:40 from pier 3."), "When does the ferry leave?"
    console.print("Next:", style="bold")
    for command in (
        f"echo {document} | {command_line('ask', '-', question, '--model', out)}",
        command_line("compare-runs", out / "untouched", out),
        command_line("inspect", "--model", out, "--questions", "2"),
    ):
        console.print(f"  {command}", soft_wrap=True)
