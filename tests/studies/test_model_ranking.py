"""Models ranked: Holm's correction by hand, differences that are known, the front, and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binom

from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Prediction
from palmette.errors import TemplateError
from palmette.evaluate.holm import holm
from palmette.evaluate.squad import Evaluation
from palmette.evaluate.squad_metrics import score_answers
from palmette.pages.model_ranking import conclusion, render_ranking
from palmette.studies.models import rank
from palmette.studies.models.rank import compare_pairs, mark_front
from tests.support.command import palmette


def evaluation(right: set[int], number: int = 40) -> Evaluation:
    """One question about each of so many documents, answered right or with another word."""
    documents, predictions = [], {}
    for n in range(number):
        documents.append(Document(f"d{n}", f"At {n} it rains.", (Question(f"q{n}", "When?", (Answer(str(n), 3),)),)))
        predictions[f"q{n}"] = Prediction(str(n) if n in right else "rains", probability=0.5, no_answer_probability=0.5)
    return Evaluation(tuple(score_answers(documents, predictions)))


def test_holm_by_hand() -> None:
    """Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1 that is 0.02, 0.03, 0.06, 0.04, and 0.04 rises to 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_differences_and_noise() -> None:
    """The first model is right on 20 documents more than the last. A sign test puts that at 2 / 2^20. The second is
    right on two more and wrong on one, which is no difference.
    """
    best = evaluation(set(range(30)))
    nearly, worst = evaluation(set(range(2, 31))), evaluation(set(range(10)))
    pairs = {
        (pair["better"], pair["worse"]): pair for pair in compare_pairs({"a": best, "b": nearly, "c": worst}, 1000)
    }
    assert 2 * binom.cdf(0, 20, 0.5) < 1e-5
    assert not pairs["a", "c"]["noise"]
    assert pairs["a", "c"]["difference"] == 50.0
    assert pairs["a", "c"]["p_holm"] == pytest.approx(3 * 2 / 1001)
    assert pairs["a", "b"]["noise"]
    assert pairs["a", "b"]["low"] < 0 < pairs["a", "b"]["high"]


def model(name: str, exact: float, rate: float, memory: float) -> dict[str, Any]:
    return {
        "name": name,
        "exact": exact,
        "f1": exact,
        "total": 40,
        "questions_per_second": rate,
        "planned_bytes": memory,
        "peak_bytes": None,
        "disk_bytes": None,
        "licence": "mit",
        "num_parameters": 10,
        "intervals": {"exact": (exact - 5, exact + 5)},
    }


def test_a_template_that_cannot_be_used_shows_before_a_model_is_measured(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    bad = tmp_path / "bad"
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    tokenizer.save_pretrained(bad)
    AutoModelForCausalLM.from_pretrained(tiny_folder).save_pretrained(bad)
    monkeypatch.setattr(rank, "open_model", lambda _: pytest.fail("a model was loaded"))
    with pytest.raises(TemplateError, match=r"bad' cannot be asked: .* Leave this model out\."):
        rank.rank_models([str(tiny_folder), str(bad)], "builtin:test", rank.RankSettings(2), lambda _: None)


def test_the_front_holds_whoever_nobody_beats() -> None:
    rows = [
        model("best", 60, 5, 2e9),
        model("quick", 50, 20, 1e9),
        model("slow", 50, 4, 2e9),
        model("small", 40, 5, 5e8),
    ]
    mark_front(rows)
    assert [row["front"] for row in rows] == [True, True, False, True]
    assert rows[2]["beaten_by"] == "best"
    twins = [model("a", 50, 5, 1e9), model("b", 50, 5, 1e9)]
    mark_front(twins)
    assert all(row["front"] for row in twins)


def test_the_page() -> None:
    rows = [model("<b>best</b>", 60, 5, 2e9), model("slow", 50, 4, 2e9)]
    mark_front(rows)
    pair = {"better": rows[0]["name"], "worse": "slow", "difference": 10.0, "low": -1.0, "high": 21.0, "p_holm": 0.08}
    record = {"models": rows, "pairs": [{**pair, "noise": True}], "level": 0.05, "data": {"source": "mine.json"}}
    html = render_ranking(record)
    assert "<b>best" not in html
    assert "no, see &lt;b&gt;best&lt;/b&gt;" in html
    assert 'class="hollow"' in html
    assert "may be noise" in conclusion(record)
    clear = {**record, "pairs": [{**pair, "noise": False}]}
    assert "more than noise" in conclusion(clear)


def test_the_command(
    tiny_folder: Path,
    sft_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--data", "builtin:dev", "--limit", "2", "--out", tmp_path / "out"]
    assert palmette(monkeypatch, "models", "rank", tiny_folder, sft_run, *words) == 0
    shown = capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "ranking.json").read_text())
    assert {row["name"] for row in record["models"]} == {str(tiny_folder), str(sft_run)}
    assert record["models"][0]["exact"] >= record["models"][1]["exact"]
    assert len(record["pairs"]) == 1
    assert "95 % interval" in shown
    assert (tmp_path / "out" / "ranking.html").is_file()
    words[3], words[5] = "1", tmp_path / "other"
    assert palmette(monkeypatch, "models", "rank", tiny_folder, sft_run, *words) == 2
    assert "has 1 document" in capsys.readouterr().err
