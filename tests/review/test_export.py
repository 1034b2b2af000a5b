"""What verdicts become, and the files of other tools: literal records, and nothing lost on the way there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palmette.data.preference_sets import read_comparisons, read_verdicts
from palmette.data.records import Answer, Document, Question
from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.review.events import Shown, Span, document_hash
from palmette.review.export import audit_documents, dump_json_lines, export_store, export_verdicts
from palmette.review.formats import argilla, doccano, label_studio, native
from palmette.review.formats.annotated import annotated, import_annotated, read_span
from palmette.review.offsets import from_utf16, to_utf16
from palmette.review.state import State, fold
from palmette.review.store import Audit, Store
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.preference import PreferenceTrees
from palmette.tasks.qa_prompt import load_prompt
from palmette.tree.chat import ChatTemplate
from palmette.tree.segments import Segment
from tests.support.reviewing import START, TEXT, document, event, shown, span, verdict

PROMPT = load_prompt("plain")
# What is shown and said about each question.
CASES: dict[str, list[tuple[str | None, str, str | None]]] = {
    "accepted": [("7:40", "accept", "7:40")],
    "accepted none": [(None, "accept", None)],
    "edited": [("7:40", "edit", "9")],
    "refused": [("7:40", "no_answer", None)],
    "found": [(None, "edit", "9")],
    "rejected": [("7:40", "reject", None)],
    "skipped": [("7:40", "skip", None)],
    "disputed": [("7:40", "accept", "7:40"), ("7:40", "reject", None)],
    "agreed": [("7:40", "accept", "7:40"), ("7:40", "accept", "7:40")],
    "silent": [],
}


def reviewed() -> tuple[Document, State]:
    events = []
    for question, said in CASES.items():
        for name, (suggestion, kind, text) in zip(("ann", "bob"), said, strict=False):
            events.append(event("shown", name, question, id=len(events) + 1, shown=shown(suggestion)))
            events.append(event("verdict", name, question, id=len(events) + 1, verdict=verdict(kind, text)))
    return document(TEXT, *CASES), fold(events)


def completion(text: str) -> str:
    return json.dumps({"answer": text}, ensure_ascii=False)


def test_verdicts_become_questions_pairs_and_labels(tmp_path: Path) -> None:
    asked, state = reviewed()
    found = export_verdicts((asked,), state, PROMPT)
    answers = {one.id: [answer.text for answer in one.answers] for one in found.documents[0].questions}
    assert answers == {
        "accepted": ["7:40"],
        "accepted none": [],
        "edited": ["9"],
        "refused": [],
        "found": ["9"],
        "agreed": ["7:40"],
    }
    assert found.left_out == {"only rejected": 1, "skipped": 1, "conflict": 1, "unjudged": 1}
    (tmp_path / "pairs.jsonl").write_text(dump_json_lines(found.pairs), encoding="utf-8")
    pairs = read_comparisons(str(tmp_path / "pairs.jsonl")).records
    assert {one.id: tuple(map(json.loads, one.completions)) for one in pairs} == {
        "edited": ({"answer": "9"}, {"answer": "7:40"}),
        "refused": ({"answer": "?"}, {"answer": "7:40"}),
        "found": ({"answer": "9"}, {"answer": "?"}),
    }
    assert "Edited?" in str(pairs[0].prompt)
    assert TEXT in pairs[0].prompt[1].parts[0].text
    (tmp_path / "labels.jsonl").write_text(dump_json_lines(found.labels), encoding="utf-8")
    labels = read_verdicts(str(tmp_path / "labels.jsonl")).records
    assert [(one.id, json.loads(one.completion)["answer"], one.label) for one in labels] == [
        ("accepted", "7:40", True),
        ("accepted none", "?", True),
        ("edited/0", "7:40", False),
        ("edited/1", "9", True),
        ("refused/0", "7:40", False),
        ("refused/1", "?", True),
        ("found/0", "?", False),
        ("found/1", "9", True),
        ("rejected", "7:40", False),
        ("agreed", "7:40", True),
    ]
    assert (found.num_questions, found.num_verdicts, found.seconds) == (6, 8, 16.0)


def test_a_bare_completion_has_the_tokens_that_fine_tuning_learns(tmp_path: Path, tokenizer: Any) -> None:
    """The blank before an answer belongs to it, and survives the file of pairs."""
    asked, state = reviewed()
    prompt, template = load_prompt("echo"), ChatTemplate(tokenizer)
    found = export_verdicts((asked,), state, prompt)
    (tmp_path / "pairs.jsonl").write_text(dump_json_lines(found.pairs), encoding="utf-8")
    pairs = {one.id: one for one in read_comparisons(str(tmp_path / "pairs.jsonl")).records}
    tree = PreferenceTrees(template).of_comparison(pairs["edited"])
    (known,) = (one for one in found.documents[0].questions if one.id == "edited")
    trunk, branch = ExtractiveQa(template, prompt).training_branch(asked, known)

    def tokens(*runs: tuple[Segment, ...]) -> list[int]:
        return [token for run in runs for segment in run for token in segment.tokens]

    row = tokens(trunk, branch.segments)
    assert asked.text[known.answers[0].start - 1] == " "
    assert tokens(tree.root.segments, tree.root.children[0].segments) == row


def test_the_questions_are_read_back_as_training_data(tmp_path: Path) -> None:
    asked, state = reviewed()
    found = export_verdicts((asked,), state, PROMPT)
    for name, text in (("rows.jsonl", found.rows()), ("squad.json", found.squad())):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (read,) = read_source(str(tmp_path / name)).documents
        assert (read.text, read.questions) == (TEXT, found.documents[0].questions), name


def test_an_adjudication_decides_and_answers_of_the_data_do_not_count() -> None:
    asked = Document("d", TEXT, (Question("disputed", "Disputed?", (Answer("ferry", TEXT.index("ferry")),)),))
    _, state = reviewed()
    assert export_verdicts((asked,), state, PROMPT).documents == ()
    state.add(event("adjudicated", "eve", "disputed", id=99, verdict=verdict("edit", "9")))
    (kept,) = export_verdicts((asked,), state, PROMPT).documents
    assert [answer.text for answer in kept.questions[0].answers] == ["9"]


def test_no_document_of_the_audit_set_is_exported() -> None:
    asked, state = reviewed()
    other = Document("other", "Bees dance at 9.", (Question("q", "When?"),))
    said = replace(event("verdict", question="q", id=99, verdict=verdict("no_answer")), document_sha256="x")
    state.add(said)
    found = export_verdicts((asked, other), state, PROMPT, audit=["silent"])
    assert [one.id for one in found.documents] == ["other"]
    assert found.left_out == {"audit": len(CASES)}
    assert {row["id"] for row in (*found.pairs, *found.labels)} == {"q"}
    measured = audit_documents(
        (asked, other), state, Audit(("accepted", "refused", "disputed", "rejected"), 0.5, START)
    )
    assert [[one.id for one in document.questions] for document in measured] == [["accepted", "refused"]]


def test_a_prompt_of_two_turns_has_no_completion_to_export() -> None:
    asked, state = reviewed()
    with pytest.raises(DataError, match="two turns"):
        export_verdicts((asked,), state, load_prompt("two_turn"))


# Other tools


def test_label_studio_literally() -> None:
    """The ship is one code point, so the ferry's time starts at 29 and not at 30."""
    asked, state = reviewed()
    task = json.loads(label_studio.dump(annotated([asked], state)))[2]
    marked = {"start": 29, "end": 33, "text": "7:40", "labels": ["answer"]}
    nine = TEXT.index("9")
    assert TEXT[29:33] == "7:40"
    assert task == {
        "id": 3,
        "data": {"question_id": "edited", "question": "Edited?", "text": TEXT},
        "annotations": [
            {
                "completed_by": "ann",
                "was_cancelled": False,
                "lead_time": 2.0,
                "result": [
                    {
                        "from_name": "answer",
                        "to_name": "text",
                        "type": "labels",
                        "value": {"start": nine, "end": nine + 1, "text": "9", "labels": ["answer"]},
                    },
                    {"from_name": "verdict", "to_name": "text", "type": "choices", "value": {"choices": ["edit"]}},
                ],
            }
        ],
        "predictions": [
            {
                "model_version": "",
                "score": 0.7,
                "result": [{"from_name": "answer", "to_name": "text", "type": "labels", "value": marked}],
            }
        ],
    }


