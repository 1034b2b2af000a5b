"""Questions about documents: the round trip, and a job that continues after a stop."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from palmette.data.records import Document
from palmette.data.source import read_source
from palmette.decode.prediction import Candidate as Found
from palmette.decode.prediction import Prediction
from palmette.decode.span_decoder import SpanDecoder
from palmette.errors import DataError
from palmette.synth import questions
from palmette.synth.question_job import REASONS
from palmette.synth.question_settings import QuestionSettings
from palmette.synth.questions import kept_questions, refused_lines, with_refused, write_lines
from palmette.synth.writers import Request, Written, load_writer
from palmette.tasks.qa_prompt import load_prompt
from tests.support.chat_server import Act, ChatServer, fails, says
from tests.support.command import palmette
from tests.support.span_decoding import EVERYTHING, TEXT

FERRY = (
    "The ferry to Gull Rock leaves at 7:40 from the old pier. Ada Byrne steers it each day of the year, and she has "
    "done so since 4 May 1906. The passengers pay $3.50 to her."
)
MILL = (
    "The mill in Whitby grinds oats for the ferry and its passengers, and it leaves nothing for the gulls. The miller, "
    "Ben Cole, keeps the old pier of the harbour free of stones all through the year."
)


# ---- the round trip, with a writer and a reader that follow a script

ASKS = {
    "Gull Rock": "Where does the ferry go each day?",
    "7:40": "When does the ferry leave?",
    "Ada Byrne": "Who steers the ferry?",
    "4 May 1906": "Since when has the captain done so?",
    "$3.50": "Who steers the ferry?",
    "Whitby": "Where is the mill of Ben Cole?",
    "Ben Cole": "Who is the miller?",
}
# What the reader finds: its best span, its probability, and that there is an answer.
READS: dict[str, tuple[str, float, float]] = {
    "Where does the ferry go each day?": ("the old pier", 0.8, 0.9),
    "When does the ferry leave?": ("at 7:40", 0.6, 0.9),
    "Who steers the ferry?": ("Ada Byrne", 0.95, 0.99),
    "Since when has the captain done so?": ("4 May 1906", 0.1, 0.5),
    "Where is the mill of Ben Cole?": ("", 0.0, 0.1),
    "Who is the miller?": ("Ben Cole", 0.9, 0.9),
}


class Scripted:
    """A writer that asks what the script says."""

    identity: Mapping[str, Any] = {"model": "script"}
    price, most_tokens, licence = None, None, None

    def __init__(self) -> None:
        self.asked: list[str] = []

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Written]]:
        for index in reversed(range(len(requests))):
            answer = requests[index].turns[-1][1].partition("to which \u201c")[2].partition("\u201d")[0]
            self.asked.append(answer)
            yield index, Written(ASKS[answer], "end", 5)


class Reader:
    """A decoder that finds what the script says, if it stands in the document."""

    def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction]]:
        for document in documents:
            for question in document.questions:
                text, probability, answered = READS[question.text]
                start = document.text.find(text)
                if not text or start < 0:
                    yield question.id, Prediction("", "absent", no_answer_probability=0.95)
                    continue
                best = Found(text, start, start + len(text), probability)
                yield question.id, Prediction(text, candidates=(best,), no_answer_probability=1 - answered)


PASSAGES = [Document("ferry", FERRY, (), "harbour"), Document("mill", MILL, (), "harbour")]


def made(tmp_path: Path, **settings: Any) -> tuple[list[dict[str, Any]], list[Document]]:
    lines = write_lines(PASSAGES, Scripted(), Reader(), QuestionSettings(**settings), tmp_path / "w", {})
    return lines, kept_questions(PASSAGES, lines, QuestionSettings(**settings))


def test_an_answer_that_only_stands_inside_the_span_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader says "5", which is a word of its own elsewhere and a digit of the "1950" that was asked for."""
    monkeypatch.setitem(ASKS, "1950", "How many wheels did the mill have?")
    monkeypatch.setitem(ASKS, "5 times", "Who steers the ferry?")
    monkeypatch.setitem(READS, "How many wheels did the mill have?", ("5", 0.9, 0.9))
    passage = Document("wheels", "In 1950 it was sold 5 times.", (), "harbour")
    (line,) = write_lines([passage], Scripted(), Reader(), QuestionSettings(), tmp_path / "w", {})
    assert {span["answer"]: span["reason"] for span in line["spans"]}["1950"] == "another answer"


