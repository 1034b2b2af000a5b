"""How `palmette ask` shows answers: one with its passage, several as a table, or JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from palmette.cli.console import print_json
from palmette.cli.tables import TextTable
from palmette.inference import wording
from palmette.inference.excerpt import Line, excerpt, one_line, whole

if TYPE_CHECKING:
    from rich.console import Console

    from palmette.decode.prediction import Prediction
    from palmette.documents import Extracted

NUM_SHOWN, LEAST_SHOWN = 3, 0.01  # candidates of an unsure refusal, at most and from which probability on
ENDS_UNCERTAIN = "ends uncertain"
_MARK, _COLOURS = "black on bright_green", {"": "bold", "absent": "bold yellow", "unsure": "bold yellow"}


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question and its prediction."""

    question: str
    prediction: Prediction


def show(
    console: Console,
    document: Extracted,
    answers: Sequence[tuple[str, Prediction]],
    *,
    full: bool = False,
    why: bool = False,
    as_json: bool = False,
) -> None:
    """Show the answers to questions: one with its passage, several as a table, or each as a JSON object.

    Args:
        console: where to.
        document: the document.
        answers: the questions and their predictions.
        full: show the whole document, with the answers marked.
        why: show how each decision came about. Then several answers are no table.
        as_json: print one JSON object for each question.
    """
    asked = [AnsweredQuestion(question, prediction) for question, prediction in answers]
    if as_json:
        for one in asked:
            print_json(as_record(document, one))
        return
    if len(asked) == 1:
        show_answer(console, document, asked[0], full=full, why=why)
        return
    if not why:
        show_table(console, document, asked)
    for one in asked if why else ():
        _print(console, Text(one_line(one.question), "underline"))
        show_answer(console, document, one, why=True)
        console.print()
    if full:
        console.print()
        show_passages(console, document, asked, full=True)


def show_answer(
    console: Console, document: Extracted, asked: AnsweredQuestion, *, full: bool = False, why: bool = False
) -> None:
    """Show one answer: the answer itself, its probability and place, and the passage around it.

    Args:
        console: where to.
        document: the document.
        asked: the question and its prediction.
        full: show the whole document instead of the passage.
        why: add how the decision came about, with all candidates.
    """
    prediction = asked.prediction
    if prediction.refusal:
        _print(console, Text(wording.refusal(prediction), _COLOURS[prediction.refusal]))
        shown = sum(one.probability >= LEAST_SHOWN for one in prediction.candidates[:NUM_SHOWN])
        if prediction.refusal == "unsure" and not why:
            _print_all(console, _candidates(document, prediction, max(shown, 1)))
        elif shown and not why and (prediction.no_answer_probability or 0.0) < wording.FIRM:
            _print_all(console, _candidates(document, prediction, shown))
    else:
        broken = not prediction.valid_json or (prediction.text and prediction.start is None)
        _print(console, Text(wording.headline(prediction), "bold red" if broken else "bold"))
        details = [wording.certainty(prediction), _place(document, prediction.start)]
        if prediction.text and prediction.start is None:
            details.append("these words are not in the document")
        if line := ", ".join(filter(None, details)):
            _print(console, Text(line, "dim"))
        if prediction.ends_uncertain and not why:
            _print_all(console, _candidates(document, prediction, NUM_SHOWN))
    if why:
        _print_all(console, _candidates(document, prediction, len(prediction.candidates)))
        _print_all(console, (Text(line, "dim") for line in wording.reasons(prediction)))
    shown_at = [_at_best_guess(asked)] if prediction.refusal == "unsure" and prediction.ends_uncertain else [asked]
    if full or shown_at[0].prediction.start is not None:
        console.print()
        show_passages(console, document, shown_at, full=full)


def _at_best_guess(asked: AnsweredQuestion) -> AnsweredQuestion:
    """The question as if its best candidate were the answer, to show where it stands."""
    best = asked.prediction.candidates[0]
    return AnsweredQuestion(asked.question, replace(asked.prediction, start=best.start, end=best.end))


