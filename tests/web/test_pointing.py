"""The review page by mouse and by finger: buttons, dragging in the text, and a phone."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from palmette.data.records import Document
from palmette.review.showing import Choosing
from tests.support.browser import WIDTHS, Browser
from tests.support.driven_review import boats, box_of, drag
from tests.support.review_page import question

pytestmark = pytest.mark.browser

# 🎉 takes two units of UTF-16 and 👩‍🚀 five, so all places behind them differ from those in code points.
MIXED = "🎉 👩‍🚀 Zoe\u0308 saw <b>東京塔</b> & more.\r\nאבג דהו then they left for the café at 7:40 sharp."


def test_dragging_in_the_text_marks_whole_words(opened: Any) -> None:
    """From the middle of "boat" to the middle of "from", so both words are taken."""
    at = opened(boats(1))
    at.shown()
    left, right, height = box_of(at.page, "boat")
    other_left, other_right, _ = box_of(at.page, "from")
    drag(at.page, ((left + right) / 2, height), ((other_left + other_right) / 2, height))
    expect(at.page.locator("#chosen")).to_have_text("boat leaves from")
    # The other way round it is the same.
    drag(at.page, ((other_left + other_right) / 2, height), ((left + right) / 2, height))
    expect(at.page.locator("#chosen")).to_have_text("boat leaves from")
    at.press("Enter", 1)
    assert at.verdicts() == [("edit", "boat leaves from")]


def test_an_end_is_dragged_by_its_grip_and_snaps(opened: Any) -> None:
    at = opened(boats(1))
    at.shown()
    at.edit()
    grip = at.page.locator(".grip.end").bounding_box()
    assert grip is not None
    left, _, height = box_of(at.page, "noon")
    drag(at.page, (grip["x"], grip["y"] + 10), (left + 15, height))
    expect(at.page.locator("#chosen")).to_have_text("pier 3 at noon")
    grip = at.page.locator(".grip.start").bounding_box()
    assert grip is not None
    left, _, height = box_of(at.page, "leaves")
    drag(at.page, (grip["x"], grip["y"] + 10), (left + 5, height))
    expect(at.page.locator("#chosen")).to_have_text("leaves from pier 3 at noon")


def test_a_click_takes_a_word_in(opened: Any) -> None:
    at = opened(boats(1))
    at.shown()
    at.edit()
    left, right, height = box_of(at.page, "noon")
    at.page.mouse.click((left + right) / 2, height)
    expect(at.page.locator("#chosen")).to_have_text("pier 3 at noon")


def test_everything_works_with_the_mouse(opened: Any, browser: Browser) -> None:
    at = opened(boats(7))
    at.shown()
    button = at.page.get_by_role("button", name="Accept")
    for judged, name in enumerate(("accept", "reject", "no_answer", "skip"), start=1):
        at.page.locator(f"[data-verdict={name}]").click()
        at.wait(judged)
    at.page.locator("#candidates button").nth(1).click()
    at.wait(5)
    at.page.locator("[data-verdict=edit]").click()
    at.page.get_by_role("button", name="End one word on").click()
    at.page.get_by_role("button", name="Start one character on").click()
    assert at.chosen == "ier 3 at"
    at.page.get_by_role("button", name="Start one character back").click()
    at.page.get_by_role("button", name="Save").click()
    at.wait(6)
    at.page.locator("#undo").click()
    at.wait(5)
    expect(button).to_be_enabled()
    # A button that was clicked does not keep the space bar.
    at.press("Space", 6)
    assert [kind for kind, _ in at.verdicts()] == ["accept", "reject", "no_answer", "skip", "edit", "edit", "skip"]
    assert browser.complaints() == []


def test_a_phone_shows_it_and_fingers_work(opened: Any, browser: Browser) -> None:
    at = opened(boats(4), 390)
    at.shown()
    assert at.page.evaluate(WIDTHS) == [390, 390]
    for name in ("accept", "reject", "no_answer", "edit", "skip"):
        box = at.page.locator(f"[data-verdict={name}]").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 850
        assert box["height"] >= 44  # the least that fingers hit, by the guidelines of phones
    at.page.locator("[data-verdict=accept]").tap()
    at.wait(1)
    at.page.locator("#candidates button").nth(1).tap()
    at.wait(2)
    at.page.locator("[data-verdict=edit]").tap()
    left, right, height = box_of(at.page, "noon")
    at.page.touchscreen.tap((left + right) / 2, height)
    expect(at.page.locator("#chosen")).to_have_text("pier 3 at noon")
    at.page.get_by_role("button", name="End one word back").tap()
    assert at.page.evaluate(WIDTHS) == [390, 390]
    at.page.locator("#save").tap()
    at.wait(3)
    at.page.locator("#undo").tap()
    at.wait(2)
    assert at.verdicts() == [("accept", "pier 3"), ("edit", "noon"), ("edit", "pier 3 at")]
    assert browser.complaints() == []


@pytest.mark.parametrize("text", ["🎉", "👩‍🚀", "Zoe\u0308", "東", "東京塔", "more", "אבג", "אבג דהו", "café", "7:40"])
def test_offsets_hold_behind_all_scripts(opened: Any, text: str) -> None:
    """The model suggests a text, and the person accepts it, or marks it. It arrives as it stands in the document."""
    documents = [
        Document(f"d{n}", MIXED + f" {n}", (question(f"q{n}", "What?", MIXED, *first),))
        for n, first in enumerate(((text,), ("sharp",)))
    ]
    at = opened(documents, choosing=Choosing("random", overlap_share=0.0, blind_share=0.0, seed=3))
    at.shown()
    for judged in (1, 2):
        answer = at.page.locator("#answer").text_content()
        if answer == text:
            assert at.page.locator("mark.model").all_text_contents() == [text]
            at.page.keyboard.press("a")
        else:
            left, right, height = box_of(at.page, text)
            drag(at.page, (left + 1, height), (right - 1, height))
            expect(at.page.locator("#chosen")).to_have_text(text)
            at.page.keyboard.press("Enter")
        at.wait(judged)
    stored = [one.verdict.span for one in at.events("verdict")]
    assert [one.text for one in stored] == [text, text]
    assert {one.start for one in stored} == {MIXED.index(text)}


def test_a_finger_drags_an_end(opened: Any) -> None:
    """Touches as Chromium gets them from a screen: the text does not scroll, and the end follows the finger."""
    at = opened(boats(1), 390)
    at.shown()
    at.page.locator("[data-verdict=edit]").tap()
    grip = at.page.locator(".grip.end").bounding_box()
    assert grip is not None
    left, _, height = box_of(at.page, "noon")
    touches = at.page.context.new_cdp_session(at.page)
    first = (grip["x"], grip["y"] + grip["height"] + 8)  # the knob hangs below the line
    for kind, points in (
        ("touchStart", [first]),
        ("touchMove", [((first[0] + left) / 2, height)]),
        ("touchMove", [(left + 10, height)]),
        ("touchEnd", []),
    ):
        touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})
    expect(at.page.locator("#chosen")).to_have_text("pier 3 at noon")
