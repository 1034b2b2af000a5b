"""`palmette quickstart`."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.options import PATH

if TYPE_CHECKING:  # commands import what they need when they run
    from rich.console import Console
    from rich.text import Text

    from palmette.evaluate.squad_metrics import ScoredAnswer
    from palmette.studies.quickstart import Quickstart

NUM_EXAMPLES = 3


def quickstart(
    out: Annotated[Path, typer.Option(help="The run folder. It must not exist.", **PATH)] = Path("runs/quickstart"),
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Use only a few documents. That shows that everything works, not how well.")
    ] = False,
) -> None:
    """Fine-tune the reader, and compare it before and after.

    Reader and texts come with the package. The folder gets the run, its evaluations and report.html.
    """
    from palmette.cli.console import command_line, stderr, stdout
    from palmette.run import check_absent
    from palmette.startup import quick_imports

    check_absent(out)
    with quick_imports(freeze=True):
        from palmette.studies.quickstart import HELD_OUT, run_quickstart
        from palmette.train.steps.callbacks import TrainingInterrupted

    news, started = stderr(), time.monotonic()

    def say(line: str) -> None:
        since = f"[{time.monotonic() - started:4.0f} s] "
        room = news.width - len(since) if news.is_terminal else sys.maxsize  # a log has no width
        lines = textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False)
        news.print(since + f"\n{' ' * len(since)}".join(lines))

    try:
        found = run_quickstart(out, say, smoke=smoke)
    except TrainingInterrupted as stop:
        say(str(stop))
        evaluate = command_line("eval", "squad", "--model", out, "--data", HELD_OUT, "--out", out / "test")
        say(f"Then evaluate it with: {evaluate}")
        raise typer.Exit(stop.exit_code) from stop
    _print_results(stdout(), found)
    _print_next_steps(stdout(), out)


def _print_results(console: Console, found: Quickstart) -> None:
    from palmette.cli.console import answer_text, metrics_table
    from palmette.numbers import count

    scored = found.after.scored
    documents = count(len({answer.document.id for answer in scored}), "article")
    console.print(f"\n{count(len(scored), 'question')} about {documents} that the model was not trained on:\n")
    columns = {name: evaluation.metrics for name, evaluation in found.before.items()}
    console.print(metrics_table({**columns, "fine-tuned": found.after.metrics}, found.after.intervals))
    console.print("\nSome answers of the fine-tuned model:\n", style="bold")
    console.print(_legend(), "")
    for answer in examples(scored):
        console.print(answer_text(answer, brackets=console.color_system is None))


def examples(scored: Sequence[ScoredAnswer], most: int = NUM_EXAMPLES) -> list[ScoredAnswer]:
    """Some right answers, one right refusal, and some wrong decisions, each about another article while there are more.

    Args:
        scored: all answers.
        most: the most right answers, and the most wrong ones.
    """
    right = [answer for answer in scored if answer.exact == 1.0 and answer.answered]
    refused = [answer for answer in scored if answer.exact == 1.0 and not answer.answered]
    wrong = [answer for answer in scored if answer.exact == 0.0]
    shown: list[ScoredAnswer] = []
    for answers, number in ((right, most), (refused, 1), (wrong, most)):
        for _ in range(number):
            seen = [answer.document.id for answer in shown]
            left = [answer for answer in answers if answer not in shown]
            if left:
                shown.append(min(left, key=lambda answer: seen.count(answer.document.id)))
    return shown


def _legend() -> Text:
    from rich.text import Text

    legend = Text("In the passages: ")
    for style, meaning in (("green", "a right answer"), ("red", "a wrong one"), ("cyan", "the right one instead")):
        legend.append(f" {meaning} ", f"black on bright_{style}").append(" ")
    return legend


def _print_next_steps(console: Console, out: Path) -> None:
    from palmette.cli.console import command_line
    from palmette.pages.evaluation.folder import REPORT

    # The newest run below runs/ is what `ask` takes by itself.
    model: list[str | Path] = [] if out.resolve().parent == Path("runs").resolve() else ["--model", out]
    console.print("What next?", style="bold")
    for about, command in (
        ("Ask about a document of your own:", command_line("ask", "YOUR.pdf", *model)),
        ("Open the report, with every answer before and after, in a browser:", str(out / REPORT)),
        ("See what changed, in the terminal:", command_line("compare-runs", out / "untouched", out)),
        ("See what the model learned from:", command_line("inspect", "--model", out, "--limit-questions", "2")),
    ):
        console.print(f"  {about}\n    {command}", soft_wrap=True)
