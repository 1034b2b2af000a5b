"""Runs the readers of PDF files and of web pages in a process of their own, with limits.

A file may be made to crash its reader, to take all memory, or to never end. Here that costs at most `MAX_MEMORY` and
`MAX_SECONDS`, and ends in an error that names the file. Where the system has no limits of memory (Windows), only the
limit of time holds.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from array import array
from typing import Any

from palmette.documents.record import PageMap
from palmette.errors import DataError, reason_of

MAX_MEMORY = 2 << 30  # bytes of address space
MAX_SECONDS = {"pdf": 600.0, "html": 60.0}
MAX_MARKUP = 64 << 20  # bytes of UTF-8
_FILES = {"pdf": "PDF files", "html": "web pages"}
_TOO_SLOW = {
    "pdf": "Split it, for instance with qpdf --split-pages=100, and give a part of it.",
    "html": "The page is made to do harm. Save its text as .txt, and give that.",
}
_TOO_LARGE = {
    "pdf": "The file is damaged, or made to do harm. Print it to a new PDF, and give that.",
    "html": "The page is too large, or made to do harm. Save its text as .txt, and give that.",
}
_FAILED = {"pdf": "Print it to a new PDF first.", "html": "Save its text as .txt, and give that."}
_LIMITED = """\
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, ValueError, OSError):
    pass
from palmette.documents.{kind} import main
main()
"""


def read_contained(raw: bytes, name: str) -> tuple[str, PageMap, list[str]]:
    """What `read_pdf` gives, from a process of its own. The arguments are the same.

    Raises:
        DataError: as `read_pdf` does, or a limit was passed, or the reader crashed.
    """
    said, rest = _read("pdf", raw, name)
    boxes = array("f")
    boxes.frombytes(rest)
    return said["text"], PageMap(said["starts"], said["pages"], said["lines"], boxes), said["notes"]


def html_contained(markup: str, name: str) -> tuple[str, list[str]]:
    """What `html_text` gives for a page, from a process of its own.

    A parser of HTML5 has to keep what is open. So a page of some megabytes can be made to cost it hours or all memory.

    Args:
        markup: the page.
        name: how messages name it.

    Raises:
        DataError: the page is too large, or a limit was passed, or the parser crashed.
    """
    raw = markup.encode("utf-8", "replace")
    if len(raw) > MAX_MARKUP:
        raise DataError(
            f"the page {name!r} has more than {MAX_MARKUP >> 20} MiB", "Save its text as .txt, or give a part of it."
        )
    said, _ = _read("html", raw, name)
    return said["text"], said["notes"]


def _read(kind: str, raw: bytes, name: str) -> tuple[dict[str, Any], bytes]:
    """What the reader of a kind of document says: a line of JSON, and the bytes after it."""
    seconds = MAX_SECONDS[kind]
    # -P: a folder of documents may also hold a file named like a module, which must not be imported from there.
    command = [sys.executable, "-P", "-c", _LIMITED.format(memory=MAX_MEMORY, kind=kind), name]
    try:
        done = subprocess.run(command, input=raw, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"the document {name!r} takes longer than {seconds:g} s to read", _TOO_SLOW[kind]) from error
    except OSError as error:
        problem = f"cannot start the reader of {_FILES[kind]}: {reason_of(error)}"
        raise DataError(problem, "Give the text of it.") from error
    head, _, rest = done.stdout.partition(b"\n")
    said = None
    with contextlib.suppress(ValueError):
        said = json.loads(head)
    if done.returncode or not isinstance(said, dict):
        raise _crashed(done, kind, name)
    if "problem" in said:
        raise DataError(said["problem"], said["way_out"])
    return said, rest


def _crashed(done: subprocess.CompletedProcess[bytes], kind: str, name: str) -> DataError:
    """Why there is no result. PDFium ends by a signal where it gets no memory."""
    last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    if done.returncode < 0 or "memory" in last.lower():
        return DataError(
            f"the document {name!r} cannot be read in {MAX_MEMORY >> 20:,} MiB of memory, or it crashes its reader",
            _TOO_LARGE[kind],
        )
    why = last or f"exit code {done.returncode}"
    return DataError(f"the reader of {_FILES[kind]} failed on the document {name!r}: {why}", _FAILED[kind])
