"""`palmette synth instruct` and `palmette synth from-text`: conversations that a model writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from palmette.cli.endpoint import CacheOption, read_endpoint
from palmette.cli.make.documents import PassageWordsOption
from palmette.cli.make.texts import ColumnOption, TextsArgument
from palmette.cli.make.writers import WriterOption, opening_writer, read_licences
from palmette.cli.options import DATA, PATH, LimitOption, SeedOption, expanded
from palmette.endpoint.settings import Endpoint
from palmette.synth.instruct.settings import MOST_ALIKE, InstructSettings, PairSettings
from palmette.synth.licences import Licences

ConversationsOut = Annotated[
    Path, typer.Option("--out", help="The .jsonl of conversations to write. It must not exist.", **PATH)
]
LeakedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        help="An evaluation set. What shares 8 words in a row with it is dropped. May be repeated.",
        **DATA,
    ),
]
AlikeOption = Annotated[
    float,
    typer.Option(
        "--max-alike",
        min=0.0,
        max=1.0,
        help="The largest ROUGE-L with an earlier one. What is more like it is dropped.",
    ),
]


@expanded("endpoint", read_endpoint, url=None, model_name=None, max_new_tokens=1024, temperature=0.7)
@expanded("licences", read_licences)
def synth_instruct(
    *,
    out: ConversationsOut,
    number: Annotated[int, typer.Option(min=1, help="How many tasks to make.")],
    seeds: Annotated[
        str,
        typer.Option(
            help="Seed tasks in the format of Self-Instruct. `builtin` are sixty that come with the package.", **DATA
        ),
    ] = "builtin",
    writer: WriterOption = None,
    endpoint: Endpoint,
    evolve: Annotated[
        int,
        typer.Option(
            min=0,
            help="How often each task is made harder, or gives a rarer one of its field. Every version is kept.",
        ),
    ] = 0,
    magpie: Annotated[
        bool,
        typer.Option(
            "--magpie",
            help="Let a local model write what a user would say, without seed tasks. It has to be tuned to chat.",
        ),
    ] = False,
    max_alike: AlikeOption = MOST_ALIKE,
    against: LeakedOption = None,
    licences: Licences,
    seed: SeedOption = 0,
    cache: CacheOption = None,
) -> None:
    """Make tasks and their answers with a writer, as conversations.

    The writer continues lists of seed tasks, says which tasks have labels, and writes inputs and outputs, as in
    Self-Instruct. --evolve goes on from these tasks as Evol-Instruct does, and --magpie begins without any. A job that
    was stopped continues with the same command.
    """
    from palmette.cli.console import stdout
    from palmette.synth.instruct.job import check_conversations, write_tasks
    from palmette.synth.instruct.seeds import read_seeds

    check_conversations(out)
    settings = InstructSettings(number, max_alike, evolve, magpie, seed)
    writing, tasks = opening_writer(endpoint, writer, cache, out, seed), read_seeds(seeds)
    with writing as open_writer:
        write_tasks(tasks, out, settings, open_writer, stdout().print, against=against or (), licences=licences)


@expanded("endpoint", read_endpoint, url=None, model_name=None, max_new_tokens=512)
@expanded("licences", read_licences)
def synth_from_text(
    sources: TextsArgument,
    *,
    out: ConversationsOut,
    pairs: Annotated[int, typer.Option(min=1, help="Questions that are asked for, for each passage.")] = 5,
    shots: Annotated[
        int,
        typer.Option(min=0, help="Earlier passages, with what was found in them, that are shown before a passage."),
    ] = 0,
    recall: Annotated[
        bool,
        typer.Option(
            "--recall",
            help="Take only questions that the texts ask themselves, such as those of exercises and of pages of "
            "frequent questions. Passages without any are not sent.",
        ),
    ] = False,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine",
            help="Have each answer put into a full reply with its reasons. The reply keeps the words of the answer.",
        ),
    ] = False,
    form: Annotated[
        Literal["chat", "text"],
        typer.Option(
            help="Conversations for `train sft`, or texts with their questions below them for `train pretrain`."
        ),
    ] = "chat",
    writer: WriterOption = None,
    endpoint: Endpoint,
    max_alike: AlikeOption = MOST_ALIKE,
    passage_words: PassageWordsOption = 400,
    against: LeakedOption = None,
    licences: Licences,
    column: ColumnOption = "text",
    limit: LimitOption = None,
    seed: SeedOption = 0,
    cache: CacheOption = None,
) -> None:
    """Find questions and their answers in texts with a writer, as conversations.

    Every answer is copied from the text, and its place is kept. A job that was stopped continues with the same command.
    """
    from palmette.cli.console import stdout
    from palmette.synth.instruct.job import check_conversations
    from palmette.synth.instruct.pair_job import write_pairs
    from palmette.synth.passages import read_passages

    check_conversations(out)
    settings = PairSettings(pairs, max_alike, shots, recall, refine, form, seed)
    writing = opening_writer(endpoint, writer, cache, out, seed)
    passages = read_passages(sources, most_words=passage_words, column=column, limit=limit, against=against or ())
    with writing as open_writer:
        write_pairs(passages, out, settings, open_writer, stdout().print, against=against or (), licences=licences)
