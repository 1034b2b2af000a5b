"""Values at the edges of JSON and Arrow: nulls, huge integers, ids of other types, duplicate keys, files that are no
text.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from palmette.data.chat import parse_chat, read_chat
from palmette.data.preference import parse_comparisons, parse_verdicts
from palmette.data.rows import group_rows
from palmette.data.source import read_source
from palmette.data.squad import parse_squad
from palmette.data.stream import read_rows
from palmette.data.text import is_mark, skip_marks
from palmette.errors import DataError

HUGE = 10**400
OPENED = "It opened in 1931."
TURNS = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Left."}]


def only(records: Any) -> Any:
    (record,) = records
    return record


def table_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as an Arrow table gives them back: each with all columns."""
    columns = dict.fromkeys(key for row in rows for key in row)
    return [dict(row) for row in Dataset.from_list([{key: row.get(key) for key in columns} for row in rows])]


def test_rows_of_an_arrow_table_may_have_nulls_in_any_column() -> None:
    """pyarrow fills the columns that a row lacks, inside structs too.

    Such rows mean what they mean without the nulls.
    """
    rows = [
        {"question": "When?", "document": OPENED, "answers": ["1931"], "id": "a"},
        {"question": "Who?", "context": OPENED, "answers": [], "rationale": "Nobody is named."},
    ]
    table = table_of(rows)
    assert table[0]["context"] is None, "the property is not vacuous"
    first, second = (list(group_rows([row], "a")) for row in table)
    assert [first, second] == [list(group_rows([{"id": "row-1", **row}], "a")) for row in rows]

    chats = [
        {"messages": TURNS},
        {"prompt": "Where?", "completion": "Left."},
        {"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "Left."}]},
    ]
    filled = table_of(chats)
    assert filled[1]["messages"] is None
    expected = only(parse_chat([chats[0]], "a"))
    for row in filled:
        found = only(parse_chat([row], "a"))
        assert not isinstance(found, DataError)
        assert found.turns == expected.turns

    mixed = [{**TURNS[0]}, {"from": "gpt", "value": "Left."}]
    turns = only(table_of([{"messages": mixed}]))["messages"]
    assert turns[1]["role"] is None
    assert only(parse_chat([{"messages": turns}], "a")).turns == expected.turns


def test_null_answers_are_missing_answers() -> None:
    """Whether there is no answer or nobody marked one, a null does not say."""
    error = only(group_rows([{"question": "When?", "context": OPENED, "answers": None}], "a"))
    assert "has no 'answers'" in error.problem
    assert "but" not in error.problem
    found = only(group_rows([{"question": "When?", "context": OPENED, "answers": None, "is_impossible": True}], "a"))
    assert not found.questions[0].answers
    qa = {"id": "1", "question": "q", "answers": [], "is_impossible": True, "plausible_answers": None}
    text = json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": OPENED, "qas": [qa]}]}]})
    assert len(only(parse_squad(text, "a")).questions) == 1


@pytest.mark.parametrize(
    ("parse", "row", "name"),
    [
        (parse_chat, {"messages": [TURNS[0], {**TURNS[1], "learn": HUGE}]}, "learn"),
        (parse_chat, {"messages": [TURNS[0], {**TURNS[1], "content": HUGE}]}, "content"),
        (parse_comparisons, {"prompt": "a", "chosen": "b", "rejected": "c", "margin": HUGE}, "margin"),
        (parse_comparisons, {"prompt": "a", "completions": ["b", "c"], "scores": [HUGE, 1]}, "scores"),
        (parse_comparisons, {"prompt": "a", "completions": ["b", "c"], "ranks": [-HUGE, 1]}, "ranks"),
        (parse_verdicts, {"prompt": "a", "completion": "b", "label": HUGE}, "label"),
        (group_rows, {"question": "a", "context": "b", "answers": [HUGE]}, "answer"),
        (group_rows, {"question": HUGE, "context": "b", "answers": []}, "question"),
    ],
)
def test_integers_that_no_float_holds_are_errors_of_their_row(parse: Any, row: dict[str, Any], name: str) -> None:
    """JSON allows 10**400. The error is short, whatever the number is."""
    for number in (row, json.loads(json.dumps(row).replace(str(HUGE), "9" * 4299))):
        error = only(parse([number], "a.jsonl"))
        assert isinstance(error, DataError)
        assert name in error.problem
        assert len(str(error)) < 400


def test_an_answer_may_not_start_at_a_huge_place(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": "a", "context": "b", "answers": [{"text": "b", "answer_start": HUGE}]}))
    with pytest.raises(DataError, match=r"has the answer 'b' at 10{56}\.\.\., where"):
        read_source(str(path))


@pytest.mark.parametrize("bad", [7.0, {"$oid": "a1"}, True, ["a"]])
def test_ids_of_other_types_are_refused_everywhere(bad: Any) -> None:
    """They used to become row-N, so that predictions matched nothing."""
    shown = "true" if bad is True else repr(bad)
    rows = {
        group_rows: {"question": "When?", "context": OPENED, "answers": []},
        parse_chat: {"messages": TURNS},
        parse_comparisons: {"prompt": "a", "chosen": "b", "rejected": "c"},
        parse_verdicts: {"prompt": "a", "completion": "b", "label": True},
    }
    for parse, row in rows.items():
        error = only(parse([{**row, "id": bad}], "a"))
        assert isinstance(error, DataError)
        assert f"row 1 has the id {shown}, which is neither text nor a whole number" in error.problem
        assert not isinstance(only(parse([{**row, "id": 2**63}], "a")), DataError)
    line = json.dumps({"question": "When?", "context": OPENED, "id": bad}).encode()
    assert "which is neither text nor a whole number" in only(read_rows([line])).error


def test_a_key_that_stands_twice_is_named(tmp_path: Path) -> None:
    """json.loads would keep the last one."""
    line = '{"question": "When?", "context": "It opened in 1931.", "answers": [], "question": "Who?"}'
    assert "line 1 has the key 'question' twice in one object. Keep one" in only(read_rows([line.encode()])).error
    path = tmp_path / "a.jsonl"
    path.write_text('{"messages": [{"role": "user", "role": "assistant", "content": "Left."}]}\n')
    with pytest.raises(DataError, match="line 1 has the key 'role' twice"):
        read_chat(str(path))
    with pytest.raises(DataError, match="the key 'version' stands twice"):
        list(parse_squad('{"version": "v2.0", "version": "v2.0", "data": []}', "a"))


def test_files_that_hold_no_text_are_named(tmp_path: Path) -> None:
    """Written by the libraries of their formats."""
    rows = Dataset.from_list([{"question": "When?", "context": OPENED, "text": "é"}])
    rows.to_parquet(tmp_path / "p.jsonl")
    with pytest.raises(DataError, match=r"since it is a Parquet file\. Give it a name that ends in \.parquet"):
        read_source(str(tmp_path / "p.jsonl"))
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(b'{"question": "When?"}'))
    with pytest.raises(DataError, match=r"since it is compressed with gzip\. Decompress it first"):
        read_source(str(tmp_path / "a.jsonl"))
    (tmp_path / "b.jsonl").write_bytes('{"question": "Où?"}'.encode("utf-16"))
    with pytest.raises(DataError, match=r"is not UTF-8\. Save the file as UTF-8"):
        read_source(str(tmp_path / "b.jsonl"))


def test_marks_follow_the_letter_they_belong_to() -> None:
    """Vowel signs of Hindi, Thai and Khmer, most of which have the combining class 0."""
    for word in ("\u0928\u0940", "\u0e17\u0e35\u0e48", "\u1780\u17b6", "e\u0301"):
        assert skip_marks(f"{word} a", 1) == len(word)
    assert not is_mark("\u0e33"), "Thai sara am is a letter"