def test_label_studio_as_it_comes_from_there() -> None:
    """Made without our verdict choices, and by a version that counted UTF-16: 30 to 34 for "7:40"."""

    def task(result: list[Any], **values: Any) -> dict[str, Any]:
        annotation = {"completed_by": {"id": 3, "email": "ann@x.org"}, "result": result, "lead_time": 4.5, **values}
        return {"id": 7, "data": {"question": "When?", "text": TEXT}, "annotations": [annotation]}

    marked = {"value": {"start": 30, "end": 34, "text": "7:40", "labels": ["ORG"]}}
    tasks = [task([marked]), {**task([]), "id": 8}, {**task([], was_cancelled=True), "id": 9}]
    found = label_studio.parse(json.dumps(tasks), "export.json")
    assert [one.id for one in found] == ["7", "8", "9"]
    said = [one.annotations[0] for one in found]
    assert [one.annotator for one in said] == ["ann@x.org"] * 3
    assert [one.verdict for one in said] == [
        verdict("edit", "7:40", 4.5),
        verdict("no_answer", seconds=4.5),
        verdict("skip", seconds=4.5),
    ]


def test_doccano_literally() -> None:
    """doccano counts UTF-16 units, so the ship makes the time start at 30."""
    asked, state = reviewed()
    rows = [json.loads(line) for line in doccano.dump(annotated([asked], state)).splitlines()]
    assert rows[0] == {
        "id": 1,
        "text": TEXT,
        "question_id": "accepted",
        "question": "Accepted?",
        "suggestion": [[30, 34, "answer"]],
        "probability": 0.7,
        "run": "",
        "label": [[30, 34, "answer"]],
        "annotator": "ann",
        "verdict": "accept",
        "seconds": 2.0,
    }
    assert [row["question_id"] for row in rows].count("disputed") == 2
    assert "verdict" not in rows[-1], "nobody judged it"


