"""`palmette synth cloze` and `palmette synth questions`: questions about documents that nobody has asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palmette.cli.endpoint import CacheOption, read_endpoint
from palmette.cli.make.synth import ClearOption
from palmette.cli.make.texts import ColumnOption, TextsArgument
from palmette.cli.make.writers import WriterOption, opening_writer, read_licences
from palmette.cli.options import MODEL, PATH, LimitOption, SeedOption, expanded
from palmette.endpoint.settings import Endpoint
from palmette.synth.licences import Licences
from palmette.synth.question_settings import QuestionSettings

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
ReaderOption = Annotated[
    str,
    typer.Option(help="The model that answers each question as a check. `reader` comes with the package.", **MODEL),
]


@expanded("licences", read_licences, without=("licence",))
def synth_cloze(
    sources: TextsArgument,
    *,
    out: QuestionsOut,
    per_passage: Annotated[int, typer.Option(min=1, help="The most questions about a passage.")] = 30,
    unanswerable_share: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="The share of questions that have no answer.")
    ] = 0.2,
    max_words: Annotated[int, typer.Option(min=1, max=20, help="Longest span to hide, in words.")] = 10,
    max_times: Annotated[int, typer.Option(min=2, help="Spans that occur more often in a passage are left out.")] = 5,
    passage_words: PassageWordsOption = 400,
    against: ClearOption = None,
    licences: Licences,
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
    from palmette.synth.passages import read_passages
    from palmette.synth.rationale_file import check_output

    check_output(out)
    passages = read_passages(sources, most_words=passage_words, column=column, limit=limit, against=against or ())
    settings = ClozeSettings(per_passage, max_words, max_times, unanswerable_share, seed)
    write_cloze(passages, out, settings, stdout().print, licences=licences)


def read_settings(
    *,
    spans: Annotated[int, typer.Option(min=1, help="The most spans of a passage that are asked for.")] = 8,
    min_probability: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Keep questions that the reader answers with at least this probability."),
    ] = 0.3,
    unanswerable: Annotated[
        int, typer.Option(min=0, help="The most questions of other passages that a passage is asked.")
    ] = 2,
    max_answered: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Keep them if the reader finds them answered with at most this probability."
        ),
    ] = 0.3,
    number: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many questions with an answer to keep, as evenly as may be among fifths of the reader's "
            "probability, from hard to easy. All by default.",
        ),
    ] = None,
    seed: SeedOption = 0,
) -> QuestionSettings:
    """What the options say about how many questions are made, and which are kept."""
    return QuestionSettings(spans, min_probability, unanswerable, max_answered, number, seed)


@expanded("endpoint", read_endpoint, url=None, model_name=None, max_new_tokens=64)
@expanded("settings", read_settings)
@expanded("licences", read_licences)
def synth_questions(
    sources: TextsArgument,
    *,
    out: QuestionsOut,
    writer: WriterOption = None,
    endpoint: Endpoint,
    reader: ReaderOption = "reader",
    settings: QuestionSettings,
    passage_words: PassageWordsOption = 400,
    against: ClearOption = None,
    licences: Licences,
    column: ColumnOption = "text",
    limit: LimitOption = None,
    cache: CacheOption = None,
) -> None:
    """Make questions about documents with a writer, each checked by a reader.

    Names, dates, numbers and quoted terms are found by rule, and the writer asks for each of them. A question is kept
    if the reader answers it with these words. A job that was stopped continues with the same command.
    """
    from palmette.cli.console import stdout
    from palmette.synth.passages import read_passages
    from palmette.synth.rationale_file import check_output

    check_output(out)
    from palmette.synth.question_job import write_document_questions

    writing = opening_writer(endpoint, writer, cache, out, settings.seed)
    passages = read_passages(sources, most_words=passage_words, column=column, limit=limit, against=against or ())
    with writing as open_writer:
        write_document_questions(passages, out, settings, open_writer, reader, stdout().print, licences=licences)
