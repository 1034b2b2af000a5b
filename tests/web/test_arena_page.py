"""The page of the arena, driven in a headless Chromium: a blind session, keys, languages, and lost connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from palmette.web.languages import texts_of
from tests.support.arena import MODELS
from tests.support.arena_page import Voting, names_shown
from tests.support.browser import WIDTHS, Browser
from tests.support.page_texts import foreign_words, plural_forms, texts_seen

pytestmark = pytest.mark.browser


def test_a_pair_that_is_looked_at_for_longer_than_a_day_can_be_judged(arena: Any, browser: Browser) -> None:
    at = arena()
    at.page.clock.install()
    at.page.reload()
    at.shown()
    at.page.clock.fast_forward("30:00:00")
    at.press("a", 1)
    assert [one.seconds for one in at.events("vote")] == [24 * 3600]


def test_a_blind_session_with_keys(arena: Any, browser: Browser) -> None:
    """Every key, then undo, then names: what is stored is what was pressed, and names come last."""
    at = arena()
    at.shown()
    number = 0
    for key, skipped in (("a", 0), ("ArrowRight", 0), ("t", 0), ("x", 0), ("Space", 1), ("1", 0), ("2", 0)):
        before = at.replies()
        number += 1 - skipped
        at.page.keyboard.press(key)
        if skipped:
            expect(at.page.locator("#figures")).to_contain_text("1 pair skipped")
        at.wait(number)
        assert at.replies() != before
        assert names_shown(at) == []
    assert at.votes() == ["left", "right", "tie", "both bad", "skip", "left", "right"]
    expect(at.page.locator("#last-vote")).to_have_text("Your last vote: B is better.")
    opened = at.replies()
    at.press("Backspace", number - 1)
    undone = at.replies()
    at.press("a", number)
    assert at.replies() == opened
    at.page.keyboard.press("n")
    expect(at.page.locator("#last-vote")).to_contain_text("A was written by")
    last = at.room.desk.last("ann")
    assert last is not None
    assert last.names is not None
    expect(at.page.locator("#last-vote")).to_contain_text(
        f"A was written by {last.names[0]}, and B by {last.names[1]}. This vote stays."
    )
    assert undone != opened
    expect(at.page.locator("#undo")).to_be_hidden()
    at.page.keyboard.press("Backspace")
    assert [one.kind for one in at.events("undo", "revealed")] == ["undo", "revealed"]
    assert all((one.seconds or 0) > 0 for one in at.events("vote"))
    assert browser.complaints() == []


def test_a_russian_keyboard_has_the_same_keys(arena: Any) -> None:
    at = arena(language="ru")
    at.shown()
    typing = at.page.context.new_cdp_session(at.page)
    for number, (code, letter) in enumerate((("KeyA", "ф"), ("KeyB", "и"), ("KeyT", "\u0435"), ("KeyX", "ч")), start=1):
        for kind in ("keyDown", "keyUp"):
            typing.send("Input.dispatchKeyEvent", {"type": kind, "code": code, "key": letter, "text": letter})
        at.wait(number)
    assert at.votes() == ["left", "right", "tie", "both bad"]


def test_held_keys_count_once_and_keys_of_the_browser_do_not(arena: Any) -> None:
    at = arena()
    at.shown()
    for keys in ("Control+a", "Alt+ArrowLeft", "Shift+x"):
        at.page.keyboard.press(keys)
    for _ in range(5):
        at.page.keyboard.down("t")  # all but the first are repetitions
        at.page.wait_for_timeout(60)
    at.page.keyboard.up("t")
    at.wait(1)
    assert at.votes() == ["tie"]


@pytest.mark.parametrize("width", [390, 1400])
def test_mouse_and_touch(arena: Any, browser: Browser, width: int) -> None:
    at = arena(width)
    at.shown()
    for number, said in enumerate(("left", "right", "tie", "both bad"), start=1):
        button = at.page.locator(f'[data-said="{said}"]')
        (button.tap if width == 390 else button.click)()
        at.wait(number)
    at.page.locator("#undo").click()
    at.wait(3)
    at.page.locator('[data-said="skip"]').click()
    expect(at.page.locator("#last-vote")).to_have_text("You skipped the last pair.")
    assert at.votes() == ["left", "right", "tie", "both bad", "skip"]
    assert browser.complaints() == []


def test_answers_never_become_markup(arena: Any, browser: Browser) -> None:
    bad = "<img src=x onerror=alert(1)><script>alert(2)</script> **bold** &amp;"
    at = arena(answers={(model, number): f"{bad} {model[-1]}" for model in MODELS for number in range(4)})
    at.shown()
    assert {text[:-2] for text in at.replies()} == {bad}
    assert at.page.locator("img, main script, main b, main strong").count() == 0
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("language", ["en", "ru"])
def test_it_fits_and_is_quiet(arena: Any, browser: Browser, width: int, dark: bool, language: str) -> None:
    long = {(MODELS[0], number): "word " * 800 + "unbroken" * 100 for number in range(4)}
    at = arena(width, dark=dark, language=language, answers={**long, (MODELS[1], 0): " "})
    at.shown()
    for number in range(1, 13):
        assert at.page.evaluate(WIDTHS) == [width, width]
        expect(at.page.locator('[data-said="tie"]')).to_be_in_viewport()
        at.press("t", number)
    expect(at.page.locator("#empty")).to_have_text(str(texts_of("arena", language)["empty"]))
    assert at.page.evaluate(WIDTHS) == [width, width]
    assert browser.complaints() == []


def test_the_answers_stand_side_by_side_and_on_a_phone_one_below_the_other(arena: Any) -> None:
    at = arena()
    at.shown()
    left, right = (at.page.locator(f".answer.{side}").bounding_box() for side in ("left", "right"))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] < right["x"]
    at.page.set_viewport_size({"width": 390, "height": 850})
    left, right = (at.page.locator(f".answer.{side}").bounding_box() for side in ("left", "right"))
    assert left["x"] == right["x"]
    assert left["y"] + left["height"] < right["y"]


def refuse(status: int) -> Callable[[Route], None]:
    said = {"problem": "in English", "way_out": "In English."}
    return lambda route: route.fulfill(status=status, json=said)


def test_nothing_is_left_in_english_on_the_russian_page(arena: Any, browser: Browser) -> None:
    """Through a whole session, with a document and refusals: all that is seen or read out, but for what people say."""
    text = "Причал 3 закрыт."
    answers = {(model, number): "Причал 3" if model == MODELS[0] else "нет" for model in MODELS for number in range(4)}
    answers |= {(MODELS[2], number): "" for number in range(4)}
    at = arena(language="ru", answers=answers, documents=dict.fromkeys(range(4), text))
    at.shown()

    def check() -> None:
        texts = texts_seen(at.page, ".prompt, .reply, #voter, #document, #last-vote b")
        assert len(texts) > 12
        assert foreign_words(texts, MODELS) == []

    for number, key in enumerate(("a", "b", "t", "x"), start=1):
        at.press(key, number)
        check()
    at.page.keyboard.press("Backspace")
    at.wait(3)
    check()
    at.press("a", 4)
    at.page.keyboard.press("n")
    expect(at.page.locator("#names")).to_be_hidden()
    expect(at.page.locator("#last-vote")).to_contain_text("написала модель")
    check()
    for status in (401, 403, 409, 422, 500, 507):
        at.page.route("**/api/arena/desk", refuse(status))
        at.page.reload()
        expect(at.page.locator("#alert")).to_be_visible()
        assert foreign_words([str(at.page.locator("#problem").text_content())], ()) == []
        at.page.unroute("**/api/arena/desk")
    at.page.reload()
    at.shown()
    at.page.keyboard.press("Space")
    expect(at.page.locator("#last-vote")).to_have_text("Последнюю пару вы пропустили.")
    check()


@pytest.mark.parametrize(
    ("language", "key", "expected"),
    [
        ("en", "votes", ["1 vote", "2 votes", "5 votes", "21 votes"]),
        ("en", "left_over", ["1 pair left", "2 pairs left", "5 pairs left", "21 pairs left"]),
        ("ru", "votes", ["1 голос", "2 голоса", "5 голосов", "21 голос"]),
        ("ru", "left_over", ["осталась 1 пара", "осталось 2 пары", "осталось 5 пар", "осталась 21 пара"]),
        ("ru", "skipped", ["пропущена 1 пара", "пропущено 2 пары", "пропущено 5 пар", "пропущена 21 пара"]),
        (
            "en",
            "places",
            [f"Marked in the document at {number}." for number in ("1 place", "2 places", "5 places", "21 places")],
        ),
        (
            "ru",
            "places",
            [f"Отмечен в документе в {number}." for number in ("1 месте", "2 местах", "5 местах", "21 месте")],
        ),
    ],
)
def test_plural_forms(arena: Any, language: str, key: str, expected: list[str]) -> None:
    at = arena(language=language)
    at.shown()
    assert plural_forms(at.page, key) == expected


def test_the_language_is_switched_on_the_page(arena: Any) -> None:
    at = arena()
    at.shown()
    at.press("a", 1)
    at.page.get_by_role("link", name="Русский").click()
    expect(at.page.locator("h1")).to_have_text("Какой ответ лучше?")
    expect(at.page.locator("#figures")).to_contain_text("1 голос")
    at.page.goto(at.url)
    expect(at.page.locator("h1")).to_have_text("Какой ответ лучше?")  # the choice is kept
    at.page.get_by_role("link", name="English").click()
    expect(at.page.locator("h1")).to_have_text("Which answer is better?")


def test_two_voters_at_once(arena: Any, browser: Browser) -> None:
    """They begin with different models, and all votes of both are kept."""
    at = arena(voters=["ann", "bob"])
    at.shown()
    link = f"{at.url}/?language=en#token={at.room.sessions.tokens['bob']}"
    other = Voting(browser.open(link, 390, site=at.url, keep=True), at.room, at.url)
    other.shown()
    assert at.room.desk.ask("ann", "s").shown.models != at.room.desk.ask("bob", "s").shown.models
    for number in range(1, 7):
        at.page.keyboard.press("a")
        other.page.keyboard.press("b")
        at.wait(number)
        other.wait(number)
    said = [(one.voter, one.said) for one in at.events("vote")]
    assert sorted(said) == [("ann", "left")] * 6 + [("bob", "right")] * 6
    other.page.context.close()


def test_a_vote_whose_confirmation_was_lost_is_stored_once(arena: Any) -> None:
    at = arena()
    at.shown()
    lost = []

    def lose(route: Any) -> None:
        lost.append(route.fetch().status)
        route.abort()

    at.page.route("**/api/arena/votes", lose)
    at.page.keyboard.press("a")
    expect(at.page.locator("#alert")).to_contain_text("Your vote is kept in this browser until it can be sent.")
    at.page.keyboard.press("b")  # no other vote takes its place
    at.page.unroute("**/api/arena/votes")
    at.wait(1)
    expect(at.page.locator("#alert")).to_be_hidden()
    assert set(lost) == {200}  # taken each time
    assert at.votes() == ["left"]


def test_screen_readers_find_their_way(arena: Any) -> None:
    at = arena()
    at.shown()
    for role, name in (
        ("region", "Answer A"),
        ("region", "Answer B"),
        ("group", "Your vote"),
        ("progressbar", "Pairs of answers that you have compared"),
        ("navigation", "Language"),
        ("heading", "What was asked: Question"),
    ):
        expect(at.page.get_by_role(role, name=name)).to_be_visible()
    assert at.page.evaluate("document.activeElement.className") == "prompt"  # read out first
    at.press("t", 1)
    expect(at.page.locator("#said")).to_have_text("Kept: Equally good.")
