"""Pairs and votes drawn from files with the columns of LLMFAO."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from palmette.judge.pair_verdicts import read_pair_verdicts
from palmette.judge.pairs import read_pairs
from tests.support.paths import ROOT

VOTES = """id,prompt,model_x,model_y,worker,winner,left,right
0,5,1,2,7,left,Elm,Fir
0,5,1,2,8,tie,Elm,Fir
1,5,3,1,7,right,Oak,Elm
2,8,1,2,7,left,Elm,Fir
"""


def test_each_pair_comes_with_its_answers_and_all_of_its_votes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The third pair is on a prompt that is not used, so both others are drawn."""
    results = [{"prompt": 5, "model": model, "result": f"answer of {model}"} for model in (1, 2, 3)]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in results))
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"id": 5, "text": "Why?"}) + "\n")
    (tmp_path / "llmfao.csv").write_text(VOTES)
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["", "--data", str(tmp_path), "--out", str(out), "--number", "2"])
    runpy.run_path(str(ROOT / "benchmarks" / "llmfao_pairs.py"), run_name="__main__")
    pairs = read_pairs(str(out / "pairs.jsonl"))
    assert [(one.question, one.models, one.case.turns) for one in pairs] == [
        ("5", ("Elm", "Fir"), ("Why?",)),
        ("5", ("Oak", "Elm"), ("Why?",)),
    ]
    assert pairs[1].case.answers == (("answer of 3",), ("answer of 1",))
    votes = read_pair_verdicts(str(out / "votes.jsonl")).verdicts
    # "A" is the first of both models by name.
    assert [(one.compared.models, one.choice, one.judge) for one in votes] == [
        (("Elm", "Fir"), "A", "7"),
        (("Elm", "Fir"), "tie", "8"),
        (("Elm", "Oak"), "A", "7"),
    ]
