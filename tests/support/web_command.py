"""Commands that serve pages, in processes of their own, as they are typed, and the links that they print."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2

from tests.support.paths import SOURCE

Started = tuple["subprocess.Popen[str]", dict[str, str]]


@contextlib.contextmanager
def starting(folder: Path) -> Iterator[Callable[..., Started]]:
    """Starts commands in a folder, and kills them at the end."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str, people: int = 1) -> Started:
        """A command, and the link that it prints for each of some people."""
        process = subprocess.Popen(
            [sys.executable, "-m", "palmette", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(SOURCE.parent), "HF_HUB_OFFLINE": "1"},
        )
        processes.append(process)
        assert process.stdout is not None
        links = {}
        for _ in range(people):
            name, found = process.stdout.readline().strip().split(": ")
            links[name] = found
        return process, links

    try:
        yield start
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def enter(found: str) -> Iterator[httpx2.Client]:
    """A client that was let in by a link."""
    address, token = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#token=(\S+)", found).groups()  # type: ignore[union-attr]
    with httpx2.Client(base_url=address, trust_env=False) as client:
        assert client.post("/api/session", json={"token": token}).status_code == 200
        yield client
