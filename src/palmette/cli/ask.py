"""The bodies of `ask` and `prompts`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from palmette.cli.console import highlighted, stdout
from palmette.data.records import Document, Question
from palmette.decode.prediction import Prediction
from palmette.errors import DataError
from palmette.inference.answerer import DecoderName, asked_document, load_answerer
from palmette.model.attention import AttentionChoice
from palmette.tasks.qa_prompt import describe_prompts, load_prompt


def run_ask(
    model: str,
    document: str,
    questions: list[str],
    attention: AttentionChoice | None,
    *,
    decoder: DecoderName,
    calibrated: bool,
    max_words: int | None,
    as_json: bool,
) -> None:
    """`palmette ask`."""
    asked = asked_document(_read_document(document), questions, document)
    opened = load_answerer(model, attention=attention, calibrated=calibrated and decoder == "span")
    predictions = dict(opened.decoder(decoder, effort=opened.effort(max_words)).predict([asked]))
    for question in asked.questions:
        _show_answer(asked, question, predictions[question.id], as_json=as_json)


def _read_document(name: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read the document {name!r}: {error.strerror}", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the document {name!r} is not UTF-8 at byte {error.start}", "Save it as UTF-8.") from error


def _show_answer(document: Document, question: Question, found: Prediction, *, as_json: bool) -> None:
    if as_json:
        record = {"question": question.text, "answer": found.text or None, **asdict(found)}
        del record["text"]
        typer.echo(json.dumps(record, ensure_ascii=False))
        return
    console = stdout()
    console.print(question.text, style="bold")
    if not found.valid_json:
        console.print(
            f"  the model did not completion in the format asked for: {found.completion.strip()}", style="red"
        )
        return
    console.print(f"  {found.text or _REFUSALS[found.refusal]}", style="green")
    if found.text and found.start is None:
        console.print("  these words do not stand in the document", style="red")
    console.print(f"  {_doubts(found)}", style="dim")
    if found.start is not None and found.end is not None:
        marks = [(found.start, found.end, "black on bright_green")]
        console.print(highlighted(document.text, marks, brackets=console.color_system is None))


_REFUSALS = {"absent": "not in the document", "unsure": "not sure enough to answer", "": "no answer"}


def _doubts(found: Prediction) -> str:
    """What else could be said, in a line."""
    said = [] if found.probability is None else [f"probability {found.probability:.3f}"]
    if found.text and found.no_answer_probability is not None:
        said.append(f"not in the document {found.no_answer_probability:.3f}")
    others = [candidate for candidate in found.candidates if candidate.text != found.text][:2]
    said.extend(f"or {json.dumps(other.text, ensure_ascii=False)} {other.probability:.3f}" for other in others)
    if found.num_passes:
        proved = "proved best" if found.certified else "not proved best"
        said.append(f"{proved} in {found.num_passes} pass{'es' if found.num_passes > 1 else ''}")
    return ", ".join(said)


def run_prompts(name: str | None) -> None:
    """`palmette prompts`."""
    console = stdout()
    if name is not None:
        for key, text in asdict(load_prompt(name)).items():
            console.print(Text(key, "bold"))
            console.print(Text(f"{text}\n"))
        return
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("prompt")
    table.add_column("what it is")
    for found, about in describe_prompts():
        table.add_row(Text(found), Text(about))
    console.print(table)
