"""report.html: what it says is counted by hand here; the page itself is driven in a headless Chromium where there is
one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Candidate, Prediction
from palmette.errors import DataError
from palmette.evaluate.squad_metrics import ScoredAnswer, score_answers
from palmette.pages.charts import loss_chart, risk_coverage_chart
from palmette.pages.evaluation.report import (
    Report,
    by_answer_length,
    by_answer_position,
    by_question_word,
    example_data,
    find_unsure,
    nearest_answer,
    render_report,
    write_report,
)
from palmette.pages.page import script_json
from tests.support.browser import WIDTHS, Browser
from tests.support.html import ParsedPage

# Before "dawn" stand 5 code points of emoji (the astronaut is three) that are 9 UTF-16 units.
EMOJI = "🎉🎉👩‍🚀 landed at dawn. </script><img src=x onerror=alert(1)> & <b>more</b>"
# 40 characters; quarters begin at 0, 10, 20 and 30.
LIST = "one two three four five six seven eight "
LONG = "Nothing happened. " * 60 + "Then the blue heron came. " + "All was quiet. " * 60


def answer_at(text: str, answer: str) -> Answer:
    return Answer(answer, text.index(answer))


def given(text: str, answer: str, probability: float | None, *others: tuple[str, float], **more: Any) -> Prediction:
    start = text.index(answer)
    candidates = ((answer, probability or 0.0), *others)
    found = tuple(Candidate(t, text.index(t), text.index(t) + len(t), p) for t, p in candidates)
    return Prediction(answer, "", start, start + len(answer), probability, 0.1, found, **more)


def refused(probability: float | None, kind: Any = "absent") -> Prediction:
    return Prediction("", kind, probability=probability, no_answer_probability=probability)


def sample() -> list[ScoredAnswer]:
    """Eight questions: right are 1, 2, 5, 8; wrong 3, 4, 6, 7; refused 3, 5, 6; in the lowest quarter 4 and 7;
    unsure also 6.
    """
    documents = (
        Document(
            "emoji",
            EMOJI,
            (
                Question("1", "When did <i>they</i> land?", (answer_at(EMOJI, "dawn"),)),
                Question("2", "How is it closed?", (answer_at(EMOJI, "</script>"),)),
            ),
            "A <title>",
        ),
        Document(
            "list",
            LIST,
            (
                Question("3", "What comes first?", (answer_at(LIST, "one"),)),
                Question("4", "In which order do they come?", (answer_at(LIST, "two three four five"),)),
                Question("5", "Whose list is it?"),
                Question("6", "Name the last.", (answer_at(LIST, "eight"), answer_at(LIST, "seven eight"))),
            ),
        ),
        Document(
            "long",
            LONG,
            (
                Question("7", "Why did it come, and when?"),
                Question("8", "What came?", (answer_at(LONG, "heron"), answer_at(LONG, "the blue heron"))),
            ),
        ),
    )
    predictions = {
        "1": given(EMOJI, "dawn", 0.9, ("landed", 0.05), certified=True),
        "2": given(EMOJI, "</script>", 0.8),
        "3": refused(0.5),
        "4": given(LIST, "three four five six", 0.3),
        "5": refused(0.7),
        "6": refused(0.6, "unsure"),
        "7": given(LONG, "All was quiet", 0.2),
        "8": given(LONG, "the blue heron", 0.95),
    }
    return score_answers(documents, predictions)


def report(scored: list[ScoredAnswer] | None = None, **more: Any) -> Report:
    metrics = {"exact": 50.0, "f1": 59.4, "NoAns_exact": 50.0, "HasAns_exact": None, "ece": 0.1234, "total": 8}
    settings = {"intervals": {"exact": (21.5, 78.5)}, "loss": [(1, 2.0), (2, 1.0), (3, 0.5)], **more}
    return Report("A <report>", [("Model", "model & data")], scored or sample(), metrics, **settings)


def test_nothing_is_fetched_and_only_our_own_script_may_run() -> None:
    page = ParsedPage(render_report(report()))
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"link", "img", "iframe", "object", "embed", "base", "form", "b", "i"}
    assert not [
        a for _, a in page.elements if {"src", "srcset", "style"} & set(a) or any(n.startswith("on") for n in a)
    ]
    assert all(a["href"].startswith("#") for _, a in page.elements if a.get("href"))
    assert not re.search(
        r"url\(|@import|https?:|innerHTML|insertAdjacentHTML|eval\(", page.raw["style"] + page.raw["script"]
    )
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    for name in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.raw[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_text_of_documents_stays_text() -> None:
    """The only closing script tags are those of the two script elements, and what is embedded reads back unchanged."""
    html = render_report(report())
    assert html.count("</script>") == 2
    assert "<img" not in html
    data = json.loads(ParsedPage(html).raw["data"])
    assert data["documents"][0] == {"title": "A <title>", "text": EMOJI}
    assert "<h1>A &lt;report&gt;</h1>" in html
    assert "model &amp; data" in html


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "]]>&amp;", "a\u2028b\u2029c", 'quote " back \\ \x00'])
def test_script_json_reads_back_and_holds_no_markup(text: str) -> None:
    embedded = str(script_json({"text": [text]}))
    assert json.loads(embedded) == {"text": [text]}
    assert not set(embedded) & set("<>&\u2028\u2029")


def test_every_document_is_stored_once_and_places_are_code_points() -> None:
    """ "dawn" follows 🎉 🎉 👩 ZWJ 🚀 and " landed at ": 5 + 11 code points."""
    data = example_data(sample(), [])
    assert [document["text"] for document in data["documents"]] == [EMOJI, LIST, LONG]
    assert [example["document"] for example in data["examples"]] == [0, 0, 1, 1, 1, 1, 2, 2]
    first = data["examples"][0]
    assert first["place"] == first["referencePlace"] == (16, 20)
    assert first["others"] == [(6, 12, 0.05)]


def test_filters_are_counted_by_hand() -> None:
    """See `sample`: a quarter of eight is two, the probabilities 0.2 and 0.3; question 6 is unsure by its refusal."""
    unsure, highest = find_unsure(sample())
    assert (sorted(unsure), highest) == ([3, 5, 6], 0.3)
    labels = [set(example["in"]) for example in example_data(sample(), unsure)["examples"]]
    assert labels == [
        {"right"},
        {"right"},
        {"wrong", "refused"},
        {"wrong", "unsure"},
        {"right", "refused"},
        {"wrong", "unsure", "refused"},
        {"wrong", "unsure"},
        {"right"},
    ]
    counts = re.findall(r'data-filter="(\w+)".*?class="count">(\d+)<', render_report(report()))
    assert counts == [("all", "8"), ("wrong", "4"), ("right", "4"), ("unsure", "3"), ("refused", "3")]
    assert "here 30 % or less" in render_report(report())


def test_of_equal_probabilities_the_earlier_are_unsure() -> None:
    document = Document("d", LIST, tuple(Question(str(n), "Who?") for n in range(9)))
    scored = score_answers([document], {str(n): refused(0.5) for n in range(9)})
    assert find_unsure(scored) == (frozenset({0, 1}), 0.5)  # 9 // 4 = 2


def test_breakdowns_are_counted_by_hand() -> None:
    """F1 of question 4: three of four words shared on both sides, 0.75; of the other wrong ones 0.

    Words: 1 when; 2 how; 3 what; 4 which; 5 whose; 6 none; 7 why before when; 8 what.
    Lengths of the first answers: 1, 1, 1, 4, -, 1, -, 1.
    Beginnings: dawn 16 of 73, </script> 22 of 73, one 0 of 40, two 4 of 40, eight 34 of 40, heron 1094 of 2006.
    """
    assert (len(EMOJI), len(LIST), len(LONG)) == (73, 40, 2006)
    words = {group.name: (group.num, group.exact, group.f1) for group in by_question_word(sample()).groups}
    assert words == {
        "what": (2, 50.0, 50.0),
        "who": (1, 100.0, 100.0),
        "when": (1, 100.0, 100.0),
        "where": (0, None, None),
        "which": (1, 0.0, 75.0),
        "how": (1, 100.0, 100.0),
        "why": (1, 0.0, 0.0),
        "other": (1, 0.0, 0.0),
    }
    lengths = [(group.name, group.num, group.exact) for group in by_answer_length(sample()).groups]
    assert lengths == [
        ("1 word", 5, 60.0),
        ("2 to 3 words", 0, None),
        ("4 to 6 words", 1, 0.0),
        ("7 words or more", 0, None),
        ("unanswerable", 2, 50.0),
    ]
    places = [(group.num, group.exact) for group in by_answer_position(sample()).groups]
    assert places == [(3, 100 / 3), (1, 100.0), (1, 100.0), (1, 0.0), (2, 50.0)]


def test_the_answer_marked_is_the_one_nearest_to_the_models() -> None:
    scored = sample()
    assert [nearest_answer(answer) for answer in (scored[7], scored[5], scored[4])] == [
        answer_at(LONG, "the blue heron"),
        answer_at(LIST, "eight"),
        None,
    ]


def test_figures_are_shown_where_they_are_known() -> None:
    html = render_report(report())
    assert re.search(r'<dt>Exact match</dt>\s*<dd class="number">50<', html)
    assert "22 to 78" in html  # 57 wide: whole percents are all that is known
    assert "0.123" in html
    assert "Exact match, answerable" not in html  # None
    assert "Letter for letter" not in html  # absent


def test_charts_need_their_data_and_have_words() -> None:
    assert render_report(report()).count('<svg class="chart"') == 3
    blind = [ScoredAnswer(a.question, a.document, refused(None), a.exact, a.f1, a.strict_exact) for a in sample()]
    html = render_report(report(blind, loss=()))
    assert html.count('<svg class="chart"') == 0
    assert 'href="#curves"' not in html
    risk = risk_coverage_chart([(0.25, 0.0), (0.5, 0.5), (0.75, 1 / 3), (1.0, 0.25)])
    assert "25 % are wrong. Of the 50 % that the model is surest of, 50 %" in risk
    assert "From 3 at step 0 to a mean of 1.5 over the last 2 steps" in loss_chart(
        [(step, 3.0) for step in range(39)] + [(39, 0.0)]
    )


def test_a_loss_of_one_step_has_a_chart() -> None:
    assert ">0.7</text>" in loss_chart([(0, 0.7)])


def test_the_file_is_written_even_with_half_a_surrogate_in_a_title(tmp_path: Path) -> None:
    broken = Document("d", LIST, (Question("1", "Who?"),), "half \ud83d")
    write_report(tmp_path / "broken.html", report(score_answers([broken], {"1": refused(0.5)})))
    assert '"title":"half ?"' in (tmp_path / "broken.html").read_text(encoding="utf-8")


def test_a_report_on_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no question"):
        write_report(tmp_path / "report.html", Report("t", [], [], {}, {}))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, report(sample() * 6))
    return path.as_uri()


QUESTIONS = "#list h3"


def marked(page: Page, number: int, kind: str) -> list[str]:
    """The texts marked in the passage of a question, counted from 0."""
    return page.locator("#list > li").nth(number).locator(f".passage mark.{kind}").all_text_contents()


def brightness(page: Page, colour: str) -> float:
    """The mean of red, green and blue of a colour of the page's body, from 0 (black) to 1."""
    red, green, blue = re.findall(r"\d+", page.evaluate(f"getComputedStyle(document.body).{colour}"))
    return (int(red) + int(green) + int(blue)) / (3 * 255)


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_opens_quietly_and_fits(browser: Browser, url: str, width: int, dark: bool) -> None:
    page = browser.open(url, width, dark=dark)
    text, ground = brightness(page, "color"), brightness(page, "backgroundColor")
    assert (text - ground > 0.5) if dark else (ground - text > 0.5)
    assert page.evaluate(WIDTHS) == [width, width]
    whole = page.locator(".passage button", has_text="Show the whole document")
    assert whole.count() > 0
    whole.evaluate_all("(all) => all.forEach((button) => button.click())")
    assert whole.count() == 0
    assert page.evaluate(WIDTHS) == [width, width]
    assert page.locator(QUESTIONS).count() == 20
    assert browser.complaints() == []


