"""Preferences from verdicts: answers that people judged good, paired with answers to the same question judged bad.

Nothing is sampled. The answers are in a JSON Lines file or a hub data set, with one verdict per line. Its `label` is
true or false. The answer is given in one of these ways:

- `prompt`, `completion`: as `palmette.data.preference` reads verdicts. The prompt is the question's, as chat messages.
- `completion`: the model's completion, unchanged.
- `answer`: the answer alone. "?", or nothing beside a `refusal`, means no answer. It is written in the prompt's format.
- `prediction`: a map with `text` or `completion`.

Except in the first case, the question is named by its id, under `question` or `id`. So one can add a label to each line
of answers.jsonl (`palmette eval squad`), of samples.jsonl (`train grpo`, `train ppo`), or of `palmette predict` where
the ids are those of the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palmette.data.chat import Turn, turns_of
from palmette.data.kinds import of_kind
from palmette.data.preference import Verdict, parse_verdicts
from palmette.data.records import Document, Question
from palmette.data.source import open_rows
from palmette.errors import DataError
from palmette.synth.preferences import Preferences
from palmette.synth.work import Line
from palmette.tasks.extractive_qa import qa_messages
from palmette.tasks.qa_prompt import ABSTAIN, QaPrompt

_COLUMNS = (
    "Each row needs a 'label' (true or false), a question's id as 'question' (or 'id'), and a 'completion' or an "
    "'answer'."
)
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Verdicts of people on answers.

    Attributes:
        source: the file or data set, as the user named it.
        sha256: hash of the source's bytes, or the hub's fingerprint.
        number: all verdicts, including repetitions.
        answers: by question, each judged answer with its verdict. True is good.
    """

    source: str
    sha256: str
    number: int
    answers: Mapping[str, Mapping[str, bool]]


def read_judged(source: str, documents: Sequence[Document], prompt: QaPrompt) -> Verdicts:
    """Read and check verdicts on answers.

    Args:
        source: a .jsonl file or a hub data set, see the module.
        documents: documents with their questions, whose ids differ.
        prompt: the prompt of the questions, with the format of answers.

    Raises:
        DataError: the source is missing or empty, a verdict breaks the format, has an empty answer or is on none of the
            questions, or two verdicts contradict each other.
    """
    digest, rows = open_rows(source, default_split="train", columns=_COLUMNS, example="trl-lib/kto-mix-14k")
    numbered = enumerate(of_kind(rows, source, "judged answers", "verdicts"), start=1)
    messages = {q.id: qa_messages(prompt, document, q) for document in documents for q in document.questions}
    normalised = [_normalised(row, number, source, messages, prompt) for number, row in numbered]
    if not normalised:
        raise DataError(f"{source} holds no verdict", _COLUMNS)
    by_prompt: dict[tuple[Turn, ...], str] = {}
    for identifier, prompt_messages in messages.items():
        by_prompt.setdefault(turns_of(prompt_messages, "user", f"question {identifier!r}"), identifier)
    answers: dict[str, dict[str, Verdict]] = {}
    for (named, _), verdict in zip(normalised, parse_verdicts((row for _, row in normalised), source), strict=True):
        if isinstance(verdict, DataError):
            raise verdict
        question = named if named is not None else by_prompt.get(verdict.prompt)
        if question is None:
            raise DataError(
                f"{source}: the prompt of {verdict.id!r} is that of none of the {len(messages)} questions of the data",
                "Give the messages that the question is asked with (--model takes a run's prompt), or name it by its "
                "id.",
            )
        _note(verdict, question, answers.setdefault(question, {}), source)
    labels = {
        question: {verdict.completion: verdict.label for verdict in judged.values()}
        for question, judged in answers.items()
    }
    return Verdicts(source, digest, len(normalised), labels)


def judged_preferences(
    answers: Mapping[str, Mapping[str, bool]], documents: Sequence[Document], prompt: QaPrompt
) -> Preferences:
    """Pairs of a good and a bad answer. Questions that lack one of them are left out and counted.

    Every answer is in a pair, and no pair is repeated: with 3 good and 2 bad ones, g0 b0, g1 b1, g2 b0.

    Args:
        answers: as `Verdicts` has them.
        documents: documents with the questions to take.
        prompt: the prompt of the questions.
    """
    rows: list[Line] = []
    left_out: dict[str, str] = {}
    for document in documents:
        for question in document.questions:
            judged = answers.get(question.id, {})
            good, bad = ([answer for answer, label in judged.items() if label is side] for side in (True, False))
            if good and bad:
                rows.extend(_pairs(document, question, good, bad, prompt))
            else:
                left_out[question.id] = "unjudged" if not judged else "all good" if good else "all bad"
    return Preferences(tuple(rows), None, left_out)


def _pairs(
    document: Document, question: Question, good: Sequence[str], bad: Sequence[str], prompt: QaPrompt
) -> Iterator[Line]:
    number = max(len(good), len(bad))
    for index in range(number):
        yield {
            "id": question.id if number == 1 else f"{question.id}/{index}",
            "prompt": qa_messages(prompt, document, question),
            "chosen": good[index % len(good)],
            "rejected": bad[index % len(bad)],
        }


def _note(verdict: Verdict, question: str, judged: dict[str, Verdict], source: str) -> None:
    """Add a verdict to those on a question's answers."""
    other = judged.setdefault(verdict.completion.strip(), verdict)
    if other.label != verdict.label:
        both = [f"{one.id!r} finds it {'good' if one.label else 'bad'}" for one in (other, verdict)]
        raise DataError(
            f"{source}: two verdicts on the answer {verdict.completion.strip()!r} to question {question!r}: "
            f"{' and '.join(both)}",
            "Keep the right one.",
        )


def _normalised(
    row: Row | DataError, number: int, source: str, messages: Mapping[str, list[dict[str, str]]], prompt: QaPrompt
) -> tuple[str | None, Row | DataError]:
    """The question that a row names by its id, if it names one, and the row as prompt, completion and label."""
    if isinstance(row, DataError) or "prompt" in row:
        return None, row
    where = f"{source}: row {number}"
    given = [row[key] for key in ("question", "id") if isinstance(row.get(key), str | int)]
    named = next((str(name) for name in given if str(name) in messages), None)
    if named is None:
        what = " or ".join(map(repr, given)) or "that this row should name"
        problem = f"{where}: none of the {len(messages)} questions of the data has the id {what}"
        return None, DataError(problem, f"Give the data that the answers are to. {_COLUMNS}")
    try:
        completion = _completion(row, f"{where}, question {named!r},", prompt)
    except DataError as error:
        return None, error
    values = {"prompt": messages[named], "completion": completion, "label": row.get("label")}
    return named, {"id": f"{named}, row {number}", **values}


def _completion(row: Row, where: str, prompt: QaPrompt) -> Any:
    """The completion of a row. An answer alone is written in the prompt's format."""
    prediction = row.get("prediction")
    given: Row = prediction if isinstance(prediction, dict) else row
    if given.get("completion"):  # it is empty where the completion's format was forced
        return given["completion"]
    answer = given.get("answer", given.get("text"))
    if not answer and given.get("refusal"):
        answer = ABSTAIN
    if not isinstance(answer, str) or not answer.strip():
        raise DataError(
            f"{where} holds no completion and no answer", f'Take it out, or write it; "{ABSTAIN}" says there is none.'
        )
    return prompt.completion(answer)
