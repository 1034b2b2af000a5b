"""Labelled fields: every form that people write them in, and every label that cannot be learned."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from palmette.data.records import Answer
from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.extraction.labels import Labels, questions_to_learn, read_labels
from palmette.extraction.schema import Schema, read_schema
from palmette.extraction.table import write_table
from palmette.extraction.values import DocumentResult, FieldResult, FieldValue
from tests.support.command import palmette

TEXT = "The landlord is Ann Lee. The rent is 900 euros. The tenants are Bo Ek and Ann\nLee. The deposit is 1900 euros."
SCHEMA = read_schema(
    {
        "fields": {
            "landlord": "Who is the landlord?",
            "rent": {"question": "How much is the rent?", "type": "amount"},
            "tenants": {"question": "Who are the tenants?", "many": True},
            "furnished": {"question": "Is the flat furnished?", "type": "yes/no"},
        }
    }
)


@pytest.fixture
def lease(tmp_path: Path) -> Path:
    (tmp_path / "lease.txt").write_text(TEXT)
    return tmp_path / "lease.txt"


def rows_file(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    path = folder / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def csv_file(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def answers(labels: Labels, question: str) -> tuple[Answer, ...]:
    (found,) = (one for document in labels.documents for one in document.questions if one.text == question)
    return found.answers


def test_rows_name_a_document_a_field_and_a_value(lease: Path) -> None:
    """A document is named from the folder of the rows, or given as text. "900" stands twice, once as a word.
    `start` says which of several places is meant, and a line may end in a value.
    """
    rows: list[dict[str, Any]] = [
        {"document": "lease.txt", "field": "rent", "value": "900"},
        {"document": "lease.txt", "field": "furnished", "value": None},
        {"document": "lease.txt", "field": "tenants", "value": "Bo Ek"},
        {"document": "lease.txt", "field": "tenants", "value": "Ann Lee", "start": TEXT.index("Ann\nLee")},
        {"document": "Ann Lee lets it.", "field": "landlord", "value": "Ann Lee"},
    ]
    found = read_labels(rows_file(lease.parent, rows), SCHEMA)
    assert [document.text for document in found.documents] == [TEXT, "Ann Lee lets it."]
    assert answers(found, "How much is the rent?") == (Answer("900", TEXT.index("900 ")),)
    assert answers(found, "Is the flat furnished?") == ()
    tenants = (Answer("Bo Ek", TEXT.index("Bo Ek")), Answer("Ann\nLee", TEXT.index("Ann\nLee")))
    assert answers(found, "Who are the tenants?") == tenants
    learned = [one for one in questions_to_learn(found.documents, SCHEMA)[0].questions if "tenants" in one.id]
    assert [one.answers for one in learned] == [(tenants[0],), (tenants[1],)]
    assert len({one.id for one in learned}) == 2
    assert found.summary() == "4 labels of 2 documents, 1 of them absent"


def value(text: str) -> FieldValue:
    start = TEXT.index(text)
    return FieldValue(text, start, start + len(text), 0.9, None, None, text, None, "")


def extracted(lease: Path) -> list[DocumentResult]:
    """What a model found: it took too much for the landlord, is unsure of the rent, and could not read a file."""
    import hashlib

    fields = (
        FieldResult("landlord", (value("landlord is Ann Lee"),), 0.1),
        FieldResult("rent", (), 0.4, refusal="unsure"),
        FieldResult("tenants", (value("Bo Ek"), value("Ann\nLee")), 0.1),
        FieldResult("furnished", (), 0.9, refusal="absent"),
    )
    unread = tuple(FieldResult(one.name) for one in SCHEMA.fields)
    return [
        DocumentResult(str(lease), hashlib.sha256(TEXT.encode()).hexdigest(), fields),
        DocumentResult("gone.pdf", None, unread, "cannot read gone.pdf"),
    ]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "xlsx", "parquet"])
def test_a_table_that_nobody_touched_gives_its_values_back(lease: Path, ending: str) -> None:
    out = lease.parent / f"table.{ending}"
    write_table(out, extracted(lease), SCHEMA)
    found = read_labels(str(out), SCHEMA)
    assert len(found.documents) == 1
    assert answers(found, "Who is the landlord?") == (Answer("landlord is Ann Lee", TEXT.index("landlord")),)
    assert [one.text for one in answers(found, "Who are the tenants?")] == ["Bo Ek", "Ann\nLee"]
    assert answers(found, "Is the flat furnished?") == ()
    assert not [one for one in found.documents[0].questions if "rent" in one.text]
    assert (found.num_undecided, found.num_unread) == (1, 1)


def corrected(lease: Path, cells: dict[str, str], schema: Schema = SCHEMA) -> Labels:
    out = lease.parent / "table.csv"
    write_table(out, extracted(lease), SCHEMA)
    with out.open(encoding="utf-8", newline="") as stream:
        first, *others = csv.DictReader(stream)
    return read_labels(csv_file(out, [first | cells, *others]), schema)


def test_corrected_cells_are_looked_up(lease: Path) -> None:
    """The word "Lee" stands twice, and the old value holds the first. Without one of its values a list has other
    places. An unsure cell is decided by a value, or by the reason absent.
    """
    found = corrected(lease, {"landlord": "Lee", "rent": "900 euros", "tenants": "Bo Ek"})
    assert answers(found, "Who is the landlord?") == (Answer("Lee", TEXT.index("Lee")),)
    assert answers(found, "How much is the rent?") == (Answer("900 euros", TEXT.index("900 euros")),)
    assert answers(found, "Who are the tenants?") == (Answer("Bo Ek", TEXT.index("Bo Ek")),)
    assert found.num_undecided == 0
    assert answers(corrected(lease, {"rent.reason": "absent"}), "How much is the rent?") == ()


def test_a_table_of_ones_own_needs_a_column_for_each_field(lease: Path) -> None:
    found = read_labels(
        csv_file(lease.parent / "own.csv", [{"document": "lease.txt", "rent": "900 euros", "furnished": ""}]), SCHEMA
    )
    assert [(one.text, one.answerable) for one in found.documents[0].questions] == [
        ("How much is the rent?", True),
        ("Is the flat furnished?", False),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"field": "rent", "value": "800"}, "'800' of 'rent' does not stand in the document. Copy it"),
        ({"field": "landlord", "value": "Lee"}, "stands 2 times in the document. Say where it begins"),
        ({"field": "furnished", "value": "yes"}, "learns the passage that says so"),
        ({"field": "rents", "value": "900"}, "no field 'rents'. Did you mean 'rent'?"),
        ({"field": "rent", "value": 900}, "the value of 'rent' is 900, not text"),
        ({"field": "rent", "value": "900", "document": "other.txt"}, "other.txt"),
        ({"field": "rent", "value": "900", "document_sha256": "0"}, "has changed since the table was made"),
        ({"field": "furnished", "value": "Bo Ek"}, "'furnished' has the value 'Bo Ek' and is absent"),
        ({"value": "900"}, "no 'field' that is text"),
    ],
)
def test_a_bad_label_is_one_line_or_counted(lease: Path, row: dict[str, Any], message: str) -> None:
    good = {"document": "lease.txt", "field": "furnished"}
    source = rows_file(lease.parent, [good, {"document": "lease.txt", **row}])
    with pytest.raises(DataError) as caught:
        read_labels(source, SCHEMA)
    assert message in str(caught.value)
    assert "line-2" in str(caught.value)
    found = read_labels(source, SCHEMA, on_bad_record="drop")
    assert [one.text for one in found.documents[0].questions] == ["Is the flat furnished?"]
    assert len(found.dropped) == 1
    assert "Left out: 1 bad label" in found.summary()


def test_a_file_without_labels_is_refused(lease: Path) -> None:
    with pytest.raises(DataError, match="names no field of the schema"):
        read_labels(csv_file(lease.parent / "own.csv", [{"document": "lease.txt", "price": "900"}]), SCHEMA)
    with pytest.raises(DataError, match=r"there is no file 'none\.csv'"):
        read_labels("none.csv", SCHEMA)
    rows = [{"document": "lease.txt", "field": "rent", "value": "800"}]
    with pytest.raises(DataError, match="holds no label"):
        read_labels(rows_file(lease.parent, rows), SCHEMA, on_bad_record="drop")


def test_the_command_writes_questions_that_training_takes(
    tiny_folder: Path, lease: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table names its document from the current folder, not its own. The recipe is the one that is said, and has
    another name than the schema, so that whoever saves it keeps both."""
    folder = lease.parent
    (folder / "lease.yaml").write_text("fields:\n  rent: How much is the rent?\n  pets: Are pets allowed?\n")
    (folder / "tables").mkdir()
    csv_file(folder / "tables" / "t.csv", [{"document": "lease.txt", "rent": "900 euros", "pets": ""}])
    monkeypatch.chdir(folder)
    words = ["extract", "lease.yaml", "--learn", "tables/t.csv", "--out", "lease.jsonl"]
    assert palmette(monkeypatch, *words) == 0
    said = capsys.readouterr().err
    assert "2 labels of 1 document, 1 of them absent. They are 2 questions in lease.jsonl" in said
    assert "train sft train-lease.yaml" in said
    assert [len(document.questions) for document in read_source("lease.jsonl").documents] == [2]
    begin, end = said.index("output:"), said.index("and give the command")
    recipe = said[begin:end].replace("start: reader", f"model: {{name: {tiny_folder}, dtype: float32}}")
    (folder / "train-lease.yaml").write_text(recipe)
    assert palmette(monkeypatch, "train", "sft", "train-lease.yaml") == 0
    assert palmette(monkeypatch, *words) == 2  # what is there is left alone
    assert palmette(monkeypatch, "extract", "lease.yaml", "lease.txt", *words[2:]) == 2
    assert "--learn reads the documents" in capsys.readouterr().err
    assert palmette(monkeypatch, "extract", "lease.yaml", "--out", "t.csv") == 2
    assert "name the documents" in capsys.readouterr().err
