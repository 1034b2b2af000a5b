"""Every room in every language: nothing is missing, nothing is left over, and nothing stands outside the catalogues."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from palmette.web.languages import LANGUAGES, Room, texts_of
from palmette.web.page import add_page
from tests.support.html import ParsedPage

_LABELS = ("aria-label", "alt", "placeholder", "title")
ROOMS: tuple[Room, ...] = get_args(Room)
WEB = Path(__file__).parents[2] / "src" / "palmette" / "web"
PLACES = re.compile(r"\{\w+\}")
# Keys that scripts and templates put together: the beginning of each, as it stands there.
BUILT = ("problem_", "answer_", "letter_", "said_", "why_", "chosen_", "empty_", "moves_", "move_")
KEYS = {*"ABTXNE", "⌫", "✗", "✓", "\u2039", "\u203a", "↑", "↓", "Enter", "Esc", "Backspace", "Ctrl + Enter"}


def page_of(room: Room, language: str) -> ParsedPage:
    router, app = APIRouter(), FastAPI()
    add_page(router, room)
    app.include_router(router)
    return ParsedPage(TestClient(app).get(f"/?language={language}").text)


def sources(room: Room) -> str:
    """The templates and scripts of a room, and what all rooms share."""
    files = [WEB / "templates" / "room.html", WEB / "templates" / f"{room}.html"]
    files += [file for folder in (room, "common") for file in sorted((WEB / "static" / folder).glob("*.js"))]
    return "".join(file.read_text(encoding="utf-8") for file in files)


def test_every_folder_of_texts_is_a_language() -> None:
    assert {one.name for one in (WEB / "texts").iterdir()} == set(LANGUAGES)
    assert all({one.stem for one in (WEB / "texts" / name).iterdir()} == {"common", *ROOMS} for name in LANGUAGES)


@pytest.mark.parametrize("room", ROOMS)
def test_every_text_is_there_in_every_language(room: Room) -> None:
    english = texts_of(room, "en")
    for language in LANGUAGES:
        texts = texts_of(room, language)
        assert texts.keys() == english.keys()
        for key, text in texts.items():
            forms = [text] if isinstance(text, str) else list(text.values())
            plural = english[key]
            wanted = plural if isinstance(plural, str) else plural["other"]
            assert isinstance(text, str) == isinstance(plural, str), key
            assert all(form.strip() for form in forms), key
            assert all(sorted(PLACES.findall(form)) == sorted(PLACES.findall(wanted)) for form in forms), key
    assert [key for key in english if english[key] == texts_of(room, "ru")[key]] == []
    # The categories of CLDR.
    wanted_forms = {"en": {"one", "other"}, "ru": {"one", "few", "many", "other"}}
    for language in LANGUAGES:
        plurals = [set(text) for text in texts_of(room, language).values() if not isinstance(text, str)]
        assert plurals
        assert all(forms == wanted_forms[language] for forms in plurals)


@pytest.mark.parametrize("room", ROOMS)
def test_russian_texts_are_in_cyrillic(room: Room) -> None:
    """Nothing was left in English, but for names of keys and of JavaScript."""
    for key, text in texts_of(room, "ru").items():
        for form in [text] if isinstance(text, str) else text.values():
            bare = PLACES.sub("", form).replace("JavaScript", "")
            assert not re.search(r"[A-Za-z]", bare), (key, form)


@pytest.mark.parametrize("room", ROOMS)
def test_every_text_is_used_and_every_text_that_is_used_is_there(room: Room) -> None:
    english, written = texts_of(room, "en"), sources(room)
    used = {key for key in english if re.search(rf"""texts\.{re.escape(key)}\b|["'`]{re.escape(key)}["'`]""", written)}
    built = {key for key in english if key.startswith(tuple(one for one in BUILT if f"{one}${{" in written))}
    built |= {key for key in english if key.startswith("move_") and room == "review"}  # the template puts them together
    assert sorted(english.keys() - used - built) == []
    asked = set(re.findall(r"(?<!/)\btexts\.(\w+)\b", written)) | set(re.findall(r'\btext\("([^"]+)"', written))
    assert asked <= english.keys()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("room", ROOMS)
def test_the_template_holds_no_text_of_its_own(room: Room, language: str) -> None:
    """Each piece of text of the page is one of the catalogue, a key of the keyboard, or the name of a language."""
    page = page_of(room, language)
    known = {text for text in texts_of(room, language).values() if isinstance(text, str)}
    assert [text for text in page.texts if text not in known | KEYS | set(LANGUAGES.values())] == []
    labels = [value for _, given in page.elements for name, value in given.items() if name in _LABELS]
    assert len(labels) >= 5
    assert set(labels) <= known


@pytest.mark.parametrize("room", ROOMS)
def test_the_language_is_that_of_the_browser_or_the_chosen_one(room: Room) -> None:
    router, app = APIRouter(), FastAPI()
    add_page(router, room)
    app.include_router(router)
    client = TestClient(app)

    def language(path: str, accepted: str) -> str:
        page = client.get(path, headers={"Accept-Language": accepted})
        assert page.headers["vary"] == "Accept-Language, Cookie"
        found = re.search(r'<html lang="(\w+)">', page.text)
        assert found is not None
        assert str(texts_of(room, found[1])["title"]) in page.text
        return found[1]

    assert language("/", "ru-RU,ru;q=0.9,en;q=0.8") == "ru"
    assert language("/", "en-GB,en;q=0.9,ru;q=0.8") == "en"
    assert language("/", "de") == "en"
    assert language("/?language=ru", "en") == "ru"
    assert language("/", "en") == "ru"  # the browser keeps the choice
    assert language("/?language=en", "ru") == "en"
    assert language("/", "ru") == "en"


@pytest.mark.parametrize("room", ROOMS)
def test_scripts_hold_no_sentences(room: Room) -> None:
    """A text in a script begins with a capital letter and has a blank, unless it is in a comment."""
    code = re.sub(r"^\s*//.*$|\s//\s.*$", "", sources(room), flags=re.MULTILINE)
    code = code[code.index("</html>") :]
    found = re.findall(r"""["'`]([A-Z][^"'`\n]* [^"'`\n]*)["'`]""", code)
    assert found == []
