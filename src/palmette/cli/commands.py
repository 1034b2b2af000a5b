"""The bodies of `train sft`, `eval squad` and `ask`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer

from palmette import run
from palmette.cli.opening import open_model
from palmette.cli.show import find_span, highlighted, invoked_as, metrics_table, stderr, stdout
from palmette.config import load_recipe
from palmette.data.records import Document, Question, check_document, check_question
from palmette.data.source import read_source
from palmette.decode.abstention import abstention_probabilities
from palmette.decode.greedy import generate_replies
from palmette.errors import DataError
from palmette.evaluate.plots import plot_loss
from palmette.evaluate.squad import evaluate_squad
from palmette.model.attention import Attention
from palmette.tasks.extractive_qa import read_reply
from palmette.train.sft import Interrupted, resume_sft, train_sft

LOSS_PLOT = "loss.png"


def run_train_sft(recipe: Path | None, resume: Path | None) -> None:
    """`palmette train sft`."""
    news = stderr()
    try:
        if resume is not None:
            folder = resume
            resume_sft(folder, news.print)
        else:
            assert recipe is not None
            loaded_recipe = load_recipe(recipe)
            folder = Path(loaded_recipe.output).expanduser()
            train_sft(loaded_recipe, news.print)
    except Interrupted as stop:
        news.print(str(stop))
        raise typer.Exit(130) from stop
    plot_loss(folder / run.METRICS_LOG, folder / LOSS_PLOT, title=f"Training loss, {folder.name}")
    news.print(f"done: {folder}")
    news.print(f'try it: {invoked_as()} ask --model {folder} --document FILE "QUESTION"')


def run_eval_squad(
    model: str,
    data: str,
    out: Path,
    attention: Attention | None,
    batch_size: int,
    max_new_tokens: int,
    limit: int | None,
) -> None:
    """`palmette eval squad`."""
    run.check_absent(out)
    source = read_source(data, default_split="validation", limit_documents=limit)
    opened = open_model(model, attention)
    with run.whole_folder(out) as staging:
        result = evaluate_squad(
            opened.loaded.model,
            opened.loaded.tokenizer,
            opened.task,
            source.documents,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
        )
        result.write(staging)
    stdout().print(metrics_table({Path(model).name: result.metrics}))
    stderr().print(f"{len(result.scored)} questions in {result.seconds:.0f} s; files in {out}")


def run_ask(model: str, document: str, questions: list[str], attention: Attention | None, *, as_json: bool) -> None:
    """`palmette ask`."""
    text = _read_document(document)
    asked = Document(document, text, tuple(Question(str(i), question) for i, question in enumerate(questions)))
    check_document(asked, document)
    for question in asked.questions:
        check_question(question, asked, document)
    opened = open_model(model, attention)
    task, tokenizer, language_model = opened.task, opened.loaded.tokenizer, opened.loaded.model
    replies = dict(generate_replies(language_model, tokenizer, task, [(asked, q) for q in asked.questions]))
    probabilities = {
        question: probability
        for batch in abstention_probabilities(language_model, task, [asked])
        for question, probability in batch.items()
    }
    for index, question in enumerate(asked.questions):
        _show_answer(asked, question, replies[index], probabilities[question.id], as_json=as_json)


def _read_document(name: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read the document {name!r}: {error.strerror}", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the document {name!r} is not UTF-8 at byte {error.start}", "Save it as UTF-8.") from error


def _show_answer(document: Document, question: Question, raw: str, no_answer: float, *, as_json: bool) -> None:
    reply, console = read_reply(raw), stdout()
    start = find_span(document.text, reply.text) if reply.valid else -1
    end = start + len(reply.text) if start >= 0 else -1
    if as_json:
        record = {
            "question": question.text,
            "answer": reply.text if reply.valid and reply.text else None,
            "start": start if start >= 0 else None,
            "end": end if start >= 0 else None,
            "verbatim": start >= 0,
            "valid_json": reply.valid,
            "no_answer_probability": round(no_answer, 6),
            "reply": raw,
        }
        typer.echo(json.dumps(record, ensure_ascii=False))
        return
    console.print(question.text, style="bold")
    if not reply.valid:
        console.print(f"  the model did not reply in the format asked for: {raw.strip()}", style="red")
        return
    console.print(f"  {reply.text or 'not in the document'}", style="green")
    console.print(f"  probability that the document does not answer: {no_answer:.3f}", style="dim")
    if reply.text and start < 0:
        console.print("  these words do not stand in the document", style="red")
    if start >= 0:
        marks = [(start, end, "black on bright_green")]
        console.print(highlighted(document.text, marks, brackets=console.color_system is None))
