"""Answers a file of questions line by line. A job that was killed continues where it stopped.

Rows are answered in chunks. Where a chunk ends depends only on the input. The lines of a chunk are appended to the
output and forced to disk together. So the output consists of whole chunks, and possibly a part of one more. The next
start cuts that part off and answers the chunk again. A manifest beside the output records what the answers depend on.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from io import RawIOBase
from pathlib import Path
from typing import Any

from palmette import __version__, run
from palmette.data.inputs import Input, QuestionFile
from palmette.data.records import Document
from palmette.data.stream import Row, chunk_rows, documents_of
from palmette.decode.posterior import Decision
from palmette.decode.prediction import Decoder, Prediction
from palmette.errors import PalmetteError, RunError, reason_of
from palmette.inference.answerer import Answerer
from palmette.inference.job_files import check_output, manifest_of
from palmette.inference.tally import Tally
from palmette.lock import locked
from palmette.model.loading import dtype_name, weights_hash
from palmette.progress import progress

ROWS_PER_CHUNK = 128
CHARACTERS_PER_CHUNK = 1_000_000
NUM_CANDIDATES = 3
_DIGITS = 6
_GO_ON = "Give the input and the options that it was begun with, or another name for the output to start again."

Record = dict[str, Any]
Describe = Callable[[Any, Row], Record]  # what a line says about an answer
# Answers chunks, in their order. It may note each answer on the progress bar. The end of a chunk is noted anyway.
Work = Callable[[Iterable[list[Row]], Any], Iterator[list[Record]]]


def predict_file(
    answerer: Answerer,
    source: str | Input,
    out: Path,
    *,
    max_words: int | None = None,
    inside_words: bool | None = None,
    decision: Decision | None = None,
    max_rows: int = ROWS_PER_CHUNK,
) -> Tally:
    """Answer a file of questions, with one line of output for each, in order. A job that was stopped is continued.

    Args:
        answerer: what answers.
        source: a file of questions, or "-" for JSON Lines on standard input, or documents with questions about each. To
            continue a job, a pipe must send the same rows again.
        out: the JSON Lines file to write, or to continue.
        max_words: the longest answer, in words. If None, the calibrated value, or 30 without a calibration.
        inside_words: whether answers may end inside a word. If None, the calibrated value, or no without a calibration.
        decision: how probabilities become answers. If None, the calibrated decision.
        max_rows: how many rows fill a chunk. If the job is killed, at most one chunk is answered again.

    Raises:
        DataError: the input cannot be opened.
        RunError: the output belongs to another job or another input, is being written by another process, or cannot be
            written.
    """
    decoder = answerer.span_decoder(answerer.effort(max_words, inside_words), decision)
    settings = job_settings(answerer, max_words, inside_words, decision)
    return predict_input(by_decoder(decoder), source, out, settings, max_rows=max_rows)


def predict_input(
    work: Work, source: str | Input, out: Path, settings: Mapping[str, Any], *, max_rows: int = ROWS_PER_CHUNK
) -> Tally:
    """As `predict_file`, with anything that answers chunks.

    Args:
        work: what answers.
        source: as for `predict_file`.
        out: as for `predict_file`.
        settings: as for `predict_rows`.
        max_rows: as for `predict_file`.
    """
    given = QuestionFile(source) if isinstance(source, str) else source
    with given.open() as rows:
        about = {"input": given.name, **run.environment()}
        return predict_rows(work, rows, out, settings, about=about, lines=given.lines, max_rows=max_rows)


def job_settings(
    answerer: Answerer,
    max_words: int | None = None,
    inside_words: bool | None = None,
    decision: Decision | None = None,
) -> Record:
    """What the answers of a job depend on, besides its input. Arguments as for `predict_file`."""
    effort, chosen = answerer.effort(max_words, inside_words), decision or answerer.decision
    return {**model_settings(answerer), **asdict(effort), **asdict(chosen)}


def model_settings(answerer: Answerer) -> Record:
    """The settings that identify a model, its adapter and its prompt."""
    loaded, source = answerer.loaded, answerer.source
    config = None if source is None or source.adapter is None else source.adapter / "adapter_config.json"
    adapter = None
    if config is not None:
        adapter = hashlib.sha256(f"{answerer.weights}\n".encode() + config.read_bytes()).hexdigest()
    return {
        "model": loaded.name if source is None else source.name,
        "weights_sha256": weights_hash(loaded.folder),
        "adapter": None if config is None else str(config.parent),
        "adapter_sha256": adapter,
        "prompt_sha256": answerer.task.prompt.sha256,
        "dtype": dtype_name(loaded.model.dtype),
        "attention": loaded.model.config._attn_implementation,
    }


def predict_rows(
    work: Work,
    rows: Iterable[Row],
    out: Path,
    settings: Mapping[str, Any],
    *,
    about: Mapping[str, Any] | None = None,
    lines: Callable[[], range] = lambda: range(1, 1),
    max_rows: int = ROWS_PER_CHUNK,
    max_characters: int = CHARACTERS_PER_CHUNK,
    word: str = "predict",
    unit: str = "rows",
) -> Tally:
    """Answer rows and write one line for each into a file, in order. A job that was stopped is continued.

    Args:
        work: what answers, such as `by_decoder`.
        rows: the input from its first row. `by_decoder` reads at most one chunk ahead.
        out: the file to write, or to continue.
        settings: what the answers depend on. A job cannot be continued with other settings.
        about: what else to write into the manifest.
        lines: the numbers that rows of the input can have, for the estimate, or none if they are not known.
        max_rows: how many rows fill a chunk.
        max_characters: how many characters of documents fill a chunk.
        word: what the progress bar calls the job.
        unit: what it counts.

    Raises:
        RunError: the output belongs to another job or another input, is being written by another process, or cannot be
            written.
    """
    everything = {"palmette": __version__, **settings, "max_rows": max_rows, "max_characters": max_characters}
    check_output(out)
    chunks, tally = chunk_rows(rows, max_rows=max_rows, max_characters=max_characters), Tally()
    with _opened(out, everything, about or {}) as stream:
        size, waiting = _read_finished(out, chunks, tally)
        if not waiting:
            return tally
        started = time.perf_counter()
        try:
            with _writing(out):
                stream.truncate(size)
            numbers = lines()
            with contextlib.closing(progress(len(numbers), word, unit)) as bar:
                bar.n = bar.initial = waiting[0].line - numbers.start
                for records in work(itertools.chain([waiting], chunks), bar):
                    with _writing(out):
                        _append(stream, records)
                    tally.add(records)
                    # Bad rows and blank lines count as done too.
                    bar.update(records[-1]["line"] + 1 - numbers.start - bar.n)
        except KeyboardInterrupt:
            tally.interrupted = True
        tally.seconds = time.perf_counter() - started
    return tally


def by_decoder(decoder: Decoder, describe: Describe | None = None) -> Work:
    """Chunks are answered one after the other, by a decoder in this process. Arguments as for `answer_chunk`."""

    return lambda chunks, bar: (answer_chunk(decoder, chunk, bar.update, describe) for chunk in chunks)


def answer_chunk(
    decoder: Decoder,
    chunk: Sequence[Row],
    note: Callable[[], object] = lambda: None,
    describe: Describe | None = None,
) -> list[Record]:
    """The lines of the output for a chunk of rows.

    Args:
        decoder: what answers.
        chunk: the rows.
        note: called for each answer.
        describe: what a line says about an answer. `answer_record` if None.
    """
    answers: dict[str, Prediction | Exception] = {}
    for key, answer in _answers(decoder, documents_of(chunk)):
        if key not in answers:
            note()
        answers[key] = answer
    _check_some_answer(answers)
    return [_record(row, answers, describe or answer_record) for row in chunk]


def _check_some_answer(answers: Mapping[str, Prediction | Exception]) -> None:
    """Raise an error if every row of a chunk fails unexpectedly, for example because a device was lost."""
    faults = [answer for answer in answers.values() if isinstance(answer, Exception)]
    if len(faults) > 1 and len(faults) == len(answers) and not any(isinstance(e, PalmetteError) for e in faults):
        raise faults[0]


def _answers(decoder: Decoder, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction | Exception]]:
    """The answer to each question, or the error of any type that prevented it.

    If the decoder raises an error, the documents and then the questions are split in halves and tried again, until only
    the bad question is left.
    """
    if not documents:
        return
    try:
        yield from decoder.predict(documents)
        return
    except Exception as error:  # whatever one row causes, the others still get their answers
        only = documents[0]
        if len(documents) == 1 and len(only.questions) == 1:
            yield only.questions[0].id, error
            return
    if len(documents) > 1:
        middle = len(documents) // 2
        halves = [documents[:middle], documents[middle:]]
    else:
        middle = len(only.questions) // 2
        halves = [[replace(only, questions=part)] for part in (only.questions[:middle], only.questions[middle:])]
    for half in halves:
        yield from _answers(decoder, half)


def _record(row: Row, answers: Mapping[str, Prediction | Exception], describe: Describe) -> Record:
    """The line of the output for a row. `describe` gives what it says about an answer."""
    head: Record = {"line": row.line, "id": row.id, **row.about_document()}
    if row.error:
        return {**head, **({"question": row.question} if row.document else {}), "error": row.error}
    answer = answers[row.key]
    if isinstance(answer, PalmetteError):
        return {**head, "error": str(answer)}
    if isinstance(answer, Exception):
        return {**head, "error": f"{row.key}: unexpected {type(answer).__name__}: {answer}"}
    if not all(math.isfinite(p) for p in (answer.probability, answer.no_answer_probability) if p is not None):
        return {**head, "error": f"{row.key}: the model's probabilities are not numbers"}
    return {**head, "question": row.question, **describe(answer, row)}


def answer_record(answer: Prediction, row: Row | None = None) -> Record:
    """What a line says about an answer, and about its place in the document, if there is a row that names one."""
    return {
        "answer": answer.text or None,
        "refusal": answer.refusal or None,
        "start": answer.start,
        "end": answer.end,
        **_place(row, answer),
        "probability": rounded(answer.probability),
        "no_answer_probability": rounded(answer.no_answer_probability),
        "place_probability": rounded(answer.place_probability),
        "certified": answer.certified,
        "num_windows": answer.num_windows,
        "candidates": [
            {**asdict(candidate), "probability": rounded(candidate.probability)}
            for candidate in answer.candidates[:NUM_CANDIDATES]
        ],
    }


def _place(row: Row | None, answer: Prediction) -> Record:
    """Where an answer stands in the document that the row names."""
    if row is None or row.extracted is None:
        return {}
    if answer.start is None or answer.end is None:
        return {"place": None}
    return {"place": row.extracted.place_record(answer.start, answer.end)}


def rounded(probability: float | None) -> float | None:
    """A probability as lines hold it, with six digits."""
    return None if probability is None else round(probability, _DIGITS)


def _begin(out: Path, settings: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write the manifest of a new output, or check that of an existing one."""
    path = manifest_of(out)
    if not out.exists():
        run.write_json(path, {"settings": settings, **about})
        return
    try:
        begun = dict(json.loads(path.read_text(encoding="utf-8"))["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {reason_of(error)}", "Give another name for the output.") from error
    run.check_same(begun, settings, where=out, way_out=_GO_ON)


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        way_out = "Free some space and give the same command again, or choose another folder."
        raise RunError(f"cannot write {out}: {reason_of(error)}", way_out) from error


@contextlib.contextmanager
def _opened(out: Path, settings: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[RawIOBase]:
    """Lock the output, begin or continue it, and open it for appending."""
    with _writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out, wait=False) as mine:
        if not mine:
            way_out = "Wait for it, or give another name for the output."
            raise RunError(f"another process is writing {out}", way_out)
        _begin(out, settings, about)
        with _writing(out):
            stream = out.open("ab", buffering=0)
        with stream:
            yield stream


def _append(stream: RawIOBase, records: Iterable[Record]) -> None:
    rest = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode(
        "utf-8",
        "backslashreplace",  # an error message may contain a lone surrogate, which becomes its JSON escape
    )
    while rest:
        rest = rest[stream.write(rest) or 0 :]
    os.fsync(stream.fileno())


def _read_finished(out: Path, chunks: Iterator[list[Row]], tally: Tally) -> tuple[int, list[Row] | None]:
    """Compare the output with the input, row by row.

    Returns:
        The size of the finished chunks in bytes, and the first chunk that is not finished. None if all are finished.
    """
    size = 0
    with out.open("rb") as stream:
        for chunk in chunks:
            records, end = [], size
            for row in chunk:
                line = stream.readline()
                if not line.endswith(b"\n"):
                    return size, chunk
                records.append(_read_record(line, row, out))
                end += len(line)
            size = end
            tally.add(records)
            tally.earlier = tally.rows
        if stream.read(1):
            raise RunError(f"{out} has more lines than the input has rows", _GO_ON)
    return size, None


def _read_record(line: bytes, row: Row, out: Path) -> Record:
    try:
        record: Record = {**json.loads(line)}
        wrong = row.disagreement(record)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(
            f"{out}: what stands there for {row.key} of the input is not a line of answers", _GO_ON
        ) from error
    if wrong is not None:
        raise RunError(f"{out} was not made from this input: {wrong!r} differs at {row.key} of the input", _GO_ON)
    return record