def test_argilla_literally() -> None:
    asked, state = reviewed()
    rows = [json.loads(line) for line in argilla.dump(annotated([asked], state)).splitlines()]
    marked = [{"start": 29, "end": 33, "label": "answer", "text": "7:40"}]
    assert rows[7] == {
        "id": "disputed",
        "status": "completed",
        "question": "Disputed?",
        "text": TEXT,
        "answer.suggestion": marked,
        "answer.suggestion.score": 0.7,
        "answer.suggestion.agent": "",
        "answer.responses": [marked, []],
        "answer.responses.users": ["ann", "bob"],
        "answer.responses.status": ["submitted", "submitted"],
        "verdict.responses": ["accept", "reject"],
        "verdict.responses.users": ["ann", "bob"],
        "verdict.responses.status": ["submitted", "submitted"],
        "seconds": [2.0, 2.0],
    }
    assert rows[-1]["status"] == "pending"


@pytest.mark.parametrize("tool", [label_studio, doccano, argilla])
def test_verdicts_survive_the_way_to_another_tool_and_back(tool: Any, where: str) -> None:
    asked, state = reviewed()
    judged = replace(asked, questions=tuple(one for one in asked.questions if CASES[one.id]))
    given = list(annotated([judged], state))
    assert tool.parse(tool.dump(given), "file") == given
    with Store.open(where) as store:
        number = import_annotated(store, tool.parse(tool.dump(given), "file"), "file", datetime.now(UTC))
        assert number == sum(map(len, CASES.values()))
        again = fold(store.events())
        assert list(annotated(store.documents(), again)) == given
        one, two = (
            export_verdicts((document,), said, PROMPT)
            for document, said in ((judged, state), (store.documents()[0], again))
        )
        assert (one.pairs, one.labels, one.left_out) == (two.pairs, two.labels, two.left_out)


@pytest.mark.parametrize(
    ("tool", "text", "message"),
    [
        (label_studio, "{}", "holds no list of tasks"),
        (label_studio, "[", "is not JSON"),
        (label_studio, '[{"data": {"text": "a"}}]', "f: task 1 has null as 'question'"),
        (doccano, '{"text": "a"}', "f: line 1 has null as 'question'"),
        (doccano, "x", "line 1 is not JSON"),
        (
            doccano,
            '{"text": "abc", "question": "q", "label": [[0, 9, "X"]]}',
            "does not stand at 0 to 9 of its text of 3",
        ),
        (doccano, '{"text": "a\U0001f6a2b", "question": "q", "label": [[0, 2, "X"]]}', "does not stand at 0 to 2"),
        (doccano, '{"text": "abc", "question": "q", "label": [[0, 1], [1, 2]]}', "marks 2 spans"),
        (doccano, '{"text": "abc", "question": "q", "label": [], "verdict": "edit"}', "line 1: an edit has no span"),
        (doccano, '{"text": "abc", "question": "q", "label": [], "verdict": "fine"}', "'fine' is not a verdict"),
        (doccano, '{"text": "abc", "question": "q", "label": [], "seconds": "long"}', "took 'long' seconds"),
        (
            doccano,
            f'{{"text": "abc", "question": "q", "label": [], "seconds": 1{"0" * 400}}}',
            "line 1: a verdict took 1000",
        ),
        (argilla, '{"id": 1, "question": "q"}', "f: line 1 has null as 'text'"),
        (
            argilla,
            '{"question": "q", "text": "t", "answer.responses": [[]], "answer.responses.users": ["a", "b"]}',
            "f: line 1 has 2 users and 1 responses",
        ),
        (
            argilla,
            '{"question": "", "text": "","answer.responses": [[]], "answer.responses.users": ["a"], "seconds": [1, 2]}',
            "with 1 states and 2 times",
        ),
        *(
            (argilla, f'{{"question": "q", "text": "t", "{name}": 5}}', f"f: line 1 has 5 as {name!r}")
            for name in ("answer.responses", "answer.responses.users", "seconds", "verdict.responses.users")
        ),
        (argilla, '{"question": "q", "text": "t", "answer.suggestion": 5}', "f: line 1 has 5 as a span"),
        (doccano, '{"question": "q", "text": "t", "label": [], "suggestion": 5}', "f: line 1 has 5 as its labels"),
    ],
)
def test_what_breaks_a_format_is_one_line(tool: Any, text: str, message: str) -> None:
    with pytest.raises(DataError) as found:
        tool.parse(text, "f")
    assert message in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("stated", ['"high"', "true", "1.5", "-1", f"1{'0' * 400}", "null", "[0.5]"])
