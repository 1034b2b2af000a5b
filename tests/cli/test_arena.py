"""`palmette arena rank`, from a file of votes to a page."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import palmette

ROWS = [
    *[{"model_a": "elm", "model_b": "<b>fir</b>", "winner": "model_a", "judge": f"v{index}"} for index in range(30)],
    *[{"model_a": "<b>fir</b>", "model_b": "oak", "winner": "model_a", "judge": f"v{index}"} for index in range(20)],
    *[{"model_a": "oak", "model_b": "elm", "winner": "both_bad", "judge": f"v{index}"} for index in range(10)],
]


@pytest.fixture
def votes(tmp_path: Path) -> str:
    path = tmp_path / "votes.jsonl"
    lines = [{**row, "language": "English" if index < 55 else "Russian"} for index, row in enumerate(ROWS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    return str(path)


def test_a_ranking_is_printed_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, votes: str, capsys: Any
) -> None:
    out = tmp_path / "ranking"
    assert (
        palmette(monkeypatch, "arena", "rank", votes, "--by", "language", "--resamples", "20", "--out", str(out)) == 0
    )
    said = capsys.readouterr().out
    assert said.index("elm") < said.index("<b>fir</b>") < said.index("oak")
    assert "60 votes of 30 voters." in said
    assert "English: elm is first by 55 votes" in said
    assert "Russian: elm is first by 5 votes, and 1 other may be as good" in said or "Russian: oak is first" in said
    record = json.loads((out / "ranking.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in record["ranking"]["rows"]] == ["elm", "<b>fir</b>", "oak"]
    assert record["ranking"]["both_bad"] == pytest.approx(10 / 60)
    with (out / "ranking.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["model"], row["votes"], row["both_bad"]) for row in table] == [
        ("elm", "40", "10"),
        ("<b>fir</b>", "50", "0"),
        ("oak", "30", "10"),
    ]
    page = (out / "ranking.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;fir&lt;/b&gt;" in page
    assert "<b>fir" not in page


def test_mistakes_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, votes: str, capsys: Any) -> None:
    for words, said in (
        (["nowhere.jsonl"], "there is no data file 'nowhere.jsonl'"),
        ([votes, "--style"], "does not hold its answers"),
        ([votes, "--by", "category"], "no vote of"),
        ([votes, "--out", str(tmp_path)], "exists"),
    ):
        assert palmette(monkeypatch, "arena", "rank", *words) == 2
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error
