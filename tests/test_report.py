"""report.html: what it says is counted by hand here; the page itself is driven in a headless Chromium where there is one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

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
from tests.chromium import Browser

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
    """Eight questions: right are 1, 2, 5, 8; wrong 3, 4, 6, 7; refused 3, 5, 6; in the lowest quarter 4 and 7; unsure also 6."""
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
    return Report("A <report>", "model & data", scored or sample(), metrics, **settings)


class _Page(HTMLParser):
    """The elements of a page, and the contents of its scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag in {"script", "style"} and self.lasttag == tag and self.cdata_elem:
            name = attributes.get("id") or tag
            self.raw[name] = self.raw.get(name, "") + data


def test_nothing_is_fetched_and_only_our_own_script_may_run() -> None:
    page = _Page(render_report(report()))
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
    data = json.loads(_Page(html).raw["data"])
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
    assert "here 30.0 % and less" in render_report(report())


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
    assert re.search(r'<dt>Exact match</dt>\s*<dd class="number">50\.0<', html)
    assert "21.5 to 78.5" in html
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
    assert "25.0 % are wrong; of the 50 % that the model is surest of, 50.0 %" in risk
    assert "From 3.000 at step 0 to a mean of 1.500 over the last 2 steps" in loss_chart(
        [(step, 3.0) for step in range(39)] + [(39, 0.0)]
    )


def test_a_loss_of_one_step_has_a_chart() -> None:
    assert "0.700" in loss_chart([(0, 0.7)])


def test_the_file_is_written_even_with_half_a_surrogate_in_a_title(tmp_path: Path) -> None:
    broken = Document("d", LIST, (Question("1", "Who?"),), "half \ud83d")
    write_report(tmp_path / "broken.html", report(score_answers([broken], {"1": refused(0.5)})))
    assert '"title":"half ?"' in (tmp_path / "broken.html").read_text(encoding="utf-8")


def test_a_report_on_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no question"):
        write_report(tmp_path / "report.html", Report("t", "s", [], {}, {}))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    found = Browser(program, tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, report(sample() * 6))
    return path.as_uri()


QUESTIONS = "Array.from(document.querySelectorAll('#list h3'), (e) => e.textContent)"
MARKED = (
    "Array.from(document.querySelectorAll('#list > li')[%d].querySelectorAll('.passage mark.%s'), (e) => e.textContent)"
)


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_opens_quietly_and_fits(browser: Browser, url: str, width: int, dark: bool) -> None:
    browser.open(url, width, dark=dark)
    assert browser.run("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
    assert browser.run("document.querySelectorAll('.passage button').forEach((e) => e.click())") is None
    assert browser.run("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
    assert len(browser.run(QUESTIONS)) == 20
    assert browser.complaints() == []


@pytest.mark.browser
def test_marks_hold_the_very_spans(browser: Browser, url: str) -> None:
    """Question 1 comes after astral characters; 4 overlaps: "two", "three four five", " six"; 8 is equal to another reference."""
    browser.open(url, 390)
    spans = [
        (browser.run(MARKED % (n, "reference")), browser.run(MARKED % (n, "model"))) for n in (0, 1, 2, 3, 4, 6, 7)
    ]
    assert spans == [
        (["dawn"], ["dawn"]),
        (["</script>"], ["</script>"]),
        (["one"], []),
        (["two ", "three four five"], ["three four five", " six"]),
        ([], []),
        ([], ["All was quiet"]),
        (["the blue heron"], ["the blue heron"]),
    ]
    shown = "document.querySelectorAll('#list > li')[%d].querySelector('.passage p').textContent"
    assert browser.run(shown % 0) == EMOJI
    assert (
        browser.run("document.querySelectorAll('#list > li')[0].querySelector('.others').textContent")
        == "10.0 %not in the document5.0 %landed"
    )
    assert browser.complaints() == []


@pytest.mark.browser
def test_long_documents_are_clipped_until_asked_for(browser: Browser, url: str) -> None:
    browser.open(url, 1400)
    passage = "document.querySelectorAll('#list > li')[7].querySelector('.passage')"
    clipped = browser.run(f"{passage}.querySelector('p').textContent")
    assert clipped.startswith("[…] ")
    assert clipped.endswith(" […]")
    assert clipped[4:-4] in LONG
    assert len("the blue heron") + 300 <= len(clipped[4:-4]) < 400
    browser.run(f"{passage}.querySelector('button').click()")
    assert browser.run(f"{passage}.querySelector('p').textContent") == LONG
    assert browser.run(f"{passage}.querySelector('button').getAttribute('aria-expanded')") == "true"
    assert browser.run(MARKED % (7, "reference")) == ["the blue heron"]


@pytest.mark.browser
def test_filters_search_and_paging_work(browser: Browser, url: str) -> None:
    """The page shows `sample` six times over: 48 questions, 24 of them wrong, the first two of each eight about the emoji."""
    browser.open(url, 1400)
    browser.run("document.querySelector('[data-filter=wrong]').click()")
    assert browser.run("location.hash") == "#wrong"
    assert browser.run("document.querySelector('[aria-pressed=true]').dataset.filter") == "wrong"
    assert browser.run("found.textContent") == "24 questions, the first 20 shown"
    assert browser.run("more.textContent") == "Show 4 more"
    browser.run("more.click()")
    wrong = browser.run(QUESTIONS)
    assert (
        wrong
        == ["What comes first?", "In which order do they come?", "Name the last.", "Why did it come, and when?"] * 6
    )
    assert browser.run("more.hidden")
    assert browser.run("document.activeElement === document.querySelectorAll('#list h3')[20]")
    search = "query.value = '%s'; query.dispatchEvent(new Event('input')); new Promise((done) => setTimeout(done, 400))"
    browser.run(search % "BLUE HERON")
    assert browser.run(QUESTIONS) == ["Why did it come, and when?"] * 6
    assert browser.run("location.hash") == "#wrong&q=BLUE+HERON"
    browser.run(search % "no such words")
    assert browser.run(QUESTIONS) == []
    assert browser.run("found.textContent").startswith("No question fits")
    assert browser.complaints() == []


@pytest.mark.browser
def test_the_address_presets_filter_search_and_order(browser: Browser, url: str) -> None:
    browser.open(f"{url}#right&q=they&order=surest", 390)
    assert browser.run("query.value") == "they"
    assert browser.run(QUESTIONS) == ["When did <i>they</i> land?"] * 6
    browser.open(f"{url}#all&order=unsurest", 390)
    assert browser.run(QUESTIONS)[::6] == [
        "Why did it come, and when?",
        "In which order do they come?",
        "What comes first?",
        "Name the last.",
    ]
    browser.open(f"{url}#groups", 390)
    assert browser.run("document.querySelector('[aria-pressed=true]').dataset.filter") == "all"
    browser.open(f"{url}#%E0%A4%A&q=%", 390)  # no valid escapes
    assert browser.complaints() == []
