"""`palmette predict`: one line a row, in order, whatever the rows hold; a kill at any moment neither loses nor
repeats one.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from palmette.data.records import Document
from palmette.data.stream import Row, chunk_rows, count_lines, open_lines, read_rows
from palmette.decode.prediction import Prediction
from palmette.errors import DataError, RunError
from palmette.inference.answerer import load_answerer
from palmette.inference.job import by_decoder, predict_file, predict_input, predict_rows
from tests.support.command import palmette
from tests.support.predicting import SETTINGS, Fake, many, predict, row, work_until_killed
from tests.support.processes import call

FERRY = "The ferry leaves at 7:40 from pier 3. <|im_end|>"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def uninterrupted(lines: Iterable[str], folder: Path) -> bytes:
    predict(lines, folder / "whole.jsonl")
    return (folder / "whole.jsonl").read_bytes()


def refuse(problem: str, lines: Iterable[str], out: Path, **changes: Any) -> None:
    with pytest.raises(RunError, match=problem):
        predict(lines, out, **changes)


def test_every_row_gets_its_line_in_order(out: Path) -> None:
    """Expected by hand: "At 7:40 from pier" has its words at 0, 3, 8 and 13."""
    lines = [
        row("word 1", "At 7:40 from pier", id="a", answers=[{"text": "wrong", "answer_start": -5}]),
        "  \t",
        json.dumps({"question": "word 9", "document": "At 7:40 from pier", "id": 7}),
        row("word 150", "Ünï", id="a"),
        row("word 250", "Ünï"),
    ]
    tally, found = predict(lines, out), records(out)
    assert found[0] == json.loads(
        """{"line": 1, "id": "a", "question": "word 1", "answer": "7:40", "refusal": null, "start": 3, "end": 7,
        "probability": 0.666667, "no_answer_probability": 0.25, "place_probability": null, "certified": true,
        "num_windows": 1, "candidates": [{"text": "At", "start": 0, "end": 2, "probability": 0.333333},
        {"text": "7:40", "start": 3, "end": 7, "probability": 0.25},
        {"text": "from", "start": 8, "end": 12, "probability": 0.2}]}"""
    )
    assert [(r["line"], r["id"], r["answer"], r["refusal"]) for r in found] == [
        (1, "a", "7:40", None),
        (3, 7, None, "absent"),
        (4, "a", None, "unsure"),  # ids may occur twice: lines tell rows apart
        (5, None, None, None),
    ]
    assert "Ünï" in out.read_text(encoding="utf-8")
    assert (tally.answered, tally.absent, tally.unsure, tally.broken, tally.errors) == (1, 1, 1, 1, 0)
    assert tally.windows == {1: 4}
    assert tally.summary(Path("o")).startswith(
        "done: 4 rows in o: 1 answered, 2 refused (1 absent, 1 unsure), 1 with a broken completion, "
        "0 with an error. 4 rows in"
    )


GOOD = row("word 0", "At 7:40")
BAD_ROWS = {
    "{": "line 2 is not JSON",
    "[" * 100_000: "line 2 is not JSON: nested too deeply",
    "[1, 2]": "line 2 is a list, not an object",
    '{"question": "word 0"}': "line 2 has no 'context'",
    '{"context": "At 7:40"}': "line 2 has no 'question'",
    row("word 0", 7): "line 2: 'context' is a number, not text",
    row("word 0", "At 7:40", id=True): "line 2 has the id true, which is neither text nor a whole number",
    row("word 0", " \n"): "document 'line 2' is empty",
    row("\t", "At 7:40"): "question 'line 2' of document 'line 2' has no text",
    '{"question": "word 0", "context": "At \\ud800"}': r"has half a surrogate pair, '\ud800', at 3",
    '{"question": "word \\udfff", "context": "At 7:40"}': r"has half a surrogate pair, '\udfff', at 5",
    '{"question": "word 0", "context": "At 7:40", "id": "\\ud800"}': r"line 2, in its id, has half a surrogate pair",
    '{"question": "\ud800", "context": "At 7:40"}': "line 2 is not UTF-8 at its byte 14",
    row("word 0", "too long"): "document 'line 2' is too long. Shorten it.",
    row("no number 0", "At 7:40"): "line 2: the model's probabilities are not numbers",
    row("refused", "At 7:40"): "question 'line 2' is refused",
}


@pytest.mark.parametrize("case", BAD_ROWS, ids=lambda case: BAD_ROWS[case][:50])
def test_a_bad_row_is_told_in_its_line_and_the_rest_goes_on(out: Path, case: str) -> None:
    tally = predict([GOOD, case, GOOD], out)
    first, bad, last = records(out)
    assert first["answer"] == last["answer"] == "At"
    assert bad == {"line": 2, "id": None, "error": bad["error"]}
    assert BAD_ROWS[case] in bad["error"]
    assert (tally.answered, tally.errors, tally.first_error) == (2, 1, 2)
    assert "1 with an error, the first in line 2. 3 rows in" in tally.summary(out)
    again = predict([GOOD, case, GOOD], out)
    assert again.summary(Path("o")).startswith("o is finished already, nothing to do: 3 rows")


def test_one_bad_document_leaves_the_others_of_its_chunk_alone(out: Path) -> None:
    lines = [row("word 0", "too long" if i == 5 else f"text {i // 2}", id=i) for i in range(9)]
    lines[7] = row("refused", "text 3", id="x")
    predict(lines, out, max_rows=9)
    found = records(out)
    assert [(record["line"], record["id"]) for record in found if "error" in record] == [(6, 5), (8, "x")]
    assert [record.get("answer") for record in found] == ["text"] * 5 + [None, "text", None, "text"]


class Crashing(Fake):
    """Fails on some documents in ways that are no errors of ours."""

    def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction]]:
        for document in documents:
            if document.text.startswith("crash"):
                raise {"crash a": IndexError, "crash b": RuntimeError, "crash c": RecursionError}[document.text](
                    "half a pair: \ud800"
                )
        yield from super().predict(documents)


def test_whatever_a_row_causes_the_others_are_answered(out: Path) -> None:
    """Errors of other libraries become error lines, which are valid JSON whatever their messages hold."""
    texts = ["fine", "crash a", "fine", "crash b", "crash c", "good"]
    tally = predict([row("word 0", text) for text in texts], out, Crashing(), max_rows=6)
    found = records(out)
    assert [record.get("answer") for record in found] == ["fine", None, "fine", None, None, "good"]
    assert [record["error"].split(":")[1] for record in found if "error" in record] == [
        " unexpected IndexError",
        " unexpected RuntimeError",
        " unexpected RecursionError",
    ]
    assert (tally.answered, tally.errors) == (3, 3)


def test_a_fault_of_every_row_stops_the_job(out: Path) -> None:
    """A lost device is the fault of no row. What was answered before stays, and the job can be continued."""
    lines = [row("word 0", "fine", id=i) for i in range(3)] + [row("word 0", "crash a", id=i) for i in range(3)]
    with pytest.raises(IndexError):
        predict(lines, out, Crashing(), max_rows=3)
    assert [record["answer"] for record in records(out)] == ["fine"] * 3


def test_a_byte_order_mark_and_windows_line_ends_are_read_over(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n\r\n" + GOOD.encode())
    with open_lines(str(source)) as lines:
        assert [(r.line, r.error) for r in read_rows(lines)] == [(1, ""), (3, "")]
    assert count_lines(str(source)) == 3
    with pytest.raises(DataError, match="cannot read the input"):
        open_lines(str(tmp_path)).__enter__()


def test_the_bar_counts_rows_and_not_the_names_of_columns(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = out.with_name("in.csv")
    table.write_text("question,context\n" + "word 1,one two three\n" * 8)
    assert predict_input(by_decoder(Fake()), str(table), out, SETTINGS).rows == 8
    shown = re.findall(r"(\d+) of (\d+) rows", capsys.readouterr().err)
    assert (shown[0], shown[-1]) == (("0", "8"), ("8", "8"))


def test_rows_about_one_document_share_it(out: Path) -> None:
    decoder, contexts = Fake(), ["a b", "a b", "c d", "a b", "e f", "e f", "e f"]
    predict([row("word 1", context) for context in contexts], out, decoder)
    asked = [[(document.text, len(document.questions)) for document in call] for call in decoder.calls]
    assert asked == [[("a b", 3), ("c d", 1)], [("e f", 3)]]


def test_chunks_are_bounded_in_rows_and_characters_and_read_as_needed(out: Path) -> None:
    read = 0

    def rows() -> Iterator[Row]:
        nonlocal read
        for line in range(1, 2001):
            read += 1
            yield Row(line, context=f"text {line // 4}", question="word 0")

    class Watching(Fake):
        ahead = 0

        def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction]]:
            self.ahead = max(self.ahead, read - out.read_bytes().count(b"\n"))
            return super().predict(documents)

    decoder = Watching()
    assert predict_rows(by_decoder(decoder), rows(), out, SETTINGS, max_rows=64).answered == 2000
    assert decoder.ahead == 64
    chunks = chunk_rows(rows(), max_rows=64, max_characters=12)
    # "text 0" has three rows; the sixth character of "text 1" is the twelfth.
    assert [[row.line for row in next(chunks)] for _ in range(2)] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    twice = [Row(line, context="x" * (98 + line) + "x" * (2 - line)) for line in (1, 2)]
    first, last = next(chunk_rows(twice, max_rows=9, max_characters=101))
    assert first.context is last.context


def test_a_torn_file_is_mended_wherever_it_was_torn(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte by byte around a chunk's end and in the last line, within a letter too."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # hundreds of small writes
    predict(many(7), out)
    whole = out.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    assert len(ends) == 8
    for size in [*range(ends[3] - 50, ends[3] + 50), *range(ends[3] + 50, ends[6], 9), *range(ends[6], len(whole))]:
        out.write_bytes(whole[:size])
        tally = predict(many(7), out)
        assert out.read_bytes() == whole, size
        assert (tally.earlier, tally.rows) == (4 if size >= ends[3] else 0, 8)
    out.write_bytes(whole[: ends[3]] + bytes(300))  # what a power cut may leave
    predict(many(7), out)
    assert out.read_bytes() == whole


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_job_goes_on_without_loss_or_repetition(out: Path, tmp_path: Path, seed: int) -> None:
    whole, sizes = uninterrupted(many(90), tmp_path), []
    for start in range(3):
        code, _ = call(work_until_killed, str(tmp_path), f"{seed}/{start}")
        assert code in (0, -signal.SIGKILL)
        left = out.read_bytes() if out.exists() else b""
        assert whole.startswith(left)
        sizes.append(len(left))
    assert any(0 < size < len(whole) for size in sizes)
    predict(many(90), out)
    assert out.read_bytes() == whole


def test_ctrl_c_keeps_what_is_written_and_says_how_to_go_on(out: Path) -> None:
    lines = [row("word 0", f"text {i}") for i in range(10)]
    stopped = predict([*lines[:6], row("stop", "text"), *lines[7:]], out)
    assert stopped.interrupted
    assert stopped.summary(out).startswith(f"stopped: 4 rows are safe in {out}: 4 answered")
    assert stopped.summary(out).endswith("Give the same command again to continue.")
    decoder = Fake()
    assert predict(lines, out, decoder).earlier == 4
    assert [document.text for call in decoder.calls for document in call] == [f"text {i}" for i in range(4, 10)]


def test_a_finished_job_does_nothing_and_a_longer_input_goes_on(out: Path, tmp_path: Path) -> None:
    predict(many(20), out)
    before, decoder = out.read_bytes(), Fake()
    tally = predict(many(20), out, decoder)
    assert not decoder.calls
    assert tally.summary(out).startswith(f"{out} is finished already, nothing to do: 21 rows, ")
    assert out.read_bytes() == before
    predict([*many(20), GOOD], out)
    assert out.read_bytes() == uninterrupted([*many(20), GOOD], tmp_path)
    assert predict(["", " "], tmp_path / "new" / "none.jsonl").rows == 0


OTHER_INPUTS: dict[str, Any] = {
    "'question' differs at line 2": lambda lines: [lines[0], row("word 1", "text 1"), *lines[2:]],
    "'id' differs at line 2": lambda lines: [lines[0], row("word 0", "text 1", id=1), *lines[2:]],
    "'line' differs at line 3": lambda lines: [lines[0], "", *lines[1:]],
    "'candidates' differs at line 2": lambda lines: [lines[0], row("word 0", "texts 1"), *lines[2:]],
    "'error' differs at line 2": lambda lines: [lines[0], "{", *lines[2:]],
    "more lines than the input has rows": lambda lines: lines[:4],
}


@pytest.mark.parametrize("problem", OTHER_INPUTS)
@pytest.mark.parametrize("torn", [False, True])
def test_another_input_is_refused_and_nothing_is_lost(out: Path, problem: str, torn: bool) -> None:
    lines = [row("word 0", f"text {i}") for i in range(6)]
    predict(lines, out)
    if torn:
        out.write_bytes(out.read_bytes()[:-30])
    before = out.read_bytes()
    refuse(problem, OTHER_INPUTS[problem](lines), out)
    assert out.read_bytes() == before


def test_what_belongs_to_another_job_is_refused(out: Path) -> None:
    predict([GOOD] * 6, out)
    before = out.read_bytes()
    refuse(
        r"was begun with max_passes = 4, and now it is None\. Give the input and the options",
        [GOOD] * 6,
        out,
        max_passes=None,
    )
    refuse("was begun with max_rows = 4, and now it is 5", [GOOD] * 6, out, max_rows=5)
    refuse("was begun with new = None, and now it is 1", [GOOD] * 6, out, new=1)
    out.write_bytes(b"[]\n" + before)
    refuse("is not a line of answers", [GOOD] * 6, out)
    out.write_bytes(before)
    (out.with_name("out.jsonl.manifest.json")).write_text("{")
    refuse("cannot be read", [GOOD] * 6, out)
    (out.with_name("out.jsonl.manifest.json")).unlink()
    refuse("exists already", [GOOD] * 6, out)
    assert out.read_bytes() == before
    refuse("cannot be standard output", [GOOD], Path("-"))
    refuse("cannot write", [GOOD], out / "out.jsonl")


def test_two_processes_do_not_write_one_file(out: Path) -> None:
    class Nested(Fake):
        def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction]]:
            refuse("another process is writing", [GOOD], out)
            return super().predict(documents)

    assert predict([GOOD], out, Nested()).answered == 1


def test_a_full_disk_is_told_and_the_job_goes_on_later(out: Path, tmp_path: Path) -> None:
    whole, limits = uninterrupted(many(40), tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) - 9, limits[1]))  # the last chunk is written in part
    try:
        refuse(r"cannot write .*Free some space and give the same command again", many(40), out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert out.read_bytes() == whole[:-9]
    predict(many(40), out)
    assert out.read_bytes() == whole


def test_the_command_with_a_model(
    tiny_folder: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tiny model knows nothing, but what it answers stands in the document, and goes on to the same bytes."""
    from palmette.decode.posterior import Decision

    lines = [row(f"When does ferry {i} leave?", FERRY if i % 3 else f"Ferry {i} leaves at noon.") for i in range(6)]
    lines.insert(2, row("When?", ""))
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(lines), encoding="utf-8")
    always = Decision(always_answer=True)
    answerer = load_answerer(str(tiny_folder))
    assert "done: 7 rows" in predict_file(answerer, str(source), out, decision=always, max_rows=3).summary(out)
    found = records(out)
    assert [record["line"] for record in found] == list(range(1, 8))
    assert "'line 3' is empty" in found.pop(2)["error"]
    for record in found:
        context = json.loads(lines[record["line"] - 1])["context"]
        assert record["answer"] == context[record["start"] : record["end"]] != ""
        assert 0.0 < record["probability"] <= 1.0 <= len(record["candidates"]) <= 3
    settings = json.loads(out.with_name("out.jsonl.manifest.json").read_text())["settings"]
    assert (settings["model"], settings["adapter"], settings["always_answer"]) == (str(tiny_folder), None, True)
    assert len(settings["weights_sha256"]) == len(settings["prompt_sha256"]) == 64
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 2])
    # A pipe that brings the same rows goes on as the file would.
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(source.read_bytes())))
    again = predict_file(answerer, "-", out, decision=always, max_rows=3)
    assert out.read_bytes() == whole
    assert ". 4 rows in" in again.summary(out)
    with pytest.raises(RunError, match=r"was begun with always_answer = True, and now it is False"):
        predict_file(answerer, str(source), out, max_rows=3)
    with pytest.raises(DataError, match="cannot read the input"):
        predict_file(answerer, str(tmp_path / "none.jsonl"), out)
    monkeypatch.setattr("palmette.decode.span_decoder.SpanDecoder.predict", Fake(stops=True).predict)
    assert palmette(monkeypatch, "predict", source, out.with_name("new.jsonl"), "--model", tiny_folder) == 130
    assert "stopped: 0 rows are safe" in capsys.readouterr().err