def test_a_probability_that_is_none_is_left_out(stated: str) -> None:
    texts = {
        argilla: f'{{"question": "q", "text": "t", "answer.suggestion": [], "answer.suggestion.score": {stated}}}',
        doccano: f'{{"question": "q", "text": "t", "label": [], "suggestion": [], "probability": {stated}}}',
        label_studio: '[{"data": {"question": "q", "text": "t"}, "annotations": [], '
        f'"predictions": [{{"result": [], "score": {stated}}}]}}]',
    }
    for tool, text in texts.items():
        [one] = tool.parse(text, "f")
        assert one.probability is None
        [other] = tool.parse(text.replace(f": {stated}}}", ": 0.25}"), "f")
        assert other.probability == 0.25


def test_a_span_that_could_be_two_is_refused() -> None:
    with pytest.raises(DataError, match="UTF-16 counts characters before 34 twice"):
        read_span(TEXT, 30, 34, None, "here", utf16=None)
    assert read_span(TEXT, 30, 34, "7:40", "here", utf16=None) == span("7:40")
    assert read_span(TEXT, 29, 33, "7:40", "here", utf16=None) == span("7:40")
    assert read_span("abc", 1, 2, None, "here", utf16=None) == Span("b", 1, 2)


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_offsets_in_utf16_are_those_of_the_encoding(text: str) -> None:
    for index in range(len(text) + 1):
        units = len(text[:index].encode("utf-16-le")) // 2
        assert to_utf16(text, index) == units
        assert from_utf16(text, units) == index
    whole = {to_utf16(text, index) for index in range(len(text) + 1)}
    for units in range(len(text.encode("utf-16-le")) // 2 + 2):
        assert (from_utf16(text, units) is None) is (units not in whole)


def test_our_own_format_loses_nothing(where: str, tmp_path: Path) -> None:
    """From SQLite to the other store and compared: every document, question, answer, event and the audit set."""
    known = Document("other", "Bees dance.", (Question("q2", "Who?", (Answer("Bees", 0),)),), "Bees")
    with Store.open(tmp_path / "first.db") as first, Store.open(where) as second:
        first.add_documents([document(TEXT, *CASES), known])
        first.freeze_audit(["q2"], 0.5)
        first.append([event("shown", question="edited", shown=shown(None, score=0.1, blind=True))])
        first.append([event("verdict", question="edited", after=1 / 3, verdict=verdict("edit", "9", 1 / 3))])
        first.append([event("undo", question="edited", undoes=2)])
        bare = Shown(span("9"), None, None)
        first.append([event("verdict", question="found", shown=bare, verdict=verdict("accept", "9"))])
        text = "".join(native.dump(first))
        assert native.restore(second, text, "file") == 4
        assert "".join(native.dump(second)) == text
        assert list(second.events()) == list(first.events())
        assert export_store(second, fold(second.events()), PROMPT).left_out == {"audit": 1, "unjudged": len(CASES) - 1}
        with pytest.raises(DataError, match="audit set already"):
            native.restore(second, text, "file")
        assert document_hash("Bees dance.") in text
    for broken, message in (
        ('{"foo": 1}', "line 1 is no line of a review"),
        ('{"event": {"kind": "verdict"}}', "line 1 is no event of a review"),
        ('{"question": {"id": "q", "document_sha256": "0", "text": "?", "answers": []}}', "about the document '0'"),
    ):
        with Store.open(tmp_path / "broken.db") as store, pytest.raises(DataError) as found:
            native.restore(store, broken, "f")
        assert message in str(found.value)
