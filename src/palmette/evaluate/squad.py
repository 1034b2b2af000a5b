"""Evaluating a decoder on extractive questions, and the files that this leaves."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Candidate, Decoder, Prediction
from palmette.errors import RunError, reason_of
from palmette.evaluate.bootstrap import intervals
from palmette.evaluate.official import write_official
from palmette.evaluate.squad_metrics import ScoredAnswer, score_answers, summarize
from palmette.progress import progress
from palmette.run import write_json, write_text

METRICS, ANSWERS, DOCUMENTS = "metrics.json", "answers.jsonl", "documents.jsonl"


@dataclass(frozen=True)
class Evaluation:
    """The answers to a data set, scored.

    `metrics` and `intervals` hold the figures. `write` and `read` keep an evaluation in a folder.

    Attributes:
        scored: every answer with its scores, in the order of the data.
        seconds: the time that decoding took. None for predictions that were read from files.
    """

    scored: tuple[ScoredAnswer, ...]
    seconds: float | None = None

    @functools.cached_property
    def metrics(self) -> dict[str, float | int | None]:
        """The metrics of the data set, with the time taken."""
        rate = len(self.scored) / self.seconds if self.seconds else None
        return {**summarize(self.scored), "seconds": self.seconds, "questions_per_second": rate}

    @functools.cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals by bootstrap over documents. There are none for fewer than two documents."""
        several = len({answer.document.id for answer in self.scored}) > 1
        return intervals(self.scored) if several else {}

    def write(self, folder: Path) -> None:
        """Write predictions and no-answer probabilities in the official format, metrics, answers, and documents.

        Args:
            folder: an existing folder.

        Raises:
            RunError: a file cannot be written.
        """
        documents = list({answer.document.id: answer.document for answer in self.scored}.values())
        write_official(folder, documents, {answer.question.id: answer.prediction for answer in self.scored})
        write_json(folder / METRICS, {**self.metrics, "intervals": self.intervals})
        write_text(folder / ANSWERS, "".join(_line(_answer_record(answer)) for answer in self.scored))
        texts = [{"id": document.id, "title": document.title, "text": document.text} for document in documents]
        write_text(folder / DOCUMENTS, "".join(_line(record) for record in texts))

    @classmethod
    def read(cls, folder: Path) -> Evaluation:
        """Read an evaluation that was written to a folder.

        Args:
            folder: the folder.

        Raises:
            RunError: the folder holds no evaluation, or it cannot be read.
        """
        try:
            texts = [json.loads(line) for line in (folder / DOCUMENTS).read_text(encoding="utf-8").split("\n") if line]
            documents = {record["id"]: Document(record["id"], record["text"], (), record["title"]) for record in texts}
            lines = (folder / ANSWERS).read_text(encoding="utf-8").split("\n")
            return cls(tuple(_read_answer(json.loads(line), documents) for line in lines if line))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{folder} holds no answers that can be read: {reason_of(error)}",
                "Give a folder that `palmette eval` or the quickstart wrote.",
            ) from error


def evaluate_squad(decoder: Decoder, documents: Sequence[Document], *, what: str = "answering") -> Evaluation:
    """Answer every question, and score the answers.

    Args:
        decoder: what answers.
        documents: documents with their questions.
        what: a word for the progress bar.
    """
    started = time.monotonic()
    predictions = {}
    with progress(sum(len(document.questions) for document in documents), what, "questions") as bar:
        for question, prediction in decoder.predict(documents):
            predictions[question] = prediction
            bar.update()
    seconds = time.monotonic() - started
    return score(documents, predictions, seconds)


def score(
    documents: Sequence[Document], predictions: Mapping[str, Prediction], seconds: float | None = None
) -> Evaluation:
    """Score predictions that were made before."""
    return Evaluation(tuple(score_answers(documents, predictions)), seconds)


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _answer_record(answer: ScoredAnswer) -> dict[str, Any]:
    return {
        "id": answer.question.id,
        "document": answer.document.id,
        "question": answer.question.text,
        "gold": [dataclasses.asdict(gold) for gold in answer.question.answers],
        "exact": answer.exact,
        "f1": answer.f1,
        "strict_exact": answer.strict_exact,
        "prediction": dataclasses.asdict(answer.prediction),
    }


def _read_answer(record: dict[str, Any], documents: Mapping[str, Document]) -> ScoredAnswer:
    gold = tuple(Answer(**answer) for answer in record["gold"])
    question = Question(record["id"], record["question"], gold)
    fields = record["prediction"]
    fields["candidates"] = tuple(Candidate(**candidate) for candidate in fields["candidates"])
    scores = (record["exact"], record["f1"], record["strict_exact"])
    return ScoredAnswer(question, documents[record["document"]], Prediction(**fields), *scores)
