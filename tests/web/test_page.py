"""The review page, driven in a headless Chromium: its keys, the span that is edited, and what it shows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import expect

from palmette.data.records import Document
from palmette.review.events import Span, Verdict
from palmette.review.showing import Choosing
from tests.support.browser import WIDTHS, Browser
from tests.support.driven_review import boats
from tests.support.review_page import RUN, StubDecoder, question, reviewed

pytestmark = pytest.mark.browser

# 🎉 takes two units of UTF-16 and 👩‍🚀 five, so all places behind them differ from those in code points.
MIXED = "🎉 👩‍🚀 Zoe\u0308 saw <b>東京塔</b> & more.\r\nאבג דהו then they left for the café at 7:40 sharp."
BLIND = Choosing("random", overlap_share=0.0, blind_share=1.0)


def test_every_verdict_has_its_key(opened: Any, browser: Browser) -> None:
    at = opened(boats(7))
    at.shown()
    for judged, key in enumerate(("a", "x", "n", "Space", "2", "1"), start=1):
        at.press(key, judged)
    at.edit("ArrowRight")
    at.press("Enter", 7)
    assert at.verdicts() == [
        ("accept", "pier 3"),
        ("reject", None),
        ("no_answer", None),
        ("skip", None),
        ("edit", "noon"),
        ("accept", "pier 3"),  # the first candidate is the suggestion
        ("edit", "pier 3 at"),
    ]
    expect(at.page.locator("#empty")).to_contain_text("You have judged every question.")
    assert all(one.verdict.seconds > 0 for one in at.events("verdict"))
    assert browser.complaints() == []


def test_a_russian_keyboard_has_the_same_keys(opened: Any) -> None:
    at = opened(boats(3))
    at.shown()
    typing = at.page.context.new_cdp_session(at.page)
    for judged, (code, letter) in enumerate((("KeyA", "ф"), ("KeyX", "ч"), ("KeyN", "т")), start=1):
        for kind in ("keyDown", "keyUp"):
            typing.send("Input.dispatchKeyEvent", {"type": kind, "code": code, "key": letter, "text": letter})
        at.wait(judged)
    assert [kind for kind, _ in at.verdicts()] == ["accept", "reject", "no_answer"]


def test_a_key_that_is_held_down_counts_once(opened: Any) -> None:
    at = opened(boats(5))
    at.shown()
    for _ in range(6):
        at.page.keyboard.down("a")  # all but the first are repetitions
        at.page.wait_for_timeout(60)
    at.page.keyboard.up("a")
    at.wait(1)
    assert at.verdicts() == [("accept", "pier 3")]


def test_keys_with_modifiers_belong_to_the_browser(opened: Any) -> None:
    at = opened(boats(2))
    at.shown()
    for keys in ("Control+a", "Alt+a", "Meta+n", "Shift+x"):
        at.page.keyboard.press(keys)
    at.press("x", 1)
    assert at.verdicts() == [("reject", None)]


def test_the_ends_move_by_words_and_characters_and_stop_at_the_ends(opened: Any) -> None:
    at = opened(boats(1))
    at.shown()
    assert at.edit() == "pier 3"
    steps = [
        ("ArrowLeft", "pier"),
        ("ArrowRight", "pier 3"),
        ("ArrowRight", "pier 3 at"),
        ("Shift+ArrowLeft", "pier 3 a"),
        ("Shift+ArrowRight", "pier 3 at"),
        ("ArrowUp", "pier 3 at"),
        ("ArrowLeft", "from pier 3 at"),
        ("Shift+ArrowRight", "rom pier 3 at"),
        ("ArrowRight", "pier 3 at"),
        ("ArrowRight", "3 at"),
        ("ArrowRight", "at"),
        ("ArrowRight", "at"),  # the start stays before the end
        ("ArrowDown", "at"),
        ("2", "noon"),
        ("1", "pier 3"),
    ]
    for key, expected in steps:
        at.page.keyboard.press(key)
        assert at.chosen == expected, key
    at.page.keyboard.press("Escape")
    expect(at.page.locator("#edit")).to_be_hidden()
    assert at.verdicts() == []


def test_a_span_that_the_model_cannot_give_is_named(opened: Any) -> None:
    at = opened(boats(1))
    at.shown()
    fault = at.page.locator("#fault")
    at.edit()
    expect(fault).to_be_hidden()
    for _ in range(3):
        at.page.keyboard.press("Shift+ArrowLeft")
    assert at.chosen == "pie"
    expect(fault).to_contain_text("It ends inside a word.")
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight"):
        at.page.keyboard.press(key)
    at.page.keyboard.press("ArrowUp")
    at.page.keyboard.press("ArrowLeft")
    expect(fault).to_contain_text("more than the 5 of the longest answer")


def test_undo_works_after_the_last_question_and_after_a_reload(opened: Any) -> None:
    at = opened(boats(2))
    at.shown()
    at.press("a", 1)
    at.press("x", 2)
    expect(at.page.locator("#empty")).to_be_visible()
    at.page.reload()
    expect(at.page.locator("#empty")).to_be_visible()
    at.press("Backspace", 1)
    at.shown()
    at.press("Backspace", 0)
    at.press("n", 1)
    at.press("n", 2)
    assert [one.kind for one in at.events("verdict", "undo")] == ["verdict"] * 2 + ["undo"] * 2 + ["verdict"] * 2
    assert at.review.desk.progress("ann").judged == 2


def test_arrows_step_over_whole_characters(opened: Any) -> None:
    """An emoji of three code points and a letter with its mark are one step, as a reader counts."""
    document = Document("d", MIXED, (question("q", "What?", MIXED, "Zoe\u0308 saw"),))
    at = opened([document])
    at.shown()
    assert at.edit("ArrowLeft") == "Zoe\u0308"
    at.page.keyboard.press("Shift+ArrowLeft")
    assert at.chosen == "Zo"
    at.page.keyboard.press("Shift+ArrowRight")
    at.page.keyboard.press("ArrowUp")
    at.page.keyboard.press("Shift+ArrowLeft")
    at.page.keyboard.press("Shift+ArrowLeft")
    assert at.chosen == "👩‍🚀 Zoe\u0308"
    at.press("Enter", 1)
    assert at.verdicts() == [("edit", "👩‍🚀 Zoe\u0308")]


def test_texts_never_become_markup(opened: Any, browser: Browser) -> None:
    bad = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    text = f"{bad} The end."
    document = Document("d", text, (question("q", f"{bad}?", text, bad),), bad)
    at = opened([document])
    at.shown()
    assert at.page.locator("#asked").text_content() == f"{bad}?"
    assert at.page.locator("#answer").text_content() == bad
    assert at.page.locator("#passage").text_content() == text
    assert at.page.locator("img, main script, b").count() == 0
    at.edit()
    assert at.page.locator("#passage").text_content() == text
    assert browser.complaints() == []


def test_a_blind_question_shows_no_answer_and_takes_none_unseen(opened: Any) -> None:
    at = opened(boats(2), choosing=BLIND)
    at.shown()
    for part in ("#suggestion", "#others"):
        expect(at.page.locator(part)).to_be_hidden()
    expect(at.page.locator("#why")).to_contain_text("hidden")
    assert at.page.locator("mark").count() == 0
    expect(at.page.locator("[data-verdict=accept]")).to_be_disabled()
    for key in ("a", "x", "1"):
        at.page.keyboard.press(key)
    assert at.edit("ArrowRight") == "The boat"
    at.press("Enter", 1)
    at.press("n", 2)
    assert at.verdicts() == [("edit", "The boat"), ("no_answer", None)]


def test_screen_readers_and_keyboards_find_their_way(opened: Any) -> None:
    at = opened(boats(2))
    at.shown()
    page = at.page
    for role, name in (
        ("region", "Document, with the suggested answer marked"),
        ("group", "Verdicts"),
        ("progressbar", "Questions that you have judged"),
        ("button", "Answer 2: noon, 15 %"),
        ("heading", page.locator("#asked").text_content()),
    ):
        expect(page.get_by_role(role, name=name)).to_be_visible()
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button')].filter((e) => !(e.ariaLabel || e.textContent.trim())).length"
    )
    assert unnamed == 0
    assert page.evaluate("document.activeElement.id") == "asked"  # read out first
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # it scrolls the document, and skips nothing
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent").startswith("1")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # the button has the focus, so this takes the second answer
    at.wait(1)
    assert at.verdicts() == [("edit", "noon")]
    expect(page.locator("#said")).to_have_text("Saved.")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1400])
def test_it_fits_and_is_quiet(opened: Any, browser: Browser, width: int, dark: bool) -> None:
    text = "word " * 3000 + "unbroken" * 100 + " end"
    documents = [Document("d", text, (question("q", "W" * 300, text, "end", "unbroken" * 100),), "t" * 300)]
    at = opened([*documents, reviewed(1)], width, dark=dark)
    for judged in (1, 2):
        at.shown()
        assert at.page.evaluate(WIDTHS) == [width, width]
        at.edit()
        assert at.page.evaluate(WIDTHS) == [width, width]
        at.press("Enter", judged)
    assert browser.complaints() == []


def test_the_marked_answer_of_a_long_document_is_in_view(opened: Any) -> None:
    text = "word " * 5000 + "The answer is here."
    at = opened([Document("d", text, (question("q", "What?", text, "answer"),))])
    at.shown()
    expect(at.page.locator("mark.model")).to_be_in_viewport()


def test_disagreements_are_decided_on_the_page(opened: Any, browser: Browser) -> None:
    """Bob takes the second answer where Ann accepts the first, and says that the other document holds none."""
    both = Choosing("random", overlap_share=1.0, blind_share=0.0)
    at = opened(boats(2), annotators=["ann", "bob"], choosing=both)
    for key, verdict in (("ann", "accept"), ("bob", None)):
        for turn in range(2):
            asked = at.review.desk.ask(key, "session")
            assert asked is not None
            second = Span(*[getattr(asked.shown.candidates[1], name) for name in ("text", "start", "end")])
            given = Verdict("edit", second) if turn == 0 else Verdict("no_answer")
            if verdict:
                given = Verdict("accept", asked.shown.span)
            at.review.desk.judge(key, "session", asked.key, given)
    at.page.reload()
    at.page.get_by_role("button", name="Decide 2 disagreements").click()
    expect(at.page.locator("#others-heading")).to_have_text("What people said")
    asked, seen = at.page.locator("#asked"), set()

    def press(key: str) -> None:
        """Press a key that leads to another question."""
        before = str(asked.text_content())
        at.page.keyboard.press(key)
        expect(asked).not_to_have_text(before)

    for _ in range(2):
        seen.add(re.sub(r"\s+", "", str(at.page.locator("#others").text_content())))
        press("Space")
    assert seen == {"Whatpeoplesaid1pier3ann2noonbob", "Whatpeoplesaid1pier3annbob:notinthedocument"}
    for key in ("a", "x"):
        at.page.keyboard.press(key)  # there is nothing to accept
    press("1")
    at.page.keyboard.press("n")
    expect(at.page.locator("#empty")).to_have_text("Nobody disagrees any more.")
    decided = [one.verdict for one in at.events("adjudicated")]
    assert [(one.kind, one.span and one.span.text) for one in decided] == [("edit", "pier 3"), ("no_answer", None)]
    last, *_ = (one.question for one in reversed(at.events("adjudicated")))
    at.page.keyboard.press("Backspace")
    expect(at.page.locator("#empty")).to_be_hidden()
    expect(asked).to_have_text(at.review.desk.question(last)[0].text)
    expect(at.page.locator("#others-heading")).to_have_text("What people said")
    at.page.keyboard.press("n")
    expect(at.page.locator("#empty")).to_be_visible()
    assert [one.kind for one in at.events("adjudicated", "undo")] == ["adjudicated"] * 2 + ["undo", "adjudicated"]
    at.page.get_by_role("button", name="Back to the questions").click()
    expect(at.page.locator("#empty")).to_contain_text("You have judged every question.")
    assert browser.complaints() == []


def test_a_newer_run_is_offered_and_taken(opened: Any) -> None:
    newer = replace(RUN, name="runs/tiny-review-1", sha256="3" * 64)
    offers = (lambda name: newer.name if name == RUN.name else None, lambda name: (newer, StubDecoder()))
    at = opened(boats(3), newer=offers)
    at.shown()
    expect(at.page.locator("#newer")).to_contain_text("A newer run is ready: runs/tiny-review-1.")
    at.page.get_by_role("button", name="Review it").click()
    expect(at.page.locator("#run")).to_have_text(newer.name)
    expect(at.page.locator("#newer")).to_be_hidden()
    at.press("a", 1)
    at.press("x", 2)
    assert [one.run for one in at.events("verdict")][-1] == newer.name