def test_the_round_trip_keeps_what_the_reader_answers_with_the_same_span(tmp_path: Path) -> None:
    lines, documents = made(tmp_path)
    told = {
        span["answer"]: (span["reason"], span.get("read"), span.get("probability"))
        for line in lines
        for span in line["spans"]
    }
    assert told == {
        "Gull Rock": ("another answer", "the old pier", 0.8),
        "7:40": ("", "at 7:40", 0.6),  # it overlaps
        "Ada Byrne": ("", "Ada Byrne", 0.95),
        "4 May 1906": ("unsure", "4 May 1906", 0.1),
        "$3.50": ("repeated", None, None),
        "Whitby": ("not answered", "", 0.0),
        "Ben Cole": ("", "Ben Cole", 0.9),
    }
    assert [[(q.text, q.answers[0].text) for q in one.questions] for one in documents] == [
        [("When does the ferry leave?", "7:40"), ("Who steers the ferry?", "Ada Byrne")],
        [("Who is the miller?", "Ben Cole")],
    ]
    for document in documents:
        for question in document.questions:
            answer = question.answers[0]
            assert document.text[answer.start :].startswith(answer.text)
    assert made(tmp_path, min_probability=0.05)[1][0].questions[-1].answers[0].text == "4 May 1906"
    assert {reason for reason, *_ in told.values()} - {""} <= set(REASONS)


def test_a_candidate_at_its_first_place_stands_for_every_place() -> None:
    passage = Document("d", "Ada went. Then Ada Byrne spoke.", ())
    best = Prediction("Ada", candidates=(Found("Ada", 0, 3, 0.9),))
    record = {"start": 15, "end": 24}
    assert questions._round_trip(passage, record, best, 0.3)["reason"] == ""


def test_the_same_question_and_answer_are_kept_once(tmp_path: Path) -> None:
    twice = [PASSAGES[1], Document("again", MILL + " It is old.", (), "harbour")]
    lines = write_lines(twice, Scripted(), Reader(), QuestionSettings(), tmp_path / "w", {})
    assert [len(one.questions) for one in kept_questions(twice, lines, QuestionSettings())] == [1, 0]
    assert [span["reason"] for span in lines[1]["spans"]] == ["not answered", "asked before"]


def test_questions_of_others_are_kept_where_the_reader_finds_no_answer(tmp_path: Path) -> None:
    """The mill is asked when the ferry leaves and who steers it; the reader finds neither there. The old pier is in
    both passages, so a question about it might be answered.
    """
    _, documents = made(tmp_path)
    lines = refused_lines(documents, Reader(), QuestionSettings(), tmp_path / "w", {})
    done = with_refused(documents, lines)
    added = {q.text for q in done[1].questions if not q.answers}
    assert added == {"When does the ferry leave?", "Who steers the ferry?"}
    assert {q.id.partition("@")[2] for q in done[1].questions if not q.answers} == {"mill"}
    wary = refused_lines(documents, Reader(), QuestionSettings(max_answered=0.01), tmp_path / "w2", {})
    assert {one["reason"] for line in wary for one in line["questions"]} == {"may be answered"}
    assert with_refused(documents, wary) == documents
    assert refused_lines(documents, Reader(), QuestionSettings(unanswerable=0), tmp_path / "w3", {}) == []


