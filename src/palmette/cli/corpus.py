"""`palmette synth tokenizer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palmette.cli.options import DATA, PATH

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
    opened = [open_source(name, columns={"text": column}, limit=limit) for name in sources]
    texts = (text.text for source in opened for text in source.open() if isinstance(text, Text))
    tokenizer = train_tokenizer(texts, vocabulary)
    config = model_config(tokenizer, ModelSize(layers, width))
    write_tokenizer(tokenizer, config, out)
    stderr().print(
        f"{out}: a tokenizer of {len(tokenizer):,} tokens, and the configuration of a model of "
        f"{num_parameters(config):,} parameters. In a recipe of `palmette train pretrain`: "
        f"model: {{name: {shlex.quote(str(out))}, init: random}}, train: {{method: full}}"
    )
