"""The review page in Russian: nothing is left in English, numbers have their forms, and the language is switched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import expect

from palmette.data.records import Document
from palmette.errors import RunError
from palmette.review.events import Verdict
from palmette.review.showing import Choosing
from tests.support.browser import WIDTHS, Browser
from tests.support.driven_review import Opened, boats
from tests.support.page_texts import foreign_words, plural_forms, texts_seen
from tests.support.review_page import RUN, StubDecoder, question

pytestmark = pytest.mark.browser

# What people and models say, and names that nobody translates.
GIVEN = "#run, #data, #annotator, #asked, #title, #passage, #answer, #chosen, #candidates .text"
NAMES = ("pier 3 at", "pier 3", "noon", "ann", "bob", RUN.name)


def check(at: Opened) -> list[str]:
    """The texts that are seen, once none of them holds a word of English."""
    texts = texts_seen(at.page, GIVEN)
    assert len(texts) > 20
    assert foreign_words(texts, NAMES) == []
    return texts


def test_a_session_is_in_russian_from_the_first_text_to_the_last(opened: Any, browser: Browser) -> None:
    decoder = StubDecoder()
    decoder.hold.clear()
    at = opened(boats(4), language="ru", decoder=decoder)
    expect(at.page.locator("#empty")).to_have_text("Модель читает. Вопрос появится, как только \u0443 неё будет ответ.")
    check(at)
    decoder.hold.set()
    at.shown()
    assert "Вопрос выбран случайно." in check(at)
    for judged, (key, said) in enumerate((("a", "верное"), ("x", "неверное"), ("n", "этого нет")), start=1):
        at.page.keyboard.press(key)
        expect(at.page.locator("#figures")).to_contain_text(f"{judged} из 4 вопросов")
        expect(at.page.locator("#said")).to_contain_text(said)
        check(at)
    at.edit("Shift+ArrowRight")
    assert any("внутри слова" in text for text in check(at))
    at.page.keyboard.press("ArrowUp")
    expect(at.page.locator("#moves")).to_contain_text("двигают начало")
    check(at)
    at.page.keyboard.press("Escape")
    at.page.keyboard.press("Space")
    expect(at.page.locator("#empty")).to_have_text("Вы проверили все вопросы.")
    check(at)
    at.page.keyboard.press("Backspace")
    expect(at.page.locator("#said")).to_have_text("Оценка отменена.")
    check(at)
    assert browser.complaints() == []


def test_long_spans_and_shares_are_said_in_russian(opened: Any) -> None:
    at = opened(boats(1), language="ru")
    at.shown()
    texts = check(at)
    assert "60\u00a0%" in texts
    assert "Ответ 2: noon, 15\u00a0%" in texts
    at.edit(*["ArrowRight"] * 3, "ArrowUp", *["ArrowLeft"] * 4)
    expect(at.page.locator("#fault")).to_contain_text("слов, \u0430 в самом длинном ответе — 5. Модель не научится")
    check(at)


@pytest.mark.parametrize(
    ("strategy", "why"),
    [("uncertain", "модель не уверена."), ("margin", "два самых вероятных ответа почти равны")],
)
def test_why_a_question_is_asked(opened: Any, strategy: Any, why: str) -> None:
    choosing = Choosing(strategy, overlap_share=0.0, blind_share=1.0)
    at = opened(boats(2), language="ru", choosing=choosing)
    at.shown()
    expect(at.page.locator("#why")).to_contain_text(why)
    expect(at.page.locator("#why")).to_contain_text("Ответ модели скрыт")
    check(at)


def test_disagreements_and_newer_runs_in_russian(opened: Any) -> None:
    newer = replace(RUN, name="runs/tiny", sha256="3" * 64)

    def fail(_: str) -> Any:
        raise RunError("the run is broken", "Train it again.")

    offered = (lambda _: newer.name, fail)
    both = Choosing("random", overlap_share=1.0, blind_share=0.0)
    at = opened(boats(1), language="ru", annotators=["ann", "bob"], choosing=both, newer=offered)
    for name, verdict in (("ann", "accept"), ("bob", "no_answer")):
        asked = at.review.desk.ask(name, "session")
        assert asked is not None
        span = asked.shown.span
        at.review.desk.judge(name, "session", asked.key, Verdict(verdict, span if verdict == "accept" else None))
    at.page.reload()
    expect(at.page.locator("#newer")).to_contain_text("Готова более новая модель: runs/tiny.")
    at.page.get_by_role("button", name="Решить 1 спор").click()
    expect(at.page.locator("#others-heading")).to_have_text("Что сказали люди")
    expect(at.page.locator("#said-by-others")).to_have_text("bob: в документе этого нет")
    expect(at.page.locator("#why")).to_have_text("Мнения людей расходятся. Решите, что верно.")
    check(at)
    at.page.get_by_role("button", name="Проверять её").click()
    expect(at.page.locator("#newer")).to_contain_text("Новую модель проверить нельзя.")
    check(at)
    at.page.keyboard.press("n")
    expect(at.page.locator("#empty")).to_have_text("Споров больше нет.")
    check(at)


@pytest.mark.parametrize("status", [401, 403, 409, 422, 500, 507])
def test_refusals_are_said_in_russian(opened: Any, status: int) -> None:
    at = opened(boats(1), language="ru")
    at.shown()
    said = {"problem": "in English", "way_out": "In English."}
    at.page.route("**/api/review/verdicts", lambda route: route.fulfill(status=status, json=said))
    at.page.keyboard.press("a")
    expect(at.page.locator("#alert")).to_be_visible()
    problem = str(at.page.locator("#problem").text_content())
    assert problem
    assert foreign_words([problem], ()) == []
    kept = "хранится в этом браузере" in problem
    assert kept == (status not in (409, 422))


@pytest.mark.parametrize(
    ("language", "key", "expected"),
    [
        ("en", "questions", [f"0 of {what}" for what in ("1 question", "2 questions", "5 questions", "21 questions")]),
        ("ru", "questions", [f"0 из {what}" for what in ("1 вопроса", "2 вопросов", "5 вопросов", "21 вопроса")]),
        ("ru", "conflicts", [f"Решить {what}" for what in ("1 спор", "2 спора", "5 споров", "21 спор")]),
        ("ru", "minutes_left", [f"осталось около {what}" for what in ("1 минуты", "2 минут", "5 минут", "21 минуты")]),
        ("ru", "hours_left", [f"осталось около {what}" for what in ("1 часа", "2 часов", "5 часов", "21 часа")]),
        (
            "ru",
            "fault_long",
            [
                f"\u0412 нём {what}, \u0430 в самом длинном ответе — 3."
                for what in ("1 слово", "2 слова", "5 слов", "21 слово")
            ],
        ),
    ],
)
def test_plural_forms(opened: Any, language: str, key: str, expected: list[str]) -> None:
    at = opened(boats(1), language=language)
    at.shown()
    assert plural_forms(at.page, key) == expected


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1400])
def test_it_fits_in_russian(opened: Any, browser: Browser, width: int, dark: bool) -> None:
    text = "word " * 300 + "unbroken" * 100 + " end"
    document = Document("d", text, (question("q", "W" * 300, text, "end", "unbroken" * 100),), "t" * 300)
    at = opened([document], width, dark=dark, language="ru")
    at.shown()
    assert at.page.evaluate(WIDTHS) == [width, width]
    at.edit()
    assert at.page.evaluate(WIDTHS) == [width, width]
    assert browser.complaints() == []


def test_the_language_is_switched_on_the_page_and_kept(opened: Any) -> None:
    at = opened(boats(2))
    at.shown()
    at.press("a", 1)
    at.page.get_by_role("link", name="Русский").click()
    expect(at.page.locator("h1")).to_have_text("Проверка ответов")
    expect(at.page.locator("#figures")).to_contain_text("1 из 2 вопросов")
    at.page.goto(at.url)
    expect(at.page.locator("h1")).to_have_text("Проверка ответов")
    at.page.get_by_role("link", name="English").click()
    expect(at.page.locator("h1")).to_have_text("Review")
    at.shown()
    at.page.keyboard.press("Backspace")
    expect(at.page.locator("#said")).to_have_text("Undone.")
