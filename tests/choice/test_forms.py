"""Files in the forms that people have, and the items that they become."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from palmette.choice.reading import read_rows
from palmette.choice.settings import RULES
from palmette.choice.task import load_task, task_names
from palmette.errors import DataError
from tests.support.choice import ROWS


def items_of(task: str, path: Path, rule: Any = "lm-eval") -> Any:
    loaded = load_task(task)
    return read_rows(loaded, str(path)).items(loaded.reader(rule))


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_six_lines_an_item_are_the_hub_rows(tmp_path: Path) -> None:
    """The form holds cleaned texts, and the beginning of the next sentence in small letters."""
    path = tmp_path / "hellaswag.txt.bz2"
    text = "Skiing: A man stands on a hill. He waits! the man\n1\neats.\nskis down.\nreads.\nsings.\n"
    path.write_bytes(bz2.compress((text + text.replace("! the man", "!")).encode()))
    row = {"activity_label": "Skiing", "ctx_a": "A man stands on a hill. He waits!", "ctx_b": "the man", "label": "1"}
    row["endings"] = ["eats.", "skis down.", "reads.", "sings."]
    hub = items_of("hellaswag", lines(tmp_path / "hub.jsonl", [row]))
    first, second = items_of("hellaswag", path)
    assert (first.contexts, first.continuations, first.gold) == (hub[0].contexts, hub[0].continuations, 1)
    assert first.contexts[0] == "Skiing: A man stands on a hill. He waits! The man"
    assert second.contexts[0] == "Skiing: A man stands on a hill. He waits!"


def test_forms_of_one_benchmark_give_the_same_items(tmp_path: Path) -> None:
    """OpenBookQA as rows of the hub, as its authors' JSON Lines, compressed, as their table, and as Parquet."""
    hub = ROWS["openbookqa"]["items"]
    official, table = [], ["ID\tQuestion Stem\tChoices\tAnswer Key"]
    for row in hub:
        pairs = list(zip(row["choices"]["text"], row["choices"]["label"], strict=True))
        stem = {"stem": row["question_stem"], "choices": [{"text": text, "label": label} for text, label in pairs]}
        official.append({"id": row["id"], "question": stem, "answerKey": row["answerKey"]})
        shown = " ".join(f"({label}) {text}" for text, label in pairs)
        table.append(f"{row['id']}\t{row['question_stem']}\t{shown}\t{row['answerKey']}")
    (tmp_path / "dev.tsv").write_text("\n".join(table) + "\n", encoding="utf-8")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines(tmp_path / "b.jsonl", official).read_bytes()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(hub), tmp_path / "d.parquet")
    (tmp_path / "e.json").write_text(json.dumps(hub), encoding="utf-8")
    expected = items_of("openbookqa", lines(tmp_path / "a.jsonl", hub))
    assert len(expected) == len(hub)
    for name in ("b.jsonl", "c.jsonl.gz", "dev.tsv", "d.parquet", "e.json"):
        assert items_of("openbookqa", tmp_path / name) == expected, name


def test_labels_of_piqa_may_stand_beside_the_rows(tmp_path: Path) -> None:
    rows = [{"goal": "Dry a shirt.", "sol1": "Hang it up.", "sol2": "Wet it."} for _ in range(2)]
    path = lines(tmp_path / "valid.jsonl", rows)
    (tmp_path / "valid-labels.lst").write_text("0\n1\n")
    assert [item.gold for item in items_of("piqa", path)] == [0, 1]
    (tmp_path / "valid-labels.lst").write_bytes(b"\xff\xfe0")
    with pytest.raises(DataError, match=r"valid-labels\.lst: byte 0 is not UTF-8"):
        items_of("piqa", path)
    (tmp_path / "valid-labels.lst").write_text("0\n")
    with pytest.raises(DataError, match="has 1 labels for 2 rows"):
        items_of("piqa", path)


def test_boolq_of_its_authors(tmp_path: Path) -> None:
    row = {"question": "is ice cold", "passage": "Ice is frozen water.", "title": "Ice", "answer": True}
    (item,) = items_of("boolq", lines(tmp_path / "dev.jsonl", [row]))
    assert (item.choices[item.gold], item.contexts[0]) == (
        "yes",
        "Ice is frozen water.\nQuestion: is ice cold?\nAnswer:",
    )


def test_mmlu_of_its_authors_is_a_folder_of_subjects(tmp_path: Path) -> None:
    for subject, letter in (("astronomy", "D"), ("anatomy", "A")):
        text = f'"Which, of ""these""?",one,two,three,four,{letter}\nNext?,1,2,3,4,B\n'
        (tmp_path / f"{subject}_test.csv").write_text(text)
    items = items_of("mmlu", tmp_path)
    assert [(item.subject, item.gold) for item in items] == [
        ("anatomy", 0),
        ("anatomy", 1),
        ("astronomy", 3),
        ("astronomy", 1),
    ]
    assert items[0].contexts[0] == 'Which, of "these"?\nA. one\nB. two\nC. three\nD. four\nAnswer:'
    assert [item.gold for item in items_of("mmlu_continuation", tmp_path / "astronomy_test.csv")] == [3, 1]
    (tmp_path / "anatomy_test.csv").write_text("Which?,one,two,three,four\n")
    with pytest.raises(DataError, match="anatomy-1 has no gold label"):
        items_of("mmlu", tmp_path)


