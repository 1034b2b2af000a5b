"""Draws docs/review.png, docs/review-edit.png and docs/review-phone.png from a real review of a run.

    python docs/review_pictures.py runs/quickstart

The page is opened in the system's Chromium, with questions of the built-in corpus. Verdicts go to a temporary store.
Look at the pictures before you commit them.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
COLOURS = 64  # of a picture: it has few, and is then a fifth as large
DESK, PHONE = {"width": 1100, "height": 700}, {"width": 390, "height": 760}
SECONDS = 3  # for a verdict, so the page shows the pace of a person
MOST = 40  # questions that are looked at for one that shows what is meant


@contextmanager
def served(run: str, store: Path) -> Iterator[str]:
    """The link of a review."""
    command = [sys.executable, "-m", "palmette", "review", "--demo", "--model", run, "--store", str(store)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--annotator", "Ann", "--blind", "0", "--limit", "8"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        link = re.search(r"http\S+", process.stdout.readline())
        if link is None:
            raise SystemExit("the server did not start")
        yield link[0]
    finally:
        process.terminate()
        process.wait()


def save(page: Page, name: str) -> None:
    """A picture of what is seen, with few colours."""
    picture = Image.open(io.BytesIO(page.screenshot()))
    small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(HERE / name, optimize=True)
    print(f"{HERE / name}: {(HERE / name).stat().st_size // 1024} KiB")


def judge(page: Page, key: str) -> None:
    """Press a key after a while, and wait for the next question."""
    page.wait_for_timeout(SECONDS * 1000)
    before = page.locator("#figures").text_content()
    page.keyboard.press(key)
    while page.locator("#figures").text_content() == before:
        page.wait_for_timeout(50)


def find(page: Page) -> None:
    """Skip to a question whose answer is a span of several words, with runners-up."""
    for _ in range(MOST):
        answer = page.locator("#answer").text_content() or ""
        likely = page.locator("#candidates li").count()
        if page.locator("mark.model").count() and answer.count(" ") in (1, 2, 3) and likely >= 4:
            return
        judge(page, "Space")
    raise SystemExit(f"none of {MOST} questions shows what is meant")


def main() -> None:
    """Draw the pictures."""
    run = sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart"
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with (
        tempfile.TemporaryDirectory() as folder,
        served(run, Path(folder) / "review.db") as link,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program) as chromium,
    ):
        page = chromium.new_page(viewport=DESK)
        page.goto(link)
        page.locator("#question").wait_for(timeout=120_000)
        for key in ("a", "x", "n", "a", "a"):
            judge(page, key)
        find(page)
        save(page, "review.png")
        page.keyboard.press("e")
        page.keyboard.press("ArrowRight")
        save(page, "review-edit.png")
        phone = chromium.new_page(viewport=PHONE, is_mobile=True, has_touch=True, color_scheme="dark")
        phone.goto(link)
        phone.locator("#question").wait_for()
        save(phone, "review-phone.png")


if __name__ == "__main__":
    main()
