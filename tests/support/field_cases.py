"""Fields of documents with known values and known odds."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from palmette.data.records import Answer, Document, Question
from palmette.decode.posterior import SpanPosterior, WindowScores
from palmette.evaluate.calibration import Case
from palmette.extraction.schema import Field


def case(field: Field, number: int, known: tuple[str, ...], **log_odds: float) -> Case:
    """A field of a document, whose only words with a chance have these odds against "?"."""
    text = f"Lease {number} of white and green rooms."
    answers = tuple(Answer(word, text.index(word)) for word in known)
    scores = WindowScores({word: (text.index(word), odds) for word, odds in log_odds.items()}, -math.inf, -math.inf, 1)
    question = Question(f"{number}/{field.name}", field.question, answers)
    return Case(Document(text, text, (question,)), question, SpanPosterior.merge([scores]))


def labelled(folder: Path, number: int) -> Path:
    """A labelled file of documents about ferries, of which none says who built it."""
    rows = [
        {"document": f"The ferry leaves at {n % 24}:40 from pier {n}.", "time": f"{n % 24}:40", "who": ""}
        for n in range(number)
    ]
    path = folder / "labelled.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
