"""What `palmette data check` finds: kinds, counts, and every bad record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palmette.data.check import NUM_SHOWN, check_data
from palmette.data.kinds import KINDS
from palmette.errors import DataError

TEXT = "The ferry leaves at 7:40 from pier 3."


def written(path: Path, *rows: Any) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def asked(question: str, *answers: str, **fields: Any) -> dict[str, Any]:
    return {"question": question, "context": TEXT, "answers": list(answers), **fields}


def test_the_built_in_corpus_is_in_order() -> None:
    """70 documents with 10 questions each, 4 of them without an answer (docs/reference/file-formats.md)."""
    report = check_data("builtin:train", ("questions", "conversations"))
    assert report.problems == ()
    facts = dict(report.facts)
    assert facts["questions"] == "700, 280 of them without an answer"
    assert facts["documents"].startswith("70, ")


def test_questions_are_counted_and_their_lengths_given(tmp_path: Path) -> None:
    """Answers of one, two and three words have a median of two."""
    rows = [asked("When?", "7:40"), asked("Who?"), asked("Where from?", "pier 3."), asked("What?", "The ferry leaves")]
    report = check_data(written(tmp_path / "q.jsonl", *rows))
    assert (report.holds, report.problems) == ("questions about documents", ())
    assert dict(report.facts) == {
        "documents": "1, 8 words at the median, 8 at most",
        "questions": "4, 1 of them without an answer",
        "answers": "3, 2 words at the median, 3 at most",
    }


def test_every_bad_record_is_counted_and_the_first_of_each_sort_are_shown(tmp_path: Path) -> None:
    absent = [asked(f"Who {number}?", f"nobody {number}") for number in range(NUM_SHOWN + 2)]
    source = written(tmp_path / "q.jsonl", asked("When?", "7:40"), "not JSON", *absent, asked(" "))
    report = check_data(source)
    assert [one.count for one in report.problems] == [NUM_SHOWN + 2, 1, 1]
    assert report.num_problems == NUM_SHOWN + 4
    most = report.problems[0]
    assert len(most.shown) == NUM_SHOWN
    assert "'line-3'" in most.shown[0]
    assert "'nobody 0'" in most.shown[0]
    assert most.way_out.startswith("Give it as")
    assert any("line 2 is not JSON" in line for one in report.problems for line in one.shown)
    assert dict(report.facts)["questions"].startswith("1, ")


def test_questions_without_answers_are_for_predict(tmp_path: Path) -> None:
    rows = [{"question": "When?", "context": TEXT}, {"question": "Where?", "context": TEXT}, {"question": "Who?"}]
    report = check_data(written(tmp_path / "q.jsonl", *rows))
    assert report.holds == "questions about documents, without answers"
    assert dict(report.facts)["questions"] == "2"
    (problem,) = report.problems
    assert "line 3 has no 'context'" in problem.shown[0]
    assert not problem.shown[0].endswith("text)")
    (needed, _) = check_data(written(tmp_path / "q.jsonl", *rows), ("questions",)).problems
    assert "nothing can be learned from them" in needed.shown[0]


def test_answers_that_are_null_are_missing_where_they_are_needed(tmp_path: Path) -> None:
    source = written(tmp_path / "q.jsonl", {"question": "When?", "context": TEXT, "answers": None})
    assert not check_data(source).problems
    assert "Give each question its 'answers'" in check_data(source, ("questions",)).problems[0].way_out


def test_conversations(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "At 7:40."}]
    system = {"role": "system", "content": "Be brief."}
    rows = [{"id": "a", "messages": said}, {"id": "a", "messages": [system, *said, *said]}, {"messages": said[:1]}]
    report = check_data(written(tmp_path / "c.jsonl", *rows), ("questions", "conversations"))
    assert dict(report.facts) == {
        "conversations": "2, of which 1 have a system message",
        "turns of the assistant": "3, 2 words at the median, 2 at most",
    }
    assert sorted(line for one in report.problems for line in one.shown) == [
        f"{tmp_path}/c.jsonl: conversation 'line-3' has no turn of the assistant, so there is nothing to learn",
        f"{tmp_path}/c.jsonl: the conversation id 'a' stands twice",
    ]


def test_preferences_and_verdicts(tmp_path: Path) -> None:
    pair = {"prompt": "When?", "chosen": "At 7:40.", "rejected": "Go!"}
    same = {**pair, "rejected": "At 7:40."}
    ranked = {"prompt": "When?", "ranked": ["At 7:40.", "Today.", "Go!"]}
    report = check_data(written(tmp_path / "p.jsonl", pair, same, ranked))
    assert dict(report.facts)["comparisons"] == "2, of which 1 are pairs"
    assert [one.count for one in report.problems] == [1]
    good = {"prompt": "When?", "completion": "At 7:40.", "label": True}
    report = check_data(written(tmp_path / "v.jsonl", good, {**good, "label": False}, {**good, "label": False}))
    assert dict(report.facts)["verdicts"] == "3, of which 1 are good and 2 bad"
    assert report.problems == ()


def test_judged_answers(tmp_path: Path) -> None:
    rows = [{"id": "q1", "answer": "7:40", "label": True}, {"id": "q2", "answer": "?", "label": "good"}]
    report = check_data(written(tmp_path / "j.jsonl", *rows))
    assert report.holds == KINDS["judged answers"].title
    assert dict(report.facts) == {"verdicts": "1, of which 1 are good"}
    assert "'label' is 'good'" in report.problems[0].shown[0]


def test_another_kind_than_is_wanted_is_the_first_problem(tmp_path: Path) -> None:
    source = written(tmp_path / "q.jsonl", asked("When?", "7:40"), asked("Who?", "nobody"))
    report = check_data(source, ("preferences",))
    assert "holds questions about documents, and preferences are needed here" in report.problems[0].shown[0]
    assert len(report.problems) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "is empty"),
        (({"id": 1, "greeting": "Say hello.", "reply": "Hello."},), "since they have 'greeting', 'reply'"),
        (("hello",), "line 1 is not JSON"),
    ],
)
def test_data_of_no_kind_is_an_error(lines: tuple[Any, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        check_data(written(tmp_path / "x.jsonl", *lines))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.txt", r"a\.txt is a document, not data. To ask about it: palmette ask .*a\.txt \"QUESTION\""),
        ("a.yaml", r"a\.yaml is a recipe, not data. Check the files that it names under data\.train"),
        ("", "is a folder, not a data file. Name one of the files in it"),
    ],
)
def test_what_holds_no_records_is_named(name: str, message: str, tmp_path: Path) -> None:
    for file in ("a.txt", "a.yaml"):
        (tmp_path / file).write_text("output: x")
    with pytest.raises(DataError, match=message):
        check_data(str(tmp_path / name))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data file"):
        check_data(str(tmp_path / "none.jsonl"))


TABLES = {
    "q.csv": "Question,Context,Answer\nWhen?,At 7:40.,7:40\nWho?,At 7:40.,\n",
    "renamed.tsv": "query\tpassage\tgold\nWhen?\tAt 7:40.\t7:40\nWho?\tAt 7:40.\t\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_questions(name: str, tmp_path: Path) -> None:
    """A row without an answer is a question that the document does not answer."""
    (tmp_path / name).write_text(TABLES[name])
    report = check_data(str(tmp_path / name), ("questions", "conversations"))
    assert (report.holds, report.problems) == ("questions about documents", ())
    assert dict(report.facts)["questions"] == "2, 1 of them without an answer"


def test_a_table_without_answers_is_for_predict(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question,context\nWhen?,At 7:40.\nWho?,\n")
    report = check_data(str(tmp_path / "q.csv"))
    assert report.holds == "questions about documents, without answers"
    assert [one.count for one in report.problems] == [1]
    assert "row 3" in report.problems[0].shown[0]


def test_tables_of_preferences_and_of_no_kind(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,chosen,rejected\nWhen?,At 7:40.,Go!\n")
    assert check_data(str(tmp_path / "p.csv")).holds == "preferences"
    (tmp_path / "x.csv").write_text("name,age\nAda,36\n")
    with pytest.raises(DataError, match="since they have 'age', 'name'"):
        check_data(str(tmp_path / "x.csv"))
