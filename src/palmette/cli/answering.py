"""`palmette ask`, `palmette predict` and `palmette prompts`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.options import (
    DEFAULT_MODEL,
    MODEL,
    PATH,
    AttentionOption,
    CalibrationOption,
    DecoderOption,
    InsideWordsOption,
    MaxWordsOption,
    ModelOption,
)

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.data.records import Document, Question
    from palmette.decode.prediction import Prediction

_REFUSALS = {"absent": "not in the document", "unsure": "not sure enough to answer", "": "no answer"}


def ask(
    questions: Annotated[list[str], typer.Argument(help="One question or more.")],
    document: Annotated[
        str, typer.Option(help="A text file, or - for standard input.", **{**MODEL, "metavar": "FILE"})
    ],
    model: ModelOption = DEFAULT_MODEL,
    attention: AttentionOption = None,
    decoder: DecoderOption = "span",
    calibration: CalibrationOption = True,
    max_words: MaxWordsOption = None,
    inside_words: InsideWordsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each question.")] = False,
) -> None:
    """Answer questions about a document.

    Each answer is shown in its place in the document.
    """
    from palmette.cli.console import stderr
    from palmette.inference.asked import asked_document
    from palmette.inference.names import open_source
    from palmette.startup import quick_imports

    asked, source = asked_document(_read_document(document), questions, document), open_source(model)
    with quick_imports(freeze=True):
        from palmette.inference.answerer import load_answerer
    answerer = load_answerer(source, attention=attention, calibrated=calibration and decoder == "span")
    predictions = dict(answerer.decoder(decoder, effort=answerer.effort(max_words, inside_words)).predict([asked]))
    calibrated_on = answerer.calibration
    windows = (max(prediction.num_windows for prediction in predictions.values()),)
    if calibrated_on and (line := calibrated_on.warn_of_windows(windows)):
        stderr().print(line)
    for question in asked.questions:
        _show_answer(asked, question, predictions[question.id], as_json=as_json)


def predict(
    source: Annotated[
        str,
        typer.Argument(
            help="JSON Lines with context and question, or - for standard input.", **{**MODEL, "metavar": "SOURCE"}
        ),
    ],
    out: Annotated[
        Path, typer.Argument(help="JSON Lines file to write, or to continue.", **{**PATH, "metavar": "OUT"})
    ],
    model: ModelOption = DEFAULT_MODEL,
    attention: AttentionOption = None,
    calibration: CalibrationOption = True,
    max_words: MaxWordsOption = None,
    inside_words: InsideWordsOption = None,
) -> None:
    """Answer a file of questions line by line.

    A bad line of the input becomes an error line of the output. A job that was stopped continues with the same command.
    """
    from palmette.cli.console import stderr
    from palmette.inference.names import open_source
    from palmette.startup import quick_imports

    opened = open_source(model)
    with quick_imports(freeze=True):
        from palmette.inference.answerer import load_answerer
        from palmette.inference.job import check_job, predict_file
    check_job(source, out)
    answerer = load_answerer(opened, attention=attention, calibrated=calibration)
    tally = predict_file(answerer, source, out, max_words=max_words, inside_words=inside_words)
    stderr().print(tally.summary(out))
    if tally.interrupted:
        raise typer.Exit(130)


def prompts(name: Annotated[str | None, typer.Argument(help="Show this prompt in full.")] = None) -> None:
    """List the prompts that a recipe can name."""
    from rich.text import Text

    from palmette.cli.console import plain_table, stdout
    from palmette.tasks.qa_prompt import describe_prompts, load_prompt

    console = stdout()
    if name is not None:
        for key, text in asdict(load_prompt(name)).items():
            console.print(Text(key, "bold"))
            console.print(Text(f"{text}\n"))
        return
    table = plain_table("prompt")
    table.add_column("meaning")
    for prompt, about in describe_prompts():
        table.add_row(Text(prompt), Text(about))
    console.print(table)


def _read_document(name: str) -> str:
    from palmette.errors import DataError

    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read the document {name!r}: {error.strerror}", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the document {name!r} is not UTF-8 at byte {error.start}", "Save it as UTF-8.") from error


def _show_answer(document: Document, question: Question, prediction: Prediction, *, as_json: bool) -> None:
    from palmette.cli.console import highlighted, print_json, stdout

    if as_json:
        record = {"question": question.text, "answer": prediction.text or None, **asdict(prediction)}
        del record["text"]
        print_json(record)
        return
    console = stdout()
    console.print(question.text, style="bold")
    if not prediction.valid_json:
        console.print(
            f"  the model did not answer in the format asked for: {prediction.completion.strip()}", style="red"
        )
        return
    console.print(f"  {prediction.text or _REFUSALS[prediction.refusal]}", style="green")
    if prediction.text and prediction.start is None:
        console.print("  these words are not in the document", style="red")
    console.print(f"  {_alternatives(prediction)}", style="dim")
    if prediction.start is not None and prediction.end is not None:
        marks = [(prediction.start, prediction.end, "black on bright_green")]
        console.print(highlighted(document.text, marks, brackets=console.color_system is None))


def _alternatives(prediction: Prediction) -> str:
    """The probability of an answer, and the alternatives, in a line."""
    parts = [] if prediction.probability is None else [f"probability {prediction.probability:.3f}"]
    if prediction.text and prediction.no_answer_probability is not None:
        parts.append(f"not in the document {prediction.no_answer_probability:.3f}")
    others = [candidate for candidate in prediction.candidates if candidate.text != prediction.text][:2]
    parts.extend(f"or {json.dumps(other.text, ensure_ascii=False)} {other.probability:.3f}" for other in others)
    if prediction.num_passes:
        proved = "proved best" if prediction.certified else "not proved best"
        parts.append(f"{proved} in {prediction.num_passes} pass{'es' if prediction.num_passes > 1 else ''}")
    return ", ".join(parts)
