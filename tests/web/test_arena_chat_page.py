"""The page of the arena: documents of exact tasks, and free chats with two models, in a headless Chromium."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from palmette.web.languages import texts_of
from tests.support.arena import MODELS, Scripted
from tests.support.arena_page import Voting, names_shown
from tests.support.browser import WIDTHS, Browser
from tests.support.page_texts import foreign_words, texts_seen

pytestmark = pytest.mark.browser


def test_an_exact_task_shows_its_document_with_both_answers(arena: Any, browser: Browser) -> None:
    """One answer is marked at both of its places, and of the other it is said that the document does not hold it."""
    text = "🎉 Pier 3 is closed. Use pier 4, not Pier 3."
    answers = {(MODELS[0], 0): "Pier 3", (MODELS[1], 0): "the third pier", (MODELS[2], 0): "not Pier 3"}
    at = arena(num_prompts=1, answers=answers, documents={0: text})
    at.shown()
    expected = {
        "Pier 3": (["Pier 3", "Pier 3"], "Marked in the document at 2 places."),
        "not Pier 3": (["not Pier 3"], "Marked in the document at 1 place."),
        "the third pier": ([], "The document does not hold this answer word for word."),
    }
    seen = set()
    for number in range(1, 4):
        document = at.page.locator("#document")
        expect(document).to_have_text(text)
        expect(document).to_be_visible()
        for side, reply in zip(("left", "right"), at.replies(), strict=True):
            marks, said = expected[reply]
            shown = document.locator(f"mark.{side}").all_text_contents()
            # Where marks of both sides overlap, each of them is in pieces.
            assert "".join(shown) == "".join(marks), reply
            expect(at.page.locator(f".answer.{side} .place")).to_have_text(said)
            seen.add(reply)
        labels = set(
            at.page.eval_on_selector_all(
                "mark[data-rank]", "(all) => all.flatMap((one) => one.dataset.rank.split(' '))"
            )
        )
        assert labels == {letter for letter, reply in zip("AB", at.replies(), strict=True) if expected[reply][0]}
        if number < 3:
            at.press("t", number)
    assert seen == set(expected)
    assert browser.complaints() == []


def test_a_document_never_becomes_markup(arena: Any, browser: Browser) -> None:
    bad = "<img src=x onerror=alert(1)> <b>Pier</b> 3"
    at = arena(num_prompts=1, answers={(MODELS[0], 0): "<b>Pier</b>"}, documents={0: bad})
    at.shown()
    assert at.page.locator("#document").text_content() == bad
    assert at.page.locator("img, main b").count() == 0
    assert browser.complaints() == []


def chat_with(at: Voting, text: str, turns: int) -> None:
    """Send a message, and wait until so many have been replied to."""
    at.page.locator("#message").fill(text)
    at.page.locator("#send").click()
    expect(at.page.locator(".answer.left .reply")).to_have_count(turns)


@pytest.mark.parametrize(
    ("language", "chat", "another"),
    [("en", "Free chat", "Another chat"), ("ru", "Свободный разговор", "Новый разговор")],
)
@pytest.mark.parametrize("width", [390, 1400])
def test_a_free_chat_with_two_models_at_once(
    arena: Any, browser: Browser, width: int, language: str, chat: str, another: str
) -> None:
    """Two messages, then a vote, then names. Nothing names a model before the vote."""
    models = Scripted()
    at = arena(width, language=language, speakers=models.speakers)
    at.shown()
    at.page.get_by_role("button", name=chat).click()
    expect(at.page.locator("#votes")).to_be_hidden()
    models.hold[MODELS[1]].clear()
    at.page.locator("#message").fill("Hello?\nx t b")  # keys of votes are letters here
    at.page.locator("#message").press("Control+Enter")
    expect(at.page.locator("#waiting")).to_have_text(str(texts_of("arena", language)["writing"]))
    assert at.page.locator(".reply").count() == 0  # one of both is there already
    models.hold[MODELS[1]].set()
    expect(at.page.locator(".reply")).to_have_count(2)
    assert names_shown(at) == []
    chat_with(at, "And then?", 2)
    assert at.page.locator(".prompt").count() == 2
    assert {reply[:-2] for reply in at.replies()} == {"Reply a", "Reply b"}
    assert at.page.evaluate(WIDTHS) == [width, width]
    assert names_shown(at) == []
    assert at.page.locator("[data-said=skip] .long").text_content() == another
    at.page.locator("[data-said=right]").click()
    at.wait(1)
    expect(at.page.locator(".reply")).to_have_count(0)
    at.page.locator("#names").click()
    expect(at.page.locator("#last-vote")).to_contain_text(MODELS[0])
    [vote] = at.events("vote")
    shown = next(one for one in at.events("shown") if one.id == vote.about)
    assert shown.chat is not None
    assert shown.chat.turns == ("Hello?\nx t b", "And then?")
    assert vote.said == "right"
    assert browser.complaints() == []


def test_a_chat_goes_on_after_a_failure_a_reload_and_an_undo(arena: Any) -> None:
    models = Scripted()
    at = arena(speakers=models.speakers)
    at.shown()
    at.page.get_by_role("button", name="Free chat").click()
    models.broken.add(MODELS[0])
    at.page.locator("#message").fill("Hello?")
    at.page.locator("#send").click()
    expect(at.page.locator("#waiting")).to_contain_text("One of the two models gave no reply.")
    expect(at.page.locator("#message")).to_have_value("Hello?")
    models.broken.clear()
    at.page.locator("#send").click()
    expect(at.page.locator(".reply")).to_have_count(2)
    expect(at.page.locator("#message")).to_have_value("")
    at.page.reload()
    at.shown()
    at.page.get_by_role("button", name="Free chat").click()
    expect(at.page.locator(".reply")).to_have_count(2)
    at.page.locator("h1").click()  # out of the field, where keys are letters
    at.press("t", 1)
    at.page.keyboard.press("Backspace")
    at.wait(0)
    expect(at.page.locator(".reply")).to_have_count(2)
    at.press("a", 1)
    assert at.votes() == ["tie", "left"]
    at.page.get_by_role("button", name="Ready answers").click()
    expect(at.page.locator(".reply")).to_have_count(2)
    at.press("b", 2)


def test_nothing_is_asked_beside_a_vote_that_is_on_its_way(arena: Any) -> None:
    """While models write, the page looks again and again. What it saw before the vote must not come after it."""
    models = Scripted()
    at = arena(speakers=models.speakers)
    at.shown()
    at.page.get_by_role("button", name="Free chat").click()
    models.hold[MODELS[1]].clear()
    at.page.locator("#message").fill("Hello?")
    at.page.locator("#send").click()
    expect(at.page.locator("#waiting")).to_be_visible()
    at.page.get_by_role("button", name="Ready answers").click()
    held: list[Any] = []
    at.page.route("**/api/arena/votes", lambda route: held.append(route))
    with at.page.expect_request("**/api/arena/desk"):
        pass
    while not held:  # a key does nothing while the page looks
        at.page.keyboard.press("t")
        at.page.wait_for_timeout(100)
    looks: list[str] = []
    at.page.on("request", lambda request: looks.append(request.url))
    at.page.wait_for_timeout(2000)  # in which it would look twice or three times
    assert looks == []
    with at.page.expect_request("**/api/arena/desk"):
        held[0].continue_()
        at.wait(1)
    models.hold[MODELS[1]].set()
    at.page.get_by_role("button", name="Free chat").click()
    expect(at.page.locator(".reply")).to_have_count(2)
    assert at.votes() == ["tie"]


def test_the_russian_chat_is_in_russian(arena: Any) -> None:
    models = Scripted()
    at = arena(language="ru", speakers=models.speakers)
    at.shown()
    at.page.get_by_role("button", name="Свободный разговор").click()

    def check() -> None:
        texts = texts_seen(at.page, ".prompt, .reply, #voter, #message")
        assert foreign_words(texts, MODELS) == []

    check()
    models.broken.add(MODELS[0])
    at.page.locator("#message").fill("Привет")
    at.page.locator("#send").click()
    expect(at.page.locator("#waiting")).to_contain_text("Одна из двух моделей не ответила.")
    check()
    models.broken.clear()
    at.page.locator("#send").click()
    expect(at.page.locator(".reply")).to_have_count(2)
    check()