def test_finished_passages_are_not_written_again(tmp_path: Path) -> None:
    first, second, done = Scripted(), Scripted(), {}
    whole = write_lines(PASSAGES[:1], first, Reader(), QuestionSettings(), tmp_path / "w", done)
    lines = write_lines(PASSAGES, second, Reader(), QuestionSettings(), tmp_path / "w", done)
    assert lines[0] == whole[0]
    assert set(second.asked) == {"Whitby", "Ben Cole"}
    assert len((tmp_path / "w").read_text().splitlines()) == 2


def test_the_span_decoder_is_a_reader(fitted_model: Any, tokenizer: Any, tmp_path: Path) -> None:
    """The model has learned when the ferry leaves, and that nobody says its colour."""

    class Writer(Scripted):
        def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Written]]:
            asked = {"7:40": "When does the ferry leave?", "3": "What colour is the ferry?"}
            for index, request in enumerate(requests):
                answer = request.turns[-1][1].partition("to which \u201c")[2].partition("\u201d")[0]
                yield index, Written(asked[answer], "end", None)

    decoder = SpanDecoder(fitted_model, tokenizer, load_prompt("plain"), effort=EVERYTHING)
    (line,) = write_lines([Document("d", TEXT, ())], Writer(), decoder, QuestionSettings(), tmp_path / "w", {})
    told = {span["answer"]: span["reason"] for span in line["spans"]}
    assert told["7:40"] == ""
    assert told["3"] in ("not answered", "another answer", "unsure")


# ---- writers


def test_a_local_writer_says_what_transformers_generates(tiny_folder: Path) -> None:
    """Greedy, with two requests that begin alike and one that does not; the oracle reads each by itself."""
    turns = [(("user", f"The ferry leaves at 7:40. Ask {what}"),) for what in ("who", "when")]
    turns.append((("user", "One"), ("assistant", "two"), ("user", "three")))
    writer = load_writer(str(tiny_folder), {"temperature": 0.0, "max_tokens": 6})
    found = dict(writer.write([Request(one, key) for key, one in enumerate(turns)]))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_folder), AutoTokenizer.from_pretrained(tiny_folder)
    for index, one in enumerate(turns):
        messages = [{"role": role, "content": text} for role, text in one]
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = model.generate(**prompt, do_sample=False, max_new_tokens=6)[0, prompt["input_ids"].shape[1] :]
        assert found[index].text == tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert writer.identity["model"] == str(tiny_folder)
    assert list(writer.write([])) == []
    with pytest.raises(DataError, match="no parameter 'stop'"):
        load_writer(str(tiny_folder), {"stop": ["x"]})


# ---- the command, with a server as the writer


def server_says(request: dict[str, Any]) -> Act:
    asked = request["messages"][-1]["content"]
    answer = asked.partition("to which \u201c")[2].partition("\u201d")[0]
    return fails(400, "too long") if answer == "Whitby" else says(f"Question: {ASKS[answer]}")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(server_says) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    identity = {"model": "r", "weights_sha256": "r", "adapter_sha256": None}
    monkeypatch.setattr("palmette.synth.question_job._reader", lambda _: (Reader(), identity))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text(FERRY)
    (tmp_path / "docs" / "b.txt").write_text(MILL)
    return tmp_path


def command(server: ChatServer, folder: Path, *words: Any) -> tuple[Any, ...]:
    base = ("synth", "questions", folder / "docs", "--endpoint", server.url, "--model-name", "m")
    return (*base, "--out", folder / "q.jsonl", *words)


