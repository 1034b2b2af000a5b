"""Commands about texts: `palmette data corpus`, `palmette eval texts` and `palmette synth tokenizer`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from palmette.cli.options import DATA, MODEL, PATH, ModelOption

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.corpus.survey import SourceSurvey

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
    from palmette.cli.console import print_json, stdout
    from palmette.run import check_absent

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
    found, record = _surveyed(sources, given, column, limit, model, out)
    if as_json:
        print_json(record)
        return
    for line in _lines(found):
        stdout().print(line)


def _surveyed(
    sources: Sequence[str],
    given: dict[str, Any],
    column: str,
    limit: int | None,
    model: str | None,
    out: Path | None,
) -> tuple[list[SourceSurvey], dict[str, Any]]:
    """What sources hold, and the same as JSON holds it. Both files are written into a folder, if one is given."""
    from palmette.config.corpus import CleanSection
    from palmette.config.recipes import read_section
    from palmette.corpus.sources import open_source
    from palmette.corpus.steps import step_maker
    from palmette.corpus.survey import survey
    from palmette.run import whole_folder, write_json

    clean = read_section(CleanSection, given, "palmette data corpus")
    opened = [open_source(name, columns={"text": column}, limit=limit, drop_bad=True) for name in sources]
    name, encoder = _encoder(model)
    found = survey(opened, step_maker(clean), lambda text: (len(encoder.content(text.text)) + 1, 0))
    settings = {key: value for key, value in given.items() if value}
    record = {"sources": [one.as_record() for one in found], "clean": settings, "tokenizer": name}
    if out is not None:
        from palmette.pages.corpus import write_corpus_page

        with whole_folder(out) as staging:
            write_corpus_page(staging / "corpus.html", found, settings, name)
            write_json(staging / "corpus.json", record)
    return found, record


def _encoder(model: str | None) -> tuple[str, Any]:
    """The name of a model, and the encoder of its tokenizer."""
    from palmette.startup import quick_imports

    with quick_imports():
        from palmette.inference.base import source_tokenizer
        from palmette.inference.names import resolve_model
        from palmette.model.embedded import DEFAULT_MODEL
        from palmette.tree.segments import TextEncoder

    name = model or DEFAULT_MODEL
    return name, TextEncoder(source_tokenizer(resolve_model(name)))


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
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens of each source that are scored.")] = 16384,
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
    from palmette.startup import quick_imports

    opened = [open_source(name, columns={"text": column}) for name in sources]
    check_once(opened)
    with quick_imports(freeze=True):
        from palmette.inference.base import load_merged
        from palmette.inference.names import resolve_model
        from palmette.inference.perplexity import score_sources, some_pieces
        from palmette.model.checks import check_model
        from palmette.tasks.text_pieces import TextPieces
    loaded = load_merged(resolve_model(model))
    check_model(loaded.model, training=False, weights=loaded.content)
    pieces = TextPieces(loaded.tokenizer, piece_tokens)
    trees = [tree for source in opened for tree in some_pieces(source, pieces, tokens)]
    scores = score_sources(loaded.model, trees, row_tokens=piece_tokens, tokens_per_batch=max(piece_tokens, 4096))
    if as_json:
        values = [{"source": one.source, "tokens": one.num_tokens, "loss": one.loss} for one in scores]
        print_json([{**value, "perplexity": one.perplexity} for value, one in zip(values, scores, strict=True)])
        return
    table = TextTable("source", "tokens", "nats a token", "perplexity")
    for one in scores:
        table.add_row(one.source, f"{one.num_tokens:,}", f"{one.loss:.4f}", f"{one.perplexity:,.2f}")
    stdout().print(table)
