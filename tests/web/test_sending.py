"""How verdicts reach the server: slow, lost, refused and broken connections, two people, and the way in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.browser import Browser
from tests.support.driven_review import Opened, boats
from tests.support.review_page import StubDecoder, reviewing

pytestmark = pytest.mark.browser


def test_nothing_is_sent_twice_while_the_network_is_slow(opened: Any) -> None:
    at = opened(boats(3))
    at.shown()

    def slowly(route: Any) -> None:
        at.page.wait_for_timeout(300)
        route.continue_()

    at.page.route("**/api/review/verdicts", slowly)
    at.page.keyboard.press("a")
    at.page.keyboard.press("a")
    at.page.keyboard.press("x")
    at.page.locator("[data-verdict=no_answer]").click(force=True)
    at.wait(1)
    assert at.verdicts() == [("accept", "pier 3")]


def test_a_verdict_whose_confirmation_was_lost_is_stored_once(opened: Any) -> None:
    """The server takes it, and the answer never arrives. The page sends it again, and goes on."""
    at = opened(boats(3))
    at.shown()
    lost = []

    def lose(route: Any) -> None:
        lost.append(route.fetch().status)
        route.abort()

    at.page.route("**/api/review/verdicts", lose)
    at.page.keyboard.press("a")
    expect(at.page.locator("#alert")).to_contain_text("cannot be reached")
    at.page.unroute("**/api/review/verdicts")
    at.wait(1)
    expect(at.page.locator("#alert")).to_be_hidden()
    assert set(lost) == {200}  # taken each time
    assert at.verdicts() == [("accept", "pier 3")]


def test_without_a_network_the_verdict_is_kept_and_sent_later(opened: Any) -> None:
    at = opened(boats(3))
    at.shown()
    asked = at.page.locator("#asked").text_content()
    at.page.context.set_offline(True)
    at.page.keyboard.press("x")
    expect(at.page.locator("#alert")).to_contain_text("Your verdict is kept in this browser until it can be sent.")
    at.page.keyboard.press("a")  # no other verdict takes its place
    expect(at.page.locator("#asked")).to_have_text(str(asked))
    assert at.verdicts() == []
    at.page.context.set_offline(False)
    at.wait(1)
    expect(at.page.locator("#alert")).to_be_hidden()
    expect(at.page.locator("#asked")).not_to_have_text(str(asked))
    assert at.verdicts() == [("reject", None)]


def test_a_verdict_outlives_the_tab_and_the_server(opened: Any, browser: Browser, tmp_path: Path) -> None:
    """Given while the server is down. It is started again, and the new link is opened in the same browser."""
    with reviewing(tmp_path, boats(2)) as (review, url):
        page = browser.open(f"{url}/#token={review.sessions.tokens['ann']}", 1400, site=url)
        expect(page.locator("#question")).to_be_visible()
        port = int(url.rpartition(":")[2])
    page.keyboard.press("n")
    expect(page.locator("#alert")).to_contain_text("cannot be reached")
    with reviewing(tmp_path, boats(2), port=port) as (review, again):
        assert again == url
        expect(page.locator("#alert")).to_contain_text("Open the link")
        at = Opened(page, review, url)
        assert at.verdicts() == []
        page.goto("about:blank")
        page.goto(f"{url}/#token={review.sessions.tokens['ann']}")
        at.wait(1)
        assert at.verdicts() == [("no_answer", None)]


def test_a_verdict_that_the_server_cannot_store_stays_until_it_can(opened: Any) -> None:
    at = opened(boats(2))
    at.shown()
    full = {"problem": "the store cannot be used: the disk is full", "way_out": "Free some space."}
    at.page.route("**/api/review/verdicts", lambda route: route.fulfill(status=507, json=full))
    at.page.keyboard.press("a")
    expect(at.page.locator("#alert")).to_contain_text("may have to free some space. Your verdict is kept")
    assert at.verdicts() == []
    at.page.unroute("**/api/review/verdicts")
    at.page.get_by_role("button", name="Send it again").click()
    at.wait(1)
    assert at.verdicts() == [("accept", "pier 3")]


def test_the_page_waits_for_the_first_answer_only(opened: Any) -> None:
    decoder = StubDecoder()
    decoder.hold.clear()
    at = opened(boats(3), decoder=decoder)
    expect(at.page.locator("#empty")).to_contain_text("The model is reading.")
    decoder.hold.set()
    at.shown()
    at.press("a", 1)


def test_two_annotators_at_once_lose_nothing(opened: Any, browser: Browser) -> None:
    at = opened(boats(6), annotators=["ann", "bob"])
    at.shown()
    other = browser.open(f"{at.url}/#token={at.review.sessions.tokens['bob']}", 390, site=at.url, keep=True)
    expect(other.locator("#question")).to_be_visible()
    expect(other.locator("#annotator")).to_have_text("bob")
    assert other.locator("#asked").text_content() != at.page.locator("#asked").text_content()
    for judged in range(1, 4):
        at.page.keyboard.press("a")
        other.keyboard.press("x")
        at.wait(judged)
        Opened(other, at.review, at.url).wait(judged)
    found = {(one.annotator, one.question, one.verdict.kind) for one in at.events("verdict")}
    assert len(found) == len({name for _, name, _ in found}) == 6
    assert sorted((name, kind) for name, _, kind in found) == [("ann", "accept")] * 3 + [("bob", "reject")] * 3
    other.context.close()


def test_the_token_leaves_the_address_and_scripts_see_no_cookie(opened: Any, browser: Browser) -> None:
    at = opened(boats(1))
    at.shown()
    assert at.page.url == f"{at.url}/"
    assert at.page.evaluate("document.cookie") == ""
    [cookie] = at.page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    at.page.reload()
    at.shown()
    strange = browser.open(f"{at.url}/#token=wrong", 1400, site=at.url)
    expect(strange.locator("#alert")).to_contain_text("Open the link that the server printed")
    expect(strange.locator("#question")).to_be_hidden()
