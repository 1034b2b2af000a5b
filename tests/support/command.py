"""The command line, run in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from palmette.cli.main import main

BASE = "somebody/tiny-llama"


def palmette(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """Run the command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["palmette", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def push(monkeypatch: pytest.MonkeyPatch, run: Path, *words: str | Path, data: str = "mit") -> int:
    said = ["--base-model", BASE, "--licence", "apache-2.0", "--data-licence", data]
    return palmette(monkeypatch, "push", run, "--to", "me/harbour", *said, *words)
