"""`make help` says what every target does."""

from __future__ import annotations

import re
import subprocess

from tests.support.paths import ROOT


def test_make_help_names_every_target() -> None:
    """It is what `make` alone does, so nobody starts an installation by it. A terminal has 80 columns."""
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = " ".join(re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert sorted(re.findall(r"^make ([a-z-]+) +\S", shown, re.MULTILINE)) == sorted(set(phony.split()) - {"help"})
    assert max(map(len, shown.splitlines())) <= 80