@pytest.mark.browser
def test_marks_hold_the_very_spans(browser: Browser, url: str) -> None:
    """Question 1 comes after astral characters; 4 overlaps:

    "two", "three four five", " six"; 8 is equal to another reference.
    """
    page = browser.open(url, 390)
    spans = [(marked(page, n, "reference"), marked(page, n, "model")) for n in (0, 1, 2, 3, 4, 6, 7)]
    assert spans == [
        (["dawn"], ["dawn"]),
        (["</script>"], ["</script>"]),
        (["one"], []),
        (["two ", "three four five"], ["three four five", " six"]),
        ([], []),
        ([], ["All was quiet"]),
        (["the blue heron"], ["the blue heron"]),
    ]
    first = page.locator("#list > li").first
    assert first.locator(".passage p").text_content() == EMOJI
    assert first.locator(".others").text_content() == "10 %not in the document5.0 %landed"
    assert browser.complaints() == []


@pytest.mark.browser
def test_an_answer_beside_a_likelier_absence_is_explained(browser: Browser, tmp_path: Path) -> None:
    """As an earlier version gave it, or greedy generation: 0.43 for the answer, 0.56 for none. The other has 0.1."""
    document = Document("d", LIST, (Question("1", "Which?"), Question("2", "Which else?"), Question("3", "Who?")))
    found = {
        "1": replace(given(LIST, "two", 0.43), no_answer_probability=0.56),
        "2": given(LIST, "four", 0.43),
        "3": refused(0.4, "unsure"),
    }
    write_report(tmp_path / "report.html", report(score_answers([document], found)))
    page = browser.open((tmp_path / "report.html").as_uri(), 1000)
    notes = [
        page.locator("#list > li").nth(n).locator(".answers", has_text="Absence was more likely") for n in range(3)
    ]
    assert [note.count() for note in notes] == [1, 0, 0]
    assert page.locator("#list > li").nth(2).locator("dd", has_text="unsure: there probably is an answer").count() == 1


