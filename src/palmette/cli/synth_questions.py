"""`palmette synth negatives` and `palmette synth candidates`: questions and answers that a model learns to refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palmette.cli.options import DATA, MODEL, PATH, LimitOption, SeedOption

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


def synth_candidates(
    data: SourceArgument,
    out: OutOption,
    model: Annotated[str, typer.Option(help="A finished run that answers questions.", **MODEL)],
    most: Annotated[int, typer.Option(min=1, help="The most wrong answers of a question.")] = 2,
    limit: LimitOption = None,
) -> None:
    """Add a model's own likeliest wrong answers, for second looks.

    A model that is trained on them with a prompt such as `reader` learns that the document does not state them.
    """
    from palmette.cli.console import stderr
    from palmette.inference.answerer import load_answerer
    from palmette.progress import progress
    from palmette.synth.candidates import with_candidates
    from palmette.synth.rationale_file import read_questions, write_questions

    source = read_questions(data, out, limit)
    decoder = load_answerer(model, calibrated=False).span_decoder()
    asked = [document for document in source.documents if document.questions]
    with progress(source.num_questions, "candidates", "questions") as bar:
        documents = list(with_candidates(decoder, asked, most=most, watch=bar.update))
    total = write_questions(documents, out)
    added = sum(len(question.plausible) for document in documents for question in document.questions)
    stderr().print(f"{total:,} questions in {out}, with {added:,} wrong answers.")
