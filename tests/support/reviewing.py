"""Predictions, events and databases for tests of the review."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from palmette.data.records import Document, Question
from palmette.decode.prediction import Candidate, Prediction
from palmette.review.events import Event, Shown, Span, Verdict, document_hash

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
TEXT = "The ferry 🚢 leaves Quay 4 at 7:40.\r\nIt reaches the naïve (nai\u0308ve) island by 9. Приезжайте!"


def document(text: str = TEXT, *questions: str) -> Document:
    names = questions or ("when", "where", "who")
    return Document("timetable", text, tuple(Question(name, f"{name.capitalize()}?") for name in names))


def span(text: str, document: str = TEXT) -> Span:
    """The first place of a text in a document."""
    start = document.index(text)
    return Span(text, start, start + len(text))


def prediction(no_answer: float, *spans: tuple[str, float]) -> Prediction:
    """What a span decoder says: the probability of no answer, and of some spans, best first."""
    candidates = tuple(Candidate(text, 0, len(text), probability) for text, probability in spans)
    best = candidates[0] if candidates and candidates[0].probability > no_answer else None
    return Prediction(best.text if best else "", no_answer_probability=no_answer, candidates=candidates)


def event(kind: str, annotator: str = "ann", question: str = "when", after: float = 0.0, **values: Any) -> Event:
    """An event of the timetable, some seconds after the start."""
    return Event(
        kind,  # type: ignore[arg-type]
        START + timedelta(seconds=after),
        annotator,
        "session",
        question,
        document_hash(TEXT),
        **values,
    )


def shown(text: str | None = "7:40", **values: Any) -> Shown:
    return Shown(span(text) if text else None, 0.7, 0.2, **values)


def verdict(kind: str, text: str | None = None, seconds: float = 2.0, document: str = TEXT) -> Verdict:
    return Verdict(kind, span(text, document) if text else None, seconds)  # type: ignore[arg-type]


# PostgreSQL

FOLDERS = ("/usr/lib/postgresql", "/usr/local/pgsql")
HOW_TO_INSTALL = "there is no PostgreSQL on this machine. Install it (Debian: apt-get install postgresql)."
INSTALL = (
    ("apt-get", "-qq", "update"),
    ("apt-get", "-qq", "install", "-y", "--no-install-recommends", "postgresql"),
)


def find_postgresql() -> Path | None:
    """The folder of initdb and postgres. Debian keeps them off the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    places = [place for folder in FOLDERS for place in Path(folder).glob("**/bin/initdb")]
    return max(places).parent if places else None


def main() -> int:
    """Install PostgreSQL where it is missing, which takes Debian and root. The exit status is 0 if it is there then."""
    if find_postgresql() is None and shutil.which("apt-get") and os.geteuid() == 0:
        print("Installing PostgreSQL for the tests of the review: apt-get install postgresql ...", flush=True)
        for command in INSTALL:
            subprocess.run(command, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    if find_postgresql() is None:
        print(f"The tests of a team's database cannot run: {HOW_TO_INSTALL}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def running_postgresql(programs: Path, folder: Path) -> Iterator[str]:
    """A server on loopback with its data in a folder of its own. The URL of its database.

    PostgreSQL refuses to run as root, so root hands it to the user of Debian's package.
    """
    command: list[str] = []
    if os.geteuid() == 0:
        command = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    data = folder / "data"
    _run([*command, str(programs / "initdb"), "-D", str(data), "-U", "tester", "-A", "trust", "--no-sync"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-c", "fsync=off"]
    server = subprocess.Popen(
        [*command, str(programs / "postgres"), "-D", str(data), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        _wait(server, port)
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
    finally:
        _run([*command, str(programs / "pg_ctl"), "-D", str(data), "stop", "-m", "fast"])
        server.wait(30)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(300):
        assert server.poll() is None, "PostgreSQL ended at once"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError("PostgreSQL does not answer")


if __name__ == "__main__":
    sys.exit(main())
