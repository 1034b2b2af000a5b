"""Options that several commands share, and the one place where `~` is expanded.

A command that needs one of these with another help text declares it beside its body, with the same parser and metavar.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
SOURCES = "builtin:test, a SQuAD v2 .json, a .jsonl, .csv, .tsv, .xlsx, .parquet or .arrow file, or a hub data set"


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


def named_questions(text: str) -> str:
    """The name of questions with known answers, with `~` expanded. A file must exist.

    Raises:
        DataError: there is no such file.
    """
    from palmette.data.source import check_source

    name = expanded_name(text)
    check_source(name)
    return name


# Arguments of `typer.Option` and `typer.Argument` for a path, and for the name of a model or of data.
PATH: dict[str, Any] = {"parser": expanded_path, "metavar": "PATH"}
MODEL: dict[str, Any] = {"parser": expanded_name, "metavar": "MODEL"}
DATA: dict[str, Any] = {"parser": expanded_name, "metavar": "DATA"}
QUESTIONS: dict[str, Any] = {"parser": named_questions, "metavar": "DATA"}

Attention = Literal["auto", "flex", "sdpa", "eager"]

ModelOption = Annotated[
    str, typer.Option("--model", help="A run folder, a model folder, a GGUF file, or a hub id.", **MODEL)
]
ChosenModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A run folder, a model folder, a GGUF file, or a hub id. By default `reader`, the run that comes with the "
        "package.",
        **MODEL,
    ),
]
FinishedRun = Annotated[Path, typer.Argument(help="A finished run folder.", **{**PATH, "metavar": "RUN"})]
DataOption = Annotated[str, typer.Option("--data", help=f"Questions with known answers: {SOURCES}.", **QUESTIONS)]
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
CostWrongOption = Annotated[
    float | None,
    typer.Option(
        "--cost-wrong",
        metavar="C",
        help="What a wrong answer costs, if refusing a question that has an answer costs 1: 1, 1.5, 2, 3, 5 or 10. "
        "With 1 a calibrated run answers most often. By default as it was calibrated.",
    ),
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
    typer.Option("--limit-questions", min=1, help="Use only the first N questions.", metavar="N"),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Random seed.")]
TokensPerBatchOption = Annotated[
    int, typer.Option("--tokens-per-batch", min=64, help="Most tokens in memory at the same time.")
]
LooseOption = Annotated[
    bool, typer.Option("--loose", help="Read an answer out of broken JSON too. The JSON still counts as broken.")
]


@dataclass(frozen=True)
class Answering:
    """How a model answers: what the options of `read_answering` say."""

    decoder: Literal["span", "greedy", "beam"] = "span"
    calibration: bool = True
    max_words: int | None = None
    inside_words: bool | None = None
    attention: Attention | None = None
    cost_wrong: float | None = None

    @property
    def loading(self) -> dict[str, Any]:
        """What loading a model depends on: arguments of `open_answerer`."""
        return {"attention": self.attention, "calibrated": self.calibration, "cost_wrong": self.cost_wrong}


def read_answering(
    *,
    decoder: DecoderOption = "span",
    calibration: CalibrationOption = True,
    max_words: MaxWordsOption = None,
    inside_words: InsideWordsOption = None,
    attention: AttentionOption = None,
    cost_wrong: CostWrongOption = None,
) -> Answering:
    """What the options of a command say about how it answers. They are listed only in this signature."""
    return Answering(decoder, calibration, max_words, inside_words, attention, cost_wrong)


def expanded(
    parameter: str, reader: Callable[..., Any], *, without: Collection[str] = (), **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that replaces a parameter of a command by the options that a function reads its value from.

    Args:
        parameter: the name of the parameter.
        reader: takes the options by name, and gives the value.
        without: names of options that the command does not have. They keep their defaults.
        defaults: other defaults of options.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        listed = inspect.signature(reader, eval_str=True).parameters
        options = {name: option for name, option in listed.items() if name not in without}
        options |= {name: options[name].replace(default=default) for name, default in defaults.items()}
        parameters: list[inspect.Parameter] = []
        for name, own in inspect.signature(command, eval_str=True).parameters.items():
            parameters.extend(options.values() if name == parameter else [own])

        @functools.wraps(command)
        def run(**given: Any) -> None:
            value = reader(**{name: given.pop(name) for name in options})
            command(**{parameter: value}, **given)

        keyword = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
        run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in keyword}
        return run

    return decorate
