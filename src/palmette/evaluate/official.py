"""The prediction files of the official SQuAD v2 evaluation script.

predictions.json maps question ids to texts, and na_prob.json to probabilities of no answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from palmette.data.records import Document
from palmette.data.values import json_problem
from palmette.decode.prediction import Prediction, find_span
from palmette.errors import DataError, kind_of_value, reason_of
from palmette.run import write_json

PREDICTIONS, NA_PROB = "predictions.json", "na_prob.json"


def write_official(folder: Path, documents: Sequence[Document], predictions: Mapping[str, Prediction]) -> None:
    """Write predictions.json and na_prob.json, in the order of the data.

    na_prob.json is written only if the predictions have a no_answer_probability.

    Args:
        folder: an existing folder.
        documents: the documents with their questions.
        predictions: by question id.

    Raises:
        DataError: a question has no prediction, a prediction has no question, a no_answer_probability is outside
            0 to 1, or only some predictions have one.
        RunError: a file cannot be written.
    """
    _check_ids(predictions, documents, "the predictions")
    ordered = {question.id: predictions[question.id] for document in documents for question in document.questions}
    known = {key: p.no_answer_probability for key, p in ordered.items() if p.no_answer_probability is not None}
    if known and len(known) < len(ordered):
        lacking = next(key for key in ordered if key not in known)
        raise DataError(
            f"the predictions: question {lacking!r} has no no_answer_probability, "
            f"but {len(known)} of {len(ordered)} have one",
            "Answer all questions with one decoder.",
        )
    for key, probability in known.items():
        _check_probability(probability, key, "the predictions")
    write_json(folder / PREDICTIONS, {key: prediction.text for key, prediction in ordered.items()})
    if known:
        write_json(folder / NA_PROB, known)


def read_official(
    documents: Sequence[Document], predictions: Path, na_prob: Path | None = None
) -> dict[str, Prediction]:
    """Read anybody's prediction files for a data set.

    An answer gets its first position in the document. `start` and `end` are None if it does not occur there.

    Args:
        documents: the data set.
        predictions: {question id: text}, where "" abstains.
        na_prob: {question id: probability that the document does not answer}, 0 to 1, if there is such a file.

    Returns:
        {question id: prediction} in the order of the data.

    Raises:
        DataError: a file cannot be read or has another format, an id is missing, unknown or given twice, a text is of
            another type, or a probability is not between 0 and 1. The message names the file, the id and the value.
    """
    texts, probabilities = _read(predictions), _read(na_prob) if na_prob else {}
    _check_ids(texts, documents, str(predictions))
    if na_prob:
        _check_ids(probabilities, documents, str(na_prob))
    read = {}
    for document in documents:
        for question in document.questions:
            text = _check_text(texts[question.id], question.id, str(predictions))
            no_answer = _check_probability(probabilities[question.id], question.id, str(na_prob)) if na_prob else None
            read[question.id] = _prediction(text, no_answer, document)
    return read


def _prediction(text: str, no_answer_probability: float | None, document: Document) -> Prediction:
    if not text:
        return Prediction("", refusal="absent", no_answer_probability=no_answer_probability, valid_json=None)
    start = find_span(document.text, text)
    prediction = Prediction(text, no_answer_probability=no_answer_probability, valid_json=None)
    return replace(prediction, start=start, end=start + len(text)) if start >= 0 else prediction


def _read(path: Path) -> dict[str, Any]:
    way_out = "Give a JSON file with one object, {question id: value}."
    try:
        value = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=lambda pairs: _unique(pairs, path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason_of(error)}", way_out) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8", "Save the file as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {json_problem(error)}", way_out) from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds {kind_of_value(value)}, not an object", way_out)
    return value


def _unique(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise DataError(f"{path}: {key!r} is given twice, {found[key]!r} and {value!r}", "Keep one of them.")
        found[key] = value
    return found


def _check_ids(given: Iterable[str], documents: Sequence[Document], where: str) -> None:
    given = set(given)
    expected = [question.id for document in documents for question in document.questions]
    missing = [key for key in expected if key not in given]
    if missing:
        raise DataError(
            f"{where}: no value for question {missing[0]!r} ({len(missing)} of {len(expected)} are missing)",
            'Give every question one; "" as a text abstains.',
        )
    unknown = sorted(given.difference(expected))
    if unknown:
        raise DataError(
            f"{where}: {unknown[0]!r} is no question of the data ({len(unknown)} of {len(given)} are unknown)",
            "Give the data set that the predictions were made for, or take these out.",
        )


def _check_text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(
            f"{where}: question {key!r} has {_short(value)}, which is {kind_of_value(value)} and not text",
            'Give the answer as a text; "" abstains.',
        )
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{where}: question {key!r} has half a surrogate pair in {value!a}", "Correct the text.")
    return value


def _check_probability(value: Any, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DataError(
            f"{where}: question {key!r} has {_short(value)}, which is no probability",
            "Give a number from 0 to 1; log odds x are 1 / (1 + exp(-x)).",
        )
    return float(value)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
