"""The threshold between the best span and no answer, fitted on held-out data and stored."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from palmette.baselines.encoder import EncoderDecoder
from palmette.baselines.span_scores import fit_threshold
from palmette.data.records import DataSet
from palmette.errors import DataError, RunError, reason_of
from palmette.progress import progress
from palmette.run import write_json
from palmette.tasks.answer_match import gold_answers, token_f1

THRESHOLD = "threshold.json"


@dataclass(frozen=True, slots=True)
class NullThreshold:
    """A fitted threshold.

    Attributes:
        value: how much better no answer has to score.
        source, sha256: the data that it was fitted on.
        num_questions: the number of questions in these.
    """

    value: float
    source: str
    sha256: str
    num_questions: int

    def write(self, folder: Path) -> None:
        """Write threshold.json."""
        write_json(folder / THRESHOLD, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> NullThreshold | None:
        """The threshold that a folder holds, or None.

        Raises:
            RunError: it cannot be read.
        """
        path = folder / THRESHOLD
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"cannot read {path}: {reason_of(error)}", "Remove it, or fit it again with --threshold DATA."
            ) from error

    def check_unseen(self, data: DataSet) -> None:
        """Refuse to report figures on the data that the threshold was fitted on.

        Raises:
            DataError: these are the data.
        """
        if data.sha256 == self.sha256:
            raise DataError(f"the threshold was fitted on {data.source}", "Evaluate on other data.")


def fit_null_threshold(decoder: EncoderDecoder, data: DataSet) -> NullThreshold:
    """The threshold with the best F1 on some data, as in Devlin et al. (2019), section 4.3.

    Args:
        decoder: the decoder. Its own threshold is not used.
        data: held-out questions of both kinds.

    Raises:
        DataError: all questions have an answer, or none has one.
    """
    questions = {question.id: question for document in data.documents for question in document.questions}
    if {question.answerable for question in questions.values()} != {True, False}:
        raise DataError(
            f"{data.source} lacks questions with an answer, or questions without one",
            "Fit the threshold on other data.",
        )
    differences, gains = [], []
    with progress(len(questions), "fitting the threshold", "questions") as bar:
        for document, question, scores in decoder.scores(data.documents):
            gold = gold_answers(questions[question])
            best = document.text[scores.spans[0].start : scores.spans[0].end] if scores.spans else ""
            differences.append(scores.difference)
            gains.append(token_f1(best, gold) - token_f1("", gold))
            bar.update()
    return NullThreshold(fit_threshold(differences, gains), data.source, data.sha256, len(questions))
