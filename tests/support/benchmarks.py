"""Parts of the benchmark of preferences that several tests look at."""

from __future__ import annotations

from palmette.data.records import Answer, Document, Question
from tests.support.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"


NAMES = (
    "counts",
    "match",
    "preference_data",
    "preference_lessons",
    "preference_peers",
    "preference_trl",
    "preferences",
    "settings",
    "side",
)


def document(name: str, *sentences: str, asked: tuple[str, ...] = ("granite",)) -> Document:
    text = " ".join(sentences)
    answers = [(answer, text.index(answer)) for answer in asked]
    questions = tuple(
        Question(f"{name}-{i}", f"What of {answer}?", (Answer(answer, start),))
        for i, (answer, start) in enumerate(answers)
    )
    return Document(name, text, questions, name)


def words(text: str) -> int:
    return len(text.split())


def sentence(num_words: int, first: str = "It") -> str:
    """A sentence of so many words."""
    return " ".join([first, *["went"] * (num_words - 2), "on."])


def corpus(num: int) -> list[Document]:
    """Documents of four sentences of different lengths."""
    return [
        document(
            f"d{i}",
            f"The tower of town {i} is granite.",
            f"Its roof is {'red ' * (i % 3 + 1)}slate.",
            f"Nobody knows who built it{', or why' * (i % 2)}.",
            f"The ferry leaves at {i}:40.",
        )
        for i in range(num)
    ]