def show_passages(
    console: Console, document: Extracted, asked: Sequence[AnsweredQuestion], *, full: bool = False
) -> None:
    """Show the lines of a document around answers, or all of its lines, with line numbers and the answers marked."""
    found = (one.prediction for one in asked)
    spans = tuple((one.start, one.end) for one in found if one.start is not None and one.end is not None)
    lines = (
        list(whole(document.text, spans))
        if full
        else [line for span in spans for line in excerpt(document.text, *span)]
    )
    places = [document.place(line.offset) for line in lines]
    names = [str(place.line) if place.page is None else f"p. {place.page}, {place.line}" for place in places]
    width, brackets = max(map(len, names), default=0), console.color_system is None
    if not console.is_terminal:
        for name, line in zip(names, lines, strict=True):
            _print(console, Text(f"{name:>{width}}  ").append_text(_marked(line, brackets=brackets)))
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", style="dim", no_wrap=True, min_width=width)
    grid.add_column(overflow="fold")
    for name, line in zip(names, lines, strict=True):
        grid.add_row(name, _marked(line, brackets=brackets))
    console.print(grid)


def show_table(console: Console, document: Extracted, asked: Sequence[AnsweredQuestion]) -> None:
    """Show several answers as a table. Where the console is no terminal, columns are separated by tabs."""
    rows = [_row(document, one) for one in asked]
    heads = ("question", "answer", "probability", "place")
    if not console.is_terminal:
        for row in (heads, *rows):
            console.file.write("\t".join(row) + "\n")  # rich would turn the tabs into blanks
        return
    table = TextTable(heads[0])
    table.add_column(heads[1])
    table.add_column("prob.", justify="right")
    table.add_column(heads[3])
    for (question, answer, probability, place), one in zip(rows, asked, strict=True):
        short = probability.replace("above ", ">").replace("below ", "<")
        table.add_row(question, Text(answer, _COLOURS[one.prediction.refusal]), short, place)
    console.print(table)


def as_record(document: Extracted, asked: AnsweredQuestion) -> dict[str, Any]:
    """A prediction as a JSON object."""
    prediction = asked.prediction
    start, end = prediction.start, prediction.end
    record = {"question": asked.question, "answer": prediction.text or None, **asdict(prediction)}
    record["refusal"] = prediction.refusal or None
    del record["text"]
    return record | {"place": None if start is None or end is None else document.place_record(start, end)}


def _row(document: Extracted, asked: AnsweredQuestion) -> tuple[str, str, str, str]:
    prediction = asked.prediction
    answer = wording.headline(prediction)
    if prediction.refusal == "unsure":
        answer = ": ".join([answer, *(f"{one_line(one.text)}?" for one in prediction.candidates[:1])])
    shown, start = prediction.probability, prediction.start
    if prediction.refusal == "unsure":
        best = prediction.candidates[0] if prediction.candidates else None
        shown, start = (best.probability, best.start) if best else (None, None)
    if prediction.ends_uncertain:
        answer, shown = f"{answer} ({ENDS_UNCERTAIN})", prediction.place_probability
    probability = "" if shown is None else wording.decimals(shown)
    return one_line(asked.question), answer, probability, _place(document, start)


def _candidates(document: Extracted, prediction: Prediction, number: int) -> Iterator[Text]:
    """The best candidates and absence, likeliest first, each with its probability and place."""
    rows: list[tuple[float, str, str]] = [
        (one.probability, one_line(one.text), _place(document, one.start)) for one in prediction.candidates[:number]
    ]
    if prediction.no_answer_probability is not None:
        rows.append((prediction.no_answer_probability, wording.ABSENT, ""))
    for probability, text, place in sorted(rows, key=lambda row: -row[0]):
        short = wording.decimals(probability).replace("above ", ">").replace("below ", "<")
        line = Text(f"  {short:>5}  ").append(text)
        yield line.append(f"  {place}" if place else "", "dim")


def _place(document: Extracted, start: int | None) -> str:
    return "" if start is None else str(document.place(start))


def _marked(line: Line, *, brackets: bool) -> Text:
    """A line with the answer marked: in colour, or between » and « where there are no colours."""
    shown, at = Text(), 0
    for start, end in line.marks:
        shown.append(line.text[at:start])
        shown.append(f"»{line.text[start:end]}«" if brackets else line.text[start:end], _MARK)
        at = end
    return shown.append(line.text[at:])


def _print(console: Console, line: Text) -> None:
    console.print(line, soft_wrap=not console.is_terminal)


def _print_all(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        _print(console, line)
