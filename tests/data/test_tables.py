"""Question files as people keep them: what their columns mean, and what is wrong in which row.

Files are written by pandas, openpyxl and pyarrow. What they mean is stated beside them.
"""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pandas
import pytest

from palmette.data.preference_sets import read_comparisons, read_verdicts
from palmette.data.records import Answer
from palmette.data.source import open_rows, read_source
from palmette.data.tables import open_table
from palmette.errors import DataError
from tests.support.papers import repacked

TOWER = "The tower is granite. It was built in 1882,\nand is open on Sunday. The lamp was lit in 1882."
COLUMNS = {
    "Question": ["Of what is it?", "When was it built?", "Who built it?", "When may one come in?"],
    "Context": [TOWER, TOWER, TOWER, TOWER],
    "Answer": ["granite", "1882", "", "open on Sunday"],
}


def written(path: Path, columns: dict[str, Any]) -> str:
    frame = pandas.DataFrame(columns)
    if path.suffix == ".xlsx":
        frame.to_excel(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ";" if "semicolon" in path.stem else ",")
    return str(path)


@pytest.mark.parametrize("name", ["a.csv", "semicolon.csv", "a.tsv", "a.xlsx", "a.parquet"])
def test_every_kind_of_table_says_the_same(tmp_path: Path, name: str) -> None:
    """An empty cell is a question without an answer. Of several places of an answer, the first one counts."""
    data = read_source(written(tmp_path / name, COLUMNS))
    (document,) = data.documents
    assert document.text == TOWER
    assert [question.answers for question in document.questions] == [
        (Answer("granite", 13),),
        (Answer("1882", TOWER.index("1882")),),
        (),
        (Answer("open on Sunday", TOWER.index("open")),),
    ]
    first = 1 if name.endswith("parquet") else 2  # spreadsheets number the header too
    assert [question.id for question in document.questions] == [f"row-{first + i}" for i in range(4)]


def one(path: Path, **columns: Any) -> Any:
    """The only question of a table of one row."""
    data = read_source(written(path, {"question": ["When?"], "text": [TOWER], **{k: [v] for k, v in columns.items()}}))
    return data.documents[0].questions[0]


def test_several_answers_stand_in_several_cells_or_in_a_list(tmp_path: Path) -> None:
    places = (TOWER.index("Sunday"), TOWER.index("on Sunday"))
    expected = (Answer("Sunday", places[0]), Answer("on Sunday", places[1]))
    assert one(tmp_path / "a.csv", answer_1="Sunday", **{"Answer 2": "on Sunday"}).answers == expected
    assert one(tmp_path / "b.csv", answers='["Sunday", "on Sunday"]').answers == expected
    assert one(tmp_path / "c.parquet", answers=["Sunday", "on Sunday"]).answers == expected
    spans = {"text": ["Sunday", "on Sunday"], "answer_start": list(places)}
    assert one(tmp_path / "d.parquet", answers=spans).answers == expected, "as rajpurkar/squad_v2 has it"
    assert one(tmp_path / "e.csv", answers="[]").answers == ()


def test_places_white_space_and_other_columns(tmp_path: Path) -> None:
    assert one(tmp_path / "a.csv", answer="1882", answer_start=TOWER.rindex("1882")).answers[0].start == TOWER.rindex(
        "1882"
    )
    assert one(tmp_path / "b.csv", answer="1882, and").answers[0].text == "1882,\nand", "as the document has it"
    asked = one(
        tmp_path / "c.csv", answer="", plausible_answers="granite", ID="q7", is_impossible=True, rationale="No."
    )
    assert (asked.id, asked.plausible, asked.rationale) == ("q7", (Answer("granite", 13),), "No.")
    assert one(tmp_path / "d.csv", answer="lit").answers[0].start == TOWER.index("lit in"), "a whole word"


