"""`palmette synth cloze`: questions about documents that nobody has asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palmette.cli.corpus import ColumnOption, TextsArgument
from palmette.cli.options import DATA, PATH, LimitOption, SeedOption

QuestionsOut = Annotated[
    Path, typer.Option("--out", help="The .jsonl, or SQuAD v2 .json, to write. It must not exist.", **PATH)
]
PassageWordsOption = Annotated[
    int,
    typer.Option(
        min=20,
        help="Longest passage that a document is cut into, in words and punctuation marks. Passages end at paragraphs "
        "where they can.",
    ),
]
AgainstOption = Annotated[
    list[str] | None,
    typer.Option(help="An evaluation set. Documents that hold a part of it are dropped. May be repeated.", **DATA),
]


def synth_cloze(
    sources: TextsArgument,
    out: QuestionsOut,
    questions: Annotated[int, typer.Option(min=1, help="The most questions about a passage.")] = 30,
    unanswerable: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="The share of questions that have no answer.")
    ] = 0.2,
    max_words: Annotated[int, typer.Option(min=1, max=20, help="Longest span to hide, in words.")] = 10,
    max_times: Annotated[int, typer.Option(min=2, help="Spans that occur more often in a passage are left out.")] = 5,
    passage_words: PassageWordsOption = 400,
    against: AgainstOption = None,
    column: ColumnOption = "text",
    limit: LimitOption = None,
    seed: SeedOption = 0,
) -> None:
    """Make questions about documents by hiding spans that recur, without a writer.

    Of the places of a span one stays. The others become numbered blanks, and the words at a blank are asked for.
    """
    from palmette.cli.console import stdout
    from palmette.synth.cloze import ClozeSettings
    from palmette.synth.cloze_job import write_cloze

    settings = ClozeSettings(questions, max_words, max_times, unanswerable, seed)
    write_cloze(
        sources,
        out,
        settings,
        stdout().print,
        passage_words=passage_words,
        column=column,
        limit=limit,
        against=against or (),
    )
