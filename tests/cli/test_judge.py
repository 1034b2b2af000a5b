"""`palmette judge`, from files to what is printed and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import palmette


def write(path: Path, winners: list[str]) -> str:
    rows = ({"question_id": n, "model_a": "elm", "model_b": "fir", "winner": w} for n, w in enumerate(winners))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_judge_is_validated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    """36 of 40 verdicts are those of the people, with as many wins on each side: 90 %, kappa (0.9 - 0.5) / 0.5."""
    people = ["model_a", "model_b"] * 20
    judge = ["model_b", "model_a"] * 2 + people[4:]
    judged, voted = write(tmp_path / "judge.jsonl", judge), write(tmp_path / "people.jsonl", people)
    out = tmp_path / "validation.json"
    assert palmette(monkeypatch, "judge", "validate", judged, voted, "--out", str(out), "--resamples", "200") == 0
    said = capsys.readouterr().out
    assert "the judge may rank models" in said
    assert "40 comparisons that both judged, 40 of them without a tie." in said
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["figures"]["agreement"]["value"] == pytest.approx(0.9)
    assert record["figures"]["kappa_decided"]["value"] == pytest.approx(0.8)
    assert record["trusted"]
    words = ("judge", "validate", judged, voted, "--resamples", "200", "--floor", "0.85")
    assert palmette(monkeypatch, *words) == 0
    assert "refused for leaderboards" in capsys.readouterr().out


def test_an_interval_that_does_not_exist_is_not_called_too_low(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    judged = write(tmp_path / "judge.jsonl", ["tie", "tie"])
    voted = write(tmp_path / "people.jsonl", ["model_a", "tie"])
    assert palmette(monkeypatch, "judge", "validate", judged, voted, "--resamples", "20") == 0
    said = capsys.readouterr().out
    assert "There is no interval of kappa without ties: the judge is refused for leaderboards." in said
    assert "below" not in said


def test_mistakes_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    good = write(tmp_path / "good.jsonl", ["tie"])
    for words, said in (
        ([good, "nowhere.jsonl"], "there is no data file 'nowhere.jsonl'"),
        ([good, write(tmp_path / "bad.jsonl", ["oak"])], "the winner is 'oak'"),
        ([good, good, "--out", str(tmp_path)], "exists"),
    ):
        assert palmette(monkeypatch, "judge", "validate", *words) == 2
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error


def test_win_rates_of_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    """Three of four preferences are for elm, and one of four for oak, each with outputs of equal length."""
    rows = [
        {"model": model, "reference": "fir", "index": n, "preference": 1 + (n in won), "output_1": "a", "output_2": "b"}
        for model, won in (("elm", (0, 1, 2)), ("oak", (3,)))
        for n in range(4)
    ]
    path, out = tmp_path / "preferences.jsonl", tmp_path / "rates.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert palmette(monkeypatch, "eval", "alpaca", str(path), "--resamples", "5", "--out", str(out)) == 0
    said = capsys.readouterr().out
    assert said.index("elm") < said.index("oak")
    assert "In percent of 4 items, against fir." in said
    record = json.loads(out.read_text(encoding="utf-8"))
    assert {row["model"]: row["win_rate"] for row in record["rows"]} == {"elm": 75.0, "oak": 25.0}
    assert palmette(monkeypatch, "eval", "alpaca", str(path), "--out", str(out)) == 2


def test_pairs_are_judged_and_can_be_validated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_folder: Path, capsys: Any
) -> None:
    """People say what the judge said, so the judge agrees with them."""
    rows = [
        {
            "question_id": n,
            "question": f"Q{n}?",
            "answer_a": "nine" * n,
            "answer_b": "ten",
            "model_a": "x",
            "model_b": "y",
        }
        for n in range(1, 7)
    ]
    pairs, out = tmp_path / "pairs.jsonl", tmp_path / "verdicts.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ("judge", "pairs", str(pairs), "--judge", str(tiny_folder))
    assert palmette(monkeypatch, *words, "--estimate") == 0
    assert capsys.readouterr().out.startswith("12 verdicts, about ")
    assert palmette(monkeypatch, *words) == 2
    assert "Give --out, or --estimate." in capsys.readouterr().err
    assert palmette(monkeypatch, *words, "--out", str(out)) == 0
    assert "other verdict in the other order" in capsys.readouterr().out
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["question_id"] for row in found] == [str(n) for n in range(1, 7)]
    assert all(sum(odds.values()) == pytest.approx(1.0) for row in found for odds in row["odds"])
    votes = tmp_path / "votes.jsonl"
    columns = ("question_id", "turn", "model_a", "model_b", "winner")
    votes.write_text("".join(json.dumps({key: row[key] for key in columns}) + "\n" for row in found), encoding="utf-8")
    assert palmette(monkeypatch, "judge", "validate", str(out), str(votes), "--resamples", "20") == 0
    assert "agreement with people, %" in capsys.readouterr().out
