"""`palmette synth negatives`: questions that a model learns to refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palmette.cli.make.synth import ClearOption
from palmette.cli.make.writers import read_licences
from palmette.cli.options import PATH, QUESTIONS, LimitOption, SeedOption, expanded
from palmette.synth.licences import Licences

SourceArgument = Annotated[
    str, typer.Argument(help="Questions with known answers, such as a SQuAD .json, a .jsonl or a table.", **QUESTIONS)
]
OutOption = Annotated[
    Path, typer.Option("--out", help="The .jsonl, or SQuAD v2 .json, to write. It must not exist.", **PATH)
]


@expanded("licences", read_licences, without=("licence",))
def synth_negatives(
    data: SourceArgument,
    *,
    out: OutOption,
    siblings: Annotated[
        int, typer.Option(min=0, help="The most questions of other documents of its title that a document is asked.")
    ] = 2,
    altered: Annotated[
        int, typer.Option(min=0, help="The most questions of a document that are asked once more, altered by rule.")
    ] = 2,
    against: ClearOption = None,
    licences: Licences,
    limit: LimitOption = None,
    seed: SeedOption = 0,
) -> None:
    """Add unanswerable questions, without a teacher.

    A recipe adds the same questions with data.negatives. This writes them down, so that people can look at them.
    """
    from palmette.cli.console import stderr
    from palmette.synth.negative_file import write_negatives
    from palmette.synth.rationale_file import read_questions

    source = read_questions(data, out, limit, against or ())
    known = licences.of_sources([source.data.describe()])
    write_negatives(source, out, stderr().print, siblings=siblings, altered=altered, seed=seed, licences=known)