def test_rendered_requests_keep_their_texts(tmp_path: Path) -> None:
    """OLMES writes one request a choice, and further ones without a context, which are left out."""
    doc = {"id": "7-1", "query": "Q", "choices": ["ice", "fire"], "gold": 1}
    rows = [
        {"doc": doc, "request": {"context": context, "continuation": f" {text}"}, "idx": index, "doc_id": number}
        for context, number in (("Shot.\n\nQuestion: hot\nAnswer:", 0), ("Answer:", 1_000_000))
        for index, text in enumerate(doc["choices"])
    ]
    path = lines(tmp_path / "requests.jsonl", [{**row, "native_id": "7-1", "label": 1} for row in rows])
    (item,) = items_of("openbookqa", path)
    assert item.contexts == ("Shot.\n\nQuestion: hot\nAnswer:",) * 2
    assert (item.continuations, item.choices, item.gold, item.id) == ((" ice", " fire"), ("ice", "fire"), 1, "7-1")


REQUEST = {"request": {"context": "Q", "continuation": " a"}, "doc": {"choices": ["a", "b"]}, "doc_id": 0, "label": 0}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"request": {"context": "Q"}}, "request 2 has no context and continuation"),
        ({"request": None}, "request 2 has no context and continuation"),
        ({"idx": "x"}, "request 2 has 'x' under 'idx', which is text"),
        ({"doc": "x"}, "request 2 has 'x' under 'doc', which is text"),
        ({"doc_id": [1]}, r"request 2 has \[1\] under 'doc_id', which is a list"),
        ({"native_id": {"a": 1}}, "under 'native_id', which is an object"),
    ],
)
def test_a_rendered_request_of_another_form_is_named(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "requests.jsonl", [{**REQUEST, "idx": 0}, {**REQUEST, "idx": 1, **change}])
    with pytest.raises(DataError, match=problem):
        items_of("openbookqa", path)
    path = lines(tmp_path / "requests.jsonl", [{**REQUEST, "doc": {"choices": 7}}])
    with pytest.raises(DataError, match="item 0 has the choices 7, not a list"):
        items_of("openbookqa", path)


def test_choices_of_the_authors_form_are_objects(tmp_path: Path) -> None:
    stem = {"stem": "What melts ice?", "choices": ["cold", "heat"]}
    path = lines(tmp_path / "dev.jsonl", [{"id": "7-1", "question": stem, "answerKey": "B"}])
    with pytest.raises(
        DataError, match=r"7-1 has the choices \['cold', 'heat'\], which are no list of a text and a label"
    ):
        items_of("openbookqa", path)


def test_a_table_with_a_header_is_read_by_its_header_whatever_its_name(tmp_path: Path) -> None:
    """The names of MMLU's files are also those that people give to tables of their own."""
    path = tmp_path / "piqa_dev.csv"
    path.write_text("goal,sol1,sol2,label\nDry a shirt.,Hang it up.,Wet it.,0\nHeat soup.,Cool it.,Boil it.,1\n")
    items = items_of("piqa", path)
    assert [(item.choices[0], item.gold) for item in items] == [("Hang it up.", 0), ("Cool it.", 1)]
    path.write_text("goal,sol1,sol2,label,source,answer\nDry a shirt.,Hang it up.,Wet it.,0,me,A\n")
    assert items_of("piqa", path)[0].gold == 0


def test_tables_of_mmlu_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "anatomy_test.csv"
    path.write_bytes("Où?,one,two,three,four,A\n".encode("latin-1"))
    for given in (path, tmp_path):
        with pytest.raises(DataError, match=r"anatomy_test.csv: byte 1 is not UTF-8. Save the file as UTF-8."):
            items_of("mmlu", given)
    path.write_text(f"Where?,one,two,three,four,A\n{'x' * 140_000},one,two,three,four,A\n")
    with pytest.raises(DataError, match=r"anatomy_test\.csv: row 2 is no row of a table: field larger"):
        items_of("mmlu", path)


def test_winogrande_is_partial_or_full(tmp_path: Path) -> None:
    """lm-eval scores what follows the blank. lighteval scores the option too, after a context that ends in a blank."""
    row = {"sentence": "Ann thanked Sue, since _ had helped.", "option1": "Ann", "option2": "Sue", "answer": "2"}
    path = lines(tmp_path / "a.jsonl", [row])
    (partial,) = items_of("winogrande", path)
    assert partial.contexts == ("Ann thanked Sue, since Ann", "Ann thanked Sue, since Sue")
    assert partial.continuations == (" had helped.",) * 2
    assert partial.choices == partial.contexts  # what lm-eval takes for the choices
    (full,) = items_of("winogrande", path, "lighteval-cloze")
    assert full.contexts == ("Ann thanked Sue, since ",) * 2
    assert full.continuations == full.choices == ("Ann had helped.", "Sue had helped.")
    assert partial.gold == full.gold == 1


