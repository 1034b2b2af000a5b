"""A report's comparison with the untouched model, counted by hand, and its digits and its width on a phone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Prediction
from palmette.evaluate.squad_metrics import ScoredAnswer, score_answers
from palmette.pages.evaluation.before import Before, comparison_rows
from palmette.pages.evaluation.report import Report, render_report, write_report
from tests.support.browser import WIDTHS, Browser
from tests.support.html import ParsedPage

TEXT = "noon or dusk"


def scored(answers: list[str]) -> list[ScoredAnswer]:
    """A document with one question for each answer that is given to it. Right is "noon", and "" refuses."""
    documents = [
        Document(f"d{n}", TEXT, (Question(f"q{n}", "When?", (Answer("noon", 0),)),)) for n in range(len(answers))
    ]
    given = {
        f"q{n}": Prediction(text, "" if text else "absent", TEXT.find(text), TEXT.find(text) + len(text))
        if text
        else Prediction("", "absent")
        for n, text in enumerate(answers)
    }
    return score_answers(documents, given)


AFTER = scored(["noon", "noon", "dusk", "noon", ""])
BEFORE = Before("untouched", "fine-tuned", scored(["", "dusk", "noon", "noon", "dusk"]))


def report(before: Before | None = BEFORE, **more: Any) -> Report:
    return Report("Title", [("Model", "runs/quickstart")], AFTER, {"exact": 60.0}, {}, **{"before": before, **more})


def test_both_models_are_compared() -> None:
    """Exact match 2 and 3 of 5: 40 and 60 percent, with an interval that is far too wide to tell them apart."""
    rows = {row["name"]: row for row in comparison_rows(BEFORE, AFTER)}
    exact = rows["Exact match (EM)"]
    assert [exact[name] for name in ("before", "after", "difference", "verdict")] == ["40 %", "60 %", "+20", "unclear"]
    assert rows["Answered"]["verdict"] == ""
    html = render_report(report())
    assert "Compared with the untouched model" in html
    assert 'href="#compared"' in html
    assert "ompared with the" not in render_report(report(None))


def test_examples_hold_what_the_other_model_answered() -> None:
    data = json.loads(ParsedPage(render_report(report())).raw["data"])
    assert data["before"] == "untouched"
    assert [example["before"] for example in data["examples"]] == ["", "dusk", "noon", "noon", "dusk"]
    changed = [[label for label in example["in"] if label in ("better", "worse")] for example in data["examples"]]
    assert changed == [["better"], ["better"], ["worse"], [], []]
    assert 'data-filter="worse"' in render_report(report())
    alone = json.loads(ParsedPage(render_report(report(None))).raw["data"])
    assert "before" not in {*alone, *alone["examples"][0]}


def test_no_interval_is_empty_and_no_digit_is_made_up() -> None:
    """The median of passes is 2 in every sample, all answers were valid, and 6.14 questions took a second."""
    metrics = {"median_passes": 2.0, "valid_json": 100.0, "questions_per_second": 6.1403, "ece": 0.1234}
    ends = {"median_passes": (2.0, 2.0), "valid_json": (100.0, 100.0), "ece": (0.09, 0.21)}
    html = render_report(Report("Title", [], AFTER, metrics, ends))
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    assert "2 to 2" not in words
    assert "100.0 to 100.0" not in words
    assert "Valid JSON completions in the required format 100 %" in words
    assert "Speed questions answered 6.1 a second" in words
    assert "0 is best 0.123 95 % interval: 0.090 to 0.210" in words


@pytest.mark.browser
def test_a_phone_shows_each_figure_with_its_labels(browser: Browser, tmp_path: Path) -> None:
    """Every row is a block of its own: a label and a value in each line, and nothing wider than the screen."""
    write_report(tmp_path / "report.html", report())
    page = browser.open((tmp_path / "report.html").as_uri(), 390)
    seen, laid_out = page.evaluate(WIDTHS)
    assert laid_out <= seen
    row = page.locator(".compared tbody tr").first
    tops = [cell.bounding_box() for cell in row.locator("th, td:visible").all()]
    heights = [box["y"] for box in tops if box]
    assert heights == sorted(set(heights))  # one below the other
    label = row.locator("td").first.evaluate("cell => getComputedStyle(cell, '::before').content")
    assert label == '"untouched"'
    page.locator("[data-filter=worse]").click()
    assert page.locator("#list > li").count() == 1
    assert "Untouched model" in (page.locator("#list dl").first.text_content() or "")
    assert browser.complaints() == []
