"""MT-Bench and win rates from questions to figures, with judges and writers whose behaviour is known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from palmette.errors import DataError, RunError
from palmette.judge import alpaca, answers, mt_bench
from palmette.judge.alpaca import compare, read_instructions
from palmette.judge.answers import answers_of, read_answers
from palmette.judge.grades import Grade, read_grades, summarise
from palmette.judge.judging import Odds
from palmette.judge.mt_bench import evaluate, read_questions
from palmette.judge.repliers import Asked
from palmette.judge.spec import read_judge
from palmette.judge.trust import check_trusted
from palmette.judge.wording import Case

QUESTIONS = [
    {"question_id": 1, "category": "writing", "turns": ["Write.", "Again."]},
    {"question_id": 2, "category": "math", "turns": ["Add.", "Halve."]},
]


def lines(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def answered(path: Path, model: str, *turns: list[str]) -> str:
    rows = [
        {"question_id": n, "model_id": model, "choices": [{"index": 0, "turns": given}]}
        for n, given in enumerate(turns, 1)
    ]
    return lines(path, rows)


class Lengths:
    """A judge whose grade of an answer is its length, at most 10, and that prefers the longer of two."""

    name = "lengths"
    notes = ("Slept well.",)
    identity: dict[str, Any] = {"kind": "lengths"}  # noqa: RUF012  # as the protocol has it

    def __init__(self) -> None:
        self.cases: list[Case] = []

    def odds(self, cases: Sequence[Case]) -> Iterator[tuple[int, Odds | None]]:
        for index, case in enumerate(cases):
            self.cases.append(case)
            sizes = [len(replies[-1]) for replies in case.answers]
            if len(sizes) == 1:
                yield index, {str(min(10, sizes[0])): 1.0} if sizes[0] else {}
            else:
                best = "A" if sizes[0] > sizes[1] else "B" if sizes[1] > sizes[0] else "tie"
                yield index, {word: float(word == best) for word in ("A", "B", "tie")}


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Lengths:
    made = Lengths()
    for module in (mt_bench, alpaca):
        monkeypatch.setattr(module, "open_judge", lambda _: made)
    return made


def test_single_answers_are_graded_turn_by_turn(tmp_path: Path, judge: Lengths) -> None:
    """Grades 2 and 4 in the first turn, 6 and an unread one in the second: means 3, 6 and 4."""
    questions = lines(tmp_path / "questions.jsonl", QUESTIONS)
    model = answered(tmp_path / "elm.jsonl", "elm", ["xx", "x" * 6], ["x" * 4, ""])
    right = lines(tmp_path / "right.jsonl", [{"question_id": 2, "model_id": "gpt", "choices": [{"turns": ["4", "2"]}]}])
    found = evaluate(model, read_judge("any"), questions, tmp_path / "out", references=right, force=True)
    assert found.graded is not None
    assert {turn: mean.value for turn, mean in found.graded.turns.items()} == {1: 3.0, 2: 6.0}
    assert (found.graded.whole.value, found.graded.whole.unread) == (4.0, 1)
    assert {name: mean.value for name, mean in found.graded.categories.items()} == {"writing": 4.0, "math": 4.0}
    assert [(len(case.turns), case.references) for case in judge.cases] == [
        (1, ()),
        (2, ()),
        (1, ("4",)),
        (2, ("4", "2")),
    ]
    assert "Nobody has compared" in found.trust
    assert found.notes == ("Slept well.",)
    with pytest.raises(RunError, match="exists already"):
        evaluate(model, read_judge("any"), questions, tmp_path / "out", force=True)


def test_pairs_are_judged_by_turn(tmp_path: Path, judge: Lengths) -> None:
    questions = lines(tmp_path / "questions.jsonl", QUESTIONS)
    one = answered(tmp_path / "elm.jsonl", "elm", ["xx", "x"], ["xx", "x"])
    other = answered(tmp_path / "fir.jsonl", "fir", ["x", "x"], ["x", "xx"])
    found = evaluate(one, read_judge("any"), questions, tmp_path / "out", against=other, force=True)
    rates = {name: (figures.win_rate, figures.adjusted, figures.inconsistent) for name, figures in found.pairs.items()}
    assert rates == {"all": (0.625, 0.625, 0), "1": (1.0, 1.0, 0), "2": (0.25, 0.25, 0)}
    rows = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    assert [row["winner"] for row in rows] == ["model_a", "tie", "model_a", "model_b"]
    assert len(judge.cases) == 8
    with pytest.raises(DataError, match="both answers are those of elm"):
        evaluate(one, read_judge("any"), questions, tmp_path / "again", against=one, force=True)


def test_temperatures_are_those_of_fastchat(tmp_path: Path) -> None:
    one, two = read_questions(lines(tmp_path / "questions.jsonl", QUESTIONS))
    assert (one.temperature, two.temperature, two.turns) == (0.7, 0.0, ("Add.", "Halve."))


def test_answers_are_kept_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def replier(*_: Any) -> answers.Replier:
        def write(asked: Asked) -> list[str]:
            if len(written) == 2:
                raise KeyboardInterrupt
            written.append(asked.turns[0])
            return [turn.upper() for turn in asked.turns]

        return write

    monkeypatch.setattr(answers, "local_replier", replier)
    asked, store = [Asked(str(n), (f"question {n}",)) for n in range(3)], tmp_path / "store.jsonl"
    with pytest.raises(KeyboardInterrupt):
        answers_of("elm", asked, store, max_new_tokens=8)
    with store.open("a") as file:
        file.write('{"question_id": "cut')
    written.pop()
    found = answers_of("elm", asked, store, max_new_tokens=8)
    assert written == ["question 0", "question 2"]
    assert found.replies == {str(n): (f"QUESTION {n}",) for n in range(3)}
    assert read_answers(str(store)).model == "elm"


def test_a_model_writes_its_own_answers(tmp_path: Path, tiny_folder: Path) -> None:
    asked = [Asked("1", ("When?", "And then?"))]
    found = answers_of(str(tiny_folder), asked, tmp_path / "store.jsonl", max_new_tokens=4)
    assert len(found.replies["1"]) == 2


def test_win_rates_of_two_files(tmp_path: Path, judge: Lengths) -> None:
    given = [{"instruction": f"Do {n}.", "output": "x" * n, "generator": "elm"} for n in range(1, 5)]
    model = lines(tmp_path / "elm.jsonl", given)
    reference = lines(tmp_path / "fir.jsonl", [{**row, "output": "xx", "generator": "fir"} for row in given])
    found = compare(model, reference, read_judge("any"), tmp_path / "out", instructions=model, force=True)
    assert found.rates.rows[0].win_rate == pytest.approx(100 * (0 + 0.5 + 1 + 1) / 4)
    assert found.rates.reference == "fir"
    assert found.notes == ("Slept well.",)
    rows = [json.loads(line) for line in (tmp_path / "out" / "preferences.jsonl").read_text().splitlines()]
    assert [row["preference"] for row in rows] == [1.0, 1.5, 2.0, 2.0]
    assert json.loads((tmp_path / "out" / "win_rates.json").read_text())["judge"].startswith("lengths#")


def test_a_folder_of_another_job_is_refused(tmp_path: Path, judge: Lengths) -> None:
    given = lines(tmp_path / "elm.jsonl", [{"instruction": "Do.", "output": "x", "generator": "elm"}])
    out = tmp_path / "out"
    compare(given, given, read_judge("any"), out, instructions=given, force=True)
    (out / "win_rates.json").unlink()
    with pytest.raises(RunError, match="begun with max_new_tokens = 256"):
        compare(given, given, read_judge("any"), out, instructions=given, force=True, max_new_tokens=8)


def test_a_hundred_different_instructions_come_with_the_package() -> None:
    found = read_instructions(None)
    assert len({one.id for one in found}) == 100
    assert all(20 <= len(one.id) <= 110 for one in found)


def test_a_file_must_answer_everything(tmp_path: Path) -> None:
    given = answered(tmp_path / "elm.jsonl", "elm", ["a"])
    for asked, said in ((Asked("2", ("b",)), "no answer"), (Asked("1", ("a", "b")), "1 replies")):
        with pytest.raises(DataError, match=said):
            answers_of(given, [asked], tmp_path / "store", max_new_tokens=1)


def test_a_file_of_answers_is_that_of_one_model_and_answers_once(tmp_path: Path) -> None:
    one = {"instruction": "Do.", "output": "x", "generator": "elm"}
    for other, said in (
        ({**one, "instruction": "Go.", "generator": "fir"}, "row 2 is an answer of fir, and an earlier row one of elm"),
        ({**one, "output": "y"}, "row 2 answers 'Do.' again"),
    ):
        with pytest.raises(DataError, match=said):
            read_answers(lines(tmp_path / "answers.jsonl", [one, other]))
    unnamed = lines(tmp_path / "answers.jsonl", [one, {**one, "instruction": "Go.", "generator": None}])
    assert (read_answers(unnamed).model, len(read_answers(unnamed).replies)) == ("elm", 2)


def test_a_store_of_something_else_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    store = tmp_path / "store.jsonl"
    store.write_text('{"x":1}\n')
    with pytest.raises(RunError, match="holds no answers"):
        answers_of("elm", [Asked("1", ("q",))], store, max_new_tokens=1)
    assert store.read_text() == '{"x":1}\n'


def test_a_judge_that_nobody_validated_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "validation.json"
    with pytest.raises(DataError, match="nobody has compared"):
        check_trusted("lengths#1", None, force=False)
    kappa = {"value": 0.5, "interval": [0.3, 0.7], "number": 80}
    record = {"judge": "lengths#1", "trusted": True, "figures": {"kappa_decided": kappa}}
    path.write_text(json.dumps(record))
    assert "kappa of 0.50" in check_trusted("lengths#1", path, force=False)
    with pytest.raises(DataError, match="is about lengths#1, not about lengths#2"):
        check_trusted("lengths#2", path, force=False)
    path.write_text(json.dumps({**record, "trusted": False}))
    with pytest.raises(DataError, match=r"hardly agrees with people: kappa without ties 0\.50"):
        check_trusted("lengths#1", path, force=False)
    assert "hardly agrees" in check_trusted("lengths#1", path, force=True)
    for figures in ({}, {"kappa_decided": {"value": None, "interval": None}}):
        path.write_text(json.dumps({**record, "trusted": False, "figures": figures}))
        with pytest.raises(DataError, match="there is no interval of kappa without ties"):
            check_trusted("lengths#1", path, force=False)
    path.write_text(json.dumps({**record, "figures": {"kappa_decided": {"interval": [0.3, 0.7]}}}))
    with pytest.raises(DataError, match="cannot read the validation"):
        check_trusted("lengths#1", path, force=False)
    path.write_text("[]")
    with pytest.raises(DataError, match="cannot read the validation"):
        check_trusted("lengths#1", path, force=True)


def test_grades_of_a_file_by_both_rules(tmp_path: Path) -> None:
    """The marks of MT-Bench are found anywhere: 8 and 6, one unread. By lines only the 6 is read. (8 + 6 - 1) / 3."""
    texts = ["Good. Rating: [[8]]", "Rating: [[6]]", "I like it."]
    rows = [{"question_id": n, "model": "elm", "turn": 1, "judgment": text} for n, text in enumerate(texts)]
    path = lines(tmp_path / "judgments.jsonl", rows)
    (found,) = summarise(read_grades(path, "mt-bench"))
    assert (found.whole.value, found.whole.unread, found.whole.number) == (7.0, 1, 2)
    assert found.whole.with_unread == pytest.approx(13 / 3)
    (strict,) = summarise(read_grades(path))
    assert (strict.whole.value, strict.whole.unread) == (6.0, 2)
    given = [{"question_id": value, "model": "elm", "score": value} for value in (9, -1)]
    scores = lines(tmp_path / "scores.jsonl", given)
    assert [grade.value for grade in read_grades(scores)] == [9.0, None]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([{"score": None}], "row 1: 'score' is null"),
        ([{"question_id": None}], "row 1 has no question"),
        ([{"turn": "x"}], "row 1: 'turn' is 'x'"),
        ([{"turn": 0}], "row 1: 'turn' is 0"),
        ([{"turn": 1.5}], "row 1: 'turn' is 1.5"),
        ([{}, {"turn": 2}, {}], "row 3: elm has another grade on question 1, turn 1"),
        ([{"judge": "gpt-4"}, {"judge": "oak", "turn": 1.0, "score": 3}], "row 2: elm has another grade"),
    ],
)
def test_bad_grades_are_named(tmp_path: Path, changes: list[dict[str, Any]], said: str) -> None:
    rows = [{"question_id": 1, "model": "elm", "score": 9, **change} for change in changes]
    with pytest.raises(DataError, match=said):
        read_grades(lines(tmp_path / "bad.jsonl", rows))


def test_an_empty_turn_is_the_first(tmp_path: Path) -> None:
    rows = [{"question_id": n, "model": "elm", "score": 9, "turn": turn} for n, turn in ((1.0, None), (2.0, 2.0))]
    found = read_grades(lines(tmp_path / "grades.jsonl", rows))
    assert [(grade.question, grade.turn) for grade in found] == [("1", 1), ("2", 2)]


def test_intervals_of_grades_draw_questions() -> None:
    """Two turns of one question are alike, so doubling each grade tells nothing more."""
    single = [Grade("elm", str(n), 1, float(n % 5)) for n in range(50)]
    double = [Grade("elm", str(n), turn, float(n % 5)) for n in range(50) for turn in (1, 2)]
    one, two = (summarise(grades)[0].whole.interval for grades in (single, double))
    assert one == pytest.approx(two)
