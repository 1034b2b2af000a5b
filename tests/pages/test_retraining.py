"""The page of a retraining: its figures, its words, and how it looks in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Prediction
from palmette.evaluate.changes import changed_answers
from palmette.evaluate.compare import compare_evaluations
from palmette.evaluate.squad_metrics import ScoredAnswer, score_answers
from palmette.pages.retraining import RetrainingPage, render_retraining, write_retraining
from tests.support.browser import WIDTHS, Browser

MARKUP = "<b>bold</b> & \"quotes\" 'ticks'"
MATERIAL: dict[str, Any] = {
    "questions": 40,
    "documents": 12,
    "pairs": 17,
    "labels": {"good": 40, "bad": 21},
    "left_out": {"audit": 20, "conflict": 2},
    "replayed": 12,
    "audit_questions": 20,
    "audit_documents": 10,
    "audit_drawn": 22,
    "audit_seen_before": 0,
    "verdicts": 45,
    "seconds": 360.0,
    "audit_seconds": [4.0] * 20,
    "annotators": 2,
    "accept_rate": 0.75,
    "accept_rate_blind": 0.5,
    "undone": 3,
}
NEEDS = {
    "seen": 12.3456,
    "questions": 20,
    "rows": [{"gain": 1.0, "verdicts": 3050, "seconds": 12200.0}, {"gain": 5.0, "verdicts": 122, "seconds": None}],
}


def scored(right: Callable[[int], bool]) -> list[ScoredAnswer]:
    """Twenty questions about ten documents, answered right or not at all."""
    documents, predictions = [], {}
    for n in range(10):
        text = f"At {n} it rains. {MARKUP}"
        answers = (Answer(str(n), 3),)
        documents.append(
            Document(f"d{n}", text, tuple(Question(f"q{n}-{m}", f"When? {MARKUP}", answers) for m in (0, 1)))
        )
        for m in (0, 1):
            good = right(2 * n + m)
            predictions[f"q{n}-{m}"] = Prediction(str(n) if good else "", probability=0.5, no_answer_probability=0.5)
    return score_answers(documents, predictions)


def page(**changes: Any) -> RetrainingPage:
    """Right before: the first 12 questions. Right after: all but the first two. So 8 are won and 2 lost."""
    before, after = scored(lambda n: n < 12), scored(lambda n: n >= 2)
    values: dict[str, Any] = {
        "old": "runs/old",
        "new": f"runs/{MARKUP.replace('/', '')}",
        "method": "sft",
        "compared": compare_evaluations(before, after),
        "changes": changed_answers(before, after),
        "material": MATERIAL,
        "needs": NEEDS,
        **changes,
    }
    return RetrainingPage(**values)


def words(html: str) -> str:
    body = html[html.index("<body>") : html.index("<script>")]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_the_page_says_before_after_difference_flips_and_cost() -> None:
    text = words(render_retraining(page()))
    assert "Before 60 %" in text
    assert "After 90 %" in text
    assert "Difference +30" in text
    assert "8 right only after, 2 right only before, 0 answered differently" in text
    assert "40 questions about 12 documents" in text
    assert "20 audit, 2 conflict" in text
    assert "20 of 22 questions have a right answer" in text
    assert "45 in 6 min" in text
    assert "20 in 80 s" in text
    assert "a true gain of 12 points" in text
    assert "1 3,050 3.4 h 5 122" in text
    assert "75 % right of what they saw, and 50 % of what was hidden" in text


def test_text_of_people_never_becomes_markup() -> None:
    html = render_retraining(page())
    assert "<b>" not in html
    assert html.count("&lt;b&gt;bold&lt;/b&gt;") >= 10


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"compared": [], "changes": None, "needs": None}, "There is no comparison"),
        (
            {"compared": compare_evaluations(scored(lambda n: n < 12), scored(lambda n: n < 12)), "needs": None},
            "No answer became right or wrong",
        ),
        (
            {"compared": compare_evaluations(scored(lambda n: True), scored(lambda n: n % 2 == 0))},
            "The new run is worse",
        ),
        ({"compared": compare_evaluations(scored(lambda n: n < 9), scored(lambda n: n > 9))}, "Unclear"),
        ({"compared": compare_evaluations(scored(lambda n: n > 15), scored(lambda n: True))}, "The new run is better"),
        ({"material": {**MATERIAL, "audit_seen_before": 3}}, "The old run was trained on 3 documents of the audit set"),
        ({"material": {**MATERIAL, "audit_seen_before": None}}, "since its data are gone"),
    ],
)
def test_the_page_says_how_sure_it_is(changes: dict[str, Any], said: str) -> None:
    assert said in words(render_retraining(page(**changes)))


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1400, False), (390, True)])
def test_the_page_opens_quietly_and_fits(browser: Browser, width: int, dark: bool, tmp_path: Path) -> None:
    write_retraining(tmp_path / "retraining.html", page())
    opened = browser.open((tmp_path / "retraining.html").as_uri(), width, dark=dark)
    seen, laid_out = opened.evaluate(WIDTHS)
    assert laid_out <= seen
    opened.screenshot(path=tmp_path / "page.png", full_page=True)
    assert browser.complaints() == []
