"""Commands about texts: `palmette data corpus`, `palmette eval texts` and `palmette synth tokenizer`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from palmette.cli.options import DATA, DEFAULT_MODEL, MODEL, PATH, ModelOption

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.corpus.survey import SourceSurvey
    from palmette.studies.corpus_survey import CorpusSurvey

TextsArgument = Annotated[
    list[str],
    typer.Argument(
        help="Texts: files, folders, builtin:train, or data sets of the hub such as allenai/c4/en:train.", **DATA
    ),
]
ColumnOption = Annotated[str, typer.Option("--column", help="The column that holds the text of a row.")]


def synth_tokenizer(
    sources: TextsArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder to write. It must not exist.", **PATH)],
    vocabulary: Annotated[int, typer.Option(min=260, help="Most tokens of the vocabulary.")] = 2048,
    layers: Annotated[int, typer.Option(min=1, help="Layers of the small model that goes with it.")] = 4,
    width: Annotated[int, typer.Option(min=32, help="Size of its hidden states, a multiple of 32.")] = 128,
    column: ColumnOption = "text",
    limit: Annotated[int | None, typer.Option(min=1, help="Read only so many texts of each source.")] = None,
) -> None:
    """Train a tokenizer on texts, and write the configuration of a small model with it.

    A recipe of `palmette train pretrain` takes the folder as model.name, with model.init: random and train.method:
    full.
    """
    import shlex

    from palmette.cli.console import stderr
    from palmette.corpus.sources import open_source
    from palmette.corpus.texts import Text
    from palmette.run import check_absent
    from palmette.synth.tokenizer import ModelSize, model_config, num_parameters, train_tokenizer, write_tokenizer

    check_absent(out)
    size = ModelSize(layers, width)
    opened = [open_source(name, columns={"text": column}, limit=limit) for name in sources]
    texts = (text.text for source in opened for text in source.open() if isinstance(text, Text))
    tokenizer = train_tokenizer(texts, vocabulary)
    config = model_config(tokenizer, size)
    write_tokenizer(tokenizer, config, out)
    stderr().print(
        f"{out}: a tokenizer of {len(tokenizer):,} tokens, and the configuration of a model of "
        f"{num_parameters(config):,} parameters. In a recipe of `palmette train pretrain`: "
        f"model: {{name: {shlex.quote(str(out))}, init: random}}, train: {{method: full}}"
    )


def corpus(
    sources: TextsArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for corpus.html and corpus.json. It must not exist.", **PATH)
    ] = None,
    boilerplate: Annotated[
        bool, typer.Option("--boilerplate", help="Take out lines about cookies, and notices of Project Gutenberg.")
    ] = False,
    language: Annotated[
        list[str] | None, typer.Option(help="Keep only texts in this language, such as en. May be repeated.")
    ] = None,
    min_words: Annotated[int | None, typer.Option(min=1, help="Drop texts of fewer words.")] = None,
    max_words: Annotated[int | None, typer.Option(min=1, help="Drop texts of more words.")] = None,
    repetition: Annotated[
        bool, typer.Option("--repetition", help="Drop texts that repeat themselves, by the rules of Gopher.")
    ] = False,
    duplicates: Annotated[
        Literal["none", "exact", "near"], typer.Option(help="Which texts are dropped for an earlier one.")
    ] = "exact",
    against: Annotated[
        list[str] | None,
        typer.Option(help="An evaluation set. Texts that hold a part of it are dropped. May be repeated.", **DATA),
    ] = None,
    column: ColumnOption = "text",
    limit: Annotated[int | None, typer.Option(min=1, help="Read only so many texts of each source.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The model whose tokenizer counts. By default the default model.", **MODEL)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Say what texts hold, and what cleaning would drop of them, before a token is learned.

    A recipe of `palmette train pretrain` cleans in the same way, with the same names under `clean`.
    """
    from palmette.cli.console import stderr
    from palmette.run import check_absent
    from palmette.startup import quick_imports

    if out is not None:
        check_absent(out)
    given = {
        "boilerplate": boilerplate,
        "language": language or [],
        "min_words": min_words,
        "max_words": max_words,
        "repetition": repetition,
        "duplicates": duplicates,
        "against": against or [],
    }
    with quick_imports():
        from palmette.studies.corpus_survey import PAGE, survey_texts

    found = survey_texts(sources, given, model or DEFAULT_MODEL, column=column, limit=limit)
    if out is not None:
        found.write(out)
    _print(found, as_json=as_json)
    if out is not None:
        stderr().print(f"Files in {out}. Open {out / PAGE}.")


def _print(found: CorpusSurvey, *, as_json: bool) -> None:
    from palmette.cli.console import print_json, stdout

    if as_json:
        print_json(found.as_record())
        return
    for line in _lines(found.sources):
        stdout().print(line)


def _lines(found: Sequence[SourceSurvey]) -> Iterator[Any]:
    """The report for the terminal: a table of the sources, then the reasons with examples."""
    from palmette.cli.tables import TextTable

    table = TextTable("source", "read", "kept", "characters", "taken out", "tokens")
    for one in found:
        counts = one.counts
        numbers = (counts.read, counts.texts, counts.characters, counts.trimmed, one.tokens)
        table.add_row(one.source + ("" if one.whole else " (beginning)"), *(f"{number:,}" for number in numbers))
    yield table
    for one in found:
        for reason, drops in one.counts.dropped.items():
            yield f"\n{one.source}: {drops.texts:,} dropped, {reason}"
            for name, detail, text in drops.examples:
                yield f"  {name}: {detail}. It begins: {text}"


def eval_texts(
    sources: TextsArgument,
    model: ModelOption,
    limit_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Score only the first N tokens of each source.")
    ] = 16384,
    piece_tokens: Annotated[int, typer.Option(min=2, help="Longest piece of a text, in tokens.")] = 1024,
    column: ColumnOption = "text",
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as one JSON object.")] = False,
) -> None:
    """Measure how well a model predicts texts, as perplexity by source.

    Texts are cut into pieces that do not see each other, as `palmette train pretrain` cuts them.
    """
    from palmette.cli.console import print_json, stdout
    from palmette.cli.tables import TextTable
    from palmette.corpus.sources import check_once, open_source
    from palmette.inference.names import resolve_model
    from palmette.startup import quick_imports

    resolve_model(model)
    opened = [open_source(name, columns={"text": column}) for name in sources]
    check_once(opened)
    with quick_imports(freeze=True):
        from palmette.inference.perplexity import score_beginnings
    scores = score_beginnings(model, opened, most=limit_tokens, piece_tokens=piece_tokens)
    if as_json:
        values = [{"source": one.source, "tokens": one.num_tokens, "loss": one.loss} for one in scores]
        print_json([{**value, "perplexity": one.perplexity} for value, one in zip(values, scores, strict=True)])
        return
    table = TextTable("source", "tokens", "nats a token", "perplexity")
    for one in scores:
        table.add_row(one.source, f"{one.num_tokens:,}", f"{one.loss:.4f}", f"{one.perplexity:,.2f}")
    stdout().print(table)