BAD = {
    "no such answer": ({"answer": "in 1900"}, r"row 2: the answer 'in 1900' does not stand in .* Copy the answer"),
    "no column for answers": ({"gold answer": "x"}, r"has no column 'answer', but 'question', 'text', 'gold answer'"),
    "a wrong place": ({"answer": "1882", "answer_start": 2}, "has the answer '1882' at 2, where the document has"),
    "a place that is no number": ({"answer": "1882", "answer_start": "two"}, "row 2: answer_start is 'two'. Make it"),
    "a contradiction": ({"answer": "1882", "is_impossible": True}, "row 2 has is_impossible = true and 1 answers"),
    "no truth": ({"answer": "", "is_impossible": "maybe"}, "row 2: is_impossible is 'maybe'. Make it true or false"),
    "a number": ({"answers": "[1882]"}, "row 2: the answer 1882 is neither a span nor text"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named_with_its_row(tmp_path: Path, case: str) -> None:
    columns, message = BAD[case]
    with pytest.raises(DataError, match=message):
        one(tmp_path / "a.csv", **columns)


FILES = {
    "no question": ("Frage,context,answer\na,b,\n", "has no column 'question', but 'Frage', 'context', 'answer'"),
    "empty": ("", "has no rows"),
    "two of a name": ("question,question,answer\na,b,c\n", "has two columns 'question'. Rename one"),
    "a comma too many": (
        "question,context,answer\nWhen?,At 7, or 8,7\n",
        "row 2 has more cells than .* '7' among them",
    ),
    "a missing question": ("question,context,answer\n,At 7,7\n", "row 2 has no 'question'"),
    "a missing context": ("question,context,answer\nWhen?,,7\n", "row 2 has no 'context'. The first row names"),
    "only a header": ("question,context,answer\n", "no question in 0 documents"),
    "another kind": ("PK\x03\x04xl/workbook", r"is not a CSV file\. Give it a name that ends in \.xlsx"),
}


@pytest.mark.parametrize("case", FILES)
def test_tables_that_cannot_be_read_are_named(tmp_path: Path, case: str) -> None:
    text, message = FILES[case]
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_source(str(path))


def test_bad_rows_are_counted_where_they_may_be_left_out(tmp_path: Path) -> None:
    columns = {**COLUMNS, "Answer": ["granite", "1900", "", "Monday"]}
    data = read_source(written(tmp_path / "a.xlsx", columns), on_bad_record="drop")
    assert data.num_questions == 2
    assert [reason.partition(": the")[0] for reason in data.dropped] == [
        f"{tmp_path / 'a.xlsx'}: row 3",
        f"{tmp_path / 'a.xlsx'}: row 5",
    ]
    for name, raw in (("a.parquet", b"PAR1"), ("b.xlsx", b"PK\x03\x04")):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(DataError, match="file that can be read"):
            read_source(str(tmp_path / name))


def test_rows_of_other_kinds_are_read_from_tables_too(tmp_path: Path) -> None:
    pairs = {"prompt": ["When?"], "chosen": ["At 7."], "rejected": ["Never."]}
    for name in ("a.parquet", "a.csv"):
        _, rows = open_rows(written(tmp_path / name, pairs), default_split="train", columns="", example="x/y")
        row = next(iter(rows))
        assert not isinstance(row, DataError)
        assert {name: row[name] for name in pairs} == {"prompt": "When?", "chosen": "At 7.", "rejected": "Never."}


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx", "a.parquet"])
def test_preferences_of_a_table_hold_truth_values_numbers_and_lists(tmp_path: Path, name: str) -> None:
    """A cell of CSV is text, and people write a truth value as true, TRUE, 1 or yes."""
    truths = ["true", "FALSE", "1", "0", "yes", "No "]
    verdicts = {"prompt": ["When?"] * 6, "completion": [f"At {i}." for i in range(6)], "label": truths}
    path = written(tmp_path / name, verdicts)
    assert [one.label for one in read_verdicts(path).records] == [True, False, True, False, True, False]
    for label in ([True, False], [1, 0]):
        path = written(tmp_path / name, {**{k: v[:2] for k, v in verdicts.items()}, "label": label})
        assert [one.label for one in read_verdicts(path).records] == [True, False]
    path = written(tmp_path / name, {**verdicts, "label": ["true", "maybe", *truths[2:]]})
    with pytest.raises(DataError, match="'label' is 'maybe', not true or false"):
        read_verdicts(path)
    pair = {"prompt": ["When?"], "chosen": ["At 7."], "rejected": ["[Never]"], "margin": ["0.5"]}
    (found,) = read_comparisons(written(tmp_path / name, pair)).records
    assert (found.completions, found.margin) == (("At 7.", "[Never]"), 0.5)
    several = {
        "prompt": ['[{"role": "user", "content": "When?"}]'],
        "completions": ['["a", "b", "c"]'],
        "ranks": ["[2, 3, 1]"],
    }
    (found,) = read_comparisons(written(tmp_path / name, several)).records
    assert (found.prompt[0].parts[0].text, found.completions) == ("When?", ("c", "a", "b"))


def test_rows_name_documents_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By names that are relative to the data file, wherever the command is started."""
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "tower.html").write_text(f"<p>{TOWER}</p>")
    (tmp_path / "papers" / "ferry").write_text("The ferry leaves at 7:40.")
    names = ["papers/tower.html", "papers/ferry", "A text about tower.pdf and more."]
    columns = {
        "question": ["Of what?", "When?", "What?"],
        "document": names,
        "answer": ["granite", "7:40", "tower.pdf"],
    }
    source = written(tmp_path / "a.csv", columns)
    monkeypatch.chdir("/")
    data = read_source(source)
    assert [document.text for document in data.documents] == [
        " ".join(TOWER.split()),
        "The ferry leaves at 7:40.",
        names[2],
    ]
    assert [document.title for document in data.documents] == [*names[:2], ""]
    before = data.sha256
    (tmp_path / "papers" / "ferry").write_text("The ferry leaves at 7:40 sharp.")
    assert read_source(source).sha256 != before, "what is learned has changed"
    (tmp_path / "papers" / "ferry").unlink()
    columns["document"][1] = "papers/ferry.txt"
    with pytest.raises(DataError, match=r"row 3: there is no document '.*papers/ferry\.txt'"):
        read_source(written(tmp_path / "a.csv", columns))
    del columns["document"]
    with pytest.raises(DataError, match=r"row 2: the document .* is a folder"):
        read_source(written(tmp_path / "a.csv", {**columns, "File": ["papers"] * 3}))


def test_a_line_of_json_may_name_a_document_too(tmp_path: Path) -> None:
    (tmp_path / "ferry.txt").write_text("The ferry leaves at 7:40.")
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "When?", "document": "ferry.txt", "answers": ["7:40"]}\n')
    assert read_source(str(path)).documents[0].questions[0].answers == (Answer("7:40", 20),)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1250", "cp932"])
def test_tables_are_read_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    """What is not ASCII stands at the end only, after more than is read at a time, and lines end in several ways."""
    last = "契約は三十日の通知で終わる" if encoding == "cp932" else "Żółć gęślą jaźń"
    rows = [f'{number};"a ""b""\r\nc"' for number in range(120_000)]
    path = tmp_path / "a.csv"
    path.write_bytes("\r\n".join(["sep=;", "number;text", *rows, f"last;{last}"]).encode(encoding))
    table = open_table(path, "a.csv")
    assert table.columns == ("number", "text")
    read = list(table.rows)
    assert (len(read), read[0].number, read[0]) == (120_001, 3, {"number": "0", "text": 'a "b"\r\nc'})
    assert read[-1] == {"number": "last", "text": last}


def test_a_table_may_be_larger_than_memory(tmp_path: Path) -> None:
    """24 MB of text are read in less than 4 MB."""
    long = tmp_path / "a.csv"
    with long.open("w") as stream:
        stream.write("question,context\n")
        stream.writelines(f'"What, {number}?",{"é" if number == 700 else "e" * 30_000}\n' for number in range(800))
    tracemalloc.start()
    try:
        assert sum(len(row["question"]) for row in open_table(long, "a.csv").rows) == 10 * 8 + 90 * 9 + 700 * 10
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_rows_of_a_sheet_are_given_before_the_next_ones_are_read(tmp_path: Path) -> None:
    """The sheet breaks off in the middle. What stands before is read, and then comes the error."""
    path = tmp_path / "a.xlsx"
    pandas.DataFrame({"question": [f"What is {number}?" for number in range(2000)]}).to_excel(path, index=False)
    with zipfile.ZipFile(path) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml")
    path.write_bytes(repacked(path, {"xl/worksheets/sheet1.xml": sheet[: len(sheet) // 2]}))
    rows = open_table(path, "a.xlsx").rows
    assert [next(rows)["question"] for _ in range(3)] == ["What is 0?", "What is 1?", "What is 2?"]
    with pytest.raises(DataError, match=r"a\.xlsx: no Excel file that can be read: .*Save it again"):
        list(rows)
