"""The words of a page in the browser: what is seen or read out, and the plural forms that its scripts choose."""

from __future__ import annotations

import re
from collections.abc import Iterable

from playwright.sync_api import Page

_LATIN = re.compile(r"[A-Za-z]{2,}")
_SEEN = """(skipped) => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [document.title];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.parentElement.closest(skipped)) texts.push(node.data);
  }
  for (const element of document.querySelectorAll("[aria-label]")) texts.push(element.ariaLabel);
  for (const element of document.querySelectorAll("[title]")) texts.push(element.title);
  return texts.filter((text) => text.trim());
}"""
_FORMS = """async (key) => {
  const { text } = await import("/static/common/texts.js");
  return [1, 2, 5, 21].map((number) => text(key, { number, judged: 0, most: 3 }));
}"""


def texts_seen(page: Page, skipped: str) -> list[str]:
    """The texts and labels of a page, but for those within elements that a selector finds, keys and the switch."""
    found: list[str] = page.evaluate(_SEEN, f"{skipped}, kbd, header nav a, script, noscript")
    return found


def foreign_words(texts: Iterable[str], names: Iterable[str]) -> list[str]:
    """The texts that hold Latin words, besides some names."""
    found = []
    for text in texts:
        bare = text
        for name in names:
            bare = bare.replace(name, "")
        if _LATIN.search(bare):
            found.append(text)
    return found


def plural_forms(page: Page, key: str) -> list[str]:
    """What a text says of 1, 2, 5 and 21."""
    found: list[str] = page.evaluate(_FORMS, key)
    return [form.replace("\u00a0", " ") for form in found]
