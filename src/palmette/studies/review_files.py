"""Files that the verdicts of a store are written to, and read from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from palmette import run
from palmette.config.recipes import Recipe
from palmette.data.source import read_source
from palmette.errors import DataError, reason_of
from palmette.inference.names import resolve_model
from palmette.inference.task import recipe_prompt
from palmette.numbers import count
from palmette.progress import Say
from palmette.review.events import Span, Verdict
from palmette.review.export import Export, dump_json_lines, export_store, left_out_lines
from palmette.review.formats import argilla, doccano, label_studio, native
from palmette.review.formats.annotated import Annotated, Annotation, annotated, import_annotated
from palmette.review.state import fold
from palmette.review.store import Store

Importable = Literal["answers", "events", "label-studio", "doccano", "argilla"]
Format = Literal["answers", "pairs", "labels", "events", "label-studio", "doccano", "argilla"]


_NOBODY = "imported"  # who is said to have given the answers of a file that names nobody


@dataclass(frozen=True)
class _Tool:
    dump: Callable[[Iterable[Annotated]], str]
    parse: Callable[[str, str], list[Annotated]]


_TOOLS = {
    "label-studio": _Tool(label_studio.dump, label_studio.parse),
    "doccano": _Tool(doccano.dump, doccano.parse),
    "argilla": _Tool(argilla.dump, argilla.parse),
}


def export_review(store: str | Path, model: str, form: Format, out: Path, say: Say) -> None:
    """Write the verdicts of a store to a file.

    Args:
        store: the store.
        model: the run under review, whose prompt the completions of pairs and labels have.
        form: "answers" (JSON Lines, or SQuAD v2 if the file ends in .json), "pairs", "labels", "events" (everything,
            lossless), or the name of another tool.
        out: the file, which must not exist.
        say: called with lines about what was written and left out.

    Raises:
        DataError: nothing was judged that the format could hold.
        RunError: the store cannot be read, or the file exists or cannot be written.
    """
    run.check_absent(out)
    with Store.open(existing(store)) as opened:
        if form == "events":
            lines = list(native.dump(opened))
            run.write_text(out, "".join(lines))
            say(f"{count(len(lines), 'line')} in {out}")
            return
        state = fold(opened.events())
        if form in _TOOLS:
            given = list(annotated(opened.documents(), state))
            run.write_text(out, _TOOLS[form].dump(given))
            say(f"{count(len(given), 'question')} in {out}")
            return
        recipe = resolve_model(model, finished=False).recipe
        exported = export_store(opened, state, recipe_prompt(recipe or Recipe(output="")))
    text, number = _learned(exported, form, out)
    for line in left_out_lines(exported.left_out):
        say(line)
    if not number:
        raise DataError(f"the verdicts give no {form}", "Judge more questions with palmette review.")
    run.write_text(out, text)
    say(f"{number} {form} in {out}, from {count(exported.num_verdicts, 'verdict')}")


def import_review(store: str | Path, form: Importable, path: Path, say: Say) -> None:
    """Add the verdicts of a file to a store, or make one of them.

    Args:
        store: the store.
        form: "events", the name of another tool, or "answers" for questions with known answers (JSON Lines or SQuAD
            v2), which become the verdicts of somebody called "imported".
        path: the file.
        say: called with a line about what was added.

    Raises:
        DataError: the file cannot be read or breaks its format, or contradicts the store.
        RunError: the store cannot be written.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {reason_of(error)}", "Check the path.") from error
    with Store.open(store) as opened:
        if form == "events":
            say(f"{count(native.restore(opened, text, str(path)), 'event')} added")
        else:
            given = _answers(str(path)) if form == "answers" else _TOOLS[form].parse(text, str(path))
            number = import_annotated(opened, given, path.name, datetime.now(UTC))
            say(f"{count(number, 'verdict')} on {count(len(given), 'question')} added")


def _learned(exported: Export, form: str, out: Path) -> tuple[str, int]:
    """The text of a file to learn from, and how many records it has."""
    if form == "answers":
        return exported.squad() if out.suffix == ".json" else exported.rows(), exported.num_questions
    chosen = exported.pairs if form == "pairs" else exported.labels
    return dump_json_lines(chosen), len(chosen)


def _answers(source: str) -> list[Annotated]:
    """Questions with known answers, as verdicts. Of several answers the first one counts."""
    found = []
    for document in read_source(source).documents:
        for question in document.questions:
            span = next((Span(one.text, one.start, one.start + len(one.text)) for one in question.answers), None)
            verdict = Verdict("edit" if span else "no_answer", span)
            found.append(
                Annotated(question.id, question.text, document.text, annotations=(Annotation(_NOBODY, verdict),))
            )
    return found


def existing(store: str | Path) -> str | Path:
    """A store that is there. Opening one that is not would make it.

    Raises:
        DataError: there is no such file.
    """
    if "://" not in str(store) and not Path(store).is_file():
        raise DataError(
            f"there are no verdicts: {store} does not exist",
            "Judge some with palmette review, or name them with --store.",
        )
    return store
