"""Options that several commands share, and the one place where `~` is expanded.

A command that needs one of these with another help text declares it beside its body, with the same parser and metavar.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
SOURCES = "builtin:test, a SQuAD v2 .json, a .jsonl, .csv, .tsv, .xlsx or .parquet file, or a hub data set"


def expanded_path(text: str | os.PathLike[str]) -> Path:
    """A path from the command line, with `~` expanded.

    >>> expanded_path("~/runs").is_absolute()
    True
    """
    from palmette.files import expand  # imported here, because that module also loads YAML

    return expand(Path(text))


def expanded_name(text: str) -> str:
    """The name of a model or of data from the command line. A path is expanded, and anything else stays as it is.

    >>> expanded_name("builtin:test")
    'builtin:test'
    """
    return str(expanded_path(text)) if text.startswith("~") else text


# Arguments of `typer.Option` and `typer.Argument` for a path, and for the name of a model or of data.
PATH: dict[str, Any] = {"parser": expanded_path, "metavar": "PATH"}
MODEL: dict[str, Any] = {"parser": expanded_name, "metavar": "MODEL"}
DATA: dict[str, Any] = {"parser": expanded_name, "metavar": "DATA"}

Attention = Literal["auto", "flex", "sdpa", "eager"]

ModelOption = Annotated[
    str, typer.Option("--model", help="A run folder, a model folder, a GGUF file, or a hub id.", **MODEL)
]
FinishedRun = Annotated[Path, typer.Argument(help="A finished run folder.", **{**PATH, "metavar": "RUN"})]
DataOption = Annotated[str, typer.Option("--data", help=f"Questions with known answers: {SOURCES}.", **DATA)]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for the results. It must not exist.", **PATH)]
AttentionOption = Annotated[
    Attention | None,
    typer.Option(
        "--attention",
        help="Attention backend. By default that of the run, or auto: flex on a GPU, else sdpa. Gemma 2 needs eager.",
    ),
]
DecoderOption = Annotated[
    Literal["span", "greedy", "beam"],
    typer.Option("--decoder", help="The span decoder, or plain generation: greedy, or beam search with 10 beams."),
]
CalibrationOption = Annotated[
    bool,
    typer.Option("--calibration/--no-calibration", help="Decide as the run was calibrated, if it was calibrated."),
]
MaxWordsOption = Annotated[
    int | None,
    typer.Option(
        "--max-words",
        min=1,
        help="Longest answer, in words and punctuation marks. By default 30, or as the run was calibrated.",
    ),
]
InsideWordsOption = Annotated[
    bool | None,
    typer.Option(
        "--inside-words/--whole-words",
        help="Whether answers may end inside a word, as in compounds. By default they may not, or as the run was "
        "calibrated.",
    ),
]
# A limit counts what a source lists: documents, or comparisons. A limit of questions says so in its name.
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Use only the first N documents.", metavar="N")]
LimitQuestionsOption = Annotated[
    int | None,
    typer.Option("--limit-questions", min=1, help="Use only the first N questions, of those documents.", metavar="N"),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Random seed.")]
TokensPerBatchOption = Annotated[
    int, typer.Option("--tokens-per-batch", min=64, help="Most tokens in memory at the same time.")
]
LooseOption = Annotated[
    bool, typer.Option("--loose", help="Read an answer out of broken JSON too. The JSON still counts as broken.")
]