def test_every_task_reads_its_rows_under_its_rules(tmp_path: Path) -> None:
    assert set(ROWS) == set(task_names()) - {"choices"}
    for name, rows in ROWS.items():
        for rule in load_task(name).rules:
            found = items_of(name, lines(tmp_path / "a.jsonl", rows["items"]), rule)
            assert len(found) == len(rows["items"]), (name, rule)
    assert {rule for name in ROWS for rule in load_task(name).rules} == set(RULES)


OWN = {"id": "q1", "context": "2 + 2 =", "choices": ["4", "5"], "gold": 0}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"gold": None}, "q1 has no gold label that can be read: it is missing"),
        ({"gold": "first"}, "gold label that can be read: it is 'first'"),
        ({"gold": 2}, "has the gold label 2, but its choices are 0 to 1"),
        ({"choices": ["4"]}, "has 1 choices"),
        ({"choices": ["4", "4"]}, "has the choice '4' twice. .*--keep-equal"),
        ({"choices": ["4", " "]}, "has an empty choice"),
        ({"choices": "45"}, "not a list of texts"),
        ({"context": "  "}, "has an empty context"),
        ({"context": 7}, "its context is a number, not text"),
        ({"choices": None}, "q1 has no 'choices'"),
    ],
)
def test_bad_items_are_named(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", [{**OWN, **change}])
    with pytest.raises(DataError, match=problem) as raised:
        items_of("choices", path)
    assert "q1" in str(raised.value)


def test_equal_choices_can_be_kept_and_ids_must_differ(tmp_path: Path) -> None:
    task = load_task("choices")
    equal = read_rows(task, str(lines(tmp_path / "a.jsonl", [{**OWN, "choices": ["4", "4"]}])))
    assert equal.items(task.reader("lm-eval"), keep_equal=True)[0].choices == ("4", "4")
    with pytest.raises(DataError, match="an id that another item has too"):
        items_of("choices", lines(tmp_path / "b.jsonl", [OWN, OWN]))


def test_tasks_are_found_by_name() -> None:
    with pytest.raises(DataError, match=r"no task 'helaswag'\. Did you mean hellaswag"):
        load_task("helaswag")
    with pytest.raises(DataError, match=r"the task 'sciq' has no rule 'lighteval-cloze'\. It has lm-eval"):
        load_task("sciq").reader("lighteval-cloze")


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "sums.yaml"
    text = "title: Sums\nabout: Sums.\nneeds: [a]\ngold: right\nrules:\n  lm-eval:\n    context: a ~ ' ='\n"
    path.write_text(text + "    choices: results\n    headline: acc\n")
    (item,) = items_of(str(path), lines(tmp_path / "a.jsonl", [{"a": "2 + 2", "results": ["5", "4"], "right": 1}]))
    assert (item.contexts[0], item.continuations) == ("2 + 2 =", (" 5", " 4"))
    path.write_text(text + "    choices: results\n    headlin: acc\n")
    with pytest.raises(DataError, match=r"unknown key 'headlin'\. Did you mean 'headline'"):
        load_task(str(path))


@pytest.mark.parametrize(
    ("line", "change", "problem"),
    [
        ("needs: [a]", "needs: 3", "'needs' is 3. Give a list of columns"),
        ("needs: [a]", "needs:", "'needs' is null. Give a list of columns"),
        ("needs: [a]", "needs: a", "'needs' is 'a'. Give a list of columns"),
        ("title: Sums", "title: 3", "'title' is 3, not text"),
        ("headline: acc", "headline: acc\n    delimiter: 3", "'delimiter' is 3, not text"),
        ("headline: acc", "headline: acc\n    may_be_empty: 1", "'may_be_empty' is 1, not true or false"),
        ("context: a", "context: [a]", r"'context' is \['a'\], not text"),
        ("context: a", "context: 1/0", "q1: its context cannot be made: division by zero"),
        ("gold: right", "gold: 1/0", "q1 has no gold label that can be read: division by zero"),
    ],
)
def test_mistakes_in_a_task_of_ones_own(line: str, change: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "sums.yaml"
    text = "title: Sums\nabout: Sums.\nneeds: [a]\ngold: right\nrules:\n  lm-eval:\n    context: a\n    choices: b\n"
    text += "    headline: acc\n"
    rows = lines(tmp_path / "a.jsonl", [{"id": "q1", "a": "2 + 2 =", "b": ["5", "4"], "right": 1}])
    path.write_text(text)
    assert items_of(str(path), rows)[0].gold == 1
    path.write_text(text.replace(line, change))
    with pytest.raises(DataError, match=problem):
        items_of(str(path), rows)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n2\n")
    with pytest.raises(DataError, match="has 2 lines, which is no multiple of 6"):
        items_of("hellaswag", tmp_path / "a.txt")
    (tmp_path / "a.jsonl.gz").write_bytes(b"{}")
    with pytest.raises(DataError, match="cannot be decompressed"):
        items_of("piqa", tmp_path / "a.jsonl.gz")
    with pytest.raises(DataError, match="there is no data file"):
        items_of("piqa", tmp_path / "none.jsonl")
