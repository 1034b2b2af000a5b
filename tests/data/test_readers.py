"""Readers: SQuAD v2 JSON, JSON Lines, hub data sets; every bad record is named, and nothing is dropped in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palmette.data.records import Answer, Document, Question
from palmette.data.rows import dump_rows, group_rows, parse_json_lines
from palmette.data.source import read_source
from palmette.data.squad import dump_squad, parse_squad
from palmette.errors import DataError
from tests.support.data import squad_file


def test_a_squad_file_is_read(tmp_path: Path) -> None:
    data = read_source(str(squad_file(tmp_path / "a.json")))
    assert [document.id for document in data.documents] == ["Harbour/0", "Harbour/1"]
    first = data.documents[0].questions[0]
    assert (first.answers, first.answerable) == ((Answer("granite", 13),), True)
    assert not data.documents[0].questions[1].answerable
    assert (data.num_questions, data.dropped) == (3, ())


BAD = {
    "offset": ({"answers": [{"text": "granite", "answer_start": 12}]}, "'granite' at 12, .* stands at 13"),
    "absent": ({"answers": [{"text": "marble", "answer_start": 0}]}, "'marble' at 0.*does not stand anywhere"),
    "negative": ({"answers": [{"text": "granite", "answer_start": -1}]}, "'granite' at -1"),
    "blank answer": ({"answers": [{"text": " ", "answer_start": 3}]}, "empty answer"),
    "contradiction": ({"is_impossible": True}, "is_impossible = true and 1 answers"),
    "no answers": ({"answers": []}, "is_impossible = false and 0 answers"),
    "type": ({"question": 7}, "'question' is a number, not text"),
    "boolean offset": (
        {"answers": [{"text": "granite", "answer_start": True}]},
        "'answer_start' is true or false, not a whole number",
    ),
    "blank question": ({"question": "  "}, "'q1' .* has no text"),
    "twice": ({"id": "q2"}, "question id 'q2'"),
    "blank rationale": ({"rationale": " "}, "'q1' .* has an empty rationale"),
    "no rationale": ({"rationale": 7}, "'rationale' is a number, not text"),
    "half a surrogate": ({"rationale": "\ud83d"}, "in its rationale, has half a surrogate pair"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_records_are_named_or_counted(tmp_path: Path, case: str) -> None:
    changes, message = BAD[case]
    path = squad_file(tmp_path / "bad.json", **changes)
    with pytest.raises(DataError, match=message) as caught:
        read_source(str(path))
    assert str(path) in str(caught.value)
    left = read_source(str(path), on_bad_record="drop")
    assert left.num_questions == 2
    assert len(left.dropped) == 1


FILES = {
    "not json": ("{", "not JSON: .* line 1, column 2"),
    "no data": ("[]", "no list of articles"),
    "deep": ("[" * 100_000, "not JSON: nested too deeply"),
    "huge number": ("9" * 5000, "not JSON: Exceeds the limit"),
    "version": ('{"version": "v3.0", "data": []}', "version is 'v3.0', not 'v2.0'"),
    "another version": ('{"version": 2, "data": []}', "version is 2, not 'v2.0'"),
    "nothing": ('{"version": "v2.0", "data": []}', "no question in 0 documents"),
    "no title": ('{"version": "v2.0", "data": [{}]}', "article 1 has no field 'title'"),
    "no paragraphs": ('{"version": "v2.0", "data": [{"title": "T"}]}', "article 'T' has no field 'paragraphs'"),
    "no context": (
        '{"version": "v2.0", "data": [{"title": "T", "paragraphs": [{"qas": []}]}]}',
        "paragraph 1 has no field 'context'",
    ),
    "empty document": (
        '{"version": "v2.0", "data": [{"title": "T", "paragraphs": [{"context": " ", "qas": []}]}]}',
        "document 'T/0' is empty",
    ),
}


@pytest.mark.parametrize("case", sorted(FILES))
def test_bad_files_are_named(tmp_path: Path, case: str) -> None:
    text, message = FILES[case]
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_source(str(path))


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = squad_file(tmp_path / "windows.json")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_source(str(path)).num_questions == 3


def test_a_dropped_document_says_how_many_questions_went_with_it(tmp_path: Path) -> None:
    path = squad_file(tmp_path / "bad.json")
    path.write_text(path.read_text().replace("The tower is granite, and white.", " "))
    left = read_source(str(path), on_bad_record="drop")
    assert left.num_questions == 1
    assert [reason.endswith("is empty, with 2 questions") for reason in left.dropped] == [True]


def test_not_utf8_and_missing_sources_are_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.json"
    path.write_bytes(b'"caf\xe9"')
    with pytest.raises(DataError, match="byte 4 is not UTF-8"):
        read_source(str(path))
    with pytest.raises(DataError, match=r"there is no data file 'no\.json'"):
        read_source("no.json")
    with pytest.raises(DataError, match="cannot read the data"):
        read_source("x" * 5000)
    with pytest.raises(DataError, match="no split 'testing'"):
        read_source("builtin:testing")


words = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip)


@st.composite
def documents(draw: st.DrawFn) -> tuple[Document, ...]:
    found = []
    for index in range(draw(st.integers(1, 3))):
        text = draw(words)
        start = draw(st.integers(0, len(text) - 1))
        answer = Answer(text[start : draw(st.integers(start + 1, len(text)))], start)
        answered = Question(f"{index}-a", draw(words), (answer,), (), draw(st.none() | words))
        refused = Question(f"{index}-b", draw(words), (), draw(st.sampled_from([(), (answer,)])))
        found.append(Document(f"T/{index}", text, (answered, refused), "T"))
    return tuple(found)


@given(documents())
def test_writing_and_reading_a_squad_file_gives_the_same_documents(given_documents: tuple[Document, ...]) -> None:
    assert tuple(parse_squad(dump_squad(given_documents), "memory")) == given_documents


@given(documents())
def test_writing_and_reading_json_lines_gives_the_same_questions(given_documents: tuple[Document, ...]) -> None:
    """Documents of one title and text become one, and ids of documents are given anew."""
    found = list(group_rows(parse_json_lines(dump_rows(given_documents), "memory"), "memory"))
    assert {document.text for document in found if isinstance(document, Document)} == {d.text for d in given_documents}
    questions = {q.id: (d.text, q) for d in found if isinstance(d, Document) for q in d.questions}
    assert questions == {q.id: (d.text, q) for d in given_documents for q in d.questions}
    assert len(questions) == 2 * len(given_documents)


def rows_file(path: Path, *rows: Any) -> str:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
    )
    return str(path)


TOWER = "The tower is granite.\u2028It is white."
ROWS = [
    {
        "id": "a",
        "title": "T",
        "context": TOWER,
        "question": "Of what?",
        "answers": {"text": ["granite"], "answer_start": [13]},
    },
    {"id": "b", "title": "T", "context": TOWER, "question": "By whom?", "answers": {"text": [], "answer_start": []}},
    {"document": TOWER, "question": "Which colour?", "answers": ["white"]},
    {
        "id": "d",
        "title": "T",
        "context": TOWER,
        "question": "What colour?",
        "answers": [{"text": "white", "answer_start": 28}],
    },
]


def test_json_lines_are_grouped_by_document(tmp_path: Path) -> None:
    data = read_source(rows_file(tmp_path / "rows.jsonl", *ROWS))
    assert [[question.id for question in document.questions] for document in data.documents] == [
        ["a", "b", "d"],
        ["line-3"],
    ]
    assert data.documents[0].text == TOWER
    assert data.documents[1].questions[0].answers == (Answer("white", 28),)


BAD_ROWS = {
    "not json": ("{nope", "line 2 is not JSON"),
    "not an object": ("[1]", "line 2 is a list, not an object"),
    "no question": ({"context": TOWER, "answers": []}, "id 'line-2' has no 'question'"),
    "ambiguous": ({"context": TOWER, "question": "?", "answers": ["i"]}, "the answer 'i' stands 4 times"),
    "odd answer": ({"context": TOWER, "question": "?", "answers": [3]}, "the answer 3 is neither"),
    "typo": ({"context": TOWER, "question": "?", "answer": ["white"]}, "has no 'answers', but 'answer'"),
    "unlabelled": ({"context": TOWER, "question": "?"}, "has no 'answers'"),
    "null": ({"context": TOWER, "question": "?", "answers": None}, "has no 'answers'"),
    "not a truth value": (
        {"context": TOWER, "question": "?", "is_impossible": "no", "answers": ["white"]},
        "= 'no' and 1",
    ),
    "wrong offset": (
        {"context": TOWER, "question": "?", "answers": [{"text": "white", "answer_start": 2}]},
        "stands at 28",
    ),
    "half a surrogate": ('{"context": "The \\ud83d", "question": "?", "answers": []}', "half a surrogate pair"),
    "deep": ("[" * 100_000, "line 2 is not JSON: nested too deeply"),
    "contradiction": (
        {"context": TOWER, "question": "?", "is_impossible": True, "answers": ["white"]},
        "is_impossible",
    ),
    "rationale": (
        {"context": TOWER, "question": "?", "answers": [], "rationale": ["so"]},
        "'rationale' is a list, not text",
    ),
}


@pytest.mark.parametrize("case", sorted(BAD_ROWS))
def test_bad_rows_are_named_or_counted(tmp_path: Path, case: str) -> None:
    row, message = BAD_ROWS[case]
    source = rows_file(tmp_path / "rows.jsonl", ROWS[0], row)
    with pytest.raises(DataError, match=message):
        read_source(source)
    assert len(read_source(source, on_bad_record="drop").dropped) == 1


def test_a_hub_data_set_is_read_through_the_hub_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` takes a folder of that name in the working directory for the hub's: the same code, without the
    network.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "rajpurkar" / "squad_v2"
    folder.mkdir(parents=True)
    rows_file(folder / "train.jsonl", *ROWS[:2])
    rows_file(folder / "validation.jsonl", ROWS[1])
    assert read_source("rajpurkar/squad_v2").num_questions == 2
    assert read_source("rajpurkar/squad_v2:validation").num_questions == 1
    with pytest.raises(DataError, match="cannot load the data set 'rajpurkar/squad_v2', split 'test'"):
        read_source("rajpurkar/squad_v2:test")
