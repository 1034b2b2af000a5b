"""`palmette eval mt-bench` and `palmette judge grades`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from palmette.cli.judge.judges import ForceOption, JudgeOption, ValidationOption
from palmette.cli.options import DATA, MODEL, OutOption, SeedOption

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.cli.tables import TextTable
    from palmette.judge.grades import Graded, Mean
    from palmette.judge.mt_bench import PairFigures


def judge_grades(
    judgments: Annotated[
        str,
        typer.Argument(
            help="A judge's grades of single answers: rows with judgment or score.",
            **{**DATA, "metavar": "JUDGMENTS"},
        ),
    ],
    rule: Annotated[
        Literal["line", "mt-bench"],
        typer.Option(help="How grades are read out of text: a line by itself, or MT-Bench's marks anywhere."),
    ] = "line",
    seed: SeedOption = 0,
) -> None:
    """Read grades out of what a judge wrote, and give their means.

    Unread grades are counted by model.
    """
    from palmette.cli.console import stdout
    from palmette.judge.grades import read_grades, summarise

    found = summarise(read_grades(judgments, rule), seed=seed)
    console = stdout()
    console.print(grades_table(found), "")
    for line in grades_remarks(found):
        console.print(line)


def eval_mt_bench(
    model: Annotated[str, typer.Option(help="A model, or a .jsonl file of its answers.", **MODEL)],
    judge: JudgeOption,
    questions: Annotated[str, typer.Option(help="FastChat's question.jsonl, or a file like it.", **DATA)],
    out: OutOption,
    references: Annotated[
        str | None, typer.Option(help="Right answers: FastChat's reference_answer file.", **DATA)
    ] = None,
    opponent: Annotated[
        str | None, typer.Option(help="Judge pairs against this model, or this file of answers.", **MODEL)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Use only the first N questions.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest reply, in tokens.")] = 1024,
    validation: ValidationOption = None,
    force: ForceOption = False,
    seed: SeedOption = 0,
) -> None:
    """Answer the questions of MT-Bench, and let a judge grade the answers.

    A question has two turns. The same command continues a job that was stopped. The judge's prompt is our own, so the
    figures are not those of the published table.
    """
    from palmette.cli.console import stderr, stdout
    from palmette.judge.mt_bench import FIGURES, evaluate
    from palmette.judge.spec import read_judge

    found = evaluate(
        model,
        read_judge(judge),
        questions,
        out,
        references=references,
        against=opponent,
        limit=limit,
        max_new_tokens=max_new_tokens,
        validation=validation,
        force=force,
        seed=seed,
    )
    console = stdout()
    if found.graded is not None:
        console.print(grades_table([found.graded]), "")
        for line in grades_remarks([found.graded]):
            console.print(line)
    else:
        console.print(_pairs_table(found.pairs, found.against), "")
    for line in (*found.notes, found.trust):
        console.print(line)
    stderr().print(f"written: {out / FIGURES}")


def grades_table(found: Iterable[Graded]) -> TextTable:
    """Means in all, by turn and by category."""
    from palmette.cli.tables import TextTable
    from palmette.numbers import NONE, fixed, interval

    table = TextTable("model", "grades of", "mean", "95 % interval", "read", "unread")

    def add(model: str, what: str, mean: Mean) -> None:
        ends = interval(mean.interval, 2) or NONE
        table.add_row(model, what, fixed(mean.value, 2), ends, str(mean.number), str(mean.unread))

    for one in found:
        add(one.model, "all", one.whole)
        for turn, mean in one.turns.items():
            add("", f"turn {turn}", mean)
        for category, mean in one.categories.items():
            add("", category, mean)
    return table


def grades_remarks(found: Iterable[Graded]) -> Iterator[str]:
    """What the table does not say."""
    from palmette.numbers import count, fixed

    for one in found:
        if one.whole.unread:
            grades, mean = count(one.whole.unread, "grade"), fixed(one.whole.with_unread, 4)
            yield f"{one.model}: {grades} unread. The mean would be {mean} if each counted as -1."


def _pairs_table(figures: dict[str, PairFigures], against: str) -> TextTable:
    from palmette.cli.tables import TextTable
    from palmette.numbers import fixed, percent

    table = TextTable(f"against {against}", "win rate, %", "MT-Bench's, %", "other verdict, %", "pairs", "unread")
    for turn, one in figures.items():
        rates = [fixed(None if rate is None else 100 * rate) for rate in (one.win_rate, one.adjusted)]
        differ = percent(one.inconsistent / one.number, one.number)
        table.add_row(turn if turn == "all" else f"turn {turn}", *rates, differ, str(one.number), str(one.unread))
    return table
