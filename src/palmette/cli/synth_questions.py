"""`palmette synth negatives`: questions that a model learns to refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palmette.cli.options import DATA, PATH, LimitOption, SeedOption

SourceArgument = Annotated[
    str, typer.Argument(help="Questions with known answers, such as a SQuAD .json, a .jsonl or a table.", **DATA)
]
OutOption = Annotated[
    Path, typer.Option("--out", help="The .jsonl, or SQuAD v2 .json, to write. It must not exist.", **PATH)
]


def synth_negatives(
    data: SourceArgument,
    out: OutOption,
    siblings: Annotated[
        int, typer.Option(min=0, help="The most questions of other documents of its title that a document is asked.")
    ] = 2,
    altered: Annotated[
        int, typer.Option(min=0, help="The most questions of a document that are asked once more, altered by rule.")
    ] = 2,
    limit: LimitOption = None,
    seed: SeedOption = 0,
) -> None:
    """Add unanswerable questions, without a teacher.

    A recipe adds the same questions with data.negatives. This writes them down, so that people can look at them.
    """
    from collections import Counter

    from palmette.cli.console import stderr
    from palmette.data.altered import added_kind, with_negatives
    from palmette.synth.rationale_file import read_questions, write_questions

    source = read_questions(data, out, limit)
    documents = with_negatives(source.documents, siblings=siblings, altered=altered, seed=seed)
    total = write_questions(documents, out)
    old = {question.id for document in source.documents for question in document.questions}
    new = [q.id for document in documents for q in document.questions if q.id not in old]
    kinds = Counter(added_kind(name) for name in new)
    counted = ", ".join(f"{number:,} {kind}" for kind, number in sorted(kinds.items())) or "none"
    stderr().print(f"{total:,} questions in {out}. Added as unanswerable: {counted}.")