def test_questions_are_written_read_back_and_reported(
    server: ChatServer, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert palmette(monkeypatch, *command(server, folder, "--licence", "CC0", "--price-in", 1)) == 0
    told = capsys.readouterr()
    assert "If nothing is dropped, the writer gets about 7 requests of" in told.out
    assert "3 of 7 questions are kept" in told.out
    assert "Cost: " in told.err
    data = read_source(str(folder / "q.jsonl"))
    assert sum(q.answerable for one in data.documents for q in one.questions) == 3
    report = json.loads((folder / "q.jsonl.report.json").read_text())
    assert (report["asked"], report["kept"], report["kept_with_equal_answer"]) == (7, 3, 2)
    assert report["licences"] == {"writer": "CC0", "sources": {str(folder / "docs"): None}}
    assert "--source-licence puts it into the report" in told.out
    assert report["by_kind"]["date"] == {"found": 1, "asked": 1, "kept": 0}
    assert report["kept_by_probability"] == {
        "0.0 to 0.2": 0,
        "0.2 to 0.4": 0,
        "0.4 to 0.6": 0,
        "0.6 to 0.8": 1,
        "0.8 to 1.0": 2,
    }
    assert report["dropped"]["failed"]["number"] == 1
    assert report["writer"]["endpoint"] == server.url
    # six replies of seven tokens to requests of eleven, and one that was refused
    assert report["after"] == {"tokens_read": 66, "tokens_written": 42, "cost": pytest.approx(66e-6)}
    assert report["before"]["most_tokens_written"] == 7 * 64
    page = (folder / "q.jsonl.html").read_text()
    assert "Who is the miller?" in page
    assert "Where does the ferry go each day?" in page
    assert report["without_answer"]["kept"] == data.num_questions - 3 > 0
    stories = [json.loads(line) for line in (folder / "q.jsonl.spans.jsonl").read_text().splitlines()]
    assert len([one for one in stories if "kind" in one]) == 7
    assert not (folder / "q.jsonl.work").exists()
    assert palmette(monkeypatch, *command(server, folder)) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_job_that_was_stopped_continues(
    server: ChatServer, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("palmette.synth.questions._GROUP", 1)
    assert palmette(monkeypatch, *command(server, folder)) == 0
    whole = (folder / "q.jsonl").read_bytes()
    (folder / "q.jsonl").unlink()
    lines = questions._lines

    def stopped(passages: Sequence[Document], *rest: Any) -> Iterator[Any]:
        if passages[0].text == MILL:
            raise KeyboardInterrupt
        yield from lines(passages, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(questions, "_lines", stopped)
        assert palmette(patch, *command(server, folder, "--cache", folder / "other")) == 130
    assert not (folder / "q.jsonl").exists()
    assert palmette(monkeypatch, *command(server, folder, "--spans", 3)) == 2
    assert "was begun with settings.spans" in capsys.readouterr().err
    server.asked.clear()
    assert palmette(monkeypatch, *command(server, folder, "--cache", folder / "third")) == 0
    assert {prompt.partition("\n")[0] for prompt in server.prompts()} == {MILL}
    assert (folder / "q.jsonl").read_bytes() == whole


def test_it_must_be_clear_what_writes(
    server: ChatServer, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert palmette(monkeypatch, *command(server, folder, "--writer", "m")) == 2
    assert "it is not clear what writes" in capsys.readouterr().err
    words = ("synth", "questions", folder / "docs", "--out", folder / "q.jsonl", "--model-name", "m")
    assert palmette(monkeypatch, *words) == 2


def test_where_nothing_is_kept_the_report_says_why(
    server: ChatServer, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert palmette(monkeypatch, *command(server, folder, "--min-probability", 1)) == 2
    assert "no question was kept" in capsys.readouterr().err
    assert json.loads((folder / "q.jsonl.report.json").read_text())["dropped"]["unsure"]["number"] == 4
    assert not (folder / "q.jsonl").exists()


def test_one_model_as_writer_and_reader_is_pointed_out() -> None:
    from palmette.synth.question_job import _warn_of_one_model

    told: list[str] = []
    reader = {"weights_sha256": "w", "adapter_sha256": None}
    _warn_of_one_model({"weights_sha256": "w", "adapter_sha256": "a"}, reader, told.append)
    _warn_of_one_model({"endpoint": "http://h"}, reader, told.append)
    assert told == []
    _warn_of_one_model({"weights_sha256": "w", "adapter_sha256": None, "model": "m"}, reader, told.append)
    assert len(told) == 1