@pytest.mark.browser
def test_long_documents_are_clipped_until_asked_for(browser: Browser, url: str) -> None:
    page = browser.open(url, 1400)
    passage = page.locator("#list > li").nth(7).locator(".passage")
    clipped = passage.locator("p").text_content() or ""
    assert clipped.startswith("[…] ")
    assert clipped.endswith(" […]")
    assert clipped[4:-4] in LONG
    assert len("the blue heron") + 300 <= len(clipped[4:-4]) < 400
    passage.locator("button").click()
    assert passage.locator("p").text_content() == LONG
    assert passage.locator("button").get_attribute("aria-expanded") == "true"
    assert marked(page, 7, "reference") == ["the blue heron"]


@pytest.mark.browser
def test_filters_search_and_paging_work(browser: Browser, url: str) -> None:
    """The page shows `sample` six times over: 48 questions, 24 of them wrong, the first two of each eight about the
    emoji.
    """
    page = browser.open(url, 1400)
    questions, found, more = page.locator(QUESTIONS), page.locator("#found"), page.locator("#more")
    page.locator("[data-filter=wrong]").click()
    assert page.evaluate("location.hash") == "#wrong"
    assert page.locator("[aria-pressed=true]").get_attribute("data-filter") == "wrong"
    assert found.text_content() == "24 questions, the first 20 shown"
    assert more.text_content() == "Show 4 more"
    more.click()
    wrong = ["What comes first?", "In which order do they come?", "Name the last.", "Why did it come, and when?"]
    assert questions.all_text_contents() == wrong * 6
    assert more.is_hidden()
    expect(questions.nth(20)).to_be_focused()
    search = page.get_by_label("Search questions and documents")
    search.fill("BLUE HERON")  # looked for a moment after the last key
    expect(questions).to_have_text(["Why did it come, and when?"] * 6)
    assert page.evaluate("location.hash") == "#wrong&q=BLUE+HERON"
    search.fill("no such words")
    expect(questions).to_have_count(0)
    assert (found.text_content() or "").startswith("No question fits")
    assert browser.complaints() == []


@pytest.mark.browser
def test_the_address_presets_filter_search_and_order(browser: Browser, url: str) -> None:
    page = browser.open(f"{url}#right&q=they&order=surest", 390)
    assert page.locator("#query").input_value() == "they"
    assert page.locator(QUESTIONS).all_text_contents() == ["When did <i>they</i> land?"] * 6
    page = browser.open(f"{url}#all&order=unsurest", 390)
    assert page.locator(QUESTIONS).all_text_contents()[::6] == [
        "Why did it come, and when?",
        "In which order do they come?",
        "What comes first?",
        "Name the last.",
    ]
    page = browser.open(f"{url}#groups", 390)
    assert page.locator("[aria-pressed=true]").get_attribute("data-filter") == "all"
    browser.open(f"{url}#%E0%A4%A&q=%", 390)  # no valid escapes
    assert browser.complaints() == []
