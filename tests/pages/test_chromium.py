"""The helper of the browser tests: it would notice each thing that a page must not do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import browser as chromium
from tests.support.browser import Browser, find_chromium

COMPLAINTS = {
    "<script>console.log('hello')</script>": "console: log: hello",
    "<script>console.warn('careful')</script>": "console: warning: careful",
    "<script>throw new Error('broken')</script>": "exception: broken",
    "<script>Promise.reject(new Error('broken later'))</script>": "exception: broken later",
    "<img src='http://127.0.0.1:9/a.png'>": "request: http://127.0.0.1:9/a.png",
    "<link rel=stylesheet href=other.css>": "request: file:",
    "<meta http-equiv=Content-Security-Policy content=\"style-src 'none'\"><style></style>": "console: error: Applying",
}


@pytest.mark.browser
@pytest.mark.parametrize("markup", COMPLAINTS)
def test_what_a_page_must_not_do_is_a_complaint(browser: Browser, markup: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>a page</title>{markup}<p>text")
    browser.open(page.as_uri(), 390)
    assert [text for text in browser.complaints() if text.startswith(COMPLAINTS[markup])]
    page.write_text("<!doctype html><title>a page</title><p>text")
    browser.open(f"{page.as_uri()}#part", 390)
    assert browser.complaints() == []


def test_the_program_is_that_of_the_variable_or_the_first_on_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    assert find_chromium() is None
    for name in ("google-chrome", "chromium"):
        (tmp_path / name).touch(mode=0o755)
        assert find_chromium() == str(tmp_path / name)
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "google-chrome"))
    assert find_chromium() == str(tmp_path / "google-chrome")
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "nowhere"))
    assert find_chromium() is None


@pytest.mark.parametrize(("apt", "user"), [(True, 0), (True, 1000), (False, 0)])
def test_it_is_installed_by_root_on_debian_and_asked_for_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], apt: bool, user: int
) -> None:
    ran = []

    def run(command: tuple[str, ...], **options: Any) -> None:
        ran.append(command[-1])
        if command[-1] == "chromium":
            (tmp_path / "chromium").touch(mode=0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if apt:
        (tmp_path / "apt-get").touch(mode=0o755)
    installs = apt and user == 0
    assert chromium.main() == (0 if installs else 1)
    assert ran == (["update", "chromium"] if installs else [])
    assert ("apt-get install chromium" in capsys.readouterr().err) != installs
    assert (shutil.which("chromium") is not None) == installs
