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
    assert palmette(monkeypatch, "judge", "validate", judged, voted, "--out", str(out), "--samples", "200") == 0
    said = capsys.readouterr().out
    assert "the judge may rank models" in said
    assert "40 comparisons that both judged, 40 of them without a tie." in said
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["figures"]["agreement"]["value"] == pytest.approx(0.9)
    assert record["figures"]["kappa_decided"]["value"] == pytest.approx(0.8)
    assert record["trusted"]
    words = ("judge", "validate", judged, voted, "--samples", "200", "--floor", "0.85")
    assert palmette(monkeypatch, *words) == 0
    assert "refused for leaderboards" in capsys.readouterr().out


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
